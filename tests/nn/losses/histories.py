"""Histories in which items recur, and a plain loop that finds the items a user has at each event."""

from __future__ import annotations

import torch
from torch import Tensor

from recblr.nn.repeats import Repeats


def some_repeats(
    rows: int, catalogue: int, seed: int, dtype: torch.dtype, every_event: bool = True
) -> Repeats:
    """A repeat bias for rows that are events of six histories.  Two of the histories are empty.

    every_event: whether every event is a row.  If not, the rows are random events.
    """
    generator = torch.Generator().manual_seed(seed)
    events = rows if every_event else 2 * rows
    inner = torch.randint(events + 1, (3,), generator=generator).sort().values.tolist()
    offsets = torch.tensor([0, 0, *inner, inner[-1], events])
    items = torch.randint(catalogue, (events,), generator=generator)
    items[events // 2 :] = items[: events - events // 2].clone()
    chosen = None if every_event else torch.randint(events, (rows,), generator=generator)
    return Repeats(torch.tensor(-1.5, dtype=dtype, requires_grad=True), items, offsets, chosen)


def held_items(repeats: Repeats, rows: int, catalogue: int) -> Tensor:
    """For each row and item: 1 if the row's user has the item, else 0.  The shape is (rows, catalogue)."""
    held = torch.zeros(rows, catalogue, dtype=repeats.bias.dtype)
    for row in range(rows):
        event = row if repeats.rows is None else int(repeats.rows[row])
        begin = max(cut for cut in repeats.offsets.tolist() if cut <= event)
        held[row, repeats.items[begin : event + 1]] = 1
    return held
