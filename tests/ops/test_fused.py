"""The fused kernels on long sequences, compared with the composition in float64.

tests/ops/test_bdlru.py and test_causal_conv1d.py compare short sequences with the definition.  The sequences
here are longer than one block of the kernels.  So states are stored and read again, sums run over several
tasks, and vectors of channels are not full.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ops.cases import DTYPES, HALF, accumulation, on
from torch import Tensor

import recblr
from recblr.ops.bdlru import composed_bdlru
from recblr.ops.causal_conv1d import composed_causal_conv1d

Arguments = dict[str, Any]

SHAPES = {
    "batched": ((3, 290, 37), None),
    "packed": ((1300, 21), torch.tensor([0, 31, 32, 33, 33, 700, 1300])),
    "one": ((70, 300), None),
}


def _unit(kind: str, dtype: torch.dtype, full: bool) -> Arguments:
    shape, offsets = SHAPES[kind]
    random = torch.Generator().manual_seed(1)
    wide, channels = accumulation(dtype), shape[-1]

    def normal(*size: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(size, generator=random).to(of)

    sequences = shape[0] if kind == "batched" else 1 if offsets is None else len(offsets) - 1
    return {
        "x": normal(*shape),
        "gates": normal(*shape[:-1], 2 * channels),
        "decay": normal(channels, of=wide).abs() / 10,
        "z": normal(*shape) if full else None,
        "initial": normal(sequences, channels, of=wide) if full else None,
        "offsets": offsets,
        "scale": normal(*shape[:-1], 1, of=wide).abs() if full else None,
    }


def _conv(kind: str, dtype: torch.dtype, full: bool) -> Arguments:
    unit = _unit(kind, dtype, full)
    x, wide = unit["x"], accumulation(dtype)
    random = torch.Generator().manual_seed(2)
    width = 4 if full else 6

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random).to(wide)

    return {
        "x": x,
        "weight": normal(x.shape[-1], width),
        "bias": normal(x.shape[-1]) if full else None,
        "initial": normal(len(unit["initial"]), width - 1, x.shape[-1]) if full else None,
        "offsets": unit["offsets"],
        "silu": full,
    }


def _on(device: str, given: Arguments) -> Arguments:
    return {name: on(device, x) if isinstance(x, Tensor) else x for name, x in given.items()}


def _values_and_gradients(
    function: Callable[..., tuple[Tensor, Tensor]], given: Arguments, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """y, final and all gradients of a weighted sum of them.  dtype None means the arguments' own dtypes."""
    inputs = {
        name: value.detach().to(dtype or value.dtype).requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in given.items()
    }
    y, final = function(*inputs.values())
    random = torch.Generator().manual_seed(3)
    weights = [torch.randn(value.shape, generator=random).to(value) for value in (y, final)]
    wanted = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.requires_grad}
    gradients = torch.autograd.grad([y, final], list(wanted.values()), weights)
    return {"y": y, "final": final, **dict(zip(wanted, gradients, strict=True))}


def _assert_like_the_composition(
    function: Callable[..., Any], composition: Callable[..., Any], given: Arguments, dtype: torch.dtype
) -> None:
    got = _values_and_gradients(function, given, None)
    wanted = _values_and_gradients(composition, given, torch.float64)
    # In sums over rows, the rounding errors of the rows add up.
    eps = 2 * torch.finfo(dtype).eps if dtype in HALF else 200 * torch.finfo(dtype).eps
    for name, value in got.items():
        scale = wanted[name].abs().max().item()
        assert value.shape == wanted[name].shape
        torch.testing.assert_close(
            value.double(), wanted[name], rtol=eps, atol=eps * (1 + scale), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bdlru_and_its_gradients_equal_the_composition(
    device: str, dtype: torch.dtype, kind: str, full: bool
) -> None:
    _assert_like_the_composition(recblr.bdlru, composed_bdlru, _on(device, _unit(kind, dtype, full)), dtype)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_causal_conv1d_and_its_gradients_equal_the_composition(
    device: str, dtype: torch.dtype, kind: str, full: bool
) -> None:
    _assert_like_the_composition(
        recblr.causal_conv1d, composed_causal_conv1d, _on(device, _conv(kind, dtype, full)), dtype
    )


def test_a_convolution_that_is_too_wide_for_the_kernel_is_computed_too() -> None:
    x, weight = torch.randn(2, 90, 3), torch.randn(3, 70)
    y, final = recblr.causal_conv1d(x, weight, silu=False)
    padded = torch.nn.functional.pad(x.mT, (69, 0))
    wanted = torch.nn.functional.conv1d(padded, weight.unsqueeze(1), groups=3).mT
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final, x[:, -69:])


@pytest.mark.parametrize("layout", ["channel first", "expanded", "every other"])
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    unit = _unit("batched", torch.float32, full=True)
    x = unit["x"][:, :1].expand_as(unit["x"]) if layout == "expanded" else unit["x"]
    wanted = recblr.bdlru(**{**unit, "x": x.contiguous()})
    if layout == "channel first":
        x = x.mT.contiguous().mT
    elif layout == "every other":
        x = torch.stack([x, x], -1).flatten(-2)[..., ::2]
    got = recblr.bdlru(**{**unit, "x": x})
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_gradients_of_the_final_state_alone_reach_every_input() -> None:
    unit = _unit("batched", torch.float64, full=True)
    unit["x"].requires_grad_()
    (alone,) = torch.autograd.grad(recblr.bdlru(**unit)[1].sum(), unit["x"])
    (wanted,) = torch.autograd.grad(composed_bdlru(*unit.values())[1].sum(), unit["x"])
    torch.testing.assert_close(alone, wanted)


def test_the_place_of_a_cut_in_a_sequence_changes_no_bit() -> None:
    unit = _unit("batched", torch.float32, full=True)
    y, final = recblr.bdlru(**unit)
    cut = {name: unit[name] for name in ("x", "gates", "z", "scale")}
    for at in (1, 31, 32, 200):
        first, state = recblr.bdlru(**{**unit, **{k: v[:, :at] for k, v in cut.items()}})
        rest, last = recblr.bdlru(**{**unit, **{k: v[:, at:] for k, v in cut.items()}, "initial": state})
        assert torch.equal(torch.cat([first, rest], 1), y)
        assert torch.equal(last, final)
