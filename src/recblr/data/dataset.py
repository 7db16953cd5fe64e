"""A dataset in memory: every user's history and the ids that users and items go by outside."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recblr.data import storage
from recblr.data.events import ReadingSummary, indexed
from recblr.data.packed import Numbers, Packed
from recblr.data.read.columns import Wanted
from recblr.data.read.frames import read_frame
from recblr.errors import InputError

# difflib compares pair by pair, so a catalogue of millions is thinned to this many candidates first.
_MOST_CANDIDATES = 5_000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Histories of users over a catalogue of items.

    histories: one history a user, in the order of user_ids; its items index item_ids.
    user_ids, item_ids: the ids that the data's owner uses, always strings, each once.
    times: (N,) int64 or float64, when each event of histories.items was, never falling within a history, in
        the owner's unit (Unix seconds where the owner has dates); None where only the order is known.
    reading: how many rows were read and dropped; None where the dataset was not read from rows.

    Raises ValueError where the parts do not fit each other.
    """

    name: str
    histories: Packed
    user_ids: list[str]
    item_ids: list[str]
    times: Numbers | None = None
    reading: ReadingSummary | None = None

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
        min_rating: float | None = None,
        k_core: int = 5,
        name: str = "frame",
    ) -> Dataset:
        """The dataset of a data frame with one interaction a row, by the rules of `recblr.data.read_dataset`.

        frame: a polars DataFrame or LazyFrame, or a pandas DataFrame.
        user, item, time, rating: the names of the columns; by default user_id, item_id, timestamp and
            rating, or another usual spelling. Ids are integers, strings or categories, and become strings;
            times numbers, dates, datetimes or strings of these. Without a time column the order of the rows
            counts.
        min_rating: rows rated lower are dropped, before anything else is counted.
        k_core: users and items with fewer interactions are dropped, until none is left; 0 or 1 keeps all.
        name: what reports and messages call the dataset.

        Raises InputError for a column that is missing or of another type, a missing value, and where nothing
        is left.
        """
        events = read_frame(frame, Wanted(user, item, time, rating, min_rating))
        return cls(name, *indexed(events, k=k_core, min_rating=min_rating))

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
        """Events a user, 0.0 where there are no users."""
        return self.num_interactions / self.num_users if self.num_users else 0.0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over ids, events and their order in time; any name has the same.

        Of the times only the order counts, as nothing here depends on more: the same log with dates, seconds
        or milliseconds has one fingerprint. Without times, events count as one history after the other,
        which is also how write_inter numbers them.
        """
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            encoded = [token.encode() for token in ids]
            # Lengths go first, so that no two lists of ids run together to the same bytes.
            digest.update(np.array([len(ids), *map(len, encoded)], dtype="<i8").tobytes())
            digest.update(b"".join(encoded))
        digest.update(self.histories.offsets.astype("<i8").tobytes())
        digest.update(self.histories.items.astype("<i8").tobytes())
        if self.times is not None and (self.times[1:] <= self.times[:-1]).any():
            _, ranks = np.unique(self.times, return_inverse=True)
            digest.update(ranks.astype("<i8").tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """What there is to know at a glance, a line each: counts, lengths of histories, the span of times."""
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
            raise InputError(_unknown_id("user", token, self.user_ids, self.name))
        return index

    def item_index(self, token: str) -> int:
        """The index of an item in the catalogue; InputError for an unknown item."""
        index = self._item_positions.get(token)
        if index is None:
            raise InputError(_unknown_id("item", token, self.item_ids, self.name))
        return index

    def save(self, directory: str | Path) -> None:
        """Write the dataset into a folder, which is made where it is missing.

        Raises InputError where the folder cannot be written to.
        """
        parts = storage.Parts(
            self.name, self.fingerprint, self.histories, self.user_ids, self.item_ids, self.times
        )
        storage.write(Path(directory), parts)

    @classmethod
    def load(cls, directory: str | Path) -> Dataset:
        """Read what save wrote; InputError where a file is missing, damaged or of another dataset."""
        parts = storage.read(Path(directory))
        try:
            dataset = cls(parts.name, parts.histories, parts.user_ids, parts.item_ids, parts.times)
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
            f"times must be int64 or float64 of shape {histories.items.shape}, one an event, and are "
            f"{times.dtype} of shape {times.shape}"
        )
    if not np.isfinite(times).all():
        raise ValueError("times must be finite")
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    # Only where a history starts may the time be earlier than the event's before it.
    if not np.isin(falls, histories.offsets).all():
        raise ValueError("times must not fall within a history: sort each history by time")


def _unknown_id(kind: str, token: str, known: Sequence[str], data: str) -> str:
    """One sentence that says that `known`, the ids of one kind ("user", "item"), lack `token`.

    It names close matches where there are some, else a few ids that exist.
    """
    near = _close_matches(token, known)
    if near:
        hint = f"did you mean {_listed(near, 'or')}?"
    elif known:
        hint = f"give one of the ids in the data, such as {_listed(known[:3], 'or')}"
    else:
        hint = f"it has no {kind}s at all"
    return (
        f"{data} has no {kind} {token!r} among its {len(known)} {kind}s "
        f"(those with few interactions are filtered out): {hint}"
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
