"""Conversion of padded batches to packed rows and back, so that padding never reaches a state."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def valid_positions(lengths: Tensor, batch: int, time: int) -> Tensor:
    """The positions of a right-padded batch that belong to a sequence, (B, T) bool.

    Raises:
        ValueError: lengths is not (B,) integers from 0 to T.
        TypeError: lengths is not a tensor.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor of integers, but is of the type {type(lengths).__name__}")
    if lengths.shape != (batch,) or lengths.dtype not in _INTEGERS:
        raise ValueError(
            f"lengths must be ({batch},) integers, one length for each sequence,"
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
    """The inverse of :func:`pack`.  Padding is filled with zeros."""
    padded = rows.new_zeros(*valid.shape, *rows.shape[1:])
    return padded.masked_scatter(valid.reshape(*valid.shape, *[1] * (rows.dim() - 1)), rows)


def run_packed(
    run: Callable[[Tensor, Tensor | None, State | None], tuple[Tensor, State]],
    x: Tensor,
    lengths: Tensor | None,
    offsets: Tensor | None,
    state: State | None,
    *,
    padded: str = "(B, T, D)",
    packed: str = "rows",
) -> tuple[Tensor, State]:
    """Call ``run(x, offsets, state)``.  With lengths, call it on the packed rows of x instead.

    run: returns an output and a new state.  An output of packed rows is padded with zeros again.
    padded: the shape of a padded x, for the error message.
    packed: the name of packed data, for the error message.

    Raises:
        ValueError: both lengths and offsets are given, or the lengths do not fit.
    """
    if lengths is None:
        return run(x, offsets, state)
    if offsets is not None or x.dim() != len(padded.split(",")):
        raise ValueError(
            f"lengths belong to a padded {padded} batch, and offsets to packed {packed}: give one of them"
        )
    valid = valid_positions(lengths, x.shape[0], x.shape[1])
    rows, offsets = pack(x, valid)
    y, state = run(rows, offsets, state)
    return unpack(y, valid), state
