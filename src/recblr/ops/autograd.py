"""Derivatives of the scan, of every order: its gradient is a scan against time, and so is that one's.

With G the adjoint of h:  G[t] = dh[t] + conj(a[t+1]) G[t+1],  db = G,  da[t] = G[t] conj(h[t-1]),
dinitial = conj(a[0]) G[0], and dfinal is added to the last G.  Let P be the cotangent of (da, db, dinitial)
with respect to G; its own recursion Q[t] = P[t] + a[t] Q[t-1], started at dinitial's cotangent, gives all
second-order terms.  (Gradients of complex values are PyTorch's: conjugate Wirtinger derivatives.)
"""

from typing import Any

import torch
from torch import Tensor

from recblr.ops.segments import previous_rows


def _setup(ctx: Any, inputs: tuple[Any, ...], h: Tensor) -> None:
    a, _, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets)
    ctx.reverse = reverse
    ctx.set_materialize_grads(False)  # an output that nobody used costs nothing


def _setup_scan(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _setup(ctx, inputs, output)


def _setup_scan_with_final(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _setup(ctx, inputs, output[0])


def _scan(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    return _scan_with_final(ctx, grad, None)


def _scan_with_final(ctx: Any, grad: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 5
    a, h, initial, offsets = ctx.saved_tensors
    da, db, dinitial = torch.ops.recblr._scan_backward(grad, grad_final, a, h, initial, offsets, ctx.reverse)
    return da, db, None if initial is None else dinitial, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, grad_final, a, h, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets, output[1])
    ctx.reverse, ctx.given = reverse, (grad is not None, grad_final is not None)


def _scan_backward(
    ctx: Any, grad_da: Tensor, grad_db: Tensor, grad_dinitial: Tensor
) -> tuple[Tensor | None, ...]:
    a, h, initial, offsets, g = ctx.saved_tensors
    reverse = ctx.reverse
    p = grad_da * previous_rows(h, initial, offsets, reverse) + grad_db
    q, q_final = torch.ops.recblr.scan_with_final(a, p, grad_dinitial, offsets, reverse)
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


def register() -> None:
    """Register the derivatives."""
    torch.library.register_autograd("recblr::scan", _scan, setup_context=_setup_scan)
    torch.library.register_autograd(
        "recblr::scan_with_final", _scan_with_final, setup_context=_setup_scan_with_final
    )
    torch.library.register_autograd("recblr::_scan_backward", _scan_backward, setup_context=_setup_backward)
