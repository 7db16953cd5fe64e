"""Tables are written in parts, completely or not at all."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from recblr.errors import InputError
from recblr.io import tables
from recblr.io.tables import SUFFIXES, write_table

SCHEMA = {"user": pl.String, "item": pl.String, "score": pl.Float32, "rank": pl.Int32}
READ = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}


def frames(count: int, rows: int = 5) -> Iterator[pl.DataFrame]:
    for number in range(count):
        users = [f"user {number}, {row}" for row in range(rows)]
        values = {"user": users, "item": ['a "b"\n'] * rows, "score": [1 / 3] * rows, "rank": range(rows)}
        yield pl.DataFrame(values, schema=SCHEMA).with_columns(
            score=pl.when(pl.col("rank") > 0).then("score")
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows_of_a_part", [1, 7, 1000])
def test_frames_become_one_table_in_their_order(
    suffix: str, rows_of_a_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", rows_of_a_part)
    file = tmp_path / f"[t]*{suffix}"  # no pattern of files
    write_table(file, SCHEMA, frames(13))
    assert READ[suffix](file.read_bytes(), schema=SCHEMA).equals(pl.concat(frames(13)))
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_no_frames_give_the_columns(suffix: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"t{suffix}", SCHEMA, [])
    read = READ[suffix](tmp_path / f"t{suffix}")
    assert (read.columns, len(read)) == (list(SCHEMA), 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exception_leaves_the_old_file_and_nothing_else(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 1)
    file = tmp_path / f"t{suffix}"
    file.write_text("old")

    def stopped() -> Iterator[pl.DataFrame]:
        yield from frames(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(file, SCHEMA, stopped())
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("limit", [100, 3000])
def test_a_full_disk_gives_one_sentence_and_no_file(
    suffix: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError) as raised:
            write_table(tmp_path / f"t{suffix}", SCHEMA, frames(100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert raised.value.problem.startswith(f"cannot write {tmp_path / f't{suffix}'}: ")
    assert "room" in raised.value.remedy
    assert os.listdir(tmp_path) == []


def test_a_wrong_place_is_named_before_any_work(tmp_path: Path) -> None:
    def never() -> Iterator[pl.DataFrame]:
        pytest.fail("a frame was made")
        yield pl.DataFrame()

    (tmp_path / "parts.parquet").mkdir()
    for name, words in (
        ("t.xlsx", "does not say"),
        ("none/t.csv", "cannot write"),
        ("none/t.parquet", "cannot"),
        ("parts.parquet", "parts.parquet: Is a directory; choose the name of a file"),
    ):
        with pytest.raises(InputError, match=words):
            write_table(tmp_path / name, SCHEMA, never())
    assert os.listdir(tmp_path) == ["parts.parquet"]
