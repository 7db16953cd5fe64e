"""The behavior-dependent linear recurrent unit: comparison with a float64 loop, and numerics near decay 0."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import reference
from ops.cases import DTYPES, HALF, LAYOUTS, accumulation, array, in_layout, on, record_on, sequences, shapes
from ops.reference import Array
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import recblr


@dataclass(frozen=True)
class Unit:
    """bdlru's arguments."""

    x: Tensor
    gates: Tensor
    decay: Tensor
    z: Tensor | None
    initial: Tensor | None
    offsets: Tensor | None
    scale: Tensor | None

    def run(self) -> tuple[Tensor, Tensor]:
        return recblr.bdlru(**{field.name: getattr(self, field.name) for field in fields(self)})

    def expected(self) -> tuple[Array, Array]:
        offsets = None if self.offsets is None else self.offsets.tolist()
        x, gates, decay, z, initial, scale = map(
            array, (self.x, self.gates, self.decay, self.z, self.initial, self.scale)
        )
        return reference.bdlru(x, gates, decay, z, initial, offsets, scale)

    def differentiable(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None and name != "offsets"}


@st.composite
def units(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Unit:
    shape, offsets = draw(shapes())
    dtype = draw(st.sampled_from(dtypes))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def normal(*size: int) -> Tensor:
        return in_layout(torch.randn(size, generator=random).to(dtype), draw(st.sampled_from(LAYOUTS)))

    wide = accumulation(dtype)
    channels = shape[-1]
    decay = torch.rand(channels, generator=random).to(wide) * draw(st.sampled_from((0, 1e-6, 0.01, 1, 20)))
    state = torch.randn(sequences(shape, offsets), channels, generator=random).to(wide)
    scale = torch.rand(*shape[:-1], 1, generator=random).to(draw(st.sampled_from((dtype, wide)))) * 3
    return Unit(
        normal(*shape),
        normal(*shape[:-1], 2 * channels),
        decay,
        normal(*shape) if draw(st.booleans()) else None,
        state if draw(st.booleans()) else None,
        offsets,
        scale if draw(st.booleans()) else None,
    )


def _tolerance(dtype: torch.dtype) -> dict[str, Any]:
    eps = torch.finfo(accumulation(dtype)).eps
    if dtype in HALF:
        return {"rtol": 2 * torch.finfo(dtype).eps, "atol": 1e-5}
    return {"rtol": 50 * eps, "atol": 50 * eps}


@settings(deadline=None, max_examples=150)
@given(units())
def test_bdlru_is_the_published_unit(device: str, unit: Unit) -> None:
    y, final = record_on(device, unit).run()
    wanted_y, wanted_final = unit.expected()
    assert (y.dtype, y.shape) == (unit.x.dtype, unit.x.shape)
    assert final.dtype == accumulation(unit.x.dtype)
    np.testing.assert_allclose(array(y), wanted_y, **_tolerance(unit.x.dtype))
    np.testing.assert_allclose(array(final), wanted_final, **_tolerance(final.dtype))


@settings(deadline=None, max_examples=60)
@given(units(dtypes=(torch.float32,)), st.integers(0, 99))
def test_float32_gradients_are_close_to_float64(device: str, unit: Unit, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    shapes = unit.x.shape, unit.run()[1].shape
    weights = [on(device, torch.rand(shape, generator=random)) for shape in shapes]
    unit = record_on(device, unit)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        inputs = {k: v.detach().to(dtype).requires_grad_() for k, v in unit.differentiable().items()}
        outputs = replace(unit, **inputs).run()
        total = sum(
            ((t * w).sum() for t, w in zip(outputs, weights, strict=True)), torch.zeros((), device=device)
        )
        return list(torch.autograd.grad(total, list(inputs.values()), materialize_grads=True))

    for got, wanted in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        atol = 1e-5 * max(1.0, float(wanted.abs().max()) if wanted.numel() else 0.0)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=atol)


def _small(packed: bool, full: bool) -> Unit:
    random = torch.Generator().manual_seed(0)
    shape = (4, 2) if packed else (2, 2, 2)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random, dtype=torch.float64)

    return Unit(
        normal(*shape),
        normal(*shape[:-1], 4),
        normal(2).abs() + 0.1,
        normal(*shape) if full else None,
        normal(2, 2) if full else None,
        torch.tensor([0, 3, 4]) if packed else None,
        normal(*shape[:-1], 1).abs() + 0.1 if full else None,
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_derivatives_are_exact(device: str, packed: bool, full: bool) -> None:
    unit = record_on(device, _small(packed, full))
    inputs = unit.differentiable()

    def run(*values: Tensor) -> tuple[Tensor, Tensor]:
        return replace(unit, **dict(zip(inputs, values, strict=True))).run()

    values = [value.requires_grad_() for value in inputs.values()]
    assert gradcheck(run, values)
    assert gradgradcheck(run, values)


def _rows(unit: Unit, rows: slice, initial: Tensor | None) -> Unit:
    """The arguments of some steps of a (B, T, C) unit."""
    cut = {name: getattr(unit, name) for name in ("x", "gates", "z", "scale")}
    cut = {name: None if value is None else value[:, rows] for name, value in cut.items()}
    return replace(unit, **cut, initial=initial)


@settings(deadline=None, max_examples=60)
@given(units(), st.data())
def test_a_sequence_may_be_split_anywhere_and_its_state_passed_on(unit: Unit, data: st.DataObject) -> None:
    if unit.x.dim() != 3:
        return
    at = data.draw(st.integers(0, unit.x.shape[1]))
    y, final = unit.run()
    first_y, state = _rows(unit, slice(0, at), unit.initial).run()
    second_y, last = _rows(unit, slice(at, None), state).run()
    torch.testing.assert_close(torch.cat([first_y, second_y], 1), y)  # the gates may differ in their last bit
    torch.testing.assert_close(last, final)


@settings(deadline=None, max_examples=60)
@given(units())
def test_a_packed_sequence_gives_what_it_gives_alone(device: str, unit: Unit) -> None:
    if unit.offsets is None:
        return
    unit = record_on(device, unit)
    y, final = unit.run()
    for s, (start, stop) in enumerate(
        zip(unit.offsets[:-1].tolist(), unit.offsets[1:].tolist(), strict=True)
    ):
        whole: dict[str, Any] = {name: getattr(unit, name) for name in ("x", "gates", "z", "scale")}
        alone: dict[str, Any] = {
            name: None if value is None else value[start:stop] for name, value in whole.items()
        }
        initial = None if unit.initial is None else unit.initial[s : s + 1]
        own_y, own_final = replace(unit, **alone, initial=initial, offsets=None).run()
        torch.testing.assert_close(y[start:stop], own_y)
        torch.testing.assert_close(final[s : s + 1], own_final)


@pytest.mark.parametrize("u", [1e-7, 1e-6, 1e-5])
def test_beta_is_accurate_where_alpha_rounds_to_one(device: str, u: float) -> None:
    decay = torch.tensor([2 * u])  # the gates are 0, and sigmoid(0) = 1/2
    y, _ = recblr.bdlru(*(on(device, x) for x in (torch.ones(1, 1, 1), torch.zeros(1, 1, 2), decay)))
    exact = np.sqrt(-np.expm1(-2 * float(decay) * 0.5)) / 2
    assert abs(float(y) - exact) < 1e-5 * exact
    naive = np.sqrt(1 - np.float32(np.exp(-np.float32(u))) ** 2) / 2
    assert u > 1e-7 or abs(naive - exact) > 1e-3 * exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decay_zero_keeps_the_state_and_finite_gradients(device: str, dtype: torch.dtype) -> None:
    like = {"dtype": dtype, "device": device, "requires_grad": True}
    x, gates = torch.randn(2, 5, 3, **like), torch.randn(2, 5, 6, **like)
    decay, initial = torch.zeros(3, **like), torch.randn(2, 3, **like)
    y, final = recblr.bdlru(x, gates, decay, initial=initial)
    torch.testing.assert_close(final, initial)
    gradients = torch.autograd.grad(y.sum() + final.sum(), (x, gates, decay, initial))
    assert all(g.isfinite().all() for g in gradients)


def test_extreme_gates_stay_finite(device: str) -> None:
    gates = torch.tensor([-200.0, 200.0], device=device).repeat(4).reshape(1, 1, 8).requires_grad_()
    decay = torch.tensor([0.0, 1e-30, 1.0, 200.0], device=device, requires_grad=True)
    one = torch.ones(1, 4, device=device)
    y, final = recblr.bdlru(one.unsqueeze(1), gates, decay, initial=one)
    y.sum().backward()
    assert all(t is not None and t.isfinite().all() for t in (y, final, gates.grad, decay.grad))


@pytest.mark.parametrize("dtype", HALF)
def test_half_inputs_keep_float32_decay_and_states(dtype: torch.dtype) -> None:
    """alpha is 0.9985 in each step.  bfloat16 anywhere in the recurrence would round it to 1."""
    x, gates = torch.zeros(1, 100, 2, dtype=dtype), torch.zeros(1, 100, 4, dtype=dtype)
    y, final = recblr.bdlru(x, gates, torch.full((2,), 0.003), initial=torch.ones(1, 2))
    assert (y.dtype, final.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(final, torch.full((1, 2), float(np.exp(-0.15))))


def test_the_final_state_is_not_gated_and_not_a_view() -> None:
    x, gates, decay, initial = torch.rand(1, 3, 2), torch.rand(1, 3, 4), torch.rand(2), torch.rand(1, 2)
    plain, final = recblr.bdlru(x, gates, decay)
    gated, same = recblr.bdlru(x, gates, decay, z=torch.full_like(x, -50.0))
    assert (gated.abs() < 1e-12).all()
    torch.testing.assert_close(final, same)
    torch.testing.assert_close(final, plain[:, -1])
    _, empty = recblr.bdlru(x[:, :0], gates[:, :0], decay, initial=initial)
    assert empty.data_ptr() != initial.data_ptr()
    torch.testing.assert_close(empty, initial)
