"""The state of a model after a part of its histories, and the rows of the next part.

A model with ``time="request"`` takes an event in only when the time of the next one is known.  So its state
holds the last event, which is pending, beside the states of the layers before it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.nn.layer import LayerState

LayerStates = tuple[LayerState, ...]


class Pending(NamedTuple):
    """The last event of each of B histories, which is not taken in yet.

    item: ``(B,)`` int64; -1 if there is no event yet.
    gap: ``(B,)`` float32, the seconds between the event before and this one.
    """

    item: Tensor
    gap: Tensor

    @classmethod
    def none(cls, like: Tensor) -> "Pending":
        """No event in any of B histories.  like: ``(B,)``."""
        return cls(torch.full_like(like, -1, dtype=torch.int64), torch.zeros_like(like, dtype=torch.float32))


class TimedState(NamedTuple):
    """The state of a model that knows time, after B histories.

    layers: the states of the layers: before the last event if it is pending, else after it.
    time: ``(B,)`` float64, the time of the last event; NaN if there is no event yet.
    pending: the last event, with ``time="request"``; None with ``time="past"``.
    """

    layers: LayerStates
    time: Tensor
    pending: Pending | None


State = LayerStates | TimedState


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of S packed histories, N events in total, and which of them are last in their history.

    offsets: ``(S + 1,)``, of all rows.
    last: ``(L,)``, the row of the last event of each history that has events.
    others: ``(N - L,)``, all other rows.
    last_offsets, other_offsets: ``(S + 1,)``, of these two parts.
    filled: ``(S,)`` bool, whether a history has events.
    """

    offsets: Tensor
    last: Tensor
    others: Tensor
    last_offsets: Tensor
    other_offsets: Tensor
    filled: Tensor

    @classmethod
    def of_packed(cls, offsets: Tensor, count: int) -> "Rows":
        """The rows of packed histories.  count: N."""
        lengths = offsets.diff()
        filled = lengths > 0
        last = (offsets[1:] - 1)[filled]
        others = torch.ones(count, dtype=torch.bool, device=offsets.device)
        others[last] = False
        return cls(
            offsets,
            last,
            others.nonzero().squeeze(1),
            F.pad(filled.cumsum(0), (1, 0)),
            F.pad((lengths - filled.to(lengths.dtype)).cumsum(0), (1, 0)),
            filled,
        )

    @classmethod
    def of_batch(cls, batch: int, time: int, device: torch.device) -> "Rows":
        """The rows of a flattened batch ``(B, T)``.  No shape depends on a value, so a graph has no break."""
        numbers = torch.arange(batch + 1, device=device)
        rows = torch.arange(batch * time, device=device).view(batch, time)
        some = min(time, 1)
        return cls(
            numbers * time,
            rows[:, time - some :].flatten(),
            rows[:, : time - some].flatten(),
            numbers * some,
            numbers * (time - some),
            torch.full((batch,), time > 0, device=device),
        )

    def merged(self, others: Tensor, last: Tensor) -> Tensor:
        """Values of the other rows ``(N - L, ...)`` and of the last rows ``(L, ...)`` as one ``(N, ...)``."""
        order = torch.cat([self.others, self.last])
        return torch.cat([others, last]).index_select(0, order.argsort())

    def latest(self, values: Tensor, before: Tensor) -> Tensor:
        """The values ``(S,)`` of the last events; those of `before` (S,) for histories without events."""
        if not values.shape[0]:
            return before.clone()
        return values[(self.offsets[1:] - 1).clamp(min=0)].where(self.filled, before)

    def first(self, values: Tensor) -> Tensor:
        """The values ``(S,)`` of the first events; any values for histories without events."""
        return values[self.offsets[:-1].clamp(max=values.shape[0] - 1)]


def chosen(mask: Tensor, states: LayerStates, others: LayerStates) -> LayerStates:
    """The states where the mask (S,) is true, and the others elsewhere."""
    return tuple(
        LayerState(
            *(
                new.where(mask.view(-1, *[1] * (new.dim() - 1)), old)
                for new, old in zip(state, other, strict=True)
            )
        )
        for state, other in zip(states, others, strict=True)
    )
