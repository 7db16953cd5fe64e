"""Derivatives and torch.func: how formulas reach autograd, derivatives of derivatives, and rules for vmap."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recblr.ops.common.torch_internals import functorch_active


def transformed() -> bool:
    """Whether a transformation of torch.func is active, and the call is not being compiled.

    torch.func cannot differentiate a custom operator with a registered derivative (pytorch #168393), but it
    can differentiate a torch.autograd.Function.  There, the same formulas are used through one.
    """
    return not torch.compiler.is_compiling() and functorch_active()


def transformable(
    operator: Callable[..., Any],
    save: Callable[..., None],
    gradient: Callable[..., tuple[Tensor | None, ...]],
) -> Callable[..., Any]:
    """The operator, differentiable under torch.func too.

    save, gradient: as `setup_context` and `backward` of a torch.autograd.Function.
    """

    class Function(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            save(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return gradient(ctx, *grads)

    def call(*arguments: Any) -> Any:
        return Function.apply(*arguments) if transformed() else operator(*arguments)

    return call


def save_arguments(ctx: Any, values: Sequence[Any]) -> None:
    """Save an operator's arguments for its derivative; gradients that nobody asks for will be None."""
    ctx.save_for_backward(*(value if isinstance(value, Tensor) else None for value in values))
    ctx.others = [None if isinstance(value, Tensor) else value for value in values]
    ctx.set_materialize_grads(False)


def saved_arguments(ctx: Any) -> list[Any]:
    """What :func:`save_arguments` has saved."""
    pairs = zip(ctx.saved_tensors, ctx.others, strict=True)
    return [other if tensor is None else tensor for tensor, other in pairs]


def register_derivative_of(operator: str, function: Callable[..., tuple[Tensor, ...]]) -> None:
    """Give a backward operator the derivative of the composed function that computes the same."""

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        save_arguments(ctx, inputs)

    def gradient(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases, since arguments may depend on each other: gates on x, say.
            inputs = [_alias(value) if _is_floating(value) else value for value in saved_arguments(ctx)]
            outputs = function(*inputs)
            reached = [
                (o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None and o.requires_grad
            ]
            if not reached:
                return (None,) * len(inputs)
            gradients = iter(
                torch.autograd.grad(
                    [o for o, _ in reached],
                    [value for value in inputs if _is_floating(value)],
                    [c for _, c in reached],
                    allow_unused=True,
                    create_graph=create_graph,
                )
            )
        return tuple(next(gradients) if _is_floating(value) else None for value in inputs)

    torch.library.register_autograd(operator, gradient, setup_context=save)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _alias(x: Tensor) -> Tensor:
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def silu_slope(x: Tensor) -> Tensor:
    """SiLU's derivative."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def vmap_rule(
    operator: Callable[..., Tensor | tuple[Tensor, ...]], arguments: Any, main: str
) -> Callable[..., tuple[Any, ...]]:
    """vmap of an operator: the new axis joins the batch, or the channels where sequences are packed.

    arguments: the NamedTuple of the operator's arguments, of which the last two are offsets and reverse.
    main: the argument whose number of axes tells whether sequences are packed.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, ...]:
        given = arguments(*given)
        # torch leaves out arguments that have their default.
        dims = arguments(*in_dims, *[None] * (len(given) - len(in_dims)))
        if dims.offsets is not None:
            raise ValueError(
                "scan: offsets cannot be batched by vmap; pack the sequences of all calls instead"
            )
        *tensors, offsets, reverse = given
        unbatched = getattr(given, main).dim() - (getattr(dims, main) is not None)
        fold = _Fold(info.batch_size, packed=unbatched == 2)
        outputs = operator(*map(fold, tensors, dims), offsets, reverse)
        if isinstance(outputs, Tensor):
            return fold.undo(outputs), 0
        return tuple(fold.undo(x) for x in outputs), (0,) * len(outputs)

    return rule


class _Fold:
    """Folds V calls into one call, and unfolds what it returns.

    packed: data is two-dimensional, (rows, C), and V joins C.
    """

    def __init__(self, size: int, *, packed: bool) -> None:
        self.size, self.packed = size, packed

    def __call__(self, x: Tensor | None, dim: int | None) -> Tensor | None:
        if x is None:
            return None
        moved: Tensor = x.unsqueeze(0).expand(self.size, *x.shape) if dim is None else x.movedim(dim, 0)
        return moved.movedim(0, 1).flatten(1, 2) if self.packed else moved.flatten(0, 1)

    def undo(self, x: Tensor) -> Tensor:
        if self.packed:
            return x.reshape(x.shape[0], self.size, x.shape[1] // self.size).movedim(1, 0)
        return x.reshape(self.size, x.shape[0] // self.size, *x.shape[1:])
