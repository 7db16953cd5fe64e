"""The readers on published datasets. Tests are skipped if a dataset is missing on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recblr.data import Dataset, leave_one_out, read_dataset

FOLDER = Path(os.environ.get("RECBLR_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def file_or_skip(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {FOLDER}; set RECBLR_TEST_DATA to the folder that has it")
    return path


@pytest.mark.parametrize(
    ("name", "k_core", "users", "items", "interactions"),
    [
        ("ml-1m/ml-1m.inter.gz", 5, 6040, 3416, 999_611),
        ("beauty/Beauty.txt", 5, 22_363, 12_101, 198_502),
        ("ml-100k/ml-100k.inter", 0, 943, 1682, 100_000),
    ],
)
def test_a_published_dataset_has_its_known_size(
    name: str, k_core: int, users: int, items: int, interactions: int
) -> None:
    dataset = read_dataset(file_or_skip(name), k_core=k_core)
    assert (dataset.num_users, dataset.num_items, dataset.num_interactions) == (users, items, interactions)
    assert len(leave_one_out(dataset).test.targets) == users


def test_a_lowest_rating_keeps_the_lines_with_that_rating_or_more() -> None:
    path = file_or_skip("ml-100k/ml-100k.inter")
    high = [line for line in path.read_text().splitlines()[1:] if float(line.split("\t")[2]) >= 4]
    dataset = read_dataset(path, min_rating=4, k_core=0)
    assert dataset.num_interactions == len(high)
    assert dataset.num_users == len({line.split("\t")[0] for line in high})


def test_a_log_gives_the_same_dataset_in_every_format(tmp_path: Path) -> None:
    path = file_or_skip("ml-100k/ml-100k.inter")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    half = len(rows) // 2
    (tmp_path / "u.data").write_text("".join("\t".join(row) + "\n" for row in rows))
    (tmp_path / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in rows))
    for name, part in (("one.csv", rows[:half]), ("two.csv", rows[half:])):
        header = "userId,movieId,rating,timestamp\n"
        (tmp_path / name).write_text(header + "".join(",".join(row) + "\n" for row in part))
    columns = zip(*rows, strict=True)
    users, items, _, times = (np.array(column, dtype=np.int64) for column in columns)
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    frame = frame.with_columns(pl.from_epoch("timestamp"))
    frame.write_parquet(tmp_path / "u.parquet")
    expected = read_dataset(path).fingerprint
    for name in ("u.data", "ratings.dat", "u.parquet"):
        assert read_dataset(tmp_path / name).fingerprint == expected
    assert read_dataset([tmp_path / "one.csv", tmp_path / "two.csv"]).fingerprint == expected
    assert Dataset.from_frame(frame).fingerprint == expected


def test_events_of_movielens_with_the_same_time_keep_the_order_of_the_file() -> None:
    path = file_or_skip("ml-100k/ml-100k.inter")
    expected: dict[str, list[tuple[float, str]]] = {}
    for line in path.read_text().splitlines()[1:]:
        user, item, _, time = line.split("\t")
        expected.setdefault(user, []).append((float(time), item))
    dataset = read_dataset(path, k_core=0)
    assert dataset.user_ids == list(expected)
    for s, events in enumerate(expected.values()):
        ordered = [item for _, item in sorted(events, key=lambda event: event[0])]
        assert np.array(dataset.item_ids)[dataset.histories.history(s)].tolist() == ordered
