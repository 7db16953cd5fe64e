"""Nested tensors: jagged ones are taken as packed ones, others are refused with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recblr import causal_conv1d, scan
from recblr.config.model import GRU4RecConfig
from recblr.errors import InputError
from recblr.nn import (
    BDLRU,
    CausalConv1d,
    GatedRecurrentLayer,
    HistoryAverage,
    RecBLR,
    RecBLRConfig,
    RecBLRLayer,
)
from recblr.nn.baselines import GRU4Rec

# torch says at the first strided one that its API is a prototype.
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

LAYER = RecBLRLayer(4).eval()
MODEL = RecBLR(9, RecBLRConfig(d_model=8)).eval()


def jagged(parts: list[Tensor], **options: Any) -> Any:
    return torch.nested.nested_tensor(parts, layout=torch.jagged, **options)


def rows(*lengths: int) -> list[Tensor]:
    return [torch.randn(n, 4) for n in lengths]


def histories(*lengths: int) -> list[Tensor]:
    return [torch.randint(9, (n,)) for n in lengths]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_a_jagged_input_is_a_packed_one(lengths: list[int], with_state: bool, items: bool) -> None:
    module: Any = MODEL if items else LAYER
    parts = histories(*lengths) if items else rows(*lengths)
    first = histories(*[3] * len(parts)) if items else rows(*[3] * len(parts))
    with torch.no_grad():
        state = module.with_state(jagged(first))[1] if with_state else None
    x = jagged(parts)
    y, end = module.with_state(x, state=state)
    packed, packed_end = module.with_state(torch.cat(parts), offsets=x.offsets(), state=state)
    assert torch.equal(y.values(), packed)
    torch.testing.assert_close(end, packed_end, rtol=0, atol=0)
    assert torch.equal(module(x, state=state).values(), packed)
    assert torch.equal(y.offsets(), x.offsets())
    assert y.is_nested
    assert y.layout == torch.jagged
    # The structure is the same object, so torch can add the two, as a residual does.
    assert torch.equal((y + module(x)).values(), packed + module(x).values())


def test_gradients_reach_a_jagged_input() -> None:
    parts = rows(3, 0, 2)
    x = jagged(parts, requires_grad=True)
    weights = torch.randn(5, 4)
    (LAYER(x).values() * weights).sum().backward()
    packed = torch.cat(parts).requires_grad_()
    (LAYER(packed, offsets=x.offsets()) * weights).sum().backward()
    assert packed.grad is not None
    assert packed.grad.abs().min() > 0
    assert torch.equal(x.grad.values(), packed.grad)


def test_a_jagged_view_of_other_values_is_taken() -> None:
    values, offsets = torch.randn(5, 8)[:, ::2], torch.tensor([0, 2, 5])
    y: Any = LAYER(torch.nested.nested_tensor_from_jagged(values, offsets))
    assert torch.equal(y.values(), LAYER(values, offsets=offsets))


@pytest.mark.parametrize("module", [LAYER, MODEL], ids=["layer", "model"])
def test_jagged_inputs_compile_without_a_graph_break(module: nn.Module) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for lengths in ((3, 2), (1, 4, 2)):
        x = jagged(histories(*lengths) if module is MODEL else rows(*lengths))
        torch.testing.assert_close(compiled(x).values(), module(x).values(), rtol=1e-4, atol=1e-5)


def strided(parts: list[Tensor]) -> Tensor:
    return torch.nested.nested_tensor(parts)


def with_gaps() -> Tensor:
    starts, lengths = torch.tensor([0, 1]), torch.tensor([3, 2])
    return torch.nested.narrow(torch.randn(2, 5, 4), 1, starts, lengths, layout=torch.jagged)


SQUARE = rows(3, 1)  # as many rows as channels, so that a transposed one has the right sizes
GIVE = r"; give its values\(\), and its offsets\(\) as offsets$"
MAKE = "; make it with layout=torch.jagged"

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "strided rows": (lambda: LAYER(strided(rows(3, 2))), f"a strided nested tensor is not supported{MAKE}"),
    "strided items": (lambda: MODEL(strided(histories(3, 2))), f"is not supported{MAKE}"),
    "gaps": (lambda: LAYER(with_gaps()), r"has gaps between its sequences; give x\.contiguous\(\)$"),
    "with offsets": (
        lambda: LAYER(jagged(rows(3, 2)), offsets=torch.tensor([0, 5])),
        "offsets are given, but a nested tensor has its own offsets; leave out offsets$",
    ),
    "with lengths": (
        lambda: MODEL(jagged(histories(3, 2)), lengths=torch.tensor([3, 2])),
        "lengths are given, but a nested tensor has its own offsets; leave out lengths$",
    ),
    "transposed": (
        lambda: LAYER(jagged(SQUARE).transpose(1, 2)),
        r"a nested tensor must be \(B, T, D\) with a ragged T",
    ),
    "four axes": (
        lambda: LAYER(jagged([torch.randn(2, 3, 4), torch.randn(1, 3, 4)])),
        r"must be \(B, T, D\) with a ragged T",
    ),
    "rows for a model": (lambda: MODEL(jagged(rows(3, 2))), r"must be \(B, T\) with a ragged T"),
    "another width": (lambda: LAYER(jagged([torch.randn(2, 3)])), "must have a last axis of 4"),
    "floats for a model": (lambda: MODEL(jagged([torch.randn(2)])), "items must be integers"),
    "the gated layer": (
        lambda: GatedRecurrentLayer(4)(jagged(rows(3, 2))),
        f"the input must be dense.*{GIVE}",
    ),
    "the unit": (lambda: BDLRU(4)(jagged(rows(3, 2))), f"x must be dense, but is a nested tensor{GIVE}"),
    "the convolution": (lambda: CausalConv1d(4)(jagged(rows(3, 2))), f"x must be dense.*{GIVE}"),
    "the average": (
        lambda: HistoryAverage(4)(strided(rows(3, 2))),
        r"x must be dense.*; make it with layout=torch\.jagged, then give its values\(\)",
    ),
    "a step of a layer": (lambda: LAYER.step(jagged(rows(3, 2))), r"must be \(B, T, D\)"),
    "a step of a model": (lambda: MODEL.step(jagged(histories(3, 2))), r"must be \(B, T\)"),
    "another model": (
        lambda: GRU4Rec(9, GRU4RecConfig(d_model=8))(jagged(histories(3, 2)), offsets=torch.tensor([0, 5])),
        f"items must be dense, but is a nested tensor{GIVE}",
    ),
    "scan": (lambda: scan(jagged(rows(2)), jagged(rows(2))), f"scan: a must be dense.*{GIVE}"),
    "conv": (
        lambda: causal_conv1d(strided(rows(2)), torch.randn(4, 2)),
        "causal_conv1d: x must be dense, but is a nested tensor; make it with",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_refused_in_a_sentence(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert (
        isinstance(raised.value, InputError) or "a nested tensor must be" in message or "dense" not in message
    )


def test_the_remedies_work() -> None:
    x = with_gaps()
    whole: Any = x.contiguous()
    y: Any = LAYER(whole)
    assert torch.equal(y.values(), LAYER(whole.values(), offsets=whole.offsets()))
    unit, nested = BDLRU(4), jagged(rows(3, 2))
    out, state = unit(nested.values(), offsets=nested.offsets())
    assert (out.shape, state.shape) == ((5, 4), (2, 4))
