"""Packed sequences on tensors, without reading data on the host.

Everything here is differentiable and keeps shapes independent of the offsets' values.
"""

import torch
from torch import Tensor


def sequence_of_row(offsets: Tensor, rows: int) -> Tensor:
    """(N,) int64: the sequence that owns each row; sequence s owns rows offsets[s]:offsets[s + 1]."""
    index = torch.arange(rows, device=offsets.device)
    return torch.searchsorted(offsets[1:].long().contiguous(), index, right=True)


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
