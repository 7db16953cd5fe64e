"""The scan: first-order linear recurrence over time, with derivatives of every order.

The reference is simple and serial in time.  It is used where there is no native kernel, and tests compare
the kernels with it.  The gradient of a scan is a scan in the opposite direction of time.  The gradient of
that scan is a scan again.

First order.  Let G be the adjoint of h.  Then ``G[t] = dh[t] + conj(a[t+1]) G[t+1]``, and dfinal is added to
the last G.  The gradients are ``db = G``, ``da[t] = G[t] conj(h[t-1])`` and ``dinitial = conj(a[0]) G[0]``.

Second order.  Let P be the cotangent of G that comes from da and db.  All second-order terms follow from the
recurrence ``Q[t] = P[t] + a[t] Q[t-1]``.  It starts from the cotangent of dinitial.

Forward mode.  The tangent of a scan is a scan: ``dh[t] = a[t] dh[t-1] + (da[t] h[t-1] + db[t])``.

Gradients of complex values follow PyTorch's convention: conjugate Wirtinger derivatives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.derivatives import vmap_rule
from recblr.ops.common.layout import empty_in_layout_of, empty_state, offsets_of, previous_rows
from recblr.ops.common.registration import (
    LIBRARY,
    define,
    parameters,
    raise_value_errors,
    register_autocast,
    register_derivatives,
    upcast,
)
from recblr.ops.common.torch_internals import below_autograd, forward_mode_possible


class Arguments(NamedTuple):
    """The arguments of :func:`scan` and :func:`scan_with_final`.  `scan` describes them."""

    a: Tensor
    b: Tensor
    initial: Tensor | None = None
    offsets: Tensor | None = None
    reverse: bool = False


class BackwardArguments(NamedTuple):
    """The arguments of _scan_backward: the gradients of h and of the final state, then h instead of b."""

    grad: Tensor | None
    grad_final: Tensor | None
    a: Tensor
    h: Tensor
    initial: Tensor | None
    offsets: Tensor | None
    reverse: bool


define(
    f"scan({parameters(Arguments, defaults=True)}) -> Tensor",
    f"scan_with_final({parameters(Arguments, defaults=True)}) -> (Tensor h, Tensor final)",
    f"_scan_backward({parameters(BackwardArguments)}) -> (Tensor da, Tensor db, Tensor dinitial)",
)

SCAN_WITH_FINAL = torch.ops.recblr.scan_with_final.default
SCAN_BACKWARD = torch.ops.recblr._scan_backward.default


def _needs_no_autograd(*tensors: Tensor | None) -> bool:
    """Whether a call with these tensors needs no derivative, so that it can skip autograd's Python code."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return False  # the compiler traces the whole call, and inference mode skips that code already
    if forward_mode_possible():
        return False
    return not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors)


