"""Operators, layers and datasets with wrong arguments: one exception of the right type, with one line."""

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
    """A call, and the exception that it raises."""

    call: Callable[[], object]
    raises: type[Exception]
    says: str


def type_error(call: Callable[[], object], says: str) -> Wrong:
    return Wrong(call, TypeError, says)


def value_error(call: Callable[[], object], says: str) -> Wrong:
    return Wrong(call, ValueError, says)


TENSOR = "must be a tensor, but is of the type"
DENSE = "must be dense, but is a (sparse|nested) tensor; "

# mypy would refuse most of these calls; the tests show what happens without it.
OPERATORS: dict[str, Wrong] = {
    "a list for a": type_error(lambda: recblr.scan([1.0], X), f"scan: a {TENSOR} list"),
    "an array for a": type_error(lambda: recblr.scan(X.numpy(), X), f"scan: a {TENSOR} ndarray"),
    "nothing for a": type_error(lambda: recblr.scan(None, X), f"scan: a {TENSOR} NoneType"),
    "text for b": type_error(lambda: recblr.scan(X, "b"), f"scan: b {TENSOR} str"),
    "a number for b": type_error(lambda: recblr.scan(X, 1.0), f"scan: b {TENSOR} float"),
    "a list for the initial state": type_error(
        lambda: recblr.scan(X, X, [[0.0]]), f"scan: initial {TENSOR} list"
    ),
    "a number for offsets": type_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=3), f"scan: offsets {TENSOR} int"
    ),
    "a list for offsets": type_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=[0, 3]), f"offsets {TENSOR} list"
    ),
    "a type for a": type_error(lambda: recblr.scan(torch.Tensor, X), f"scan: a {TENSOR} "),
    "sparse": value_error(lambda: recblr.scan(X.to_sparse(), X), f"scan: a {DENSE}"),
    "nested": value_error(lambda: recblr.scan(NESTED, NESTED), f"scan: a {DENSE}"),
    "eight bits": value_error(
        lambda: recblr.scan(*[X.to(torch.float8_e4m3fn)] * 2), "scan: b must be float32"
    ),
    "booleans": value_error(lambda: recblr.scan(X > 0, X > 0), "scan: b must be float32"),
    "unsigned": value_error(lambda: recblr.scan(*[X.to(torch.uint16)] * 2), "scan: b must be float32"),
    "a on the device meta": value_error(
        lambda: recblr.scan(X.to("meta"), X), "scan: a must be on cpu, but is on meta"
    ),
    "offsets that are complex": value_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS.to(torch.complex64)), "offsets must be int64 or int32"
    ),
    "offsets that are booleans": value_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS > 0), "scan: offsets must be int64 or int32"
    ),
    "offsets in a matrix": value_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=OFFSETS[None]), r"offsets must be \(S"
    ),
    "offsets with the largest int64": value_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=torch.tensor([0, 2**63 - 1, 3])), "offsets must not decrease"
    ),
    "offsets with the smallest int64": value_error(
        lambda: recblr.scan(ROWS, ROWS, offsets=torch.tensor([-(2**63), 3])), "offsets must start with 0"
    ),
    "final: a list": type_error(
        lambda: recblr.scan_with_final([1.0], X), f"scan_with_final: a {TENSOR} list"
    ),
    "final: sparse": value_error(
        lambda: recblr.scan_with_final(X, X.to_sparse()), f"scan_with_final: b {DENSE}"
    ),
    "final: an array": type_error(
        lambda: recblr.scan_with_final(X, X, np.zeros((2, 4))), "initial must be a tensor"
    ),
    "bdlru: nothing": type_error(lambda: recblr.bdlru(X, None, None), f"bdlru: gates {TENSOR} NoneType"),
    "bdlru: a list": type_error(lambda: recblr.bdlru([1.0], GATES, DECAY), f"bdlru: x {TENSOR} list"),
    "bdlru: sparse": value_error(lambda: recblr.bdlru(X.to_sparse(), GATES, DECAY), f"bdlru: x {DENSE}"),
    "bdlru: a number for scale": type_error(
        lambda: recblr.bdlru(X, GATES, DECAY, scale=2.0), f"bdlru: scale {TENSOR} float"
    ),
    "bdlru: a number for decay": type_error(
        lambda: recblr.bdlru(X, GATES, 0.9), f"bdlru: decay {TENSOR} float"
    ),
    "conv: a list": type_error(lambda: recblr.causal_conv1d([1.0], DECAY), f"causal_conv1d: x {TENSOR} list"),
    "conv: an array": type_error(
        lambda: recblr.causal_conv1d(X, np.zeros((4, 2))), f"weight {TENSOR} ndarray"
    ),
    "conv: sparse": value_error(
        lambda: recblr.causal_conv1d(X.to_sparse(), ROWS.mT), f"causal_conv1d: x {DENSE}"
    ),
    "conv: a number for bias": type_error(
        lambda: recblr.causal_conv1d(X, ROWS.mT, 1.0), f"bias {TENSOR} float"
    ),
    "offsets alone: a list": type_error(
        lambda: recblr.check_offsets([0, 3], 3), f"check_offsets: offsets {TENSOR}"
    ),
    "offsets alone: nothing": type_error(
        lambda: recblr.check_offsets(None, 3), f"check_offsets: offsets {TENSOR}"
    ),
    "offsets alone: sparse": value_error(
        lambda: recblr.check_offsets(OFFSETS.to_sparse(), 3), f"offsets {DENSE}"
    ),
    "rows that are text": value_error(
        lambda: recblr.check_offsets(OFFSETS, "3"), "rows must be a number of rows"
    ),
    "rows in a fraction": value_error(
        lambda: recblr.check_offsets(OFFSETS, 3.0), "rows must be a number of rows"
    ),
    "rows below 0": value_error(lambda: recblr.check_offsets(OFFSETS, -1), "0 or more, but is -1"),
    "rows larger than int64": value_error(
        lambda: recblr.check_offsets(OFFSETS, 10**30), "rows must be a number of rows"
    ),
    "rows that are a boolean": value_error(
        lambda: recblr.check_offsets(OFFSETS, True), "rows must be a number of rows"
    ),
}

