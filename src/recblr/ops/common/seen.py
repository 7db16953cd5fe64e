"""Which items a user already has, event by event, in PyTorch operations of shapes known in advance."""

import torch
from torch import Tensor


def sequence_of(rows: Tensor, offsets: Tensor) -> Tensor:
    """The packed history that each of the events `rows` belongs to, ``(N,)``; offsets is ``(S + 1,)``."""
    return torch.searchsorted(offsets, rows, right=True) - 1


class Seen:
    """What packed histories hold by each event; sorted once, asked as often as one likes.

    items: ``(M,)`` integers >= 0, packed histories. offsets: ``(S + 1,)``, see :func:`recblr.scan`.
    """

    def __init__(self, items: Tensor, offsets: Tensor) -> None:
        self._offsets = offsets
        events = torch.arange(len(items), device=items.device)
        # One number for each pair of history and item; sorted, so that of equal ones the earliest is first.
        self._radix = items.max() + 1 if len(items) else items.new_ones(())
        self._pairs, self._order = torch.sort(sequence_of(events, offsets) * self._radix + items, stable=True)

    def by(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """Whether a row's history, up to and with the row's event, holds each candidate.

        Args:
            rows: ``(N,)``, which event each row is.
            candidates: ``(K,)`` items, the same for all rows, or ``(N, K)``, each row's own.

        Returns:
            ``(N, K)`` bool.
        """
        if not len(self._pairs):
            return torch.zeros(len(rows), candidates.shape[-1], dtype=torch.bool, device=rows.device)
        wanted = sequence_of(rows, self._offsets).unsqueeze(1) * self._radix + candidates
        place = torch.searchsorted(self._pairs, wanted).clamp(max=len(self._pairs) - 1)
        held = (self._pairs[place] == wanted) & (self._order[place] <= rows.unsqueeze(1))
        return held & (candidates < self._radix)  # or else it would be another history's item
