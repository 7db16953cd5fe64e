"""vmap: the new axis is folded into the batch, or into the channels where sequences are packed."""

from typing import Any

import torch
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


def _scan(
    info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor, initial: Tensor | None = None,
    offsets: Tensor | None = None, reverse: bool = False,
) -> tuple[Tensor, int]:  # fmt: skip
    dims = (*in_dims, None, None, None)[:5]
    fold = _fold_for(info, b, dims[1], dims[3])
    h = torch.ops.recblr.scan(fold(a, dims[0]), fold(b, dims[1]), fold(initial, dims[2]), offsets, reverse)
    return fold.undo(h), 0


def _scan_backward(
    info: Any, in_dims: tuple[int | None, ...], grad: Tensor, a: Tensor, h: Tensor, initial: Tensor | None,
    offsets: Tensor | None, reverse: bool,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:  # fmt: skip
    fold = _fold_for(info, h, in_dims[2], in_dims[4])
    folded = (fold(x, dim) for x, dim in zip((grad, a, h, initial), in_dims, strict=False))
    outputs = torch.ops.recblr._scan_backward(*folded, offsets, reverse)
    return tuple(fold.undo(x) for x in outputs), (0, 0, 0)


def register() -> None:
    """Register both rules."""
    torch.library.register_vmap("recblr::scan", _scan)
    torch.library.register_vmap("recblr::_scan_backward", _scan_backward)