LAYERS: dict[str, Wrong] = {
    "width in words": value_error(lambda: RecBLRLayer("8"), "d_model must be a whole number, but is '8'"),
    "width in a fraction": value_error(
        lambda: RecBLRLayer(8.0), "d_model must be a whole number, but is 8.0"
    ),
    "width that is a boolean": value_error(
        lambda: RecBLRLayer(True), "d_model must be a whole number, but is True"
    ),
    "no width": value_error(lambda: RecBLRLayer(0), "d_model must be at least 1"),
    "width below 0": value_error(lambda: RecBLRLayer(-8), "d_model must be at least 1"),
    "width of 10^30": value_error(lambda: RecBLRLayer(10**30), "d_model must be at most"),
    "no expansion": value_error(lambda: RecBLRLayer(8, expand=0), "expand must be a number"),
    "expansion of nan": value_error(lambda: RecBLRLayer(8, expand=float("nan")), "expand must be a number"),
    "no feed-forward": value_error(
        lambda: RecBLRLayer(8, ffn_expand=0), "ffn_expand \\* d_model must be a whole"
    ),
    "no convolution": value_error(lambda: RecBLRLayer(8, d_conv=0), "d_conv must be at least 1"),
    "dropout of nan": value_error(
        lambda: RecBLRLayer(8, dropout=float("nan")), r"dropout must lie in \[0, 1\)"
    ),
    "epsilon of nan": value_error(
        lambda: RecBLRLayer(8, beta_epsilon=float("nan")), "beta_epsilon must be 0 or"
    ),
    "no channels": value_error(lambda: BDLRU(0), "channels must be a whole number of at least 1, but is 0"),
    "no taps": value_error(lambda: CausalConv1d(4, 0), "kernel_size must be a whole number of at least 1"),
    "taps in a fraction": value_error(lambda: CausalConv1d(4, 2.0), "kernel_size must be a whole number"),
    "a list of steps": type_error(lambda: LAYER([[1.0] * 8]), f"the input {TENSOR} list"),
    "an array of steps": type_error(lambda: LAYER(np.zeros((1, 2, 8))), f"the input {TENSOR} ndarray"),
    "four axes": value_error(lambda: LAYER(STEPS[None]), r"must be \(B, T, C\), or \(T, C\), but has shape"),
    "one axis": value_error(lambda: LAYER(STEPS[0, 0]), r"must be \(B, T, C\), or \(T, C\), but has shape"),
    "a list of lengths": type_error(
        lambda: LAYER(STEPS, lengths=[1]), "lengths must be a tensor of integers"
    ),
    "an array of lengths": type_error(
        lambda: LAYER(STEPS, lengths=np.array([1])), "lengths must be a tensor"
    ),
    "a number for lengths": type_error(
        lambda: LAYER(STEPS, lengths=2), "lengths must be a tensor of integers"
    ),
    "lengths that are booleans": value_error(
        lambda: LAYER(STEPS, lengths=torch.tensor([True])), "integers, one length"
    ),
    "lengths that are complex": value_error(
        lambda: LAYER(STEPS, lengths=torch.tensor([1j])), "integers, one length"
    ),
    "lengths that are nan": value_error(lambda: LAYER(STEPS, lengths=torch.tensor([torch.nan])), "integers"),
    "lengths with the largest int64": value_error(
        lambda: LAYER(STEPS, lengths=torch.tensor([2**63 - 1])), "lengths must lie in 0..2"
    ),
    "a list of offsets": type_error(lambda: LAYER(STEPS[0], offsets=[0, 2]), f"offsets {TENSOR} list"),
    "an empty catalogue": value_error(
        lambda: RecBLR(0), "num_items must be a whole number of at least 1, but is 0"
    ),
    "a catalogue below 0": value_error(lambda: RecBLR(-1), "num_items must be a whole number of at least 1"),
    "a catalogue in words": value_error(
        lambda: RecBLR("5"), "num_items must be a whole number of at least 1"
    ),
    "a catalogue in a fraction": value_error(
        lambda: RecBLR(5.0), "num_items must be a whole number of at least 1"
    ),
    "a list of items": type_error(lambda: MODEL([[1, 2]]), "items must be a tensor of integers"),
    "an array of items": type_error(lambda: MODEL(np.array([[1, 2]])), "items must be a tensor of integers"),
    "no items": type_error(lambda: MODEL(None), "items must be a tensor of integers"),
    "items in 8 bits": value_error(
        lambda: MODEL(torch.zeros(1, 2, dtype=torch.uint8)), "items must be int64 or int32"
    ),
    "items in 16 bits": value_error(
        lambda: MODEL(torch.zeros(1, 2, dtype=torch.int16)), "items must be int64 or int32"
    ),
    "items that are complex": value_error(
        lambda: MODEL(torch.zeros(1, 2) * 1j), "items must be integers, but are"
    ),
    "an item of 2^62": value_error(lambda: MODEL(torch.tensor([[2**62]])), r"items must lie in 0\.\.4"),
    "items in three axes": value_error(
        lambda: MODEL(torch.zeros(1, 2, 3, dtype=torch.int64)), "but has shape"
    ),
}

