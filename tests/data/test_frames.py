"""Data frames of polars and pandas give the same dataset as a file with the same rows."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from data.packing import as_ids
from hypothesis import given, settings
from hypothesis import strategies as st

import recblr
from recblr.data import Dataset, read_dataset
from recblr.errors import InputError

ROWS = {"user_id": ["bob", "ann", "ann"], "item_id": [7, 8, 7], "timestamp": [3, 2, 1]}
HISTORIES = {"bob": ["7"], "ann": ["7", "8"]}
DAYS = [dt.date(2024, 1, 3), dt.date(2024, 1, 2), dt.date(2024, 1, 1)]


def polars_frame(columns: dict[str, Any]) -> Any:
    return pl.DataFrame(columns, strict=False)


def lazy_frame(columns: dict[str, Any]) -> Any:
    return pl.LazyFrame(columns, strict=False)


def pandas_frame(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(columns)


MAKERS = [polars_frame, lazy_frame, pandas_frame]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["ann", "Zoë", "7", "07", 'a "b", c']), st.integers(-3, 3), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=40)
@given(rows=EVENTS, k_core=st.integers(0, 2))
def test_a_frame_and_a_csv_with_the_same_rows_have_the_same_fingerprint(
    tmp_path_factory: pytest.TempPathFactory,
    make: Callable[[dict[str, Any]], Any],
    rows: list[tuple[str, int, int]],
    k_core: int,
) -> None:
    users, items, times = (list(column) for column in zip(*rows, strict=True))
    columns = {"user_id": users, "item_id": items, "timestamp": times}
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    pl.DataFrame(columns).write_csv(path)
    try:
        expected = read_dataset(path, k_core=k_core)
    except InputError:
        with pytest.raises(InputError, match="nothing is left of the frame"):
            Dataset.from_frame(make(columns), k_core=k_core)
        return
    dataset = Dataset.from_frame(make(columns), k_core=k_core)
    assert dataset.fingerprint == expected.fingerprint
    assert as_ids(dataset) == as_ids(expected)


@pytest.mark.parametrize("make", MAKERS)
def test_the_columns_can_have_other_names(make: Callable[[dict[str, Any]], Any]) -> None:
    frame = make(dict(zip(["who", "what", "when"], ROWS.values(), strict=True)))
    dataset = recblr.Dataset.from_frame(frame, user="who", item="what", time="when", k_core=0, name="shop")
    assert as_ids(dataset) == HISTORIES
    assert dataset.name == "shop"


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "columns",
    [
        {"item_id": ["7", " 8", "7 "]},
        {"item_id": np.array([7, 8, 7], dtype=np.uint8)},
        {"timestamp": [3.5, 2.5, 1.5]},
        {"timestamp": np.array([3, 2, 1], dtype=np.float32)},
        {"timestamp": DAYS},
        {"timestamp": [str(day) for day in DAYS]},
        {"timestamp": [dt.datetime(2024, 1, day.day, tzinfo=dt.UTC) for day in DAYS]},
        *({"timestamp": np.array(DAYS, dtype=f"datetime64[{unit}]")} for unit in ("D", "ms", "us", "ns")),
    ],
    ids=str,
)
def test_ids_and_times_come_in_many_types(
    make: Callable[[dict[str, Any]], Any], columns: dict[str, Any]
) -> None:
    assert as_ids(Dataset.from_frame(make(ROWS | columns), k_core=0)) == HISTORIES


def test_polars_categories_are_ids() -> None:
    frame = pl.DataFrame(ROWS).cast({"user_id": pl.Categorical, "item_id": pl.String})
    frame = frame.cast({"item_id": pl.Enum(["8", "7"])})
    assert as_ids(Dataset.from_frame(frame, k_core=0)) == HISTORIES


def test_types_of_pandas_can_be_ids_and_times() -> None:
    pandas = pytest.importorskip("pandas")
    for columns in (
        {"user_id": pandas.Categorical(ROWS["user_id"]), "item_id": pandas.Categorical(ROWS["item_id"])},
        {"user_id": pandas.array(ROWS["user_id"], dtype="string")},
        {"item_id": pandas.array(ROWS["item_id"], dtype="Int64")},
        {"user_id": pandas.Series(ROWS["user_id"], dtype=object)},
        {"timestamp": pandas.to_datetime(DAYS).tz_localize("Europe/Berlin")},
        {"timestamp": pandas.to_datetime(DAYS).astype("datetime64[s]")},
        {"timestamp": np.array(ROWS["timestamp"], dtype=np.float16)},
    ):
        frame = pandas.DataFrame(ROWS | columns)
        frame.index = [5, 5, 5]  # the labels of rows are ignored
        assert as_ids(Dataset.from_frame(frame, k_core=0)) == HISTORIES


def test_times_of_pandas_in_a_column_of_objects_keep_their_nanoseconds_and_zones() -> None:
    pandas = pytest.importorskip("pandas")
    late, early = pandas.Timestamp(2, unit="ns", tz="UTC"), pandas.Timestamp(1, unit="ns", tz="Asia/Tokyo")
    frame = pandas_frame(ROWS | {"timestamp": pandas.Series([late, late, early], dtype=object)})
    dataset = Dataset.from_frame(frame, k_core=0)
    assert as_ids(dataset) == HISTORIES
    assert (dataset.time_unit, [] if dataset.times is None else dataset.times.tolist()) == ("ns", [2, 1, 2])


@pytest.mark.parametrize("make", MAKERS)
def test_float32_times_that_were_rounded_are_told(make: Callable[[dict[str, Any]], Any]) -> None:
    for last, notes in (
        (1_700_000_000, ("the float32 of 'timestamp' rounds times to steps of 128",)),
        (9, ()),
    ):
        frame = make(ROWS | {"timestamp": np.array([last, 2, 1], dtype=np.float32)})
        reading = Dataset.from_frame(frame, k_core=0).reading
        assert reading is not None
        assert reading.notes == notes


def test_dates_of_python_in_a_pandas_column_may_be_the_times() -> None:
    frame = pandas_frame({**ROWS, "x": DAYS}).drop(columns="timestamp")
    with pytest.raises(InputError, match="'x' may hold the times"):
        Dataset.from_frame(frame, k_core=0)


@pytest.mark.parametrize("make", MAKERS)
def test_datetimes_become_whole_numbers_since_1970(make: Callable[[dict[str, Any]], Any]) -> None:
    moments = [dt.datetime(1970, 1, 1, 0, 0, second, 250_000) for second in (3, 2, 1)]
    dataset = Dataset.from_frame(make(ROWS | {"timestamp": moments}), k_core=0)
    assert dataset.times is not None
    assert dataset.times.tolist() == [3250, 1250, 2250]
    assert dataset.time_unit == "ms"


def test_events_a_nanosecond_apart_keep_their_order(tmp_path: Path) -> None:
    moments = pl.Series([1_500_000_000_000_000_002, 1_500_000_000_000_000_001]).cast(pl.Datetime("ns"))
    frame = pl.DataFrame({"user_id": ["ann", "ann"], "item_id": ["late", "early"], "timestamp": moments})
    frame.write_parquet(tmp_path / "a.parquet")
    for dataset in (Dataset.from_frame(frame, k_core=0), read_dataset(tmp_path / "a.parquet", k_core=0)):
        assert as_ids(dataset) == {"ann": ["early", "late"]}
        assert dataset.time_unit == "ns"


def test_a_time_zone_is_converted_to_utc() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    frame = pl.DataFrame(
        {"user": ["ann"], "item": ["tea"], "time": [dt.datetime(1970, 1, 1, 2, 0, 5, tzinfo=east)]}
    )
    times = Dataset.from_frame(frame, k_core=0).times
    assert times is not None
    assert times.tolist() == [5]


def test_other_columns_may_have_any_values() -> None:
    frame = pl.DataFrame(ROWS).with_columns(note=pl.lit(None), where=pl.lit([1.5]))
    assert as_ids(Dataset.from_frame(frame, k_core=0)) == HISTORIES


def test_lower_ratings_are_dropped() -> None:
    frame = pl.DataFrame(ROWS).with_columns(stars=pl.Series([2, 5, 4]))
    assert as_ids(Dataset.from_frame(frame, rating="stars", min_rating=4, k_core=0)) == {"ann": ["7", "8"]}


def test_reading_does_not_change_the_frame() -> None:
    frame = pl.DataFrame(ROWS)
    Dataset.from_frame(frame, k_core=0)
    assert frame.equals(pl.DataFrame(ROWS))


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "no user column": ({"user_id": None}, {}, ("no column 'user_id'", "'item_id', 'timestamp'", "user= in")),
    "a wrong column name": ({}, {"time": "when"}, ("no column 'when'", "time= in Python")),
    "one column for two roles": ({}, {"item": "user_id"}, ("cannot have both the users and the items",)),
    "no columns": (dict.fromkeys(ROWS), {}, ("no column 'user_id'", "it has none at all")),
    "no ratings": ({}, {"min_rating": 3}, ("no column 'rating'", "rating= in Python")),
    "no rows": ({name: [] for name in ROWS}, {}, ("the frame has no rows",)),
    "a missing user": ({"user_id": ["bob", None, "ann"]}, {}, ("row 1 (from 0)", "no value", "'user_id'")),
    "a blank user": ({"user_id": ["bob", "ann", "  "]}, {}, ("row 2 (from 0)", "no value", "'user_id'")),
    "a missing item": ({"item_id": [7, 8, None]}, {}, ("row 2 (from 0)", "no value in column 'item_id'")),
    "a missing time": ({"timestamp": [3, None, 1]}, {}, ("row 1 (from 0)", "'timestamp'")),
    "a missing date": ({"timestamp": [None, *DAYS[:2]]}, {}, ("row 0 (from 0)", "'timestamp'")),
    "items that are fractions": (
        {"item_id": [7.0, 8.0, 7.5]},
        {},
        ("'item_id'", "Float64", "integers or strings"),
    ),
    "users that are true or false": ({"user_id": [True, False, True]}, {}, ("'user_id'", "Boolean")),
    "users in bytes": ({"user_id": [b"a", b"b", b"a"]}, {}, ("'user_id'", "Binary")),
    "times in words": ({"timestamp": ["1", "soon", "2"]}, {}, ("row 1", "'soon'", "time= in Python")),
    "an infinite time": ({"timestamp": [3.0, 2.0, float("inf")]}, {}, ("row 2", "inf in the time column")),
    "durations": ({"timestamp": [dt.timedelta(n) for n in range(3)]}, {}, ("Duration", "times are numbers")),
    "all ratings below the lowest one to keep": (
        {"rating": [1, 2, 3]},
        {"min_rating": 4},
        ("nothing is left of the frame", "3 ratings are from 1 to 3", "min_rating= in Python"),
    ),
    "too few events for the k-core": (
        {},
        {"k_core": 5},
        ("nothing is left of the frame", "k_core= in Python"),
    ),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_frame_gives_one_clear_sentence(make: Callable[[dict[str, Any]], Any], case: str) -> None:
    changed, options, says = BAD[case]
    columns = {name: values for name, values in (ROWS | changed).items() if values is not None}
    with pytest.raises(InputError) as raised:
        Dataset.from_frame(make(columns), **{"k_core": 0, **options})
    message = str(raised.value)
    assert "\n" not in message
    for part in says:
        assert part in message


@pytest.mark.parametrize("mixed", [["bob", 1, "ann"], [1, "x", 2.5]])
def test_a_pandas_column_of_several_types_is_refused(mixed: list[object]) -> None:
    with pytest.raises(InputError, match=r"has values of the types .*int, str, .*astype\(str\)"):
        Dataset.from_frame(pandas_frame(ROWS | {"user_id": mixed}), k_core=0)


def test_a_pandas_column_that_occurs_twice_is_refused() -> None:
    frame = pandas_frame(ROWS)
    frame.columns = ["user_id", "user_id", "item_id"]
    with pytest.raises(InputError, match="2 columns called 'user_id'"):
        Dataset.from_frame(frame)


@pytest.mark.parametrize(
    "other", [{"user_id": ["ann"]}, [1], None, "shop.csv", Path("shop.csv"), pl.Series([1])]
)
def test_an_object_that_is_not_a_frame_is_refused(other: object) -> None:
    with pytest.raises(InputError, match=f"a {type(other).__name__} is no data frame"):
        Dataset.from_frame(other)


def test_frames_need_no_torch_and_no_pandas() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "import polars, recblr\n"
        "frame = polars.DataFrame({'user': [1, 1], 'item': [2, 3], 'time': [5, 4]})\n"
        "print(recblr.Dataset.from_frame(frame, k_core=0).item_ids)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['2', '3']\n"
