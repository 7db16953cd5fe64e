"""Packed histories in groups of similar length, for what can only run over padded batches.

Padded to the longest of the batch, a few long histories among many short ones would make attention over
padding the most of the work; in groups whose lengths differ by less than a factor of two, it cannot.
"""

import torch
from torch import Tensor

from recblr.nn.padding import valid_positions


def by_length(offsets: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Sort the rows of packed histories so that histories of similar length are neighbours.

    Args:
        offsets: ``(S + 1,)`` of packed rows ``(N, ...)``, sound.

    Returns:
        ``(N,)`` int64, the rows in their new order, history by history, each in its own order; and for each
        group in turn ``(B, T)`` bool, which positions of its padded batch are rows, T being its longest
        length.  Empty histories are in no group.
    """
    lengths = offsets.diff()
    magnitudes = torch.tensor([length.bit_length() for length in lengths.tolist()], device=offsets.device)
    order, groups = [offsets.new_empty(0, dtype=torch.int64)], []
    for magnitude in magnitudes[magnitudes > 0].unique():
        members = (magnitudes == magnitude).nonzero().squeeze(1)
        longest = int(lengths[members].max())
        valid = valid_positions(lengths[members], len(members), longest)
        rows = offsets[members].unsqueeze(1) + torch.arange(longest, device=offsets.device)
        order.append(rows[valid])
        groups.append(valid)
    return torch.cat(order), groups