@raise_value_errors
def scan(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Tensor:
    """First-order linear recurrence ``h[t] = a[t] * h[t-1] + b[t]`` (eqs. 9-15 of arXiv 2406.12580).

    Args:
        a: factors, ``(B, T, C)``; or ``(T, C)`` for one sequence; or packed ``(N, C)`` with ``offsets``.
            The dtype is float32, float64, bfloat16, float16, complex64 or complex128.  Any strides.
        b: inputs, of a's shape, dtype and device.
        initial: the state before the first step, ``(B, C)``, or ``(S, C)`` for packed sequences.  Its dtype
            is the accumulation dtype: float32 for bfloat16 and float16, else a's dtype.  None means zeros.
        offsets: ``(S + 1,)`` int64 or int32.  They start at 0, never decrease and end at N.  Sequence s has
            the rows ``offsets[s]:offsets[s+1]``.  It may be empty, and it never reads another sequence.
        reverse: time runs from the last row to the first, so ``initial`` is the state before the last row.

    Returns:
        h, of b's shape and dtype.  It has b's memory layout if b is dense, else it is contiguous.
        It is differentiable to any order with respect to a, b and initial.  Under autocast, the scan runs in
        float32.

    Raises:
        ValueError: a shape, dtype, device or offset does not fit.  One sentence names the argument.
        TypeError: an argument is not a tensor.
    """
    checks.tensors("scan", Arguments._fields, a, b, initial, offsets, required=2)
    operator = torch.ops.recblr.scan.default
    h: Tensor
    if _needs_no_autograd(a, b, initial):
        with below_autograd():
            h = operator(a, b, initial, offsets, reverse)
    else:
        h = operator(a, b, initial, offsets, reverse)
    return h


@raise_value_errors
def scan_with_final(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute :func:`scan`, and the state after the last step of every sequence.

    To continue a sequence, pass ``final`` as ``initial`` of the next call.  Streaming, long histories in
    chunks and sequences that are split over devices all work in this way.

    Args:
        a, b, initial, offsets, reverse: as in :func:`scan`.

    Returns:
        h, and final, ``(B, C)`` or ``(S, C)``, in the accumulation dtype.  final is not rounded to h's dtype.
        The final state of a sequence without steps is a copy of its initial state, or zeros.  With
        ``reverse``, it is the state after the first row.  Both are differentiable to any order with respect
        to a, b and initial.

    Raises:
        ValueError: a shape, dtype, device or offset does not fit.  One sentence names the argument.
        TypeError: an argument is not a tensor.
    """
    checks.tensors("scan_with_final", Arguments._fields, a, b, initial, offsets, required=2)
    h, final = SCAN_WITH_FINAL(a, b, initial, offsets, reverse)
    return h, final


def _check(op: str, s: Arguments, b: str = "b") -> int:
    """Check the arguments of scan or scan_with_final; return the number of sequences.

    b: the name of the argument b in messages.
    """
    checks.one_of(op, b, s.b, checks.SCANNED)
    checks.same(op, "a", s.a, b, s.b)
    sequences = checks.time_axis(op, b, s.b, s.offsets)
    checks.state(op, s.initial, (sequences, s.b.shape[-1]), s.b)
    return sequences


def _check_backward(s: BackwardArguments) -> int:
    """Check _scan_backward's arguments; return the number of sequences."""
    op = "_scan_backward"
    sequences = _check(op, Arguments(s.a, s.h, s.initial, s.offsets), "h")
    checks.same(op, "grad", s.grad, "h", s.h)
    checks.state(op, s.grad_final, (sequences, s.h.shape[-1]), s.h, "grad_final")
    return sequences


def _steps(x: Tensor, offsets: Tensor | None, reverse: bool) -> list[tuple[Tensor, Tensor]]:
    """For every step of time: the sequences that have this step, and the row of this step in each."""
    bounds = offsets_of(x, offsets).long()
    starts, lengths = bounds[:-1], bounds.diff()
    steps = []
    for t in range(int(lengths.max()) if lengths.numel() else 0):
        live = (lengths > t).nonzero().squeeze(1)
        at = lengths[live] - 1 - t if reverse else t
        steps.append((live, starts[live] + at))
    return steps


def _as_rows(x: Tensor) -> Tensor:
    """x as (rows, C) in the accumulation dtype."""
    return x.flatten(0, -2).to(checks.accumulation_dtype(x.dtype))


def _states(rows: Tensor, sequences: int, start: Tensor | None) -> Tensor:
    """A new contiguous (sequences, C): `start`, or zeros."""
    states = rows.new_zeros(sequences, rows.shape[-1])
    return states if start is None else states.copy_(start)


def reference_scan_with_final(
    *given: Any, op: str = "scan_with_final", **named: Any
) -> tuple[Tensor, Tensor]:
    """Compute h[t] = a[t] * h[t-1] + b[t] step by step.  Return h and the final state."""
    s = Arguments(*given, **named)
    sequences = _check(op, s)
    if s.offsets is not None:
        checks.offsets_values(op, s.offsets, s.b.shape[0])
    rows_a, rows_b = _as_rows(s.a), _as_rows(s.b)
    state = _states(rows_b, sequences, s.initial)
    h = torch.empty_like(rows_b, memory_format=torch.contiguous_format)
    for live, rows in _steps(s.b, s.offsets, s.reverse):
        state[live] = rows_a[rows] * state[live] + rows_b[rows]
        h[rows] = state[live]
    return empty_in_layout_of(s.b).copy_(h.reshape(s.b.shape)), state


def reference_scan(*given: Any, **named: Any) -> Tensor:
    """:func:`reference_scan_with_final` without the final state."""
    return reference_scan_with_final(*given, op="scan", **named)[0]


def reference_scan_backward(*given: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The adjoint of :func:`reference_scan_with_final`: da, db, and dinitial in the accumulation dtype."""
    s = BackwardArguments(*given, **named)
    sequences = _check_backward(s)
    if s.offsets is not None:
        checks.offsets_values("_scan_backward", s.offsets, s.h.shape[0])
    rows_a, rows_h = _as_rows(s.a), _as_rows(s.h)
    rows_grad = torch.zeros_like(rows_h) if s.grad is None else _as_rows(s.grad)
    da, db = rows_h.new_empty(rows_h.shape), rows_h.new_empty(rows_h.shape)
    start = _states(rows_h, sequences, s.initial)
    carry = _states(rows_h, sequences, s.grad_final)  # conj(a[t+1]) * G[t+1]
    steps = _steps(s.h, s.offsets, s.reverse)
    for t in range(len(steps) - 1, -1, -1):
        live, rows = steps[t]
        g = rows_grad[rows] + carry[live]
        if t > 0:
            before, previous_rows = steps[t - 1]
            previous = torch.empty_like(carry).index_copy_(0, before, rows_h[previous_rows])[live]
        else:
            previous = start[live]
        db[rows] = g
        da[rows] = g * previous.conj()
        carry[live] = rows_a[rows].conj() * g

    def like_h(rows: Tensor) -> Tensor:
        return empty_in_layout_of(s.h).copy_(rows.reshape(s.h.shape))

    return like_h(da), like_h(db), carry


def _fake_with_final(*given: Any, op: str = "scan_with_final") -> tuple[Tensor, Tensor]:
    s = Arguments(*given)
    sequences = _check(op, s)
    return empty_in_layout_of(s.b), empty_state(s.b, sequences)


def _fake(*given: Any) -> Tensor:
    return _fake_with_final(*given, op="scan")[0]


def _fake_backward(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    s = BackwardArguments(*given)
    sequences = _check_backward(s)
    return empty_in_layout_of(s.h), empty_in_layout_of(s.h), empty_state(s.h, sequences)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    a, _, initial, offsets, ctx.reverse = inputs
    h = output if isinstance(output, Tensor) else output[0]
    ctx.save_for_backward(a, h, initial, offsets)
    ctx.save_for_forward(a, h, initial, offsets)
    ctx.set_materialize_grads(False)  # an unused output costs nothing


def _first_order(
    ctx: Any, grad: Tensor | None, grad_final: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 5
    a, h, initial, offsets = ctx.saved_tensors
    da, db, dinitial = SCAN_BACKWARD(grad, grad_final, a, h, initial, offsets, ctx.reverse)
    return da, db, None if initial is None else dinitial, None, None


def _sum(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are not None; None without any."""
    given = [term for term in terms if term is not None]
    return sum(given[1:], given[0]) if given else None


def _tangent_of(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The tangents of scan or scan_with_final: the operator again, with another b and initial state."""

    def tangent(
        ctx: Any, saved: list[Any], t_a: Tensor | None, t_b: Tensor | None, t_initial: Tensor | None, *_: None
    ) -> Any:
        a, h, initial, offsets = saved
        through_a = None if t_a is None else t_a * previous_rows(h, initial, offsets, ctx.reverse)
        b = _sum(through_a, t_b)
        return operator(a, torch.zeros_like(h) if b is None else b, t_initial, offsets, ctx.reverse)

    return tangent


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, grad_final, a, h, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets, output[1])
    ctx.save_for_forward(a, h, initial, offsets, output[1])
    ctx.reverse, ctx.given = reverse, (grad is not None, grad_final is not None)


def _second_order(
    ctx: Any, grad_da: Tensor, grad_db: Tensor, grad_dinitial: Tensor
) -> tuple[Tensor | None, ...]:
    a, h, initial, offsets, g = ctx.saved_tensors
    reverse = ctx.reverse
    p = grad_da * previous_rows(h, initial, offsets, reverse) + grad_db
    q, q_final = SCAN_WITH_FINAL(a, p, grad_dinitial, offsets, reverse)
    d_a = g * previous_rows(q, grad_dinitial, offsets, reverse).conj()
    # h[t-1] enters only through da[t] = G[t] conj(h[t-1]); initial is the h before the first step.
    d_previous = grad_da.conj() * g
    d_h = previous_rows(d_previous, None, offsets, not reverse)
    d_initial = None if initial is None else _first_rows(d_previous, initial, offsets, reverse)
    given_grad, given_final = ctx.given
    return q if given_grad else None, q_final if given_final else None, d_a, d_h, d_initial, None, None


def _first_rows(values: Tensor, initial: Tensor, offsets: Tensor | None, reverse: bool) -> Tensor:
    """The first row in time of every sequence, (S, C), in initial's dtype.  Zeros for an empty sequence."""
    rows = values.flatten(0, -2)
    if rows.shape[0] == 0:
        return torch.zeros_like(initial)
    bounds = offsets_of(values, offsets).long()
    starts, ends = bounds[:-1], bounds[1:]
    first = rows.index_select(0, (ends - 1 if reverse else starts).clamp(0, rows.shape[0] - 1))
    return torch.where((ends > starts).unsqueeze(1), first.to(initial.dtype), torch.zeros_like(initial))


def _backward_tangent(
    ctx: Any,
    saved: list[Any],
    t_grad: Tensor | None,
    t_final: Tensor | None,
    t_a: Tensor | None,
    t_h: Tensor | None,
    t_initial: Tensor | None,
    *_: None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The tangents of da, db and dinitial."""
    a, h, initial, offsets, g = saved
    reverse = ctx.reverse
    through_a = None if t_a is None else t_a.conj() * g
    # conj(a[t+1]) G[t+1] is a term of G[t], and at the first step, it is dinitial.
    after = None if through_a is None else previous_rows(through_a, None, offsets, not reverse)
    t_da, t_db, t_dinitial = SCAN_BACKWARD(_sum(t_grad, after), t_final, a, h, initial, offsets, reverse)
    if t_h is not None or t_initial is not None:
        t_h = torch.zeros_like(h) if t_h is None else t_h
        t_da = t_da + g * previous_rows(t_h, t_initial, offsets, reverse).conj()
    if through_a is not None:
        t_dinitial = t_dinitial + _first_rows(through_a, t_dinitial, offsets, reverse)
    return t_da, t_db, t_dinitial


def _cast(_: torch.dtype, *given: Any) -> tuple[Any, ...]:
    """Under autocast, the scan runs in float32, whatever autocast's dtype is."""
    a, b, initial, *others = Arguments(*given)
    return upcast(a), upcast(b), upcast(initial), *others


def _register() -> None:
    for name, reference, fake in (
        ("scan", reference_scan, _fake),
        ("scan_with_final", reference_scan_with_final, _fake_with_final),
        ("_scan_backward", reference_scan_backward, _fake_backward),
    ):
        LIBRARY.impl(name, reference, "CompositeExplicitAutograd")  # for devices without a kernel
        torch.library.register_fake(f"recblr::{name}", fake)
    for name in ("scan", "scan_with_final"):
        register_autocast(name, _cast)
        operator = getattr(torch.ops.recblr, name).default
        register_derivatives(
            name, save=_save, gradient=_first_order, tangent=_tangent_of(operator), arguments=Arguments
        )
        torch.library.register_vmap(f"recblr::{name}", vmap_rule(operator, Arguments, main="b"))
    register_derivatives(
        "_scan_backward", save=_save_backward, gradient=_second_order, tangent=_backward_tangent
    )
    rule = vmap_rule(SCAN_BACKWARD, BackwardArguments, main="h")
    torch.library.register_vmap("recblr::_scan_backward", rule)


_register()
