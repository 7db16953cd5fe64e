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


def _save(ctx: Any, inputs: tuple[Any, ...], h: Tensor) -> None:
    a, _, initial, offsets, reverse = inputs
    ctx.save_for_backward(a, h, initial, offsets)
    ctx.reverse = reverse


def _first_order(ctx: Any, grad: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 5
    a, h, initial, offsets = ctx.saved_tensors
    da, db, dinitial = scan_backward(grad, grad_final, a, h, initial, offsets, ctx.reverse)
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
    q, q_final = scan_with_final(a, p, grad_dinitial, offsets, reverse)
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


def transformed() -> bool:
    """Whether a transformation of torch.func is active, and the call is not being compiled.

    torch.func cannot differentiate a custom operator with a registered derivative (pytorch #168393), but it
    can differentiate a torch.autograd.Function: there, the same formulas go that way in.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def scan_with_final(*arguments: Any) -> tuple[Tensor, Tensor]:
    """torch.ops.recblr.scan_with_final, under torch.func too."""
    function: Any = _ScanWithFinal.apply if transformed() else torch.ops.recblr.scan_with_final
    h, final = function(*arguments)
    return h, final


def scan_backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
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


def register() -> None:
    """Register the operators' derivatives."""

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
