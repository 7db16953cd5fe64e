"""The scan's values and gradients, on every path, against a ten-line float64 recurrence."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import HALF, Case, assert_close, cases, in_layout
from ops.reference import differentiable_recurrence, recurrence, rows_of_sequences
from torch import Tensor

import recblr
from recblr._core import scan as numpy_scan
from recblr.ops import native


def test_the_native_kernels_serve() -> None:
    assert native.status["cpu"] == "native"


@settings(deadline=None, max_examples=300)
@given(cases())
def test_scan_is_the_recurrence(case: Case) -> None:
    expected, magnitude = recurrence(*case.arrays), recurrence(*case.magnitudes)
    before = [x.clone() for x in (case.a, case.b)]

    h = recblr.scan(*case.args)

    assert h.dtype == case.b.dtype
    assert_close(h, expected, magnitude, case.b.dtype, case.steps)
    for x, unchanged in zip((case.a, case.b), before, strict=True):
        torch.testing.assert_close(x, unchanged, rtol=0, atol=0)
    if case.b.dtype not in HALF:
        a, b, initial, offsets = (None if x is None else x.numpy() for x in case.args[:4])
        on_numpy: Any = numpy_scan(a, b, initial, offsets, case.reverse)  # type: ignore[arg-type]
        assert on_numpy.flags.c_contiguous
        assert_close(on_numpy.astype(np.float64), expected, magnitude, case.b.dtype, case.steps)


def _gradients(case: Case, grad: Tensor, absolute: bool) -> tuple[Tensor, ...]:
    """da, db (and dinitial) by autograd through the loop in float64; of absolute values, their magnitudes."""
    inputs = [x.detach().double() for x in (case.a, case.b, case.initial) if x is not None]
    inputs = [(x.abs() if absolute else x).contiguous().requires_grad_() for x in inputs]
    grad = grad.double().abs() if absolute else grad.double()
    initial = inputs[2] if case.initial is not None else None
    h = differentiable_recurrence(inputs[0], inputs[1], initial, case.boundaries, case.reverse)
    return torch.autograd.grad(h, inputs, grad, allow_unused=True, materialize_grads=True)


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from(("contiguous", "channel first", "stepped", "expanded")), st.integers(0, 99))
def test_gradients_are_those_of_the_recurrence(case: Case, layout: str, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    grad = in_layout(torch.rand(case.b.shape, generator=random).sub(0.5).to(case.b.dtype), layout)
    inputs = [x.detach().requires_grad_() for x in (case.a, case.b, case.initial) if x is not None]
    initial = inputs[2] if case.initial is not None else None

    h = recblr.scan(inputs[0], inputs[1], initial, case.offsets, case.reverse)
    got = torch.autograd.grad(h, inputs, grad)

    wanted, magnitudes = _gradients(case, grad, False), _gradients(case, grad, True)
    for x, g, w, m in zip(inputs, got, wanted, magnitudes, strict=True):
        assert (g.dtype, g.shape) == (x.dtype, x.shape)
        assert_close(g, w.numpy(), m.numpy(), case.b.dtype, 2 * case.steps)


def _columns_but(x: Tensor, rows: list[Any], channel: int) -> Tensor:
    """x with one channel of one sequence blanked."""
    x = x.clone()
    for row in rows:
        x[row][channel] = 0
    return x


@settings(deadline=None, max_examples=200)
@given(cases(kinds=("ordinary", "edges")), st.sampled_from((torch.inf, -torch.inf, torch.nan)), st.data())
def test_a_non_finite_value_stays_in_its_sequence_and_channel(
    case: Case, poison: float, data: st.DataObject
) -> None:
    sequences = [
        rows[::-1] if case.reverse else rows
        for rows in rows_of_sequences(case.b.shape, case.boundaries)
        if rows
    ]
    if not sequences or case.b.shape[-1] == 0:
        return
    rows = data.draw(st.sampled_from(sequences))
    channel = data.draw(st.integers(0, case.b.shape[-1] - 1))
    step = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(("a", "b", "grad")))
    arguments = {"a": case.a, "b": case.b, "grad": torch.ones_like(case.b)}
    poisoned = dict(arguments)
    poisoned[name] = arguments[name].clone(memory_format=torch.contiguous_format)
    poisoned[name][rows[step]][channel] = poison

    clean_h = recblr.scan(case.a.contiguous(), case.b.contiguous(), *case.args[2:])
    h = recblr.scan(poisoned["a"].contiguous(), poisoned["b"].contiguous(), *case.args[2:])
    if name != "grad":
        own = torch.stack([h[row][channel] for row in rows])
        assert not own[step:].isfinite().any()
        torch.testing.assert_close(own[:step], torch.stack([clean_h[row][channel] for row in rows])[:step])
    torch.testing.assert_close(
        _columns_but(h, rows, channel), _columns_but(clean_h, rows, channel), rtol=0, atol=0
    )

    backward = torch.ops.recblr._scan_backward
    clean = backward(arguments["grad"], case.a, clean_h, *case.args[2:])
    dirty = backward(poisoned["grad"], poisoned["a"], h, *case.args[2:])
    if name == "grad":
        own = torch.stack([dirty[1][row][channel] for row in rows])
        assert not own[: step + 1].isfinite().any()
    for got, wanted in zip(dirty[:2], clean[:2], strict=True):
        torch.testing.assert_close(
            _columns_but(got, rows, channel), _columns_but(wanted, rows, channel), rtol=0, atol=0
        )
    assert ((dirty[2] - clean[2]) != 0).sum() <= 1  # a non-finite value differs too


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denormals_are_flushed_in_float32_alone_and_the_mode_is_restored(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny / 8
    a, b = torch.zeros(1, 2, 8, dtype=dtype), torch.full((1, 2, 8), tiny, dtype=dtype)
    assert (recblr.scan(a, b) == (0 if dtype == torch.float32 else tiny)).all()
    assert (torch.full((8,), tiny * 4, dtype=dtype) / 2 == tiny * 2).all()
    assert np.float32(1e-39) * np.float32(1) > 0


def test_a_lazily_negated_view_is_read_with_its_sign() -> None:
    b = torch.randn(2, 5, 3, dtype=torch.complex64).conj().imag
    assert b.is_neg()
    a = torch.rand(2, 5, 3)
    torch.testing.assert_close(recblr.scan(a, b), recblr.scan(a, b.clone()))


def test_an_empty_sequence_hands_on_no_gradient() -> None:
    a, b = torch.rand(3, 2, requires_grad=True), torch.rand(3, 2)
    initial = torch.rand(3, 2, requires_grad=True)
    recblr.scan(a, b, initial, torch.tensor([0, 0, 3, 3])).sum().backward()
    assert initial.grad is not None
    assert (initial.grad[1] != 0).all()
    assert (initial.grad[[0, 2]] == 0).all()


def test_numpy_arrays_may_run_backwards() -> None:
    a, b = np.random.default_rng(0).random((2, 2, 7, 9), dtype=np.float32)
    got = numpy_scan(a[:, ::-1, ::-1], b[:, ::-1, ::-1], reverse=True)
    np.testing.assert_allclose(got[:, ::-1, ::-1], recurrence(a, b), rtol=1e-6)
