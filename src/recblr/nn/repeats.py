"""Items that a user already has: a model may learn one number that is added to their scores.

On some data an item never comes again (a film is rated once).  On other data it is the likeliest to come next
(music, groceries).  A recurrence of fixed size cannot keep a list of items.  So without this bias, a model
spends its top ranks, or its capacity, on what one number can say.  The paper has no such bias.
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
