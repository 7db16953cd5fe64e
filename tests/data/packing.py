"""Histories as lists, for tests with examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recblr.data import Dataset, Packed


def pack(histories: Sequence[Sequence[int]]) -> Packed:
    items = np.array([item for history in histories for item in history], dtype=np.int64)
    return Packed.from_lengths(items, np.array([len(history) for history in histories], dtype=np.int64))


def unpack(packed: Packed) -> list[list[int]]:
    return [packed.history(s).tolist() for s in range(len(packed))]


def dataset(
    histories: Sequence[Sequence[int]],
    *,
    name: str = "shop",
    users: Sequence[str] | None = None,
    items: Sequence[str] = ("apple", "banana", "cherry"),
    times: Sequence[float] | None = None,
) -> Dataset:
    names = [f"user{s}" for s in range(len(histories))] if users is None else users
    moments = None if times is None else np.array(times)
    return Dataset(name, pack(histories), list(names), list(items), moments)


def as_ids(data: Dataset) -> dict[str, list[str]]:
    """The history of every user, as ids of the original data, in the order of the dataset's users."""
    return {
        user: [data.item_ids[item] for item in data.histories.history(s)]
        for s, user in enumerate(data.user_ids)
    }
