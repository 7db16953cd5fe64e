"""The scan: first-order linear recurrence over time, with derivatives of every order.

The reference is serial in time and simple: it serves devices and machines without a native kernel, and is the
definition that kernels are compared with.

The derivatives are of every order: the scan's gradient is a scan against time, and so is that one's.

With G the adjoint of h:  G[t] = dh[t] + conj(a[t+1]) G[t+1],  db = G,  da[t] = G[t] conj(h[t-1]),
dinitial = conj(a[0]) G[0], and dfinal is added to the last G.  Let P be the cotangent of (da, db, dinitial)
with respect to G; its own recursion Q[t] = P[t] + a[t] Q[t-1], started at dinitial's cotangent, gives all
second-order terms.  (Gradients of complex values are PyTorch's: conjugate Wirtinger derivatives.)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.autocast import register_autocast, wide
from recblr.ops.common.autograd import transformed
from recblr.ops.common.layout import empty_in_layout_of, empty_state
from recblr.ops.common.library import LIBRARY, define
from recblr.ops.common.refusals import value_errors
from recblr.ops.common.segments import previous_rows
from recblr.ops.common.torch_internals import below_autograd
from recblr.ops.common.vmap import folded_rule

_SCAN = "(Tensor a, Tensor b, Tensor? initial=None, Tensor? offsets=None, bool reverse=False)"

define(
    f"scan{_SCAN} -> Tensor",
    f"scan_with_final{_SCAN} -> (Tensor h, Tensor final)",
    "_scan_backward(Tensor? grad, Tensor? grad_final, Tensor a, Tensor h, Tensor? initial, Tensor? offsets,"
    " bool reverse) -> (Tensor da, Tensor db, Tensor dinitial)",
)


def _unseen_by_autograd(*tensors: Tensor | None) -> bool:
    """Whether nobody differentiates a call on these: autograd's part of it, in Python, may be left out."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return False  # traced whole, or left out already
    return not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors)


@value_errors
def scan(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Tensor:
    """First-order linear recurrence ``h[t] = a[t] * h[t-1] + b[t]`` (eqs. 9-15 of arXiv 2406.12580).

    Args:
        a: factors, ``(B, T, C)``; ``(T, C)`` is one sequence; with ``offsets``, packed ``(N, C)``.
            float32, float64, bfloat16, float16, complex64 or complex128.  Any strides.
        b: inputs, of a's shape, dtype and device.
        initial: state before the first step, ``(B, C)``, or ``(S, C)`` packed, in the accumulation
            dtype: float32 for bfloat16 and float16, else a's dtype; zeros where None.
        offsets: ``(S + 1,)`` int64 or int32, from 0 to N without decreasing; sequence s owns rows
            ``offsets[s]:offsets[s+1]``, may be empty and never reads its neighbour.
        reverse: time runs from the last row to the first; ``initial`` enters at the last.

    Returns:
        h, of b's shape and dtype, in b's memory layout where that is dense, else contiguous.
        Differentiable to a, b and initial, to any order.  Under autocast it runs in float32.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    checks.tensors("scan", "a b initial offsets", a, b, initial, offsets, required=2)
    if transformed():
        return transformable_scan_with_final(a, b, initial, offsets, reverse)[0]
    operator = torch.ops.recblr.scan.default
    h: Tensor
    if _unseen_by_autograd(a, b, initial):
        with below_autograd():
            h = operator(a, b, initial, offsets, reverse)
    else:
        h = operator(a, b, initial, offsets, reverse)
    return h


@value_errors
def scan_with_final(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """As :func:`scan`, and the state after every sequence's last step.

    Feeding ``final`` back as ``initial`` continues a sequence: streaming, long histories in chunks and
    sequences split over devices are all this.

    Args:
        a, b, initial, offsets, reverse: as in :func:`scan`.

    Returns:
        h, and final, ``(B, C)`` or ``(S, C)``, in the accumulation dtype: not rounded to h's dtype.  The
        final state of a sequence without steps is a copy of its initial state, or zeros.  Reverse: it leaves
        at the first row.  Both are differentiable to a, b and initial, to any order.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    checks.tensors("scan_with_final", "a b initial offsets", a, b, initial, offsets, required=2)
    return transformable_scan_with_final(a, b, initial, offsets, reverse)


def check_scan(op: str, a: Tensor, b: Tensor, initial: Tensor | None, offsets: Tensor | None) -> int:
    """Check the arguments of scan or scan_with_final; returns the number of sequences."""
    checks.one_of(op, "b", b, checks.SCANNED)
    checks.same(op, "a", a, "b", b)
    sequences = checks.time_axis(op, "b", b, offsets)
    checks.state(op, initial, (sequences, b.shape[-1]), b)
    return sequences


def check_scan_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    a: Tensor,
    h: Tensor,
    initial: Tensor | None,
    offsets: Tensor | None,
) -> int:
    """Check _scan_backward's arguments; returns the number of sequences."""
    op = "_scan_backward"
    checks.one_of(op, "h", h, checks.SCANNED)
    checks.same(op, "a", a, "h", h)
    checks.same(op, "grad", grad, "h", h)
    sequences = checks.time_axis(op, "h", h, offsets)
    checks.state(op, grad_final, (sequences, h.shape[-1]), h, "grad_final")
    checks.state(op, initial, (sequences, h.shape[-1]), h)
    return sequences


