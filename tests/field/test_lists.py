"""Rows that hold lists are expanded, an event for each element, in frames and Parquet files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Dataset, read_dataset
from recblr.data.read.columns import Column
from recblr.data.read.lists import expand
from recblr.errors import InputError

Read = Callable[[dict[str, Any], Path, dict[str, Any]], Dataset]


def from_polars(columns: dict[str, Any], _: Path, options: dict[str, Any]) -> Dataset:
    return Dataset.from_frame(pl.DataFrame(columns), k_core=0, **options)


def from_lazy(columns: dict[str, Any], _: Path, options: dict[str, Any]) -> Dataset:
    return Dataset.from_frame(pl.LazyFrame(columns), k_core=0, **options)


def from_pandas(columns: dict[str, Any], _: Path, options: dict[str, Any]) -> Dataset:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return Dataset.from_frame(pandas.DataFrame(columns), k_core=0, **options)


def from_arrays(columns: dict[str, Any], folder: Path, options: dict[str, Any]) -> Dataset:
    """A frame of pandas with arrays, as pandas.read_parquet gives it."""

    def array(value: Any) -> Any:
        if not isinstance(value, list) or (value and isinstance(value[0], list | dict)):
            return value
        moments = value and isinstance(value[0], dt.date)
        return np.array(value, dtype="datetime64[ns]" if moments else None)

    return from_pandas({name: [*map(array, values)] for name, values in columns.items()}, folder, options)


def from_file(columns: dict[str, Any], folder: Path, options: dict[str, Any]) -> Dataset:
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")
    return read_dataset(folder / "log.parquet", k_core=0, **options)


READERS = [from_polars, from_lazy, from_pandas, from_arrays, from_file]
DAY, NEXT = dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)
ITEMS = {"item": "items", "time": "times"}

# What the shape is from, its columns, the options, and the histories.
GOOD: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, list[str]]]] = [
    (
        "a history a row with parallel times (recblr's own saved dataset)",
        {"user": ["a", "b"], "items": [[1, 2, 3], [2]], "times": [[3, 1, 2], [1]]},
        ITEMS,
        {"a": ["2", "3", "1"], "b": ["2"]},
    ),
    (
        "a history a row without times",
        {"user": [1, 2], "item": [["x", "y"], ["y"]]},
        {},
        {"1": ["x", "y"], "2": ["y"]},
    ),
    (
        "baskets with one time each (Instacart, Ta-Feng)",
        {"user": ["a", "a"], "items": [["d", "c"], ["b"]], "times": [2, 1]},
        ITEMS,
        {"a": ["b", "d", "c"]},
    ),
    (
        "a list of structs (Otto as Parquet)",
        {"session": [7], "events": [[{"aid": 1, "ts": 2, "type": "x"}, {"aid": 5, "ts": 1, "type": "y"}]]},
        {"user": "session", "item": "aid", "time": "ts"},
        {"7": ["5", "1"]},
    ),
    (
        "a struct",
        {"user": [{"id": 7}, {"id": 7}], "item": [1, 2], "context": [{"at": 2}, {"at": 1}]},
        {"user": "user.id", "time": "at"},
        {"7": ["2", "1"]},
    ),
    (
        "lists of dates (Spark: collect_list)",
        {"user": ["a"], "items": [["x", "y"]], "times": [[NEXT, DAY]]},
        ITEMS,
        {"a": ["y", "x"]},
    ),
    (
        "ratings in a list",
        {"user": [1], "item": [[5, 6]], "rating": [[1.0, 4.0]]},
        {"min_rating": 2},
        {"1": ["6"]},
    ),
    (
        "the baskets of a user, with a time each",
        {"user": [1], "items": [[[3, 4], [1]]], "times": [[2, 1]]},
        ITEMS,
        {"1": ["1", "3", "4"]},
    ),
    (
        "a user without events",
        {"user": ["a", "b"], "items": [[], [1, 2]], "times": [[], [2, 1]]},
        ITEMS,
        {"b": ["2", "1"]},
    ),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case[0])
def test_an_element_is_an_event(case: Any, read: Read, tmp_path: Path) -> None:
    _, columns, options, histories = case
    data = read(columns, tmp_path, options)
    assert as_ids(data) == histories


@pytest.mark.parametrize("read", READERS)
def test_rows_without_events_are_counted(read: Read, tmp_path: Path) -> None:
    reading = read({"user": [1, 2, 3], "item": [[], [5], []]}, tmp_path, {}).reading
    assert reading is not None
    assert (reading.read, reading.dropped) == (3, {"without any value": 2})


@pytest.mark.parametrize("read", READERS)
def test_dates_become_seconds(read: Read, tmp_path: Path) -> None:
    data = read({"user": ["a"], "items": [["x", "y"]], "times": [[NEXT, DAY]]}, tmp_path, ITEMS)
    assert data.times is not None
    assert data.times.tolist() == [1704067200, 1704153600]


def test_arrays_of_a_fixed_length_and_categories_are_read() -> None:
    frame = pl.DataFrame({"user": ["a"], "item": [["x", "y"]], "time": [[2, 1]]}).cast(
        {"item": pl.List(pl.Categorical), "time": pl.Array(pl.Int64, 2), "user": pl.Categorical}
    )
    assert as_ids(Dataset.from_frame(frame, k_core=0)) == {"a": ["y", "x"]}


def test_a_nanosecond_in_a_list_decides_the_order() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    moments = [
        pandas.Timestamp("2024-01-01T00:00:00.000000002"),
        pandas.Timestamp("2024-01-01T00:00:00.000000001"),
    ]
    series = Dataset.from_frame
    lists = pandas.DataFrame({"user": ["a"], "item": [["x", "y"]], "time": [moments]})
    plain = pandas.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": moments})
    assert as_ids(series(lists, k_core=0)) == as_ids(series(plain, k_core=0))


def test_a_saved_dataset_can_be_trained_on(tmp_path: Path) -> None:
    saved = from_polars(
        {"user": ["a", "b"], "item": [["x", "y"], ["y"]], "time": [[5, 4], [1]]}, tmp_path, {}
    )
    saved.save(tmp_path / "dataset")
    again = read_dataset(tmp_path / "dataset" / "histories.parquet", k_core=0, user="user", **ITEMS)
    assert list(as_ids(again)) == ["a", "b"]
    assert again.times is not None
    assert again.times.tolist() == [4, 5, 1]


BAD: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    (
        "lists of different lengths",
        {"user": [1, 2], "items": [[1, 2], [1, 2]], "times": [[1, 2], [1]]},
        ITEMS,
        ("row 1 (from 0) has 2 elements in column 'items' and 1 in column 'times'", "equally long"),
    ),
    (
        "an empty list beside a full one",
        {"user": [1], "items": [[]], "times": [[1]]},
        ITEMS,
        ("row 0 (from 0) has 0 elements in column 'items' and 1",),
    ),
    (
        "a row without a list",
        {"user": [1, 2], "item": [[1], None]},
        {},
        ("row 1 (from 0) has no value", "'item'"),
    ),
    (
        "null in a list",
        {"user": [1, 2], "item": [["a"], ["b", None]]},
        {},
        ("row 1 (from 0)", "no value", "'item'"),
    ),
    (
        "a blank text in a list",
        {"user": [1], "item": [["a", " "]]},
        {},
        ("row 0 (from 0), element 1", "no value"),
    ),
    ("no user", {"user": ["a", None], "item": [[1], [2]]}, {}, ("row 1 (from 0)", "no value", "'user'")),
    ("fractions in lists", {"user": [1], "item": [[1.5]]}, {}, ("'item'", "Float64", "integers or strings")),
    (
        "a time in words",
        {"user": [1], "items": [[1, 2]], "times": [["1", "soon"]]},
        ITEMS,
        ("row 0 (from 0), element 1 (from 0)", "'soon'"),
    ),
    (
        "lists of users",
        {"user": [[1, 2]], "item": [[1, 2]]},
        {},
        ("row 0 (from 0) has a list in column 'user'", "one user", "--user-column"),
    ),
    (
        "the start and the end of an event",
        {"user": [1], "item": [2], "times": [[1, 2]]},
        {"time": "times"},
        ("row 0 (from 0) has a list in column 'times', but one value in column 'item'", "--time-column"),
    ),
    ("only empty lists", {"user": [1], "item": [[]]}, {}, ("no rows but empty lists",)),
    (
        "two inner names",
        {"user": [{"id": 7}], "item": [{"id": 1}]},
        {"user": "id", "item": "id"},
        ("'user.id', 'item.id', and 'id' may be any of them",),
    ),
    (
        "a struct in place of a value",
        {"user": [{"id": 7}], "item": [1]},
        {},
        ("no column 'user", "'user.id'"),
    ),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0])
def test_what_is_wrong_gives_one_sentence(case: Any, read: Read, tmp_path: Path) -> None:
    _, columns, options, says = case
    with pytest.raises(InputError) as raised:
        read(columns, tmp_path, options)
    message = str(raised.value)
    assert "\n" not in message
    for part in says:
        assert part in message


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=6))
def test_expanding_is_the_same_as_a_loop(rows: list[list[int]]) -> None:
    columns = [Column("user", "u", 0), Column("item", "i", 1)]
    frame = pl.DataFrame(
        {"user": range(len(rows)), "item": rows}, schema={"user": pl.Int64, "item": pl.List(pl.Int64)}
    )
    expanded = expand(frame, columns, lambda row: f"row {row}")
    events = [(row, place, item) for row, items in enumerate(rows) for place, item in enumerate(items)]
    assert expanded.frame.rows() == [(row, item) for row, _, item in events]
    assert expanded.empty_rows == rows.count([])
    places = [expanded.place(event) for event in range(len(events))]
    assert places == [f"row {row}, element {place} (from 0)" for row, place, _ in events]
