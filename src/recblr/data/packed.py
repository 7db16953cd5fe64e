"""Histories of different lengths, one after another in one array.

With packed histories the whole program needs no padding. Memory holds only events, and an operation on all
histories is a few NumPy calls on flat arrays. Times are columns beside the items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.NDArray[np.int64 | np.float64]


DAY, _HOUR, _MINUTE = 86400, 3600, 60
"""Seconds."""


@dataclass(frozen=True, eq=False)
class Packed:
    """S histories with N events in total.

    items: (N,) int64, the item indices of history 0, then of history 1, and so on; the oldest event first.
    offsets: (S+1,) int64; history s is ``items[offsets[s]:offsets[s + 1]]``. A history may be empty.
    times: (N,) float64, the time of each event in seconds since the start of 1970 in UTC; None if it is not
        known.
    request_times: (S,) float64, for each history, the time in seconds at which its next item is asked for;
        None if it is not known.

    Raises ValueError if a shape or a dtype is wrong, if offsets decrease, if they do not go from 0 to N, or
    if a time is not finite.
    """

    items: Int64Array
    offsets: Int64Array
    times: Float64Array | None = None
    request_times: Float64Array | None = None

    def __post_init__(self) -> None:
        for name, array, dtype in (
            ("items", self.items, np.int64),
            ("offsets", self.offsets, np.int64),
            ("times", self.times, np.float64),
            ("request_times", self.request_times, np.float64),
        ):
            if array is None and dtype == np.float64:
                continue
            must = f"{name} must be a one-dimensional {np.dtype(dtype)} array"
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{must}, not a {type(array).__name__}")
            if array.ndim != 1 or array.dtype != dtype:
                raise ValueError(f"{must}, not {array.dtype} of shape {array.shape}")
        offsets = self.offsets
        if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != self.items.size:
            raise ValueError(f"offsets must start at 0 and end at {self.items.size}, the number of events")
        if (np.diff(offsets) < 0).any():
            raise ValueError("offsets must never fall: each history starts where the one before it ends")
        for name, times, count, each in (
            ("times", self.times, self.items.size, "event"),
            ("request_times", self.request_times, len(self), "history"),
        ):
            if times is not None and (times.size != count or not np.isfinite(times).all()):
                raise ValueError(f"{name} must have a finite number for each {each}, {count} in total")

    @classmethod
    def from_lengths(
        cls, items: Int64Array, lengths: npt.NDArray[np.integer], times: Float64Array | None = None
    ) -> Packed:
        """Pack items and times (N,), ordered by history; lengths (S,) are those of the histories."""
        return cls(items, _offsets(lengths), times)

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def lengths(self) -> Int64Array:
        """(S,) int64, the number of events of each history."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Int64Array:
        """(N,) int64, the number of the history that each event belongs to."""
        result: Int64Array = np.repeat(np.arange(len(self)), self.lengths)
        return result

    @property
    def last_times(self) -> Float64Array:
        """(S,) float64, the time of the last event of each history.

        Raises ValueError if the times are not known, or if a history is empty.
        """
        if self.times is None or not self.lengths.all():
            raise ValueError("only histories of one event or more, with times, have a last time")
        return self.times[self.offsets[1:] - 1]

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
        pieces = self.pieces(self.offsets[chosen], self.offsets[chosen + 1] - self.offsets[chosen])
        return pieces if self.request_times is None else pieces.asked_at(self.request_times[chosen])

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
        return self.pieces(self.offsets[1:] - lengths, lengths).asked_at(self.request_times)

    def pieces(self, starts: Int64Array, lengths: Int64Array) -> Packed:
        """One history for each m: the events ``items[starts[m]:starts[m] + lengths[m]]``; may overlap.

        The pieces have no request times, because they need not end where the histories end.
        """
        places = ranges(starts, lengths)
        times = None if self.times is None else self.times[places]
        return Packed(self.items[places], _offsets(lengths), times)

    def asked_at(self, request_times: Float64Array | None) -> Packed:
        """The same histories with other request times (S,)."""
        return replace(self, request_times=request_times)


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
    owner = histories.owners
    order = np.lexsort((items, owner))  # stable: of equal items, the earliest comes first
    again = np.zeros(items.size, dtype=np.bool_)
    again[order[1:]] = (np.diff(items[order]) == 0) & (np.diff(owner[order]) == 0)
    new = (~again).astype(np.int64)
    held = np.cumsum(new) - new  # distinct items before each event, summed over all histories so far
    held -= np.repeat(held[~has_past], lengths[lengths > 0])
    by_chance = min(float(held[has_past].mean()) / num_items, 0.5)
    repeated = (float(again.sum()) + 1) / (count + 2)
    return math.log(repeated / (1 - repeated)) - math.log(by_chance / (1 - by_chance))


@dataclass(frozen=True)
class TimeRange:
    """What a model must know of the times that it was trained on.

    longest_gap: the longest gap between two events of a history, in whole seconds, rounded up.
    step, start: all times lie whole steps after `start`, in seconds. The step is the longest of a day, an
        hour, a minute and a second. It is 0 if the times have fractions of a second. Dates of a zone with
        summer time have a step of a day, and start in summer.
    """

    longest_gap: int
    step: int = 0
    start: int = 0


def time_range(train: Packed) -> TimeRange | None:
    """The range of the times of training; None if no times are known, or if all are the same."""
    times = train.times
    if times is None or not times.size or times.min() == times.max():
        return None
    gaps = np.diff(times)[train.has_past[1:]]
    return TimeRange(math.ceil(gaps.max(initial=0)), *_step(times))


def _step(times: Float64Array) -> tuple[int, int]:
    """The step and the start of a TimeRange; times: (N,), at least one."""
    start = _date_start(times)
    if start is not None:
        return DAY, start
    for step in (_HOUR, _MINUTE, 1):
        phase = times[0] % step
        if float(phase).is_integer() and (times % step == phase).all():
            return step, int(phase)
    return 0, 0


def _date_start(times: Float64Array) -> int | None:
    """The second of a day at which dates start, if all times (N,) are dates; None if they are not."""
    seconds = times % DAY
    # In a zone with summer time, dates start at two seconds of the day in UTC, an hour apart.
    if not np.isin((seconds - seconds[0]) % DAY, (0, _HOUR, DAY - _HOUR)).all():
        return None  # the most frequent case, found without sorting
    moments, seconds = np.unique(times), np.unique(seconds)
    start = seconds[-1] if seconds[-1] - seconds[0] == DAY - _HOUR else seconds[0]
    at_midnight = np.isin((seconds - start) % DAY, (0, _HOUR)).all() and float(start).is_integer()
    # Events at two times of one day have a clock.
    one_each_day = np.unique((moments - start) // DAY).size == moments.size
    return int(start) if at_midnight and one_each_day else None
