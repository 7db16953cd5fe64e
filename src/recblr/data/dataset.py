"""A dataset in memory: the history of every user, and the ids of users and items in the original data."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recblr.data import storage
from recblr.data.events import UNITS, MinimumCounts, ReadingSummary, as_seconds, indexed
from recblr.data.packed import Numbers, Packed
from recblr.data.read.columns import Wanted
from recblr.data.read.frames import read_frame
from recblr.errors import InputError

# difflib compares ids one by one, which is slow. So only this many ids of a large catalogue are compared.
_MOST_CANDIDATES = 5_000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Histories of users over a catalogue of items.

    histories: one history for each user, in the order of user_ids. Its items are indices of item_ids.
    user_ids, item_ids: the ids in the original data, as strings, each once.
    times: (N,) int64 or float64, the time of each event in histories.items. Times do not decrease within a
        history. None if only the order is known.
    reading: how many rows were read and dropped; None if the dataset was not read from rows.
    time_unit: s, ms, us or ns if the times count from the start of 1970 in UTC in this unit. None if they are
        numbers of an unknown unit, which give the order only.

    Raises ValueError if the parts do not fit together.
    """

    name: str
    histories: Packed
    user_ids: list[str]
    item_ids: list[str]
    times: Numbers | None = None
    reading: ReadingSummary | None = None
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if len(self.histories) != len(self.user_ids):
            raise ValueError(f"{len(self.histories)} histories cannot belong to {len(self.user_ids)} users")
        items = self.histories.items
        if items.size and (items.min() < 0 or items.max() >= len(self.item_ids)):
            raise ValueError(f"histories hold an item outside the catalogue of {len(self.item_ids)}")
        for kind, ids in (("user", self.user_ids), ("item", self.item_ids)):
            if not all(isinstance(token, str) for token in ids):
                raise ValueError(f"{kind} ids must be strings: convert them with str()")
            if len(set(ids)) != len(ids):
                raise ValueError(f"{kind} ids must differ from each other")
        if self.time_unit not in (None, *UNITS):
            raise ValueError(
                f"the unit of times must be one of {', '.join(UNITS)}, and is {self.time_unit!r}"
            )
        if self.times is not None:
            _check_times(self.times, self.histories)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: {self.num_users:,} users, {self.num_items:,} items, "
            f"{self.num_interactions:,} interactions{'' if self.times is None else ', with times'})"
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        rating: str | None = None,
        file_order: bool = False,
        time_unit: str | None = None,
        offset_unit: str | None = None,
        drop_incomplete: bool = False,
        min_rating: float | None = None,
        k_core: int = 5,
        min_user_events: int | None = None,
        min_item_events: int | None = None,
        name: str = "frame",
    ) -> Dataset:
        """Make a dataset from a data frame with one interaction in each row, like `recblr.data.read_dataset`.

        frame: a polars DataFrame or LazyFrame, or a pandas DataFrame.
        user, item, time, rating: the names of the columns; by default user_id, item_id, timestamp and
            rating, or another usual spelling. Ids are integers, strings or categories, and become strings.
            Times are numbers, dates, datetimes or strings of these. Without a time column, the rows are taken
            in their order. A time "date+clock" is the sum of two columns.
        file_order, time_unit, offset_unit, drop_incomplete: as in `recblr.data.read_dataset`.
        min_rating: rows with a lower rating, or with none, are dropped, before anything is counted.
        k_core: users and items with fewer interactions are dropped, again and again until all have enough.
            0 or 1 keeps all.
        min_user_events, min_item_events: the smallest number of interactions of a user, and of an item; by
            default k_core.
        name: the name of the dataset in reports and messages.

        Raises InputError for a column that is missing or has a wrong type, for a missing value, and if no row
        remains.
        """
        minimum = MinimumCounts(k_core, min_user_events, min_item_events)
        wanted = Wanted(
            user, item, time, rating, min_rating, file_order, time_unit, offset_unit, drop_incomplete
        )
        events = read_frame(frame, wanted)
        return cls(name, *indexed(events, minimum, min_rating=min_rating))

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_interactions(self) -> int:
        return self.histories.items.size

    @property
    def mean_length(self) -> float:
        """The mean number of events of a user; 0.0 if there are no users."""
        return self.num_interactions / self.num_users if self.num_users else 0.0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the ids, the events and their order in time; the name does not change it.

        Of times with a unit, the seconds change the fingerprint. So a log with dates, with seconds or with
        milliseconds has the same fingerprint. Of times without a unit, only the order does. Without times,
        the events of each history come after those of the history before. write_inter numbers them in the
        same way.
        """
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            encoded = [token.encode() for token in ids]
            # The lengths come first. Without them, two different lists of ids could give the same bytes.
            digest.update(np.array([len(ids), *map(len, encoded)], dtype="<i8").tobytes())
            digest.update(b"".join(encoded))
        digest.update(self.histories.offsets.astype("<i8").tobytes())
        digest.update(self.histories.items.astype("<i8").tobytes())
        if self.seconds is not None:
            # The word keeps seconds apart from ranks, which have as many bytes.
            digest.update(b"seconds" + self.seconds.astype("<f8").tobytes())
        if self.times is not None and self._ranks_add_order(self.times):
            _, ranks = np.unique(self.times, return_inverse=True)
            digest.update(ranks.astype("<i8").tobytes())
        return digest.hexdigest()

    def _ranks_add_order(self, times: Numbers) -> bool:
        """Whether the order of times is not in the rest of the fingerprint."""
        if self.seconds is None:
            return bool((times[1:] <= times[:-1]).any())
        if not times.size or (times.dtype == np.float64 and self.time_unit == "s"):
            return False
        step = UNITS[self.time_unit or "s"] / UNITS["s"]
        if times.dtype == np.int64 and np.spacing(np.abs(self.seconds).max()) < step:
            return False  # seconds keep each step of the unit, which is so unless it is ns
        return np.unique(self.seconds).size < np.unique(times).size

    @cached_property
    def seconds(self) -> npt.NDArray[np.float64] | None:
        """(N,) float64, the seconds since 1970 in UTC of each event in histories.items.

        None if there are no times or if their unit is unknown. int64 times are divided exactly, and rounded
        once to the nearest float64. So a log in s, ms, us, ns or dates has the same bits. A float64 of this
        century has steps of 0.24 microseconds, so events that are nearer can have equal seconds. Their order
        is that of `times`.
        """
        if self.times is None or self.time_unit is None:
            return None
        return as_seconds(self.times, self.time_unit)

    def describe(self) -> str:
        """A short text with one fact in each line: counts, lengths of histories, first and last time."""
        lengths = self.histories.lengths
        lines = [
            f"{self.name}",
            f"users         {self.num_users:,}",
            f"items         {self.num_items:,}",
            f"interactions  {self.num_interactions:,}",
        ]
        if lengths.size:
            lines.append(
                f"a user        {lengths.min():,} to {lengths.max():,} events, "
                f"median {np.median(lengths):,.0f}, mean {self.mean_length:,.1f}"
            )
        if self.num_users and self.num_items:
            lines.append(f"density       {self.num_interactions / (self.num_users * self.num_items):.3%}")
        if self.times is not None and self.times.size:
            lines.append(f"times         {self.times.min()} to {self.times.max()}")
        return "\n".join(lines)

    def user_index(self, token: str) -> int:
        """The index of a user's history; InputError for an unknown user."""
        index = self._user_positions.get(token)
        if index is None:
            raise _unknown_id("user", token, self.user_ids, self.name)
        return index

    def item_index(self, token: str) -> int:
        """The index of an item in the catalogue; InputError for an unknown item."""
        index = self._item_positions.get(token)
        if index is None:
            raise _unknown_id("item", token, self.item_ids, self.name)
        return index

    def save(self, directory: str | Path) -> None:
        """Write the dataset into a folder, and create the folder if it is missing.

        Raises InputError if the folder cannot be written to.
        """
        parts = storage.Parts(
            self.name,
            self.fingerprint,
            self.histories,
            self.user_ids,
            self.item_ids,
            self.times,
            self.time_unit,
        )
        storage.write(Path(directory), parts)

    @classmethod
    def load(cls, directory: str | Path) -> Dataset:
        """Read what save wrote. InputError if a file is missing, damaged or from another dataset."""
        parts = storage.read(Path(directory))
        try:
            dataset = cls(
                parts.name,
                parts.histories,
                parts.user_ids,
                parts.item_ids,
                parts.times,
                time_unit=parts.time_unit,
            )
        except ValueError:
            raise storage.damaged(Path(directory)) from None
        if dataset.fingerprint != parts.fingerprint:
            raise storage.damaged(Path(directory))
        return dataset

    @cached_property
    def _user_positions(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.user_ids)}

    @cached_property
    def _item_positions(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.item_ids)}