def _starts_and_lengths(x: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    """First row and length of every sequence of x seen as (rows, C)."""
    if offsets is not None:
        return offsets[:-1].long(), offsets.long().diff()
    batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
    starts = torch.arange(batch, device=x.device) * length
    return starts, torch.full_like(starts, length)


def _steps(x: Tensor, offsets: Tensor | None, reverse: bool) -> list[tuple[Tensor, Tensor]]:
    """For every step of time: the sequences that reach it, and the row that each then is at."""
    starts, lengths = _starts_and_lengths(x, offsets)
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
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False,
    op: str = "scan_with_final",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """h[t] = a[t] * h[t-1] + b[t], one step of time after another, and the state after the last."""
    sequences = check_scan(op, a, b, initial, offsets)
    if offsets is not None:
        checks.offsets_values(op, offsets, b.shape[0])
    rows_a, rows_b = _as_rows(a), _as_rows(b)
    state = _states(rows_b, sequences, initial)
    h = torch.empty_like(rows_b, memory_format=torch.contiguous_format)
    for live, rows in _steps(b, offsets, reverse):
        state[live] = rows_a[rows] * state[live] + rows_b[rows]
        h[rows] = state[live]
    return empty_in_layout_of(b).copy_(h.reshape(b.shape)), state


def reference_scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """The same without the final state."""
    return reference_scan_with_final(a, b, initial, offsets, reverse, op="scan")[0]


def reference_scan_backward(
    grad: Tensor | None, grad_final: Tensor | None, a: Tensor, h: Tensor, initial: Tensor | None,
    offsets: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The adjoint of :func:`reference_scan_with_final`: da, db, and dinitial in the accumulation dtype."""
    sequences = check_scan_backward(grad, grad_final, a, h, initial, offsets)
    if offsets is not None:
        checks.offsets_values("_scan_backward", offsets, h.shape[0])
    rows_a, rows_h = _as_rows(a), _as_rows(h)
    rows_grad = torch.zeros_like(rows_h) if grad is None else _as_rows(grad)
    da, db = rows_h.new_empty(rows_h.shape), rows_h.new_empty(rows_h.shape)
    start = _states(rows_h, sequences, initial)
    carry = _states(rows_h, sequences, grad_final)  # conj(a[t+1]) * G[t+1]
    steps = _steps(h, offsets, reverse)
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
        return empty_in_layout_of(h).copy_(rows.reshape(h.shape))

    return like_h(da), like_h(db), carry


def _fake_scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    check_scan("scan", a, b, initial, offsets)
    return empty_in_layout_of(b)


def _fake_scan_with_final(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    sequences = check_scan("scan_with_final", a, b, initial, offsets)
    return empty_in_layout_of(b), empty_state(b, sequences)


def _fake_scan_backward(
    grad: Tensor | None, grad_final: Tensor | None, a: Tensor, h: Tensor, initial: Tensor | None,
    offsets: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = check_scan_backward(grad, grad_final, a, h, initial, offsets)
    return empty_in_layout_of(h), empty_in_layout_of(h), empty_state(h, sequences)


def _save(ctx: Any, inputs: tuple[Any, ...], h: Tensor) -> None:
    a, _, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets)
    ctx.reverse = reverse


def _first_order(ctx: Any, grad: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 5
    a, h, initial, offsets = ctx.saved_tensors
    da, db, dinitial = transformable_scan_backward(grad, grad_final, a, h, initial, offsets, ctx.reverse)
    return da, db, None if initial is None else dinitial, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, grad_final, a, h, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets, output[1])
    ctx.reverse, ctx.given = reverse, (grad is not None, grad_final is not None)


def _second_order(
    ctx: Any, grad_da: Tensor, grad_db: Tensor, grad_dinitial: Tensor
) -> tuple[Tensor | None, ...]:
    a, h, initial, offsets, g = ctx.saved_tensors
    reverse = ctx.reverse
    p = grad_da * previous_rows(h, initial, offsets, reverse) + grad_db
    q, q_final = transformable_scan_with_final(a, p, grad_dinitial, offsets, reverse)
    d_a = g * previous_rows(q, grad_dinitial, offsets, reverse).conj()
    # h[t-1] enters only through da[t] = G[t] conj(h[t-1]); initial is the h before the first step.
    d_previous = grad_da.conj() * g
    d_h = previous_rows(d_previous, None, offsets, not reverse)
    d_initial = None if initial is None else _first_rows(d_previous, initial, offsets, reverse)
    given_grad, given_final = ctx.given
    return q if given_grad else None, q_final if given_final else None, d_a, d_h, d_initial, None, None


def _first_rows(values: Tensor, initial: Tensor, offsets: Tensor | None, reverse: bool) -> Tensor:
    """The first row in time of every sequence, (S, C), in initial's dtype; zeros where there is none."""
    rows = values.flatten(0, -2)
    if offsets is None:
        length = values.shape[-2]
        ends = (torch.arange(initial.shape[0], device=values.device) + 1) * length
        starts = ends - length
    else:
        starts, ends = offsets[:-1].long(), offsets[1:].long()
    if rows.shape[0] == 0:
        return torch.zeros_like(initial)
    first = rows.index_select(0, (ends - 1 if reverse else starts).clamp(0, rows.shape[0] - 1))
    return torch.where((ends > starts).unsqueeze(1), first.to(initial.dtype), torch.zeros_like(initial))


def transformable_scan_with_final(*arguments: Any) -> tuple[Tensor, Tensor]:
    """torch.ops.recblr.scan_with_final, under torch.func too."""
    function: Any = _ScanWithFinal.apply if transformed() else torch.ops.recblr.scan_with_final
    h, final = function(*arguments)
    return h, final


def transformable_scan_backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """torch.ops.recblr._scan_backward, under torch.func too."""
    function: Any = _ScanBackward.apply if transformed() else torch.ops.recblr._scan_backward
    da, db, dinitial = function(*arguments)
    return da, db, dinitial


class _ScanWithFinal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        h, final = torch.ops.recblr.scan_with_final(*arguments)
        return h, final

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _save(ctx, inputs, output[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _first_order(ctx, *grads)


class _ScanBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        da, db, dinitial = torch.ops.recblr._scan_backward(*arguments)
        return da, db, dinitial

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _save_backward(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _second_order(ctx, *grads)


def _with_defaults(rule: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """For scan's schema, whose last three arguments may be left out."""

    def complete(
        info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor, initial: Tensor | None = None,
        offsets: Tensor | None = None, reverse: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        return rule(info, (*in_dims, None, None, None)[:5], a, b, initial, offsets, reverse)

    return complete


def _cast(
    dtype: torch.dtype, a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """Under autocast the scan runs in float32, whatever autocast's dtype."""
    return wide(a), wide(b), wide(initial), offsets, reverse


def _register() -> None:
    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, Tensor]) -> None:
        _save(ctx, inputs, output if isinstance(output, Tensor) else output[0])
        ctx.set_materialize_grads(False)  # an output that nobody used costs nothing

    def first_order(
        ctx: Any, grad: Tensor | None, grad_final: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        return _first_order(ctx, grad, grad_final)

    for name in ("scan", "scan_with_final"):
        torch.library.register_autograd(f"recblr::{name}", first_order, setup_context=save)
    torch.library.register_autograd("recblr::_scan_backward", _second_order, setup_context=_save_backward)

    for name, function, fake in (
        ("scan", reference_scan, _fake_scan),
        ("scan_with_final", reference_scan_with_final, _fake_scan_with_final),
        ("_scan_backward", reference_scan_backward, _fake_scan_backward),
    ):
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # where a device has no kernel of its own
        torch.library.register_fake(f"recblr::{name}", fake)
    ops = torch.ops.recblr
    for name in ("scan", "scan_with_final"):
        register_autocast(name, _cast)
        torch.library.register_vmap(
            f"recblr::{name}", _with_defaults(folded_rule(getattr(ops, name), main=1))
        )
    torch.library.register_vmap("recblr::_scan_backward", folded_rule(ops._scan_backward, main=3))


_register()
