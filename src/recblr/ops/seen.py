"""Which items a user already has, event by event, in PyTorch operations of shapes known in advance."""

import torch
from torch import Tensor


def sequence_of(rows: Tensor, offsets: Tensor) -> Tensor:
    """The packed history that each of the events `rows` belongs to, ``(N,)``; offsets is ``(S + 1,)``."""
    return torch.searchsorted(offsets, rows, right=True) - 1


def seen(items: Tensor, offsets: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    """Whether a row's history, up to and with the row's event, holds each candidate.

    Args:
        items: ``(M,)`` integers, packed histories.
        offsets: ``(S + 1,)``, see :func:`recblr.scan`.
        rows: ``(N,)``, which event of ``items`` each row is.
        candidates: ``(K,)`` items, the same for all rows, or ``(N, 1)``, each row's own.

    Returns:
        ``(N, K)`` bool.
    """
    if not items.numel():
        return torch.zeros(len(rows), candidates.shape[-1], dtype=torch.bool, device=items.device)
    history = sequence_of(rows, offsets).unsqueeze(1)
    events = torch.arange(len(items), device=items.device)
    # One number for each pair of history and item; sorted, so that the first of equal ones is the earliest.
    radix = torch.maximum(items.max(), candidates.max()) + 1
    pairs, order = torch.sort(sequence_of(events, offsets) * radix + items, stable=True)
    wanted = history * radix + candidates
    place = torch.searchsorted(pairs, wanted).clamp(max=len(items) - 1)
    return (pairs[place] == wanted) & (order[place] <= rows.unsqueeze(1))
