"""A folder of Parquet files is one log, and a damaged Parquet file never ends the process."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli.command import SMALL, recblr
from data.packing import as_ids

from recblr.data import read_dataset
from recblr.errors import InputError

TABLE = pl.DataFrame({"user_id": ["a", "a"], "item_id": [1, 2], "timestamp": [5, 6]})
LATER = pl.DataFrame({"user_id": ["a", "a"], "item_id": [3, 4], "timestamp": [1, 7]})
BOTH = {"a": ["3", "1", "2", "4"]}
ITEMS = TABLE.drop("timestamp")

Content = pl.DataFrame | bytes


def folder(path: Path, files: dict[str, Content]) -> Path:
    path.mkdir()
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content.write_parquet(file)
    return path


# What writes such folders, their files, the options, and the histories.
GOOD: list[tuple[str, dict[str, Content], dict[str, Any], dict[str, list[str]]]] = [
    (
        "Spark",
        {
            "part-00000-x.snappy.parquet": TABLE,
            ".part-00000-x.snappy.parquet.crc": b"crc",
            "part-00001-x.snappy.parquet": LATER,
            "_SUCCESS": b"",
            "._SUCCESS.crc": b"crc",
        },
        {},
        BOTH,
    ),
    (
        "Dask",
        {"part.0.parquet": TABLE, "part.1.parquet": LATER, "_metadata": b"PAR1", "_common_metadata": b""},
        {},
        BOTH,
    ),
    (
        "Databricks",
        {"part-0.parquet": TABLE, "part-1.parquet": LATER, "_committed_1": b"", "_started_1": b""},
        {},
        BOTH,
    ),
    (
        "other suffixes, a hidden folder",
        {"a.pq": TABLE, "b.PARQUET": LATER, ".ipynb_checkpoints/a.csv": b""},
        {},
        BOTH,
    ),
    ("folders in folders", {"2024/01/a.parquet": TABLE, "2024/02/a.parquet": LATER}, {}, BOTH),
    (
        "Hive's partitions as times",
        {
            "dt=2024-01-02/part-0.parquet": ITEMS,
            "dt=2024-01-01/part-0.parquet": LATER.drop("timestamp"),
        },
        {"time": "dt"},
        {"a": ["3", "4", "1", "2"]},
    ),
    (
        "Hive's partitions, nested, with an escape",
        {
            "who=b%20c/hour=10/a.parquet": ITEMS.drop("user_id"),
            "who=b%20c/hour=9/a.parquet": LATER.drop("timestamp", "user_id"),
        },
        {"user": "who", "time": "hour"},
        {"b c": ["3", "4", "1", "2"]},
    ),
    (
        "Hive's partitions that are not wanted, and one without a value",
        {"country=__HIVE_DEFAULT_PARTITION__/a.parquet": TABLE, "country=de/a.parquet": LATER},
        {},
        BOTH,
    ),
    (
        "ids as numbers in one file and as texts in another",
        {"a.parquet": TABLE, "b.parquet": LATER.cast({"item_id": pl.String})},
        {},
        BOTH,
    ),
    (
        "numbers of different sizes",
        {"a.parquet": TABLE, "b.parquet": LATER.cast({"timestamp": pl.Int32})},
        {},
        BOTH,
    ),
    (
        "columns in another order, and more of them",
        {
            "a.parquet": TABLE,
            "b.parquet": LATER.select("timestamp", pl.lit(0).alias("x"), "item_id", "user_id"),
        },
        {},
        BOTH,
    ),
    ("a part without rows", {"a.parquet": TABLE.clear(), "b.parquet": TABLE, "c.parquet": LATER}, {}, BOTH),
    ("one file without times", {"a.parquet": ITEMS}, {}, {"a": ["1", "2"]}),
    (
        "lists in one of the files are all empty",
        {
            "a.parquet": pl.DataFrame(
                {"user_id": ["b"], "item_id": [[]], "timestamp": [1]},
                {"user_id": pl.String, "item_id": pl.List(pl.Int64), "timestamp": pl.Int64},
            ),
            "b.parquet": pl.DataFrame({"user_id": ["b"], "item_id": [[2, 1]], "timestamp": [1]}),
        },
        {},
        {"b": ["2", "1"]},
    ),
]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case[0])
def test_a_folder_is_one_log(tmp_path: Path, case: Any) -> None:
    _, files, options, histories = case
    data = read_dataset(folder(tmp_path / "log.2024", files), k_core=0, **options)
    assert as_ids(data) == histories
    assert data.name == "log.2024"


def test_a_folder_named_as_a_file_gives_its_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "shop.parquet", {"a.parquet": TABLE})
    assert read_dataset(path, k_core=0).name == "shop"
    monkeypatch.chdir(path)
    assert read_dataset(".", k_core=0).name == "shop"


def test_a_single_file_may_end_in_pq(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "log.pq")
    data = read_dataset(tmp_path / "log.pq", k_core=0)
    assert (data.name, as_ids(data)) == ("log", {"a": ["1", "2"]})


def linked(path: Path) -> None:
    os.symlink(path / "a.parquet", path / "b.parquet")


def looped(path: Path) -> None:
    os.symlink(path, path / "again")


BAD: list[tuple[str, dict[str, Content], dict[str, Any], tuple[str, ...]]] = [
    ("an empty folder", {}, {}, ("log is a folder without Parquet files",)),
    ("only what Spark writes beside", {"_SUCCESS": b""}, {}, ("without Parquet files",)),
    (
        "a CSV beside",
        {"a.parquet": TABLE, "x/b.csv": b""},
        {},
        ("log holds 'x/b.csv', which is no Parquet", ".parquet or .pq"),
    ),
    ("CSV files", {"part-0.csv": b"a"}, {}, ("log holds 'part-0.csv'", "give the files themselves")),
    (
        "CSV files, by format",
        {"part-0.csv": b"a"},
        {"format": "csv"},
        ("is a folder; give the data file inside it",),
    ),
    (
        "Spark's unfinished job",
        {"_temporary/0/a.parquet": TABLE, "_temporary/0/x": b""},
        {},
        ("log holds '_temporary/0/x'",),
    ),
    (
        "Delta Lake",
        {"a.parquet": TABLE, "_delta_log/0.json": b"{}"},
        {},
        ("is a table of Delta Lake", "export"),
    ),
    ("Hudi", {"a.parquet": TABLE, ".hoodie/x": b""}, {}, ("is a table of Hudi",)),
    (
        "two files without times",
        {"a.parquet": ITEMS, "b.parquet": ITEMS},
        {},
        ("2 files and no column of times", "--time-column"),
    ),
    (
        "an item column missing",
        {"a.parquet": TABLE, "b.parquet": TABLE.drop("item_id")},
        {},
        ("b.parquet has no column 'item_id'",),
    ),
    (
        "times missing in the second",
        {"a.parquet": TABLE, "b.parquet": ITEMS},
        {},
        ("b.parquet has the columns 'user_id', 'item_id' for", "a.parquet has"),
    ),
    (
        "times missing in the first",
        {"a.parquet": ITEMS, "b.parquet": TABLE},
        {},
        ("b.parquet has the columns", "a.parquet has"),
    ),
    (
        "the user under another usual name",
        {"a.parquet": TABLE, "b.parquet": TABLE.rename({"user_id": "userId"})},
        {},
        ("b.parquet has the columns", "'userId'"),
    ),
    (
        "dates in one file and numbers in another",
        {"a.parquet": TABLE, "b.parquet": TABLE.with_columns(timestamp=dt.datetime(2024, 1, 1))},
        {},
        ("'timestamp' holds dates in", "b.parquet, but numbers in"),
    ),
    (
        "a missing value",
        {"a.parquet": TABLE, "b.parquet": TABLE.with_columns(item_id=None).cast({"item_id": pl.Int64})},
        {},
        ("b.parquet, row 0 (from 0) has no value",),
    ),
    (
        "a partition without a value",
        {"dt=__HIVE_DEFAULT_PARTITION__/a.parquet": ITEMS},
        {"time": "dt"},
        ("a.parquet, row 0", "'dt'"),
    ),
    ("a key that the file has too", {"user_id=7/a.parquet": TABLE}, {}, ("2 columns called 'user_id'",)),
    (
        "a file outside of the partitions",
        {"dt=1/a.parquet": ITEMS, "b.parquet": ITEMS},
        {"time": "dt"},
        ("b.parquet has no column 'dt'",),
    ),
    ("no rows", {"a.parquet": TABLE.clear()}, {}, ("has no rows in its Parquet files",)),
    (
        "a file that is no Parquet",
        {"a.parquet": b"user_id,item_id\n"},
        {},
        ("a.parquet is not a Parquet file",),
    ),
    (
        "a file that is damaged",
        {"a.parquet": TABLE, "b.parquet": b"PAR1xxxxPAR1"},
        {},
        ("b.parquet is a damaged Parquet file",),
    ),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0])
def test_what_is_wrong_gives_one_sentence(tmp_path: Path, case: Any) -> None:
    _, files, options, says = case
    path = folder(tmp_path / "log", files)
    with pytest.raises(InputError) as raised:
        read_dataset(path, k_core=0, **options)
    message = str(raised.value)
    assert "\n" not in message
    for part in says:
        assert part in message


@pytest.mark.parametrize("link", [linked, looped])
def test_nothing_is_counted_twice_through_a_link(tmp_path: Path, link: Callable[[Path], None]) -> None:
    path = folder(tmp_path / "log", {"a.parquet": TABLE})
    link(path)
    with pytest.raises(InputError, match=r"is the same as .* would count twice"):
        read_dataset(path, k_core=0)


def test_a_folder_and_a_file_in_it_are_refused_together(tmp_path: Path) -> None:
    path = folder(tmp_path / "log", {"x/a.parquet": TABLE})
    for given in ([path, path / "x/a.parquet"], [path / "x/a.parquet", path]):
        with pytest.raises(InputError, match=r"is in the folder .*log, which is given too"):
            read_dataset(given, k_core=0)


def test_a_model_trains_on_a_folder(tmp_path: Path) -> None:
    days = [
        pl.DataFrame({"user": range(20), "item": [(user + day) % 7 for user in range(20)]})
        for day in range(6)
    ]
    path = folder(
        tmp_path / "log", {f"dt=2024-01-0{day + 1}/0.parquet": table for day, table in enumerate(days)}
    )
    seen = recblr("train", path, "--time-column", "dt", "--epochs", "1", "--out", tmp_path / "run", *SMALL)
    assert seen.code == 0, seen.err
    assert "120" in seen.out


def rows() -> bytes:
    text = "user_id,item_id,timestamp\n" + "".join(
        f"u{user},i{item},{item}\n" for user in range(9) for item in range(user % 3, 9)
    )
    buffer = io.BytesIO()
    pl.read_csv(text.encode()).write_parquet(buffer)
    return buffer.getvalue()


READ = """
import sys
from recblr.data import read_dataset
from recblr.errors import InputError
try:
    read_dataset(sys.argv[1], k_core=0)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["file", "folder", "compressed"])
