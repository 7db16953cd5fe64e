"""What the derivatives of operators share.

- `transform_active`: whether a transform of torch.func is active.
- `save_arguments` and `saved_arguments`: what a derivative needs of the arguments.
- `derivative_of`: the derivative of a backward operator, so that second and higher derivatives exist.
- `silu` and `silu_slope`: SiLU with derivatives of every order in every mode.
- `vmap_rule`: an operator's rule for vmap.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recblr.ops.common.torch_internals import functorch_active


def transform_active() -> bool:
    """Whether a transform of torch.func is active, and torch.compile does not trace the call."""
    return not torch.compiler.is_compiling() and functorch_active()


def save_arguments(ctx: Any, values: Sequence[Any]) -> None:
    """Save an operator's arguments for its derivative.  The gradient of an unused output is None."""
    ctx.save_for_backward(*(value if isinstance(value, Tensor) else None for value in values))
    ctx.others = [None if isinstance(value, Tensor) else value for value in values]
    ctx.set_materialize_grads(False)


def saved_arguments(ctx: Any) -> list[Any]:
    """The arguments that :func:`save_arguments` saved."""
    pairs = zip(ctx.saved_tensors, ctx.others, strict=True)
    return [other if tensor is None else tensor for tensor, other in pairs]


def derivative_of(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor | None, ...]]:
    """The derivative of a backward operator whose arguments :func:`save_arguments` saved.

    function: computes the same values as the operator, from differentiable PyTorch operations.  Autograd
        differentiates this function.
    """

    def gradient(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases, because one argument may depend on another.  For example, gates may depend on x.
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

    return gradient


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _alias(x: Tensor) -> Tensor:
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def silu(x: Tensor) -> Tensor:
    """SiLU.  torch.nn.functional.silu has a gradient that has no tangent."""
    return x * torch.sigmoid(x)


def silu_slope(x: Tensor) -> Tensor:
    """The derivative of SiLU."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def vmap_rule(
    operator: Callable[..., Tensor | tuple[Tensor, ...]], arguments: Any, main: str
) -> Callable[..., tuple[Any, ...]]:
    """A rule that computes vmap of an operator by one call of the operator.

    The axis of vmap is merged into the batch axis.  For packed sequences, it is merged into the channels.

    arguments: the NamedTuple of the operator's arguments.  Its last two fields are offsets and reverse.
    main: the name of an argument.  If this argument has two axes, sequences are packed.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, ...]:
        given = arguments(*given)
        # torch does not pass arguments that have their default value.
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
    """Merges the arguments of V calls into the arguments of one call, and splits its outputs again.

    packed: tensors have two axes, (rows, C), and V is merged into C.
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
