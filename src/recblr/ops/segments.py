"""Packed sequences on tensors, without reading data on the host.

Everything here is differentiable and keeps shapes independent of the offsets' values.
"""

import torch
from torch import Tensor


def sequence_of_row(offsets: Tensor, rows: int) -> Tensor:
    """(N,) int64: the sequence that owns each row; sequence s owns rows offsets[s]:offsets[s + 1]."""
    index = torch.arange(rows, device=offsets.device)
    return torch.searchsorted(offsets[1:].long().contiguous(), index, right=True)


def last_rows(values: Tensor, initial: Tensor | None, offsets: Tensor | None) -> Tensor:
    """The state after the last step of every sequence, (S, C), a new tensor.

    values: (B, T, C), (T, C), or packed (N, C), the state after every step; an empty sequence
    ends where it began, at ``initial`` (S, C), or at zeros.
    """
    if offsets is None:
        values = values if values.dim() == 3 else values.unsqueeze(0)
        if values.shape[1] > 0:
            return values[:, -1].clone()
        return initial.clone() if initial is not None else values.new_zeros(values.shape[0], values.shape[2])
    starts, ends = offsets[:-1].long(), offsets[1:].long()
    if initial is None:
        initial = values.new_zeros(starts.shape[0], values.shape[1])
    if values.shape[0] == 0:
        return initial.clone()
    last = values.index_select(0, (ends - 1).clamp(min=0))
    return torch.where((ends > starts).unsqueeze(1), last, initial)


def previous_rows(values: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool) -> Tensor:
    """Each row's predecessor in time, and ``initial`` (or zeros) before a sequence's first step."""
    packed = values if values.dim() == 2 else values.flatten(0, 1)
    rows, channels = packed.shape
    if values.dim() == 3:
        offsets = torch.arange(values.shape[0] + 1, device=values.device) * values.shape[1]
    elif offsets is None:
        offsets = torch.tensor([0, rows], device=values.device)
    if rows == 0:
        return values.clone()
    owner = sequence_of_row(offsets, rows)
    index = torch.arange(rows, device=values.device)
    if reverse:
        first = index == offsets[1:].long()[owner] - 1
        shifted = packed.roll(-1, 0)
    else:
        first = index == offsets[:-1].long()[owner]
        shifted = packed.roll(1, 0)
    start = (
        packed.new_zeros(1, channels) if initial is None else initial.to(packed.dtype).index_select(0, owner)
    )
    return torch.where(first.unsqueeze(1), start, shifted).reshape(values.shape)
