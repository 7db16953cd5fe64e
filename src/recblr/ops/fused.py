"""bdlru and causal_conv1d: checks, then one kernel forward and one backward, and derivatives of every order.

The kernels are the internal operators _bdlru and _causal_conv1d, whose gradients are operators too.
Derivatives of these are taken of the composition (composed.py), which also serves where no kernel does.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recblr.ops import checks, composed
from recblr.ops.schemas import LIBRARY


def bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    kernel: bool = True,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.bdlru`.  Without the kernel, the composition computes."""
    checks.bdlru("bdlru", x, gates, decay, z, initial, offsets, scale)
    if not kernel:
        return composed.bdlru(x, gates, decay, z, initial, offsets, scale)
    wide = None if scale is None else scale.to(decay.dtype)
    y, final, _ = torch.ops.recblr._bdlru(x, gates, decay, z, initial, offsets, wide)
    return y, final


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
    *,
    kernel: bool = True,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.causal_conv1d`.  Without the kernel, or too wide for it, the composition computes."""
    checks.causal_conv1d("causal_conv1d", x, weight, bias, initial, offsets)
    if not kernel or weight.shape[1] > checks.MAX_WIDTH:
        if offsets is not None:
            checks.offsets_values_where_readable(offsets, x.shape[0])
        return composed.causal_conv1d(x, weight, bias, initial, offsets, silu)
    wide = checks.accumulation_dtype(x.dtype)
    wide_bias = None if bias is None else bias.to(wide)
    y, final = torch.ops.recblr._causal_conv1d(x, weight.to(wide), wide_bias, initial, offsets, silu)
    return y, final


def _reference_bdlru(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    checks.fused_bdlru("bdlru", x, *others)
    y, final = composed.bdlru(x, *others)
    return y.contiguous(), final, final.new_zeros(checks.states_in(x), x.shape[-1])


def _reference_bdlru_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, states = arguments
    checks.bdlru_backward(*inputs, states=states)
    return tuple(gradient.contiguous() for gradient in composed.bdlru_backward(*inputs))


def _reference_causal_conv1d(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, _ = arguments
    checks.fused_causal_conv1d("causal_conv1d", *tensors)
    _refuse_offsets("causal_conv1d", tensors[-1], tensors[0])
    y, final = composed.causal_conv1d(*arguments)
    return y.contiguous(), final


def _reference_causal_conv1d_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, _ = arguments
    checks.causal_conv1d_backward(*tensors)
    _refuse_offsets("_causal_conv1d_backward", tensors[-1], tensors[2])
    return tuple(gradient.contiguous() for gradient in composed.causal_conv1d_backward(*arguments))


def _refuse_offsets(op: str, offsets: Tensor | None, x: Tensor) -> None:
    if offsets is not None:
        checks.offsets_values(op, offsets, x.shape[0])


def _save_bdlru(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.set_materialize_grads(False)


def _bdlru_gradient(
    ctx: Any, grad: Tensor | None, grad_final: Tensor | None, _: Any
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 7
    *inputs, states = ctx.saved_tensors
    dx, dgates, ddecay, *others = torch.ops.recblr._bdlru_backward(grad, grad_final, *inputs, states)
    z, initial, _, scale = inputs[3:]
    dz, dinitial, dscale = _where_given(others, (z, initial, scale))
    return dx, dgates, ddecay, dz, dinitial, None, dscale


def _save_causal_conv1d(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _causal_conv1d_gradient(
    ctx: Any, grad: Tensor | None, grad_final: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 6
    inputs = ctx.saved_tensors
    dx, dweight, *others = torch.ops.recblr._causal_conv1d_backward(grad, grad_final, *inputs, ctx.silu)
    _, _, bias, initial, _ = inputs
    dbias, dinitial = _where_given(others, (bias, initial))
    return dx, dweight, dbias, dinitial, None, None


def _where_given(gradients: Sequence[Tensor], arguments: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if a is None else g for g, a in zip(gradients, arguments, strict=True)]


def _register_derivative_of(operator: str, function: Callable[..., tuple[Tensor, ...]]) -> None:
    """Give a backward operator the derivative of the composed function that computes the same."""

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.tensors = [isinstance(value, Tensor) for value in inputs]
        ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.set_materialize_grads(False)

    def gradient(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        create_graph, saved = torch.is_grad_enabled(), iter(ctx.saved_tensors)
        inputs = [
            next(saved) if is_tensor else o for is_tensor, o in zip(ctx.tensors, ctx.others, strict=True)
        ]
        with torch.enable_grad():
            # Aliases, since arguments may depend on each other: gates on x, say.
            own = [_alias(value) if _is_floating(value) else value for value in inputs]
            outputs = function(*own)
            reached = [
                (o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad
            ]
            wanted = [value for value in own if _is_floating(value)]
            gradients = iter(
                torch.autograd.grad(
                    [o for o, _ in reached],
                    wanted,
                    [c for _, c in reached],
                    allow_unused=True,
                    create_graph=create_graph,
                )
                if reached
                else (None,) * len(wanted)
            )
        return tuple(next(gradients) if _is_floating(value) else None for value in own)

    torch.library.register_autograd(operator, gradient, setup_context=save)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _alias(x: Tensor) -> Tensor:
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def register() -> None:
    """Register the public operators, the reference of the internal ones, and the derivatives of all."""
    for operator in (bdlru, causal_conv1d):
        name, parts = operator.__name__, functools.partial(operator, kernel=False)
        LIBRARY.impl(name, operator, "CompositeImplicitAutograd")
        LIBRARY.impl(name, parts, "FuncTorchBatchedDecomposition")  # vmap would loop over calls otherwise
    for name, reference in (
        ("_bdlru", _reference_bdlru),
        ("_bdlru_backward", _reference_bdlru_backward),
        ("_causal_conv1d", _reference_causal_conv1d),
        ("_causal_conv1d_backward", _reference_causal_conv1d_backward),
    ):
        LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    autograd = torch.library.register_autograd
    autograd("recblr::_bdlru", _bdlru_gradient, setup_context=_save_bdlru)
    autograd("recblr::_causal_conv1d", _causal_conv1d_gradient, setup_context=_save_causal_conv1d)
    for name, function in (
        ("_bdlru_backward", composed.bdlru_backward),
        ("_causal_conv1d_backward", composed.causal_conv1d_backward),
    ):
        _register_derivative_of(f"recblr::{name}", function)
        LIBRARY.impl(name, function, "FuncTorchBatchedDecomposition")
