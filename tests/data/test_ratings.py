"""A lowest rating drops interactions before users and items are counted and numbered."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Dataset, read_dataset

ROWS = [("bob", "tea", 2, 1), ("ann", "oil", 5, 2), ("ann", "tea", 4, 1), ("bob", "rum", 3.5, 2)]
AT_LEAST_FOUR = {"ann": ["tea", "oil"]}


def lines(separator: str, header: str = "") -> str:
    return header + "".join(separator.join(map(str, row)) + "\n" for row in ROWS)


FILES = {
    "a.inter": lines("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"),
    "a.csv": lines(",", "userId,movieId,rating,timestamp\n"),
    "a.tsv": lines("\t", "user_id\titem_id\trating\ttimestamp\n"),
    "ratings.dat": lines("::"),
    "u.data": lines("\t"),
}


@pytest.mark.parametrize("name", FILES)
def test_lower_ratings_are_dropped_from_every_format_with_ratings(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    dataset = read_dataset(tmp_path / name, min_rating=4, k_core=0)
    assert as_ids(dataset) == AT_LEAST_FOUR
    assert dataset.item_ids == ["oil", "tea"]
    assert len(as_ids(read_dataset(tmp_path / name, k_core=0))) == 2


def test_lower_ratings_are_dropped_from_parquet(tmp_path: Path) -> None:
    columns = ["user_id", "item_id", "rating", "timestamp"]
    pl.DataFrame(ROWS, schema=columns, orient="row", strict=False).write_parquet(tmp_path / "a.parquet")
    assert as_ids(read_dataset(tmp_path / "a.parquet", min_rating=4, k_core=0)) == AT_LEAST_FOUR


def test_the_column_of_ratings_can_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(",", "user_id,item_id,overall,timestamp\n"))
    dataset = read_dataset(tmp_path / "a.csv", rating="overall", min_rating=4, k_core=0)
    assert as_ids(dataset) == AT_LEAST_FOUR


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=60),
    st.sampled_from([1, 2.5, 3, 5]),
    st.integers(0, 3),
)
def test_a_lowest_rating_gives_the_same_dataset_as_data_without_the_lower_rows(
    rows: list[tuple[int, int, int]], lowest: float, k_core: int
) -> None:
    def outcome(rows: list[tuple[int, int, int]], lowest: float | None) -> str:
        schema = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        try:
            return Dataset.from_frame(frame, min_rating=lowest, k_core=k_core).fingerprint
        except ValueError:
            return "nothing is left"

    assert outcome(rows, lowest) == outcome([row for row in rows if row[2] >= lowest], None)