def _check_times(times: Numbers, histories: Packed) -> None:
    if times.shape != histories.items.shape or times.dtype not in (np.int64, np.float64):
        raise ValueError(
            f"times must be int64 or float64 of shape {histories.items.shape}, one for each event, and are "
            f"{times.dtype} of shape {times.shape}"
        )
    if not np.isfinite(times).all():
        raise ValueError("times must be finite")
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    # The first event of a history may be earlier than the event before it, which is of another history.
    if not np.isin(falls, histories.offsets).all():
        raise ValueError("times must not decrease within a history: sort each history by time")


def _unknown_id(kind: str, token: str, known: Sequence[str], data: str) -> InputError:
    """The error for an id that is not among the known ids of its kind ("user" or "item").

    Its remedy names similar ids if there are any. Otherwise it names a few ids that exist.
    """
    near = _close_matches(token, known)
    if near:
        remedy = f"did you mean {_listed(near, 'or')}?"
    elif known:
        remedy = f"give one of the ids in the data, such as {_listed(known[:3], 'or')}"
    else:
        remedy = f"there are no {kind}s at all"
    return InputError(
        f"{data} has no {kind} {token!r} among its {len(known)} {kind}s (rare ones may have been dropped)",
        remedy,
    )


def _close_matches(token: str, known: Sequence[str]) -> list[str]:
    folded = token.casefold()
    candidates: dict[str, str] = {}
    for other in known:
        if abs(len(other) - len(token)) <= 2 and other[:1].casefold() == folded[:1]:
            candidates.setdefault(other.casefold(), other)
            if len(candidates) == _MOST_CANDIDATES:
                break
    return [candidates[match] for match in difflib.get_close_matches(folded, candidates, n=3, cutoff=0.7)]


def _listed(tokens: Sequence[str], word: str) -> str:
    quoted = [repr(token) for token in tokens]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {word} {quoted[-1]}"
