"""Later events beside those of a dataset: for a trained model, whose items keep their numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from recblr.data.dataset import Dataset
from recblr.data.events import Events, concatenate
from recblr.data.packed import Int64Array, Numbers, Packed
from recblr.errors import InputError


def with_events(old: Dataset, new: Dataset) -> tuple[Dataset, int]:
    """The events of both, and how many of the new ones were left out, because `old` has them already.

    Users and items of `old` keep their numbers; new ones come behind them, in the order of `new`.  Each
    history is sorted by time, and of equal times, events of `old` come first.  An event is left out if `old`
    has one of the same user, item and time.  Without times, the new events of a user come after the others.

    Raises InputError if only one of them has times, or has times of a known unit; and, without times, if
    `new` seems to hold the events of `old` once more.
    """
    user_ids, user_numbers = _joined(old.user_ids, new.user_ids)
    item_ids, item_numbers = _joined(old.item_ids, new.item_ids)
    users = np.concatenate([old.histories.owners, user_numbers[new.histories.owners]])
    items = np.concatenate([old.histories.items, item_numbers[new.histories.items]])
    times = _times(old, new)
    is_new = np.arange(items.size) >= old.num_interactions
    known = np.zeros(items.size, np.bool_)
    if times is None:
        _refuse_again(old, new, user_numbers, item_numbers)
    else:
        table = pl.DataFrame({"user": users, "item": items, "time": times, "new": is_new})
        known = (
            is_new & table.select(~pl.col("new").all().over("user", "item", "time")).to_series().to_numpy()
        )
        users, items, times = users[~known], items[~known], times[~known]
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    histories = Packed.from_lengths(items[order], np.bincount(users, minlength=len(user_ids)))
    return (
        replace(
            old,
            histories=histories,
            user_ids=user_ids,
            item_ids=item_ids,
            times=None if times is None else times[order],
            reading=None,
            time_unit=None if times is None else _unit(old, new),
        ),
        int(known.sum()),
    )


def _refuse_again(old: Dataset, new: Dataset, users: Int64Array, items: Int64Array) -> None:
    """Raise InputError if most users of `old` have their whole history once more in `new`, from its start.

    users, items: the numbers in `old` of those of `new`; larger ones are unknown there, and do not count.
    """
    again = 0
    for place, user in enumerate(users.tolist()):
        if user < old.num_users:
            before, now = old.histories.history(user), items[new.histories.history(place)]
            again += np.array_equal(now[now < old.num_items][: before.size], before)
    if 2 * again > old.num_users:
        raise InputError(
            f"the new events begin with the earlier events of {again:,} of the {old.num_users:,} users, and"
            " without times nothing tells which are new",
            "give only the new events, or begin with a log that has times",
        )


def _joined(old: list[str], new: list[str]) -> tuple[list[str], Int64Array]:
    """All ids, those of `old` first, and the number that each of `new` has among them."""
    numbers = {name: number for number, name in enumerate(old)}
    for name in new:
        numbers.setdefault(name, len(numbers))
    return list(numbers), np.array([numbers[name] for name in new], np.int64)


def _times(old: Dataset, new: Dataset) -> Numbers | None:
    """The times of all events in one unit; None if only their order is known."""
    if old.times is None:
        return None
    if new.times is None:
        raise InputError(
            "the new events have no times, but those before have", "name their column of times with time="
        )
    if (old.time_unit is None) != (new.time_unit is None):
        which, other = ("new", "earlier") if new.time_unit is None else ("earlier", "new")
        raise InputError(
            f"the times of the {which} events have no known unit, but those of the {other} events have",
            "give time_unit= for both, or dates",
        )
    return _as_one(old, new).times


def _unit(old: Dataset, new: Dataset) -> str | None:
    return _as_one(old, new).time_unit


def _as_one(old: Dataset, new: Dataset) -> Events:
    """The events of both with times of one unit, in order.  Users and items have no meaning."""
    parts = [
        Events(name, _blank(one), _blank(one), one.times, time_unit=one.time_unit)
        for name, one in (("the earlier events", old), ("the new events", new))
    ]
    return concatenate(parts)


def _blank(dataset: Dataset) -> pl.Series:
    return pl.Series(np.zeros(dataset.num_interactions, np.int8))


def neighbours(histories: Packed, num_known: int) -> dict[int, list[int]]:
    """For each item whose number is at least `num_known`, the known items beside its events, with repeats.

    Beside an event are the nearest known items before it and after it in the same history.  An item without
    any is missing in the result.
    """
    found: dict[int, list[int]] = {}
    known = histories.items < num_known
    places = np.arange(known.size)
    owners = histories.owners
    before = np.maximum.accumulate(np.where(known, places, -1)) if known.size else places
    after = np.minimum.accumulate(np.where(known, places, known.size)[::-1])[::-1] if known.size else places
    for place in np.flatnonzero(~known).tolist():
        for beside in (int(before[place]), int(after[place])):
            if 0 <= beside < known.size and owners[beside] == owners[place]:
                found.setdefault(int(histories.items[place]), []).append(int(histories.items[beside]))
    return found


def without_items(dataset: Dataset, items: Int64Array) -> tuple[Dataset, int]:
    """The dataset without the events of some items, without those items, and without users who have no other.

    Returns also the number of the events.  The other users and items keep their order.
    """
    keep = ~np.isin(dataset.histories.items, items)
    lengths = dataset.histories.count(keep)
    left = np.setdiff1d(np.arange(dataset.num_items), items)
    numbers = np.zeros(dataset.num_items, np.int64)
    numbers[left] = np.arange(left.size)
    users = np.flatnonzero(lengths)
    return (
        replace(
            dataset,
            histories=Packed.from_lengths(numbers[dataset.histories.items[keep]], lengths[users]),
            user_ids=[dataset.user_ids[user] for user in users],
            item_ids=[dataset.item_ids[item] for item in left],
            times=None if dataset.times is None else dataset.times[keep],
        ),
        int((~keep).sum()),
    )
