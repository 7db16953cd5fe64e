"""Items that a user already has: a bias of their scores, of which a model learns one.

On some data what was taken never comes again (a film is rated once), on other data it is the likeliest to
(music, groceries).  A recurrence of fixed size cannot keep a list, so that a model without the bias spends
its top ranks, or its capacity, on what one number says.  Not in the paper.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recblr.ops.cross_entropy import Seen


@dataclass(frozen=True, eq=False)
class Repeats:
    """The bias, and what the user of each of N rows already has.

    bias: ``()``, added to the scores of such items.
    items: ``(M,)`` integers, packed histories.
    offsets: ``(S + 1,)``, see :func:`recblr.scan`.
    rows: ``(N,)``, the event of `items` that each row is: its user has that item and those before it in the
        same history.  None where every event is a row.
    """

    bias: Tensor
    items: Tensor
    offsets: Tensor
    rows: Tensor | None = None

    def of(self, candidates: Tensor) -> Tensor:
        """What to add to the scores of candidates ``(K,)``, or of each row's own ``(N, K)``: ``(N, K)``."""
        rows = torch.arange(len(self.items), device=self.items.device) if self.rows is None else self.rows
        return Seen(self.items, self.offsets).by(rows, candidates) * self.bias


def seen_items(items: Tensor, offsets: Tensor, num_items: int) -> Tensor:
    """Which items of a catalogue each of S packed histories holds.

    Args:
        items: ``(N,)`` integers, ``0 <= item < num_items``.
        offsets: ``(S + 1,)``, see :func:`recblr.scan`.
        num_items: size V of the catalogue.

    Returns:
        ``(S, V)`` bool.
    """
    owner = torch.repeat_interleave(offsets.diff(), output_size=len(items))
    held = torch.zeros(len(offsets) - 1, num_items, dtype=torch.bool, device=items.device)
    held[owner, items] = True
    return held
