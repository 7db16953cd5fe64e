"""Histories of different lengths, one after another in one array.

With packed histories the whole program needs no padding. Memory holds only events, and an operation on all
histories is a few NumPy calls on flat arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int64 | np.float64]


@dataclass(frozen=True, eq=False)
class Packed:
    """S histories with N events in total.

    items: (N,) int64, the item indices of history 0, then of history 1, and so on; the oldest event first.
    offsets: (S+1,) int64; history s is ``items[offsets[s]:offsets[s + 1]]``. A history may be empty.

    Raises ValueError if a shape or a dtype is wrong, if offsets decrease, or if they do not go from 0 to N.
    """

    items: Int64Array
    offsets: Int64Array

    def __post_init__(self) -> None:
        for name, array in (("items", self.items), ("offsets", self.offsets)):
            if not isinstance(array, np.ndarray):
                raise ValueError(
                    f"{name} must be a one-dimensional int64 array, not a {type(array).__name__}"
                )
            if array.ndim != 1 or array.dtype != np.int64:
                raise ValueError(
                    f"{name} must be a one-dimensional int64 array, not {array.dtype} of shape {array.shape}"
                )
        offsets = self.offsets
        if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != self.items.size:
            raise ValueError(f"offsets must start at 0 and end at {self.items.size}, the number of events")
        if (np.diff(offsets) < 0).any():
            raise ValueError("offsets must never fall: each history starts where the one before it ends")

    @classmethod
    def from_lengths(cls, items: Int64Array, lengths: npt.NDArray[np.integer]) -> Packed:
        """Pack items (N,) int64, which are ordered by history; lengths (S,) are those of the histories."""
        return cls(items, _offsets(lengths))

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def lengths(self) -> Int64Array:
        """(S,) int64, the number of events of each history."""
        return np.diff(self.offsets)

    @property
    def has_past(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, whether an earlier event of the same history comes before each event."""
        result = np.ones(self.items.size, dtype=np.bool_)
        result[self.offsets[:-1][self.lengths > 0]] = False
        return result

    def count(self, mask: npt.NDArray[np.bool_]) -> Int64Array:
        """(S,) int64, the number of events of each history at which the mask (N,) is true."""
        return np.diff(np.concatenate([[0], np.cumsum(mask)])[self.offsets]).astype(np.int64)

    def history(self, s: int) -> Int64Array:
        """History s (0 ≤ s < S) as a view of items; IndexError for any other s."""
        if not 0 <= s < len(self):
            raise IndexError(f"there are {len(self)} histories, so no history {s}")
        return self.items[self.offsets[s] : self.offsets[s + 1]]

    def select(self, indices: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Packed:
        """The histories at indices (M,), in that order; or those at which a bool mask (S,) is true.

        An index may occur more than once. Raises IndexError for an index outside 0..S-1: negative indices do
        not count from the end.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask over {len(self)} histories cannot have shape {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"there are {len(self)} histories, so indices must lie in 0..{len(self) - 1}")
        chosen = chosen.astype(np.int64)
        return self.pieces(self.offsets[chosen], self.lengths[chosen])

    def trimmed(self, *, first: int = 0, last: int = 0) -> Packed:
        """Every history without its `first` oldest and `last` newest events.

        Raises ValueError if a history has fewer than first + last events.
        """
        lengths = self.lengths - (first + last)
        if (lengths < 0).any():
            short = int(np.argmax(lengths < 0))
            events = self.lengths[short]
            raise ValueError(f"history {short} has {events} events, too few to drop {first + last}")
        return self.pieces(self.offsets[:-1] + first, lengths)

    def heads(self, lengths: npt.NDArray[np.integer]) -> Packed:
        """The oldest lengths[s] events of each history s.

        Raises ValueError if lengths are not of shape (S,), or if one is negative or longer than its history.
        """
        if lengths.shape != (len(self),) or (lengths < 0).any() or (lengths > self.lengths).any():
            raise ValueError(f"lengths must have {len(self)} values, each from 0 to the history's length")
        return self.pieces(self.offsets[:-1], lengths.astype(np.int64))

    def latest(self, length: int) -> Packed:
        """The newest `length` events (0 or more) of every history; all events of a shorter history."""
        lengths = np.minimum(self.lengths, length)
        return self.pieces(self.offsets[1:] - lengths, lengths)

    def pieces(self, starts: Int64Array, lengths: Int64Array) -> Packed:
        """One history for each m: the events ``items[starts[m]:starts[m] + lengths[m]]``; may overlap."""
        return Packed(self.items[ranges(starts, lengths)], _offsets(lengths))


def ranges(starts: Int64Array, lengths: Int64Array) -> Int64Array:
    """The lengths[0] numbers from starts[0] on, then the lengths[1] numbers from starts[1] on, and so on."""
    offsets = _offsets(lengths)
    numbers: Int64Array = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return numbers


def _offsets(lengths: npt.NDArray[np.integer]) -> Int64Array:
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def repeat_log_odds(histories: Packed, num_items: int) -> float:
    """How much likelier events are to repeat an item of their user than random items are, in log-odds.

    Only events with a past count. The log-odds of the events come from the share of them whose item came
    before in the same history. One event of each kind is added, so they stay finite. The log-odds of random
    items come from the average share of the catalogue that the user already had.

    num_items: size of the catalogue.

    Returns 0 if no event has a past.
    """
    items, lengths, has_past = histories.items, histories.lengths, histories.has_past
    count = int(has_past.sum())
    if count == 0:
        return 0.0
    owner = np.repeat(np.arange(len(histories)), lengths)
    order = np.lexsort((items, owner))  # stable: of equal items, the earliest comes first
    again = np.zeros(items.size, dtype=np.bool_)
    again[order[1:]] = (np.diff(items[order]) == 0) & (np.diff(owner[order]) == 0)
    new = (~again).astype(np.int64)
    held = np.cumsum(new) - new  # distinct items before each event, summed over all histories so far
    held -= np.repeat(held[~has_past], lengths[lengths > 0])
    by_chance = min(float(held[has_past].mean()) / num_items, 0.5)
    repeated = (float(again.sum()) + 1) / (count + 2)
    return math.log(repeated / (1 - repeated)) - math.log(by_chance / (1 - by_chance))
