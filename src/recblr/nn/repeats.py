"""The repeat bias: one learned number that is added to the scores of items that a user already has.

In some data, an item never occurs again: a user rates a film once.  In other data, such as music or
groceries, an item that a user has is the most likely next one.  A recurrence of fixed size cannot keep a list
of items.  So without this bias, a model wastes its top ranks or its capacity on a fact that one number can
express.  The paper has no such bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recblr.ops.cross_entropy import Seen


@dataclass(frozen=True, eq=False)
class Repeats:
    """The repeat bias, and the items that the user of each of N rows already has.

    bias: ``()``, added to the scores of these items.
    items: ``(M,)`` integers, packed histories.
    offsets: ``(S + 1,)``, see :func:`recblr.scan`.
    rows: ``(N,)``, for each row the number of its event in `items`.  The user of the row has the item of this
        event and the earlier items of the same history.  None means that every event is a row.
    """

    bias: Tensor
    items: Tensor
    offsets: Tensor
    rows: Tensor | None = None

    def of(self, candidates: Tensor) -> Tensor:
        """The numbers ``(N, K)`` to add to the scores of candidates.

        candidates: items, ``(K,)`` for all rows, or ``(N, K)`` with other candidates for each row.
        """
        rows = torch.arange(len(self.items), device=self.items.device) if self.rows is None else self.rows
        return Seen(self.items, self.offsets).by(rows, candidates) * self.bias


def seen_items(items: Tensor, offsets: Tensor, num_items: int) -> Tensor:
    """For each of S packed histories, the items of the catalogue that it holds.

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
