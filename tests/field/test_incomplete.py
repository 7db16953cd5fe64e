"""Rows without a user, an item or a time are an error, or are dropped and counted on demand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from cli.command import recblr
from data.packing import as_ids

from recblr.data import Dataset, read_dataset
from recblr.errors import InputError

ANN = {"ann": ["tea", "oil"]}
REASON = "without a user, an item or a time"

# Each log has the events of ANN, the later one first, and as many incomplete rows as the number says.
TEXTS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "a page without a product": (
        "a.csv",
        "user_id,item_id,timestamp\nann,oil,2\nann,,3\nann,tea,1\n",
        1,
        {},
    ),
    "a visitor without a name, and a row that is too short": (
        "a.csv",
        'user_id,item_id,timestamp\n,oil,2\nann,oil,2\n"",rum,3\nann\nann,tea,1\n',
        3,
        {},
    ),
    "a value of spaces only": (
        "a.csv",
        "user_id,item_id,timestamp\nann,oil,2\n   ,oil,2\nann,tea,1\n",
        1,
        {},
    ),
    "an event without a date": (
        "a.csv",
        "user_id,item_id,timestamp\nann,oil,2024-01-02\nann,rum,\nann,tea,2024-01-01\n",
        1,
        {},
    ),
    "a date without a time of day": (
        "a.csv",
        "user_id,item_id,day,clock\nann,oil,2024-01-02,9:30\nann,rum,2024-01-02,\nann,tea,2024-01-02,9:29\n",
        1,
        {"time": "day+clock"},
    ),
    "a field that is not read": ("a.csv", "user_id,item_id,timestamp,x\nann,oil,2,\nann,tea,1,\n", 0, {}),
    "LastFM 1K, tracks without an id": (
        "a.tsv",
        'ann\t2009-05-04T23:08:57Z\t\t"A"\toil\tx\nann\t2009-05-04T23:08:58Z\t\tB\t\ty\n'
        "ann\t2009-05-04T23:08:56Z\t\tC\ttea\tz\n",
        1,
        {"columns": "user,time,-,-,item,-", "quotes": False},
    ),
    "MovieLens": ("ratings.dat", "ann::oil::5::2\nann::::5::3\nann::tea::5::1\n", 1, {}),
    "RecBole": (
        "a.inter",
        "user_id:token\titem_id:token\ttimestamp:float\nann\toil\t2\nann\t\t3\nann\ttea\t1\n",
        1,
        {},
    ),
    "RecBole's lists, without a user: each element is an event": (
        "a.inter",
        "user_id:token\titem_id_list:token_seq\titem_id:token\nann\ttea\toil\n\trum\tgin\n\tgin\trum\n",
        4,
        {},
    ),
    "names that objects lack, null and empty texts": (
        "a.jsonl",
        '{"user_id": "ann", "item_id": "oil", "timestamp": 2}\n{"user_id": "ann", "timestamp": 3}\n'
        '{"user_id": null, "item_id": "rum", "timestamp": 3}\n'
        '{"user_id": "ann", "item_id": " ", "timestamp": 3}\n'
        '{"user_id": "ann", "item_id": "rum"}\n{"user_id": "ann", "item_id": "tea", "timestamp": 1}\n',
        4,
        {},
    ),
    "events in a session": (
        "a.jsonl",
        '{"session": "ann", "events": [{"aid": "oil", "ts": 2}, {"aid": null, "ts": 3}, {"ts": 4}]}\n'
        '{"session": "ann", "events": [{"aid": "tea", "ts": 1}]}\n',
        2,
        {"user": "session", "item": "aid", "time": "ts"},
    ),
    "a dict of Python without an item": (
        "a.json",
        "{u'user': u'ann', u'item': u'oil', u'time': 2}\n{u'user': u'ann', u'item': None, u'time': 3}\n"
        "{u'user': u'ann', u'item': u'tea', u'time': 1}\n",
        1,
        {},
    ),
}


def check(dataset: Dataset, incomplete: int) -> None:
    assert as_ids(dataset) == ANN
    assert dataset.reading is not None
    assert dataset.reading.read == 2 + incomplete
    assert dataset.reading.dropped == ({REASON: incomplete} if incomplete else {})


@pytest.mark.parametrize("shape", TEXTS)
def test_incomplete_rows_of_a_text_are_an_error_or_counted(tmp_path: Path, shape: str) -> None:
    name, text, incomplete, options = TEXTS[shape]
    (tmp_path / name).write_text(text)
    if incomplete:
        with pytest.raises(InputError, match=r"has no value in column .*--drop-incomplete"):
            read_dataset(tmp_path / name, k_core=0, **options)
    check(read_dataset(tmp_path / name, k_core=0, drop_incomplete=True, **options), incomplete)


def test_a_fault_of_a_later_row_is_still_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nann,,2\n\nann,oil,soon\n")
    with pytest.raises(InputError, match=r"a\.csv, line 4: 'soon'"):
        read_dataset(tmp_path / "a.csv", k_core=0, drop_incomplete=True)


COLUMNS: dict[str, dict[str, list[Any]]] = {
    "numbers as times": {
        "user_id": ["ann", "ann", None, "ann", "ann"],
        "item_id": ["oil", None, "rum", "rum", "tea"],
        "timestamp": [2, 3, 3, None, 1],
    },
    "dates and an empty text": {
        "user_id": ["ann", "ann", "", "ann", "ann"],
        "item_id": ["oil", None, "rum", "rum", "tea"],
        "timestamp": [datetime(2024, 1, 2), *[datetime(2024, 1, 3)] * 2, None, datetime(2024, 1, 1)],
    },
    "lists with null": {
        "user_id": ["ann", None, "ann"],
        "item_id": [["oil", None], ["rum", "gin"], ["tea"]],
        "timestamp": [[2, 3], [3, 4], [1]],
    },
}


@pytest.mark.parametrize("shape", COLUMNS)
@pytest.mark.parametrize("kind", ["polars", "pandas", "parquet"])
def test_incomplete_rows_of_a_table_are_an_error_or_counted(tmp_path: Path, shape: str, kind: str) -> None:
    columns = COLUMNS[shape]
    frame: Any = pl.DataFrame(columns)
    if kind == "pandas":
        frame = pytest.importorskip("pandas").DataFrame(columns)
    path = tmp_path / "a.parquet"
    pl.DataFrame(columns).write_parquet(path)

    def read(**options: Any) -> Dataset:
        if kind == "parquet":
            return read_dataset(path, k_core=0, **options)
        return Dataset.from_frame(frame, k_core=0, **options)

    with pytest.raises(InputError, match=r"has no value in column .*--drop-incomplete"):
        read()
    check(read(drop_incomplete=True), 3)


def test_a_missing_list_is_counted_as_a_row_without_any_value() -> None:
    frame = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": [["tea", "oil"], None]})
    dataset = Dataset.from_frame(frame, k_core=0, drop_incomplete=True)
    assert as_ids(dataset) == ANN
    assert dataset.reading is not None
    assert dataset.reading.dropped == {"without any value": 1}


def test_missing_times_in_lists_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    times = [np.array(["2024-01-02", "NaT", "2024-01-01"], dtype="datetime64[ns]")]
    frame = pandas.DataFrame({"user_id": ["ann"], "item_id": [["oil", "rum", "tea"]], "timestamp": times})
    check(Dataset.from_frame(frame, k_core=0, drop_incomplete=True), 1)


def test_files_without_a_complete_row_are_counted_among_others(tmp_path: Path) -> None:
    complete = "user_id,item_id,timestamp\nann,oil,2024-01-02\nann,tea,2024-01-01\n"
    for name, text in (("a", "user_id,item_id,timestamp\nann,,2024-01-03\n"), ("b", complete)):
        (tmp_path / f"{name}.csv").write_text(text)
        pl.read_csv(tmp_path / f"{name}.csv", infer_schema=False).write_parquet(tmp_path / f"{name}.parquet")
    for names in (["a.csv", "b.csv"], ["b.csv", "a.csv"], ["a.parquet", "b.parquet"]):
        dataset = read_dataset([tmp_path / name for name in names], k_core=0, drop_incomplete=True)
        check(dataset, 1)
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").rename(tmp_path / "folder" / f"{name}.parquet")
    check(read_dataset(tmp_path / "folder", k_core=0, drop_incomplete=True), 1)


def test_a_folder_of_a_partition_without_a_value(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["ann"], "timestamp": [2]})
    later = frame.with_columns(timestamp=pl.col("timestamp") - 1)
    for item, part in (("oil", frame), ("__HIVE_DEFAULT_PARTITION__", frame), ("tea", later)):
        (tmp_path / f"item_id={item}").mkdir()
        part.write_parquet(tmp_path / f"item_id={item}" / "a.parquet")
    check(read_dataset(tmp_path, k_core=0, drop_incomplete=True), 1)


@pytest.mark.parametrize("time", ["", ",day,clock"])
def test_nothing_is_left(tmp_path: Path, time: str) -> None:
    values = ",2024-01-01,9:30" if time else ""
    (tmp_path / "a.csv").write_text(f"user_id,item_id{time}\nann,{values}\n,tea{values}\n")
    options = {"time": "day+clock"} if time else {}
    with pytest.raises(
        InputError, match=r"nothing is left of .*a\.csv after dropping its 2 rows without a user"
    ):
        read_dataset(tmp_path / "a.csv", k_core=0, drop_incomplete=True, **options)


def test_the_command_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recblr.cli.train.train_and_show", lambda *_, **__: None)
    monkeypatch.setattr("recblr.cli.train.evaluate_and_print", lambda *_: None)
    rows = [
        {"user_id": "ann", "item_id": item, "timestamp": at} for at, item in enumerate(["tea", None, "oil"])
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seen = recblr(
        "train", tmp_path / "a.jsonl", "--drop-incomplete", "--k-core", "0", "--out", tmp_path / "run"
    )
    assert (seen.code, seen.err) == (0, "")
    assert seen.out.startswith(f"read 3 events, dropped 1 (1 {REASON}); ordered by timestamp, whose ")
