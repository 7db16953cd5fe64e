"""Operators, layers and datasets given what nobody should: one exception, of the right type, of one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hostile.rows import in_time

import recblr
from recblr import RecBLR, RecBLRLayer
from recblr.config import RecBLRConfig
from recblr.data import Dataset, Packed, read_dataset
from recblr.nn import BDLRU, CausalConv1d

X = torch.rand(2, 3, 4)
GATES = torch.rand(2, 3, 8)
DECAY = torch.rand(4)
ROWS = torch.rand(3, 4)
OFFSETS = torch.tensor([0, 3])
NESTED = torch.nested.nested_tensor([ROWS, ROWS], layout=torch.jagged)
MODEL = RecBLR(5, RecBLRConfig(d_model=8, num_layers=1))
LAYER = RecBLRLayer(8)
STEPS = torch.zeros(1, 2, 8)
FRAME = pl.DataFrame({"user_id": [1], "item_id": [1]})


@dataclass(frozen=True)
class Wrong:
    """A call, and what it raises."""

    call: Callable[[], object]
    raises: type[Exception]
    says: str


def typed(call: Callable[[], object], says: str) -> Wrong:
    return Wrong(call, TypeError, says)


def valued(call: Callable[[], object], says: str) -> Wrong:
    return Wrong(call, ValueError, says)


TENSOR = "must be a tensor, but is of the type"
DENSE = "must be dense, but is a sparse or nested tensor"

# mypy would refuse most of these, which is the point.
OPERATORS: dict[str, Wrong] = {
    "a list for a": typed(lambda: recblr.scan([1.0], X), f"scan: a {TENSOR} list"),
    "an array for a": typed(lambda: recblr.scan(X.numpy(), X), f"scan: a {TENSOR} ndarray"),
    "nothing for a": typed(lambda: recblr.scan(None, X), f"scan: a {TENSOR} NoneType"),
    "text for b": typed(lambda: recblr.scan(X, "b"), f"scan: b {TENSOR} str"),
    "a number for b": typed(lambda: recblr.scan(X, 1.0), f"scan: b {TENSOR} float"),
    "a list for the initial state": typed(lambda: recblr.scan(X, X, [[0.0]]), f"scan: initial {TENSOR} list"),
    "a number for offsets": typed(lambda: recblr.scan(ROWS, ROWS, offsets=3), f"scan: offsets {TENSOR} int"),
    "a list for offsets": typed(lambda: recblr.scan(ROWS, ROWS, offsets=[0, 3]), f"offsets {TENSOR} list"),
    "a type for a": typed(lambda: recblr.scan(torch.Tensor, X), f"scan: a {TENSOR} "),
    "sparse": valued(lambda: recblr.scan(X.to_sparse(), X), f"scan: a {DENSE}"),
    "nested": valued(lambda: recblr.scan(NESTED, NESTED), f"scan: a {DENSE}"),
    "eight bits": valued(lambda: recblr.scan(*[X.to(torch.float8_e4m3fn)] * 2), "scan: b must be float32"),
    "true or false": valued(lambda: recblr.scan(X > 0, X > 0), "scan: b must be float32"),
    "unsigned": valued(lambda: recblr.scan(*[X.to(torch.uint16)] * 2), "scan: b must be float32"),
    "a on no device": valued(lambda: recblr.scan(X.to("meta"), X), "scan: a must be on cpu, but is on meta"),
    "offsets that are complex": valued(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS.to(torch.complex64)), "offsets must be int64 or int32"
    ),
    "offsets that are true or false": valued(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS > 0), "scan: offsets must be int64 or int32"
    ),
    "offsets in a matrix": valued(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS[None]), r"offsets must be \(S"
    ),
    "offsets at the end of int64": valued(
        lambda: recblr.scan(ROWS, ROWS, offsets=torch.tensor([0, 2**63 - 1, 3])), "offsets must not decrease"
    ),
    "offsets at the beginning of int64": valued(
        lambda: recblr.scan(ROWS, ROWS, offsets=torch.tensor([-(2**63), 3])), "offsets must start with 0"
    ),
    "final: a list": typed(lambda: recblr.scan_with_final([1.0], X), f"scan_with_final: a {TENSOR} list"),
    "final: sparse": valued(lambda: recblr.scan_with_final(X, X.to_sparse()), f"scan_with_final: b {DENSE}"),
    "final: an array": typed(
        lambda: recblr.scan_with_final(X, X, np.zeros((2, 4))), "initial must be a tensor"
    ),
    "bdlru: nothing": typed(lambda: recblr.bdlru(X, None, None), f"bdlru: gates {TENSOR} NoneType"),
    "bdlru: a list": typed(lambda: recblr.bdlru([1.0], GATES, DECAY), f"bdlru: x {TENSOR} list"),
    "bdlru: sparse": valued(lambda: recblr.bdlru(X.to_sparse(), GATES, DECAY), f"bdlru: x {DENSE}"),
    "bdlru: a number for scale": typed(
        lambda: recblr.bdlru(X, GATES, DECAY, scale=2.0), f"bdlru: scale {TENSOR} float"
    ),
    "bdlru: a number for decay": typed(lambda: recblr.bdlru(X, GATES, 0.9), f"bdlru: decay {TENSOR} float"),
    "conv: a list": typed(lambda: recblr.causal_conv1d([1.0], DECAY), f"causal_conv1d: x {TENSOR} list"),
    "conv: an array": typed(lambda: recblr.causal_conv1d(X, np.zeros((4, 2))), f"weight {TENSOR} ndarray"),
    "conv: sparse": valued(lambda: recblr.causal_conv1d(X.to_sparse(), ROWS.mT), f"causal_conv1d: x {DENSE}"),
    "conv: a number for bias": typed(lambda: recblr.causal_conv1d(X, ROWS.mT, 1.0), f"bias {TENSOR} float"),
    "offsets alone: a list": typed(
        lambda: recblr.check_offsets([0, 3], 3), f"check_offsets: offsets {TENSOR}"
    ),
    "offsets alone: nothing": typed(
        lambda: recblr.check_offsets(None, 3), f"check_offsets: offsets {TENSOR}"
    ),
    "offsets alone: sparse": valued(lambda: recblr.check_offsets(OFFSETS.to_sparse(), 3), f"offsets {DENSE}"),
    "rows that are text": valued(lambda: recblr.check_offsets(OFFSETS, "3"), "rows must be a number of rows"),
    "rows in a fraction": valued(lambda: recblr.check_offsets(OFFSETS, 3.0), "rows must be a number of rows"),
    "rows below 0": valued(lambda: recblr.check_offsets(OFFSETS, -1), "0 or more, but is -1"),
    "rows beyond int64": valued(
        lambda: recblr.check_offsets(OFFSETS, 10**30), "rows must be a number of rows"
    ),
    "rows that are true": valued(
        lambda: recblr.check_offsets(OFFSETS, True), "rows must be a number of rows"
    ),
}

LAYERS: dict[str, Wrong] = {
    "width in words": valued(lambda: RecBLRLayer("8"), "d_model must be a whole number, but is '8'"),
    "width in a fraction": valued(lambda: RecBLRLayer(8.0), "d_model must be a whole number, but is 8.0"),
    "width that is true": valued(lambda: RecBLRLayer(True), "d_model must be a whole number, but is True"),
    "no width": valued(lambda: RecBLRLayer(0), "d_model must be at least 1"),
    "width below 0": valued(lambda: RecBLRLayer(-8), "d_model must be at least 1"),
    "width beyond reason": valued(lambda: RecBLRLayer(10**30), "d_model must be at most"),
    "no expansion": valued(lambda: RecBLRLayer(8, expand=0), "expand must be a number"),
    "expansion of nan": valued(lambda: RecBLRLayer(8, expand=float("nan")), "expand must be a number"),
    "no feed-forward": valued(lambda: RecBLRLayer(8, ffn_expand=0), "ffn_expand \\* d_model must be a whole"),
    "no convolution": valued(lambda: RecBLRLayer(8, d_conv=0), "d_conv must be at least 1"),
    "dropout of nan": valued(lambda: RecBLRLayer(8, dropout=float("nan")), r"dropout must lie in \[0, 1\)"),
    "epsilon of nan": valued(lambda: RecBLRLayer(8, beta_epsilon=float("nan")), "beta_epsilon must be 0 or"),
    "no channels": valued(lambda: BDLRU(0), "channels must be a whole number of at least 1, but is 0"),
    "no taps": valued(lambda: CausalConv1d(4, 0), "kernel_size must be a whole number of at least 1"),
    "taps in a fraction": valued(lambda: CausalConv1d(4, 2.0), "kernel_size must be a whole number"),
    "a list of steps": typed(lambda: LAYER([[1.0] * 8]), f"the input {TENSOR} list"),
    "an array of steps": typed(lambda: LAYER(np.zeros((1, 2, 8))), f"the input {TENSOR} ndarray"),
    "four axes": valued(lambda: LAYER(STEPS[None]), r"must be \(B, T, C\), or \(T, C\), but has shape"),
    "one axis": valued(lambda: LAYER(STEPS[0, 0]), r"must be \(B, T, C\), or \(T, C\), but has shape"),
    "a list of lengths": typed(lambda: LAYER(STEPS, lengths=[1]), "lengths must be a tensor of integers"),
    "an array of lengths": typed(lambda: LAYER(STEPS, lengths=np.array([1])), "lengths must be a tensor"),
    "a number for lengths": typed(lambda: LAYER(STEPS, lengths=2), "lengths must be a tensor of integers"),
    "lengths that are true": valued(lambda: LAYER(STEPS, lengths=torch.tensor([True])), "integers, a length"),
    "lengths that are complex": valued(
        lambda: LAYER(STEPS, lengths=torch.tensor([1j])), "integers, a length"
    ),
    "lengths that are no number": valued(lambda: LAYER(STEPS, lengths=torch.tensor([torch.nan])), "integers"),
    "lengths at the end of int64": valued(
        lambda: LAYER(STEPS, lengths=torch.tensor([2**63 - 1])), "lengths must lie in 0..2"
    ),
    "a list of offsets": typed(lambda: LAYER(STEPS[0], offsets=[0, 2]), f"offsets {TENSOR} list"),
    "an empty catalogue": valued(
        lambda: RecBLR(0), "num_items must be a whole number of at least 1, but is 0"
    ),
    "a catalogue below 0": valued(lambda: RecBLR(-1), "num_items must be a whole number of at least 1"),
    "a catalogue in words": valued(lambda: RecBLR("5"), "num_items must be a whole number of at least 1"),
    "a catalogue in a fraction": valued(
        lambda: RecBLR(5.0), "num_items must be a whole number of at least 1"
    ),
    "a list of items": typed(lambda: MODEL([[1, 2]]), "items must be a tensor of integers"),
    "an array of items": typed(lambda: MODEL(np.array([[1, 2]])), "items must be a tensor of integers"),
    "no items": typed(lambda: MODEL(None), "items must be a tensor of integers"),
    "items in 8 bits": valued(
        lambda: MODEL(torch.zeros(1, 2, dtype=torch.uint8)), "items must be int64 or int32"
    ),
    "items in 16 bits": valued(
        lambda: MODEL(torch.zeros(1, 2, dtype=torch.int16)), "items must be int64 or int32"
    ),
    "items that are complex": valued(
        lambda: MODEL(torch.zeros(1, 2) * 1j), "items must be integers, but are"
    ),
    "an item of 2^62": valued(lambda: MODEL(torch.tensor([[2**62]])), r"items must lie in 0\.\.4"),
    "items in three axes": valued(lambda: MODEL(torch.zeros(1, 2, 3, dtype=torch.int64)), "but has shape"),
}

DATA: dict[str, Wrong] = {
    "no path": typed(lambda: read_dataset(None), "from a path or several, not from a NoneType"),
    "a number for a path": typed(lambda: read_dataset(3), "from a path or several, not from a int"),
    "bytes for a path": typed(lambda: read_dataset(b"a.csv"), "from a path or several, not from a bytes"),
    "a zero in a path": valued(lambda: read_dataset("a\0.csv"), r"'a\\x00.csv' holds a zero character"),
    "a core in words": valued(lambda: Dataset.from_frame(FRAME, k_core="5"), "k_core= in Python.*'5'"),
    "a core in a fraction": valued(lambda: Dataset.from_frame(FRAME, k_core=1.5), "k_core= in Python.*1.5"),
    "a core of nothing": valued(lambda: Dataset.from_frame(FRAME, k_core=None), "k_core= in Python.*None"),
    "a core below 0": valued(lambda: Dataset.from_frame(FRAME, k_core=-1), "k_core= in Python.*-1"),
    "a core of nan": valued(lambda: Dataset.from_frame(FRAME, k_core=float("nan")), "k_core= in Python.*nan"),
    "a column of no name": valued(lambda: Dataset.from_frame(FRAME, user="", k_core=0), "no column ''"),
    "a column by number": valued(lambda: Dataset.from_frame(FRAME, user=0, k_core=0), "no column 0"),
    "a dictionary": valued(lambda: Dataset.from_frame({"user_id": [1]}), "a dict is no data frame"),
    "a path for a frame": valued(lambda: Dataset.from_frame("a.csv"), "a str is no data frame"),
    "a column for a frame": valued(lambda: Dataset.from_frame(FRAME["user_id"]), "a Series is no data frame"),
    "a frame without columns": valued(lambda: Dataset.from_frame(pl.DataFrame()), "it has none at all"),
    "a frame of objects": valued(
        lambda: Dataset.from_frame(FRAME.with_columns(user_id=pl.Series([object()], dtype=pl.Object))),
        "holds Object",
    ),
    "lists for histories": valued(lambda: Packed([0], [0, 1]), "one-dimensional int64 array, not a list"),
    "histories of fractions": valued(
        lambda: Packed(np.zeros(1), np.array([0, 1])), "int64 array, not float64"
    ),
    "ids that are numbers": valued(
        lambda: Dataset("n", Packed(np.array([0]), np.array([0, 1])), [1], ["a"]), "user ids must be strings"
    ),
}

CASES = OPERATORS | LAYERS | DATA


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_argument_is_told_in_one_line(name: str) -> None:
    case = CASES[name]
    with in_time(), pytest.raises(case.raises, match=case.says) as told:
        case.call()
    assert "\n" not in str(told.value)


HUGE = torch.zeros(1, 1, 1)
HUGES: dict[str, tuple[int, ...]] = {
    "batch beyond 2^31": (2**31 + 5, 2**10, 2**10),
    "time beyond 2^31": (2**10, 2**31 + 5, 2**10),
    "channels beyond 2^31": (2**10, 2**10, 2**31 + 5),
}


@pytest.mark.parametrize("name", HUGES)
@pytest.mark.parametrize("operator", [recblr.scan, recblr.scan_with_final], ids=["scan", "scan_with_final"])
def test_a_tensor_that_no_memory_holds_is_refused_by_the_allocator(
    operator: Callable[..., object], name: str
) -> None:
    x = HUGE.expand(HUGES[name])
    with in_time(), pytest.raises(RuntimeError, match=r"allocate|overflow"):
        operator(x, x)


class Subclass(torch.Tensor):
    """A tensor of somebody else's."""


@pytest.mark.parametrize(
    "like",
    [
        lambda x: x.as_subclass(Subclass),
        torch.nn.Parameter,
        lambda x: torch.complex(x, x).conj().imag.neg(),
        lambda x: torch.nn.Buffer(x),
        lambda x: x.clone().requires_grad_(),
    ],
    ids=["subclass", "parameter", "negative view", "buffer", "with gradient"],
)
def test_what_is_a_tensor_after_all_is_taken(like: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert torch.equal(recblr.scan(like(X), like(X)).detach(), recblr.scan(X, X))


def test_nothing_is_written_for_a_path_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null byte"):
        Dataset.from_frame(FRAME, k_core=0).save(tmp_path / "a\0b")
    assert list(tmp_path.iterdir()) == []
