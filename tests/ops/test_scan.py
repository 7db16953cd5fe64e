"""The scan's values and gradients, on every path, compared with a ten-line recurrence in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import DTYPES, SCANNED, Case, accumulation, assert_close, cases, in_layout, on, record_on
from ops.reference import differentiable_recurrence, recurrence, rows_of_sequences
from torch import Tensor

import recblr
from recblr._core import scan as numpy_scan
from recblr._core import scan_with_final as numpy_scan_with_final
from recblr.ops.common import native


def test_the_native_kernels_are_used() -> None:
    assert native.status["cpu"] == "native"


@settings(deadline=None, max_examples=300)
@given(cases())
def test_scan_equals_the_recurrence(device: str, case: Case) -> None:
    expected, magnitude = recurrence(*case.arrays), recurrence(*case.magnitudes)
    case = record_on(device, case)
    before = [x.clone() for x in (case.a, case.b)]

    h, final = recblr.scan_with_final(*case.args)

    assert (h.dtype, final.dtype) == (case.b.dtype, accumulation(case.b.dtype))
    for got, wanted, size in zip((h, final), expected, magnitude, strict=True):
        assert_close(got, wanted, size, case.b.dtype, case.steps)
    assert torch.equal(recblr.scan(*case.args), h)
    for x, unchanged in zip((case.a, case.b), before, strict=True):
        torch.testing.assert_close(x, unchanged, rtol=0, atol=0)


@settings(deadline=None, max_examples=150)
@given(cases(dtypes=tuple(dtype for dtype in SCANNED if dtype != torch.bfloat16)))
def test_numpy_arrays_give_the_same_bits(case: Case) -> None:
    a, b, initial, offsets = (None if x is None else x.resolve_conj().numpy() for x in case.args[:4])
    arguments: Any = a, b, initial, offsets, case.reverse

    h, final = numpy_scan_with_final(*arguments)

    wanted_h, wanted_final = recblr.scan_with_final(*case.args)
    assert h.flags.c_contiguous
    np.testing.assert_array_equal(h, wanted_h.numpy())
    np.testing.assert_array_equal(final, wanted_final.numpy())
    np.testing.assert_array_equal(numpy_scan(*arguments), h)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_the_final_state_is_the_last_row_or_the_initial_state(device: str, case: Case) -> None:
    case = record_on(device, case)
    h, final = recblr.scan_with_final(*case.args)
    for s, rows in enumerate(rows_of_sequences(h.shape, case.boundaries)):
        if rows:
            last = rows[0] if case.reverse else rows[-1]
            assert torch.equal(final[s].to(h.dtype), h[last])
        else:
            assert torch.equal(
                final[s], torch.zeros_like(final[s]) if case.initial is None else case.initial[s]
            )


@settings(deadline=None, max_examples=100)
@given(cases(dtypes=DTYPES), st.data())
def test_parts_of_a_sequence_chained_by_their_states_equal_the_whole(case: Case, data: st.DataObject) -> None:
    if case.offsets is not None:
        return
    length = case.b.shape[-2]
    cut = data.draw(st.integers(0, length))
    h, final = recblr.scan_with_final(*case.args)
    parts = [slice(0, cut), slice(cut, length)]
    state, got = case.initial, []
    for part in reversed(parts) if case.reverse else parts:
        piece, state = recblr.scan_with_final(
            case.a[..., part, :], case.b[..., part, :], state, None, case.reverse
        )
        got.append(piece)
    assert torch.equal(torch.cat(got[::-1] if case.reverse else got, -2), h)
    assert state is not None
    assert torch.equal(state, final)


def _gradients(
    case: Case, grad: Tensor | None, grad_final: Tensor | None, absolute: bool
) -> tuple[Tensor, ...]:
    """da, db (and dinitial) of the loop in float64, by autograd.  Absolute values give the magnitudes."""

    def exact(x: Tensor) -> Tensor:
        wide = x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
        return (wide.abs() if absolute else wide).contiguous()

    inputs = [exact(x).requires_grad_() for x in (case.a, case.b, case.initial) if x is not None]
    initial = inputs[2] if case.initial is not None else None
    outputs = differentiable_recurrence(inputs[0], inputs[1], initial, case.boundaries, case.reverse)
    used = [(out, exact(g)) for out, g in zip(outputs, (grad, grad_final), strict=True) if g is not None]
    tied = sum((0 * x.sum() for x in inputs), torch.zeros(()))  # depends on all inputs, even without steps
    return torch.autograd.grad([out + tied for out, _ in used], inputs, [g for _, g in used])


@settings(deadline=None, max_examples=200)
@given(
    cases(),
    st.sampled_from(("contiguous", "channel first", "stepped", "expanded")),
    st.sampled_from(("h", "final", "both")),
    st.integers(0, 99),
)
def test_gradients_equal_those_of_the_recurrence(
    device: str, case: Case, layout: str, used: str, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    there = record_on(device, case)
    inputs = [x.detach().requires_grad_() for x in (there.a, there.b, there.initial) if x is not None]
    initial = inputs[2] if case.initial is not None else None
    h, final = recblr.scan_with_final(inputs[0], inputs[1], initial, there.offsets, case.reverse)
    grad = in_layout(torch.rand(h.shape, generator=random).sub(0.5).to(h.dtype), layout)
    grad_final = torch.rand(final.shape, generator=random).sub(0.5).to(final.dtype)
    given_grad, given_final = (grad if used != "final" else None), (grad_final if used != "h" else None)

    outputs = [out for out, g in ((h, given_grad), (final, given_final)) if g is not None]
    cotangents = [on(device, g) for g in (given_grad, given_final) if g is not None]
    got = torch.autograd.grad(outputs, inputs, cotangents)

    wanted, magnitudes = (_gradients(case, given_grad, given_final, absolute) for absolute in (False, True))
    for x, g, w, m in zip(inputs, got, wanted, magnitudes, strict=True):
        assert (g.dtype, g.shape) == (x.dtype, x.shape)
        assert_close(g, w.resolve_conj().numpy(), m.numpy(), case.b.dtype, 2 * case.steps)
    if used == "h":
        alone = recblr.scan(inputs[0], inputs[1], initial, there.offsets, case.reverse)
        for g, same in zip(got, torch.autograd.grad(alone, inputs, cotangents), strict=True):
            assert torch.equal(g, same)


def _columns_but(x: Tensor, rows: list[Any], channel: int) -> Tensor:
    """x with zeros in one channel of one sequence."""
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
    clean = backward(arguments["grad"], None, case.a, clean_h, *case.args[2:])
    dirty = backward(poisoned["grad"], None, poisoned["a"], h, *case.args[2:])
    if name == "grad":
        own = torch.stack([dirty[1][row][channel] for row in rows])
        assert not own[: step + 1].isfinite().any()
    for got, wanted in zip(dirty[:2], clean[:2], strict=True):
        torch.testing.assert_close(
            _columns_but(got, rows, channel), _columns_but(wanted, rows, channel), rtol=0, atol=0
        )
    assert ((dirty[2] - clean[2]) != 0).sum() <= 1  # a non-finite value differs too


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denormals_are_flushed_only_in_float32_and_the_mode_is_restored(dtype: torch.dtype) -> None:
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


def test_an_empty_sequence_passes_no_gradient_on() -> None:
    a, b = torch.rand(3, 2, requires_grad=True), torch.rand(3, 2)
    initial = torch.rand(3, 2, requires_grad=True)
    recblr.scan(a, b, initial, torch.tensor([0, 0, 3, 3])).sum().backward()
    assert initial.grad is not None
    assert (initial.grad[1] != 0).all()
    assert (initial.grad[[0, 2]] == 0).all()


def test_numpy_arrays_may_run_backwards() -> None:
    a, b = np.random.default_rng(0).random((2, 2, 7, 9), dtype=np.float32)
    got = numpy_scan(a[:, ::-1, ::-1], b[:, ::-1, ::-1], reverse=True)
    np.testing.assert_allclose(got[:, ::-1, ::-1], recurrence(a, b)[0], rtol=1e-6)


def test_empty_sequences_take_no_time_however_many_there_are() -> None:
    nothing = torch.empty(2**40, 0, 64)
    assert recblr.scan(nothing, nothing).shape == nothing.shape
    assert numpy_scan(nothing.numpy(), nothing.numpy()).shape == nothing.shape


@pytest.mark.parametrize("wanting", ["a", "b", "initial"])
def test_a_gradient_is_computed_if_one_argument_needs_it(wanting: str) -> None:
    arguments = {"a": torch.rand(2, 3, 4), "b": torch.rand(2, 3, 4), "initial": torch.rand(2, 4)}
    plain = recblr.scan(**arguments)
    assert not plain.requires_grad
    arguments[wanting].requires_grad_()
    with torch.no_grad():
        assert not recblr.scan(**arguments).requires_grad
    h = recblr.scan(**arguments)
    assert torch.equal(h, plain)
    (gradient,) = torch.autograd.grad(h.sum(), arguments[wanting])
    assert gradient.abs().sum() > 0
