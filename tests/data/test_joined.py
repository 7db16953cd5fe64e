"""Later events beside those of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from recblr.data import Dataset
from recblr.data.joined import neighbours, with_events, without_items
from recblr.errors import InputError

DAY = 86_400


def of(*rows: tuple[str, str, Any], **options: Any) -> Dataset:
    users, items, times = zip(*rows, strict=True)
    table: dict[str, Any] = {"user_id": users, "item_id": items}
    if times[0] is not None:
        table["timestamp"] = times
    return Dataset.from_frame(pl.DataFrame(table), k_core=0, **options)


def histories(dataset: Dataset) -> dict[str, list[str]]:
    return {
        user: [dataset.item_ids[item] for item in dataset.histories.history(number)]
        for number, user in enumerate(dataset.user_ids)
    }


def test_known_users_and_items_keep_their_numbers() -> None:
    old = of(("u", "a", 1e9), ("v", "b", 1e9 + 1), ("u", "b", 1e9 + 2))
    new = of(("w", "c", 1e9 + 9), ("u", "c", 1e9 + 8), ("u", "a", 1e9 + 1))
    joined, known = with_events(old, new)
    assert known == 0
    assert (joined.user_ids, joined.item_ids) == (["u", "v", "w"], ["a", "b", "c"])
    assert histories(joined) == {"u": ["a", "a", "b", "c"], "v": ["b"], "w": ["c"]}
    assert joined.seconds is not None
    assert joined.seconds.tolist() == [1e9, 1e9 + 1, 1e9 + 2, 1e9 + 8, 1e9 + 1, 1e9 + 9]
    Dataset(
        **{name: getattr(joined, name) for name in ("name", "histories", "user_ids", "item_ids", "times")}
    )


def test_events_that_are_there_already_are_left_out() -> None:
    old = of(("u", "a", 1e9), ("u", "a", 1e9), ("u", "b", 1e9 + 2))
    new = of(("u", "a", 1e9), ("u", "a", 1e9 + 2), ("v", "a", 1e9), ("v", "a", 1e9))
    joined, known = with_events(old, new)
    assert known == 1
    assert histories(joined) == {"u": ["a", "a", "b", "a"], "v": ["a", "a"]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_become_one(unit: str) -> None:
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    old = of(("u", "a", 10**9), ("u", "b", 10**9 + 5), time_unit="s")
    new = of(("u", "c", (10**9 + 3) * per), ("u", "a", 10**9 * per), time_unit=unit)
    joined, known = with_events(old, new)
    assert known == 1
    assert histories(joined) == {"u": ["a", "c", "b"]}
    assert joined.seconds is not None
    assert joined.seconds.tolist() == [1e9, 1e9 + 3, 1e9 + 5]


def test_without_times_new_events_come_last() -> None:
    old, new = (
        of(("u", "a", None), ("v", "b", None)),
        of(("v", "c", None), ("u", "a", None), ("v", "a", None)),
    )
    assert histories(with_events(old, new)[0]) == {"u": ["a", "a"], "v": ["b", "c", "a"]}
    timed = of(("v", "c", 1e9 + 5), ("v", "a", 1e9))
    assert histories(with_events(old, timed)[0]) == {"u": ["a"], "v": ["b", "a", "c"]}


def test_missing_times_and_units_are_named() -> None:
    old = of(("u", "a", 10**9))
    with pytest.raises(InputError, match="the new events have no times, but those before have"):
        with_events(old, of(("u", "a", None)))
    with pytest.raises(InputError, match="the times of the new events have no known unit"):
        with_events(old, of(("u", "a", 5)))
    with pytest.raises(InputError, match="the times of the earlier events have no known unit"):
        with_events(of(("u", "a", 5)), old)
    joined, _ = with_events(of(("u", "a", 5), ("u", "b", 9)), of(("u", "c", 7)))
    assert histories(joined) == {"u": ["a", "c", "b"]}


def test_neighbours_are_the_nearest_known_items() -> None:
    dataset, _ = with_events(
        of(("u", "a", 1e9), ("u", "b", 1e9 + 9), ("v", "c", 1e9)),
        of(*((u, i, 1e9 + t) for u, i, t in [("u", "x", 3), ("u", "y", 4), ("v", "x", 1), ("w", "z", 1)])),
    )
    a, b, c, x, y, z = (dataset.item_index(item) for item in "abcxyz")
    assert {item: sorted(found) for item, found in neighbours(dataset.histories, 3).items()} == {
        x: [a, b, c],
        y: [a, b],
    }
    left, count = without_items(dataset, np.array([z]))
    assert count == 1
    assert left.item_ids == ["a", "b", "c", "x", "y"]
    assert histories(left) == {"u": ["a", "x", "y", "b"], "v": ["c", "x"]}