def test_a_damaged_page_gives_one_sentence(tmp_path: Path, kind: str) -> None:
    raw = rows()
    # The number of values (72) in the header of a page becomes negative. For it, polars 2.1 aborts.
    at = raw.index(b",\x15\x90\x01") + 2
    damaged = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
    path = tmp_path / "log.parquet"
    if kind == "folder":
        folder(path, {"a.parquet": damaged})
    else:
        path.write_bytes(gzip.compress(damaged) if kind == "compressed" else damaged)
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is a damaged Parquet file; fetch or write it again" in done.stdout


def test_a_killed_child_process_says_that_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = "import os; input(); print('ready', flush=True); input(); os.kill(os.getpid(), 9)"
    monkeypatch.setattr("recblr.data.read.parquet._PROGRAM", killed)
    TABLE.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(
        InputError, match=r"reads .*log\.parquet was killed, most likely because memory is short"
    ):
        read_dataset(tmp_path / "log.parquet", k_core=0)


def test_without_a_child_process_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TABLE.write_parquet(tmp_path / "log.parquet")
    for executable in ("", "/nothing/python", "/bin/true", "/bin/cat"):
        monkeypatch.setattr(sys, "executable", executable)
        assert as_ids(read_dataset(tmp_path / "log.parquet", k_core=0)) == {"a": ["1", "2"]}