DATA: dict[str, Wrong] = {
    "no path": type_error(lambda: read_dataset(None), "from a path or several, not from a NoneType"),
    "a number for a path": type_error(lambda: read_dataset(3), "from a path or several, not from a int"),
    "bytes for a path": type_error(
        lambda: read_dataset(b"a.csv"), "from a path or several, not from a bytes"
    ),
    "a zero character in a path": value_error(
        lambda: read_dataset("a\0.csv"), r"'a\\x00.csv' holds a zero character"
    ),
    "a core in words": value_error(lambda: Dataset.from_frame(FRAME, k_core="5"), "k_core= in Python.*'5'"),
    "a core in a fraction": value_error(
        lambda: Dataset.from_frame(FRAME, k_core=1.5), "k_core= in Python.*1.5"
    ),
    "None for a core": value_error(lambda: Dataset.from_frame(FRAME, k_core=None), "k_core= in Python.*None"),
    "a fraction of a user's events": value_error(
        lambda: Dataset.from_frame(FRAME, min_user_events=1.5), "min_user_events= in Python.*1.5"
    ),
    "the fewest events of an item in words": value_error(
        lambda: Dataset.from_frame(FRAME, min_item_events="2"), "min_item_events= in Python.*'2'"
    ),
    "a core below 0": value_error(lambda: Dataset.from_frame(FRAME, k_core=-1), "k_core= in Python.*-1"),
    "a core of nan": value_error(
        lambda: Dataset.from_frame(FRAME, k_core=float("nan")), "k_core= in Python.*nan"
    ),
    "a column with an empty name": value_error(
        lambda: Dataset.from_frame(FRAME, user="", k_core=0), "no column ''"
    ),
    "columns that are a number": value_error(
        lambda: read_dataset("a.csv", columns=7),
        "columns= is what each field of a line is, and it is 7; give",
    ),
    "a column by number": value_error(
        lambda: Dataset.from_frame(FRAME, user=0, k_core=0), "the name of a column, and it is 0; give a text"
    ),
    "a dictionary": value_error(lambda: Dataset.from_frame({"user_id": [1]}), "a dict is no data frame"),
    "a path for a frame": value_error(lambda: Dataset.from_frame("a.csv"), "a str is no data frame"),
    "a column for a frame": value_error(
        lambda: Dataset.from_frame(FRAME["user_id"]), "a Series is no data frame"
    ),
    "a frame without columns": value_error(lambda: Dataset.from_frame(pl.DataFrame()), "it has none at all"),
    "a frame of objects": value_error(
        lambda: Dataset.from_frame(FRAME.with_columns(user_id=pl.Series([object()], dtype=pl.Object))),
        "holds Object",
    ),
    "lists for histories": value_error(
        lambda: Packed([0], [0, 1]), "one-dimensional int64 array, not a list"
    ),
    "histories of fractions": value_error(
        lambda: Packed(np.zeros(1), np.array([0, 1])), "int64 array, not float64"
    ),
    "ids that are numbers": value_error(
        lambda: Dataset("n", Packed(np.array([0]), np.array([0, 1])), [1], ["a"]), "user ids must be strings"
    ),
}

