"""Every row that is read is in the dataset, or is counted as dropped, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.data import Dataset, read_dataset
from recblr.errors import InputError

ROWS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(0, 9)),
        st.sampled_from(["", "blank", " "]),
    ),
    max_size=40,
).map(lambda rows: [*rows, (0, 0, 5, 3)])  # a blank line at the end of a file does not count as a row
Row = tuple[int, int, int, int] | str

TABLES = {
    "a.csv": ("user_id,item_id,rating,timestamp\n", ","),
    "a.tsv": ("user_id\titem_id\trating\ttimestamp\n", "\t"),
    "a.inter": ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n", "\t"),
    "a.dat": ("", "::"),
}


def text(rows: list[Row], name: str) -> str:
    head, mark = TABLES[name]
    lines = [
        {"": "", " ": " ", "blank": mark * 3}[row] if isinstance(row, str) else mark.join(map(str, row))
        for row in rows
    ]
    return head + "\n".join(lines) + "\n"


def dataset_or_none(read: Callable[[], Dataset]) -> Dataset | None:
    """The dataset; None if the filters drop all events."""
    try:
        return read()
    except InputError as error:
        if "nothing is left" not in error.problem:
            raise
        return None


def assert_all_counted(dataset: Dataset, rows: list[Row], k: int, min_rating: float | None) -> None:
    events = [row for row in rows if not isinstance(row, str)]
    reading = dataset.reading
    assert reading is not None
    assert reading.read == len(rows)
    assert reading.read == dataset.num_interactions + sum(reading.dropped.values())
    rated = [row for row in events if min_rating is None or row[2] >= min_rating]
    expected = {
        "without any value": len(rows) - len(events),
        f"rated below {min_rating}": len(events) - len(rated),
        f"of users or items with fewer than {k} events": len(rated) - dataset.num_interactions,
    }
    assert reading.dropped == {reason: count for reason, count in expected.items() if count}


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=40)
@given(rows=ROWS, k=st.integers(0, 3), min_rating=st.none() | st.integers(1, 5))
def test_every_row_of_a_table_is_counted(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[Row], k: int, min_rating: int | None
) -> None:
    file = tmp_path_factory.getbasetemp() / name
    file.write_text(text(rows, name))
    dataset = dataset_or_none(lambda: read_dataset(file, k_core=k, min_rating=min_rating))
    if dataset is None:
        return
    assert_all_counted(dataset, rows, k, min_rating)


@settings(max_examples=12)  # each example starts a process that reads the Parquet file first
@given(rows=ROWS, k=st.integers(0, 3), min_rating=st.none() | st.integers(1, 5))
def test_every_row_of_a_frame_and_of_a_parquet_file_is_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], k: int, min_rating: int | None
) -> None:
    events: list[Row] = [row for row in rows if not isinstance(row, str)]
    names = ["user_id", "item_id", "rating", "timestamp"]
    frame = pl.DataFrame(events, schema=names, orient="row")
    file = tmp_path_factory.getbasetemp() / "a.parquet"
    frame.write_parquet(file)
    for read in (
        lambda: Dataset.from_frame(frame, k_core=k, min_rating=min_rating),
        lambda: read_dataset(file, k_core=k, min_rating=min_rating),
    ):
        dataset = dataset_or_none(read)
        if dataset is not None:
            assert_all_counted(dataset, events, k, min_rating)


@given(rows=ROWS, cut=st.integers(0, 40), k=st.integers(0, 3))
def test_the_rows_of_several_files_are_counted_together(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], cut: int, k: int
) -> None:
    parts = [part for part in ([*rows[:cut], (1, 1, 5, 3)], rows[cut:]) if part]
    files = [tmp_path_factory.getbasetemp() / f"{number}.csv" for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        file.write_text(text(part, "a.csv"))
    dataset = dataset_or_none(lambda: read_dataset(files, k_core=k))
    if dataset is None:
        return
    assert_all_counted(dataset, [row for part in parts for row in part], k, None)


@given(
    histories=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=9),
    form=st.sampled_from(["pairs", "sequences"]),
    k=st.integers(0, 3),
)
def test_the_events_of_files_without_a_header_are_counted(
    tmp_path_factory: pytest.TempPathFactory, histories: list[list[int]], form: str, k: int
) -> None:
    lines = [
        f"{user} {' '.join(map(str, part))}"
        for user, items in enumerate(histories)
        for part in ([items] if form == "sequences" else [[item] for item in items])
    ]
    file = tmp_path_factory.getbasetemp() / "a.txt"
    file.write_text("\n\n".join(lines))
    dataset = dataset_or_none(lambda: read_dataset(file, k_core=k, format=form))
    if dataset is None:
        return
    rows: list[Row] = [(user, item, 5, 0) for user, items in enumerate(histories) for item in items]
    assert_all_counted(dataset, rows, k, None)


def test_the_summary_as_text_is_a_sentence(tmp_path: Path) -> None:
    rows: list[Row] = [(1, 1, 5, 0), (1, 1, 2, 0), "blank", (1, 1, 5, 0), (2, 2, 5, 0)]
    (tmp_path / "a.csv").write_text(text(rows, "a.csv"))
    dataset = read_dataset(tmp_path / "a.csv", k_core=2, min_rating=4)
    assert str(dataset.reading) == (
        "read 5 events, dropped 3 (1 without any value, 1 rated below 4, 1 of users or items with fewer than "
        "2 events), kept 1 that repeat the user, item and time of another; ordered by timestamp, "
        "whose unit is unknown"
    )
    (tmp_path / "a.txt").write_text("1 2\n1 3\n")
    assert str(read_dataset(tmp_path / "a.txt", k_core=0).reading) == (
        "read 2 events, dropped none; in file order: no time column"
    )


def test_each_dropped_event_is_counted_for_the_user_or_for_the_item(tmp_path: Path) -> None:
    # Items 2 and 3 are rare. Without item 3, user 2 is rare too.
    rows: list[Row] = [*[(1, 1, 5, time) for time in range(3)], (1, 2, 5, 3), (2, 1, 5, 0), (2, 3, 5, 1)]
    (tmp_path / "a.csv").write_text(text(rows, "a.csv"))

    def dropped(k_core: int, *sides: int | None) -> Mapping[str, int]:
        options = dict(zip(("min_user_events", "min_item_events"), sides, strict=True))
        dataset = read_dataset(tmp_path / "a.csv", k_core=k_core, **options)
        frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
        from_frame = Dataset.from_frame(frame, k_core=k_core, **options)
        assert dataset.reading == from_frame.reading
        assert dataset.reading is not None
        assert dataset.reading.read == dataset.num_interactions + sum(dataset.reading.dropped.values())
        return dataset.reading.dropped

    by_item = {"of items with fewer than 3 events": 2}
    by_user = {"of users with fewer than 2 events": 1}
    assert dropped(2, None, 3) == dropped(0, 2, 3) == dropped(9, 2, 3) == by_item | by_user
    assert dropped(0, None, 3) == dropped(3, 1, None) == by_item
    assert dropped(0, 3, None) == {"of users with fewer than 3 events": 2}
    assert dropped(9, 3, 3) == {"of users or items with fewer than 3 events": 3}


def test_a_dataset_that_was_not_read_from_rows_has_no_summary(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2\n1 3\n")
    dataset = read_dataset(tmp_path / "a.txt", k_core=0)
    dataset.save(tmp_path / "saved")
    assert Dataset.load(tmp_path / "saved").reading is None
