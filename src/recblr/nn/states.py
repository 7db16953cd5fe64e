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


class Part(NamedTuple):
    """Some of the rows of packed histories.

    rows: ``(M,)``, their numbers.
    offsets: ``(S + 1,)``, of these rows alone.
    """

    rows: Tensor
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of S histories, N events in total: packed, or a flattened batch.

    offsets: ``(S + 1,)``.
    count: N.
    time: T of a batch ``(B, T)``; None for packed histories.
    """

    offsets: Tensor
    count: int
    time: int | None

    @classmethod
    def of(cls, items: Tensor, offsets: Tensor | None) -> "Rows":
        """The rows of items ``(N,)`` with offsets, or ``(B, T)`` without."""
        if offsets is not None:
            return cls(offsets, items.shape[0], None)
        batch, time = items.shape
        return cls(torch.arange(batch + 1, device=items.device) * time, batch * time, time)

    @property
    def filled(self) -> Tensor:
        """``(S,)`` bool, whether a history has events."""
        return self.offsets.diff() > 0

    def split(self) -> tuple[Part, Part]:
        """All events except the last of each history, and these last ones.

        For a batch, no shape depends on a value, so a graph has no break and nothing waits for a GPU.
        """
        if self.time is None:
            filled = self.filled
            last = (self.offsets[1:] - 1)[filled]
            others = torch.ones(self.count, dtype=torch.bool, device=last.device)
            others[last] = False
            last_offsets = F.pad(filled.to(self.offsets.dtype).cumsum(0), (1, 0))
            return Part(others.nonzero().squeeze(1), self.offsets - last_offsets), Part(last, last_offsets)
        some = min(self.time, 1)
        numbers = torch.arange(self.offsets.shape[0], device=self.offsets.device)
        rows = torch.arange(self.count, device=numbers.device).view(-1, max(self.time, 1))
        return (
            Part(rows[:, : self.time - some].flatten(), numbers * (self.time - some)),
            Part(rows[:, self.time - some :].flatten(), numbers * some),
        )

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
