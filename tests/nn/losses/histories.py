"""Histories in which items recur, and who has what by which event, written down event by event."""

from __future__ import annotations

import torch
from torch import Tensor

from recblr.nn.repeats import Repeats


def some_repeats(
    rows: int, catalogue: int, seed: int, dtype: torch.dtype, every_event: bool = True
) -> Repeats:
    """Rows that are events of six histories, two of them empty, with a bias.

    every_event: every event is a row, or else rows are events taken at random.
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
    """1 where a row's user has an item, else 0: (rows, catalogue)."""
    held = torch.zeros(rows, catalogue, dtype=repeats.bias.dtype)
    for row in range(rows):
        event = row if repeats.rows is None else int(repeats.rows[row])
        begin = max(cut for cut in repeats.offsets.tolist() if cut <= event)
        held[row, repeats.items[begin : event + 1]] = 1
    return held
