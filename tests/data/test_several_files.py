"""Several files give the same dataset as one file with all their events."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import read_dataset
from recblr.errors import InputError

HEADER = "user_id,item_id,timestamp\n"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=30),
    st.data(),
)
def test_the_parts_of_a_file_give_the_same_dataset_as_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1), max_size=3)))
    lines = [",".join(map(str, row)) + "\n" for row in rows]
    (folder / "whole.csv").write_text(HEADER + "".join(lines))
    paths = []
    for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        paths.append(folder / f"{start}.csv")
        paths[-1].write_text(HEADER + "".join(lines[start:end]))
    together, whole = read_dataset(paths, k_core=0), read_dataset(folder / "whole.csv", k_core=0)
    assert together.fingerprint == whole.fingerprint
    assert together.name == "0"


def test_files_may_have_different_formats_and_types_of_ids(tmp_path: Path) -> None:
    (tmp_path / "old.dat").write_text("7::tea::5::1000\n")
    pl.DataFrame({"user_id": [7, 8], "item_id": ["oil", "tea"], "time": [500, 2000]}).write_parquet(
        tmp_path / "new.parquet"
    )
    dataset = read_dataset([tmp_path / "old.dat", tmp_path / "new.parquet"], k_core=0)
    assert as_ids(dataset) == {"7": ["oil", "tea"], "8": ["tea"]}


def test_without_times_the_order_of_the_files_counts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ann tea oil rum\n")
    (tmp_path / "b.txt").write_text("ann nut\nbob tea\n")
    dataset = read_dataset([tmp_path / "b.txt", tmp_path / "a.txt"], format="sequences", k_core=0)
    assert as_ids(dataset) == {"ann": ["nut", "tea", "oil", "rum"], "bob": ["tea"]}


def test_the_events_of_a_user_are_counted_over_all_files(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("ann tea\nbob tea\n")
    assert read_dataset([tmp_path / "a.txt", tmp_path / "b.txt"], k_core=2).num_users == 2
    with pytest.raises(InputError, match=r"nothing is left of .*a\.txt and 1 more"):
        read_dataset([tmp_path / "a.txt", tmp_path / "b.txt"], k_core=3)


def test_times_in_some_files_only_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "ann,tea,1\n")
    (tmp_path / "b.txt").write_text("ann tea\n")
    with pytest.raises(InputError, match=r"a\.csv has times and .*b\.txt has none"):
        read_dataset([tmp_path / "b.txt", tmp_path / "a.csv"])


def test_a_bad_file_among_good_ones_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "ann,tea,1\n")
    (tmp_path / "b.csv").write_text(HEADER + "ann,tea,soon\n")
    with pytest.raises(InputError, match=r"b\.csv, line 2: 'soon'"):
        read_dataset([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "ann,tea,1\n")
    with pytest.raises(InputError, match="is given twice"):
        read_dataset([tmp_path / "a.csv", tmp_path / "." / "a.csv"])


def test_an_empty_list_of_files_is_refused() -> None:
    with pytest.raises(InputError, match="no data files"):
        read_dataset([])
