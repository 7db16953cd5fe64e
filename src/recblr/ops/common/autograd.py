"""What the operators' derivatives share: the way under torch.func, and derivatives of derivatives."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recblr.ops.common.torch_internals import functorch_active


def transformed() -> bool:
    """Whether a transformation of torch.func is active, and the call is not being compiled.

    torch.func cannot differentiate a custom operator with a registered derivative (pytorch #168393), but it
    can differentiate a torch.autograd.Function: there, the same formulas go that way in.
    """
    return not torch.compiler.is_compiling() and functorch_active()


def where_given(gradients: Sequence[Tensor], arguments: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if a is None else g for g, a in zip(gradients, arguments, strict=True)]


def register_derivative_of(operator: str, function: Callable[..., tuple[Tensor, ...]]) -> None:
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


def silu_slope(x: Tensor) -> Tensor:
    """SiLU's derivative."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))
