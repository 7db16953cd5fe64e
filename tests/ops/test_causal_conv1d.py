"""The causal convolution compared with a float64 loop: every width, history, split and packing."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import reference
from ops.cases import DTYPES, HALF, LAYOUTS, accumulation, array, in_layout, on, record_on, sequences, shapes
from ops.reference import Array
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import recblr


@dataclass(frozen=True)
class Convolution:
    """causal_conv1d's arguments."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    initial: Tensor | None
    offsets: Tensor | None
    silu: bool

    def run(self) -> tuple[Tensor, Tensor]:
        return recblr.causal_conv1d(**{field.name: getattr(self, field.name) for field in fields(self)})

    def expected(self) -> tuple[Array, Array]:
        offsets = None if self.offsets is None else self.offsets.tolist()
        x, weight, bias, initial = map(array, (self.x, self.weight, self.bias, self.initial))
        return reference.causal_conv1d(x, weight, bias, initial, offsets, self.silu)

    def differentiable(self) -> dict[str, Tensor]:
        values = {name: getattr(self, name) for name in ("x", "weight", "bias", "initial")}
        return {name: value for name, value in values.items() if value is not None}


@st.composite
def convolutions(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Convolution:
    shape, offsets = draw(shapes())
    dtype = draw(st.sampled_from(dtypes))
    wide = accumulation(dtype)
    width, channels = draw(st.integers(1, 4)), shape[-1]
    parameters = draw(st.sampled_from((dtype, wide)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random)

    state = normal(sequences(shape, offsets), width - 1, channels).to(wide)
    return Convolution(
        in_layout(normal(*shape).to(dtype), draw(st.sampled_from(LAYOUTS))),
        in_layout(normal(channels, width).to(parameters), draw(st.sampled_from(LAYOUTS))),
        normal(channels).to(parameters) if draw(st.booleans()) else None,
        state if draw(st.booleans()) else None,
        offsets,
        draw(st.booleans()),
    )


@settings(deadline=None, max_examples=200)
@given(convolutions())
def test_causal_conv1d_equals_the_loop(device: str, convolution: Convolution) -> None:
    y, final = record_on(device, convolution).run()
    wanted_y, wanted_final = convolution.expected()
    x = convolution.x
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert final.dtype == accumulation(x.dtype)
    eps = 20 * torch.finfo(accumulation(x.dtype)).eps
    rtol = 2 * torch.finfo(x.dtype).eps if x.dtype in HALF else eps
    np.testing.assert_allclose(array(y), wanted_y, rtol=rtol, atol=max(eps, 1e-6 if x.dtype in HALF else 0))
    np.testing.assert_array_equal(array(final), wanted_final)


@settings(deadline=None, max_examples=60)
@given(convolutions(dtypes=(torch.float32,)), st.integers(0, 99))
def test_float32_gradients_are_close_to_float64(device: str, convolution: Convolution, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = [on(device, torch.rand(t.shape, generator=random)) for t in convolution.run()]
    convolution = record_on(device, convolution)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        values = convolution.differentiable()
        inputs: dict[str, Any] = {k: v.detach().to(dtype).requires_grad_() for k, v in values.items()}
        outputs = replace(convolution, **inputs).run()
        total = sum(
            ((t * w).sum() for t, w in zip(outputs, weights, strict=True)), torch.zeros((), device=device)
        )
        return list(torch.autograd.grad(total, list(inputs.values()), materialize_grads=True))

    for got, wanted in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("silu", [False, True])
def test_derivatives_are_exact(device: str, packed: bool, width: int, silu: bool) -> None:
    random = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return on(device, torch.randn(size, generator=random, dtype=torch.float64)).requires_grad_()

    offsets = torch.tensor([0, 3, 3, 4], device=device) if packed else None
    inputs = [
        normal(4, 2) if packed else normal(3, 2, 2),
        normal(2, width),
        normal(2),
        normal(3, width - 1, 2),
    ]

    def run(x: Tensor, weight: Tensor, bias: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        return recblr.causal_conv1d(x, weight, bias, initial, offsets, silu)

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@settings(deadline=None, max_examples=80)
@given(convolutions(), st.data())
def test_a_sequence_may_be_split_anywhere_and_its_inputs_passed_on(
    convolution: Convolution, data: st.DataObject
) -> None:
    x = convolution.x
    if x.dim() != 3:
        return
    at = data.draw(st.integers(0, x.shape[1]))
    y, final = convolution.run()
    first_y, state = replace(convolution, x=x[:, :at]).run()
    second_y, last = replace(convolution, x=x[:, at:], initial=state).run()
    torch.testing.assert_close(torch.cat([first_y, second_y], 1), y)
    torch.testing.assert_close(last, final, rtol=0, atol=0)


@settings(deadline=None, max_examples=60)
@given(convolutions(), st.sampled_from((torch.inf, torch.nan)), st.data())
def test_a_non_finite_input_stays_in_its_sequence_and_channel(
    convolution: Convolution, poison: float, data: st.DataObject
) -> None:
    sequence_rows = [
        rows
        for rows in reference.rows_of_sequences(
            convolution.x.shape, None if convolution.offsets is None else convolution.offsets.tolist()
        )
        if rows
    ]
    if not sequence_rows or convolution.x.shape[-1] == 0:
        return
    rows = data.draw(st.sampled_from(sequence_rows))
    x = convolution.x.contiguous().clone()
    clean, _ = replace(convolution, x=x).run()
    x[rows[0]][0] = poison
    dirty, _ = replace(convolution, x=x).run()
    for row in rows:
        clean[row][0] = dirty[row][0] = 0
    torch.testing.assert_close(dirty, clean, rtol=0, atol=0)


def test_it_equals_the_grouped_convolution_of_torch() -> None:
    x, weight, bias = torch.randn(2, 9, 5), torch.randn(5, 4), torch.randn(5)
    y, final = recblr.causal_conv1d(x, weight, bias)
    padded = F.pad(x.mT, (3, 0))
    torch.testing.assert_close(y, F.silu(F.conv1d(padded, weight.unsqueeze(1), bias, groups=5)).mT)
    torch.testing.assert_close(final, x[:, -3:])


def test_a_sequence_shorter_than_the_window_keeps_the_tail_of_its_past() -> None:
    x, initial = torch.tensor([[[4.0]]]), torch.tensor([[[1.0], [2.0], [3.0]]])
    _, final = recblr.causal_conv1d(x, torch.zeros(1, 4), initial=initial)
    assert final.flatten().tolist() == [2, 3, 4]
    _, untouched = recblr.causal_conv1d(x[:, :0], torch.zeros(1, 4), initial=initial)
    assert untouched.flatten().tolist() == [1, 2, 3]
    assert untouched.data_ptr() != initial.data_ptr()
