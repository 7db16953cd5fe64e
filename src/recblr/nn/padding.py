"""From padded batches to packed rows and back, so that padding never reaches a state."""

import torch
from torch import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def valid_positions(lengths: Tensor, batch: int, time: int) -> Tensor:
    """(B, T) bool: which positions of a right-padded batch belong to a sequence.

    Raises:
        ValueError: lengths is not (B,) integers from 0 to T.
        TypeError: it is no tensor.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor of integers, but is of the type {type(lengths).__name__}")
    if lengths.shape != (batch,) or lengths.dtype not in _INTEGERS:
        raise ValueError(
            f"lengths must be ({batch},) integers, a length a sequence,"
            f" but is {tuple(lengths.shape)} {lengths.dtype}"
        )
    if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
        raise ValueError(
            f"lengths must lie in 0..{time}, but range from {int(lengths.min())} to {int(lengths.max())}"
        )
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(1)


def pack(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The valid rows of x (B, T, ...) as (N, ...), and their offsets (B + 1,) int64."""
    offsets = torch.zeros(valid.shape[0] + 1, dtype=torch.int64, device=x.device)
    torch.cumsum(valid.sum(1), 0, out=offsets[1:])
    return x[valid], offsets


def unpack(rows: Tensor, valid: Tensor) -> Tensor:
    """The inverse of :func:`pack`; padding is filled with zeros."""
    padded = rows.new_zeros(*valid.shape, *rows.shape[1:])
    return padded.masked_scatter(valid.reshape(*valid.shape, *[1] * (rows.dim() - 1)), rows)
