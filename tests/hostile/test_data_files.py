"""Hostile data files, and paths that do not lead to a file."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hostile.rows import HEADER, ROWS, Bad, check, log, text, train

LONG = "x" * 1_000_000


def fifo(folder: Path, name: str = "log.csv") -> None:
    os.mkfifo(folder / name)


def link(target: str, name: str = "log.csv") -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(target)


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    table: dict[str, Any] = {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]}
    pl.DataFrame(table | columns).write_parquet(buffer)
    return buffer.getvalue()


def parquet_log(*says: str, **columns: Any) -> Bad:
    return log(parquet(**columns), *says, name="log.parquet")


def nested_gzip(content: bytes, times: int) -> bytes:
    return nested_gzip(gzip.compress(content), times - 1) if times else content


NO_FILE = "is a pipe or a device; save the data into a file and give that"

PATHS: dict[str, Bad] = {
    "pipe": train("log.csv", says=(f"log.csv {NO_FILE}",), prepare=fifo),
    "pipe, Parquet": train(
        "log.parquet", says=(f"log.parquet {NO_FILE}",), prepare=lambda at: fifo(at, "log.parquet")
    ),
    "pipe without a suffix": train("log", says=(f"log {NO_FILE}",), prepare=lambda at: fifo(at, "log")),
    "endless device": train("--format", "csv", "/dev/zero", says=(f"/dev/zero {NO_FILE}",)),
    "empty device": train("--format", "csv", "/dev/null", says=(f"/dev/null {NO_FILE}",)),
    "link to a device": train("log.csv", says=(f"log.csv {NO_FILE}",), prepare=link("/dev/zero")),
    "link to nowhere": train("log.csv", says=("there is no file log.csv",), prepare=link("none")),
    "link to itself": train(
        "log.csv", says=("log.csv cannot be read", "symbolic links"), prepare=link("log.csv")
    ),
    "file as a folder": train(
        "a/log.csv", says=("a/log.csv cannot be read", "Not a directory"), prepare=text("", "a")
    ),
    "empty name": train("", says=("is a folder",)),
    "name too long": train("x" * 300 + ".csv", says=("cannot be read (File name too long)",)),
    "path too long": train("x/" * 5000 + "log.csv", says=("File name too long", "…")),
    "line break in a name": train("a\nb.csv", says=(r"there is no file a\nb.csv",)),
    "terminal codes in a name": train("\x1b[31mred.csv", says=(r"there is no file \x1b[31mred.csv",)),
    "name that is not valid text": train("caf\udce9.csv", says=(r"there is no file caf\udce9.csv",)),
    "one good file and one pipe": train(
        "a.csv", "log.csv", says=(NO_FILE,), prepare=lambda at: (text(HEADER + ROWS, "a.csv")(at), fifo(at))
    ),
    "a file and a link to it": train(
        "a.csv",
        "log.csv",
        says=("given twice",),
        prepare=lambda at: (text(HEADER + ROWS, "a.csv")(at), link("a.csv")(at)),
    ),
}

CONTENTS: dict[str, Bad] = {
    "a hundred thousand columns": log(
        ",".join(f"c{i}" for i in range(100_000)) + "\n1", "no column 'user_id'", "and 99980 more"
    ),
    "a hundred thousand columns with one name": log(",".join(["c"] * 100_000) + "\n1", "no column 'user_id'"),
    "a header of three megabytes": log(LONG * 3, "has no comma, semicolon, tab or bar"),
    "a line of three megabytes in a .txt": log(LONG * 3, "line 1 has only one word", "…", name="log.txt"),
    "a column name of a megabyte": log(f"user_id,item_id,{LONG}time\na,b,1\n", "may hold the times", "…"),
    "a time of a million digits": log(HEADER + f"a,b,{'9' * 1_000_000}\n", "log.csv", "not a number", "…"),
    "an id of a megabyte before a bad time": log(HEADER + f"a,{LONG},1\na,b,soon\n", "log.csv", "'soon'"),
    "an id of a megabyte before a missing value": log(HEADER + f"a,{LONG},1\na,b,\n", "log.csv"),
    "an id of a megabyte of a user with one event": log(
        HEADER + f"{LONG},b,1\n", "has 1 event(s)", "--min-user-events 3", "…", words=("--k-core", "0")
    ),
    "spaces outside ASCII": log("\u00a0\n\u2003\n", "log.csv holds separators and spaces only"),
    "vertical tabs": log("\v\f\n", "log.csv is empty"),
    "a byte order mark in the middle": log(HEADER.replace("_", "\ufeff_") + ROWS, "no column 'user_id'"),
    "UTF-16 without a mark": log((HEADER + ROWS).encode("utf-16-le"), "log.csv is not text (line 1"),
    "UTF-32": log((HEADER + ROWS).encode("utf-32"), "log.csv is not text (line 1"),
    "half a letter at the end": log((HEADER + ROWS).encode() + b"\xe2\x82", "log.csv is not UTF-8"),
    "quotes that never close, many lines": log(HEADER + 'a,"b,1\n' + ROWS * 200, "log.csv", "quotes"),
    "nothing but quotes": log('"' * 99_999, "log.csv", "has no comma"),
    "nothing but commas": log("," * 1000 + "\n" + "," * 1000, "log.csv holds separators and spaces only"),
    "HTML of a page that was not found": log(
        "<!DOCTYPE html>\n<html><body>404</body></html>\n", "'<!DOCTYPE html>', has no comma"
    ),
    "JSON": log('[{"user_id": 1, "item_id": 2}]\n', "log.csv"),
    "time larger than any float": log(HEADER + "a,b,1e400\n", "line 2", "'1e400'", "not a number"),
    "time as in Excel": log(HEADER + "a,b,1.000.000\n", "line 2", "'1.000.000'"),
    "time in hexadecimal": log(HEADER + "a,b,0x10\n", "line 2", "'0x10'"),
    "time with a unit": log(HEADER + "a,b,10s\n", "line 2", "'10s'"),
    "rating of a word": log(
        "user_id,item_id,rating\na,b,good\n", "line 2", "'good'", words=("--min-rating", "1")
    ),
    "rating larger than any float": log(
        "user_id,item_id,rating\na,b,1e999\n", "line 2", words=("--min-rating", "1")
    ),
    "every rating too low": log(
        "user_id,item_id,rating\na,b,1\n", "nothing is left", "--min-rating", words=("--min-rating", "1e300")
    ),
    "gzip within gzip, four times": log(
        nested_gzip((HEADER + ROWS).encode(), 4), "log.csv.gz is compressed 4 times", name="log.csv.gz"
    ),
    "gzip with garbage at the end": log(
        gzip.compress((HEADER + ROWS).encode()) + b"garbage",
        "log.csv.gz is a damaged gzip file",
        name="log.csv.gz",
    ),
    "gzip with a wrong checksum": log(
        gzip.compress((HEADER + ROWS).encode())[:-8] + b"\0" * 8, "damaged gzip file", name="log.csv.gz"
    ),
    "gzip of a header alone": log(b"\x1f\x8b", "damaged gzip file", name="log.csv.gz"),
    "gzip that decompresses to a thousand times its size": log(
        gzip.compress(b"a" * (300 << 20), 1), "log.csv.gz", "decompresses to more than", name="log.csv.gz"
    ),
    "zip called .csv": log(b"PK\3\4" + b"\0" * 40, "log.csv is a damaged zip file", name="log.csv"),
    "Parquet in name and first bytes": log(
        b"PAR1" + b"\xff" * 200 + b"PAR1", "damaged Parquet file", name="log.parquet"
    ),
    "Parquet whose footer lies about its length": log(
        b"PAR1" + b"\0" * 8 + b"\xff\xff\xff\x7fPAR1", "damaged Parquet file", name="log.parquet"
    ),
    "Parquet of structs": parquet_log(
        "no column 'user_id'", "it has 'user_id.id'", user_id=[{"id": 1}, {"id": 2}]
    ),
    "Parquet of lists of times": parquet_log(
        "a list in column 'timestamp', but one value in column 'item_id'", timestamp=[[1], [2]]
    ),
    "Parquet of nulls": parquet_log("no value in column 'item_id'", item_id=[None, None]),
    "Parquet of decimal ids": parquet_log(
        "column 'user_id'", "holds Decimal", user_id=[Decimal("1.5"), Decimal("2")]
    ),
    "Parquet of bytes": parquet_log("column 'item_id'", "holds Binary", item_id=[b"x", b"y"]),
    "Parquet of booleans": parquet_log("column 'user_id'", "holds Boolean", user_id=[True, False]),
    "Parquet of floating ids": parquet_log("column 'item_id'", "holds Float64", item_id=[1.0, 2.0]),
    "Parquet of times of day": parquet_log(
        "column 'timestamp'", "holds Time", timestamp=[datetime(2024, 1, 1, 12).time()] * 2
    ),
    "Parquet with a null among dates": parquet_log(
        "row 1", "no value in column 'timestamp'", timestamp=[datetime(2024, 1, 1, tzinfo=UTC), None]
    ),
    "Parquet with nan for a time": parquet_log("row 0", "nan", timestamp=[float("nan"), 1.0]),
    "all times alike": log(
        "user_id,item_id,timestamp\n" + "".join(f"u{u},i{i},7\n" for u in range(6) for i in range(6)),
        "no user of log has",
        words=("--split", "time", "--k-core", "0"),
    ),
    "no times to split by": log(
        "user_id,item_id\n" + "".join(f"u{u},i{i}\n" for u in range(6) for i in range(6)),
        "no times to split by",
        "--time-column",
        words=("--split", "time", "--k-core", "0"),
    ),
    "everybody below the core": log(
        HEADER + ROWS, "nothing is left", "--k-core", words=("--k-core", str(10**30))
    ),
}

CASES = PATHS | CONTENTS


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_gives_one_sentence_and_changes_nothing(
    name: str, tmp_path: Path, finished: Path
) -> None:
    check(CASES[name], tmp_path, finished)
