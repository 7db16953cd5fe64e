"""vmap: the new axis is folded into the batch, or into the channels where sequences are packed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class _Fold:
    """Folds a batch of V calls into one call, and unfolds what it returns."""

    def __init__(self, size: int, packed: bool) -> None:
        self.size = size
        self.packed = packed  # two-dimensional data: (rows, C), so that V joins C

    def __call__(self, x: Tensor | None, dim: int | None) -> Tensor | None:
        if x is None:
            return None
        moved: Tensor = x.unsqueeze(0).expand(self.size, *x.shape) if dim is None else x.movedim(dim, 0)
        return moved.movedim(0, 1).flatten(1, 2) if self.packed else moved.flatten(0, 1)

    def undo(self, x: Tensor) -> Tensor:
        if self.packed:
            return x.reshape(x.shape[0], self.size, x.shape[1] // self.size).movedim(1, 0)
        return x.reshape(self.size, x.shape[0] // self.size, *x.shape[1:])


def _fold_for(info: Any, x: Tensor, dim: int | None, offsets_dim: int | None) -> _Fold:
    if offsets_dim is not None:
        raise ValueError("scan: offsets cannot be batched by vmap; pack the sequences of all calls instead")
    return _Fold(info.batch_size, x.dim() - (dim is not None) == 2)


def folded_rule(
    operator: Callable[..., Tensor | tuple[Tensor, ...]], main: int
) -> Callable[..., tuple[Any, ...]]:
    """The rule for an operator whose last arguments are offsets and reverse; `main` is one of full shape."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, ...]:
        *tensors, offsets, reverse = args
        *dims, offsets_dim, _ = in_dims
        fold = _fold_for(info, tensors[main], dims[main], offsets_dim)
        folded = (fold(x, dim) for x, dim in zip(tensors, dims, strict=True))
        outputs = operator(*folded, offsets, reverse)
        if isinstance(outputs, Tensor):
            return fold.undo(outputs), 0
        return tuple(fold.undo(x) for x in outputs), (0,) * len(outputs)

    return rule