CASES = OPERATORS | LAYERS | DATA


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_argument_gives_an_error_of_one_line(name: str) -> None:
    case = CASES[name]
    with in_time(), pytest.raises(case.raises, match=case.says) as raised:
        case.call()
    assert "\n" not in str(raised.value)


ONE_NUMBER = torch.zeros(1, 1, 1)
HUGE_SHAPES: dict[str, tuple[int, ...]] = {
    "batch above 2^31": (2**31 + 5, 2**10, 2**10),
    "time above 2^31": (2**10, 2**31 + 5, 2**10),
    "channels above 2^31": (2**10, 2**10, 2**31 + 5),
}


@pytest.mark.parametrize("name", HUGE_SHAPES)
@pytest.mark.parametrize("operator", [recblr.scan, recblr.scan_with_final], ids=["scan", "scan_with_final"])
def test_the_allocator_refuses_a_tensor_larger_than_memory(
    operator: Callable[..., object], name: str
) -> None:
    x = ONE_NUMBER.expand(HUGE_SHAPES[name])
    with in_time(), pytest.raises(RuntimeError, match=r"allocate|overflow"):
        operator(x, x)


class Subclass(torch.Tensor):
    """A tensor of a subclass, like those of other libraries."""


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
def test_unusual_kinds_of_tensors_are_accepted(like: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert torch.equal(recblr.scan(like(X), like(X)).detach(), recblr.scan(X, X))


def test_nothing_is_written_to_an_impossible_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null byte"):
        Dataset.from_frame(FRAME, k_core=0).save(tmp_path / "a\0b")
    assert list(tmp_path.iterdir()) == []
