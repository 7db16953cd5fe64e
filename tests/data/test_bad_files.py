"""For every fault of a file, one sentence says what is wrong, where it is, and what to do."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recblr.data import read_dataset
from recblr.errors import InputError

HEADER = b"user_id,item_id,timestamp\n"
TYPED = b"user_id:token\titem_id:token\ttimestamp:float\n"
ROW = b"ann,tea,1\n"
RATED = b"user_id,item_id,rating,timestamp\nann,tea,4,1\n"
RATING = b"1::2::5::978300760\n"
TABLE = pl.DataFrame(
    {"user_id": ["ann", "bob"], "item_id": [7, 8], "rating": [4.0, 3.5], "timestamp": [1, 2]}
)


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Bad:
    """A file that cannot be read, and the parts that its error must have."""

    name: str
    content: bytes | pl.DataFrame  # a frame is written as Parquet
    says: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "empty": Bad("a.csv", b"", ("a.csv is empty", "give a file")),
    "empty, gzipped": Bad("a.csv.gz", gzip.compress(b""), ("is empty",)),
    "blank lines only": Bad("a.txt", b"\n \n\n", ("is empty",)),
    "a byte order mark only": Bad("a.csv", b"\xef\xbb\xbf", ("is empty",)),
    "header only": Bad("a.csv", HEADER, ("a header and no rows",)),
    "header only, no line break": Bad("a.csv", HEADER.strip(), ("a header and no rows",)),
    "header only, atomic": Bad("a.inter", TYPED, ("a header and no rows",)),
    "header and blank lines": Bad("a.csv", HEADER + b"\n  \n\n", ("a header and no rows",)),
    "gzip cut short": Bad("a.csv.gz", gzip.compress(HEADER + ROW * 99)[:-12], ("damaged gzip", "again")),
    "gzip with a broken byte": Bad(
        "a.csv.gz", gzip.compress(HEADER)[:12] + b"\xff" + gzip.compress(HEADER)[13:], ("damaged gzip",)
    ),
    "gzip by name only": Bad("a.csv.gz", HEADER + ROW, ("is not gzip", "rename it")),
    "binary": Bad("a.csv", HEADER + b"PK\x00\x01", ("is not text (line 2", "export the data as UTF-8")),
    "UTF-16": Bad("a.csv", (HEADER + ROW).decode().encode("utf-16"), ("is in UTF-16", "--encoding utf-16")),
    "Latin-1": Bad(
        "a.csv", HEADER + "ann,café,1\n".encode("latin-1"), ("line 2", "not UTF-8", "0xe9", "--encoding")
    ),
    "suffix unknown": Bad("a.log", HEADER + ROW, ("a.log", "inter, csv, movielens, parquet, json, pairs")),
    "no suffix": Bad("events.gz", gzip.compress(HEADER), ("choose one of the formats inter, csv",)),
    "format unknown": Bad("a.csv", HEADER + ROW, ("'excel'", "auto, inter, csv"), {"format": "excel"}),
    "no user column": Bad(
        "a.csv", b"who,item_id\na,b\n", ("no column 'user_id'", "'who', 'item_id'", "--user-column")
    ),
    "no item column": Bad(
        "a.inter", b"user_id:token\tx:token\na\tb\n", ("'item_id'", "'x'", "--item-column")
    ),
    "user column named wrongly": Bad(
        "a.csv", HEADER + ROW, ("no column 'usr'", "'user_id', 'item_id'", "--user-column"), {"user": "usr"}
    ),
    "time column named wrongly": Bad(
        "a.csv", HEADER + ROW, ("no column 'when'", "--time-column"), {"time": "when"}
    ),
    "time column under another name": Bad(
        "a.csv", b"user_id,item_id,event_time\na,b,1\n", ("'event_time'", "give --time-column event_time")
    ),
    "one column for two roles": Bad(
        "a.csv", HEADER + ROW, ("'item_id'", "cannot have both the users and the items"), {"user": "item_id"}
    ),
    "a column twice": Bad(
        "a.csv", b"user_id,item_id,user_id\na,b,c\n", ("2 columns called 'user_id'", "rename")
    ),
    "columns of a file without a header": Bad("a.txt", b"a b\n", ("no header", "'u'", "csv"), {"user": "u"}),
    "time in words": Bad(
        "a.csv",
        HEADER + ROW + b"\nbob,tea,yesterday\n",
        ("line 4", "'yesterday'", "'timestamp'", "Unix seconds"),
    ),
    "time not a number": Bad(
        "a.csv", HEADER + ROW + b"bob,tea,nan\n", ("line 3", "'nan'", "is not a number")
    ),
    "time infinite": Bad("a.csv", HEADER + ROW + b"bob,tea,inf\n", ("line 3", "'inf'")),
    "time after a value of several lines": Bad(
        "a.csv", b'user_id,note,item_id,timestamp\na,"x\ny\nz",b,1\na,,b,soon\n', ("line 5", "'soon'")
    ),
    "time missing": Bad(
        "a.csv", HEADER + ROW + b"bob,tea,\n", ("line 3", "no value in column 'timestamp'", "drop")
    ),
    "user missing": Bad("a.csv", HEADER + b",tea,1\n", ("line 2", "no value in column 'user_id'")),
    "item of spaces": Bad("a.csv", HEADER + b"ann,  ,1\n", ("line 2", "no value in column 'item_id'")),
    "item quoted and empty": Bad("a.csv", HEADER + b'ann,"",1\n', ("line 2", "no value in column 'item_id'")),
    "row too short": Bad("a.csv", HEADER + ROW + b"bob,tea\n", ("line 3", "no value in column 'timestamp'")),
    "first row too short": Bad("a.csv", HEADER + b"bob,tea\n", ("line 2", "no value in column 'timestamp'")),
    "first row too long": Bad("a.csv", HEADER + b"bob,tea,1,2\n", ("line 2 has 4 fields",)),
    "row too long": Bad(
        "a.csv", HEADER + ROW + b"bob,tea,1,2\n", ("line 3 has 4 fields", "the header has 3")
    ),
    "row too long where the last column is ignored": Bad(
        "a.csv", b"user_id,item_id,note\nann,tea,\nann,tea,oil,\nann,tea,oil,rum\n", ("line 4 has 4 fields",)
    ),
    "row far too long": Bad("a.csv", HEADER + b"a,b,1" + b",c" * 40 + b"\n", ("line 2 has 43 fields",)),
    "quote not closed": Bad(
        "a.csv", HEADER + ROW + b'bob,"tea,1\n', ("a.csv, line 3", "correct the quotes there", "--no-quotes")
    ),
    "quote not closed in the header": Bad(
        "a.csv", b'user_id,"item_id\n' + ROW, ("header", "check its quotes")
    ),
    "text after a quote": Bad("a.csv", HEADER + b'ann,"tea" x,1\n', ("a.csv", "quotes")),
    "one word on a line": Bad(
        "a.txt", b"ann tea oil\n\nbob\n", ("line 3", "only one word, 'bob'", "correct it")
    ),
    "commas in .txt": Bad("a.txt", b"ann,tea\nann,oil\n", ("line 1", "'ann,tea'", "the format csv")),
    "three words in pairs": Bad(
        "a.txt",
        b"ann tea\nbob tea oil\n",
        ("line 2 has 3 word(s)", "'bob tea oil'", "sequences"),
        {"format": "pairs"},
    ),
    "pairs with one bad line": Bad(
        "a.txt", b"ann tea\nann oil\nbob tea 5\n", ("lines 1 and 2", "'ann'", "line 3 is not a pair")
    ),
    "a user with two sequences": Bad(
        "a.txt",
        b"ann tea oil\nbob tea oil\nann rum nut\n",
        ("lines 1 and 3", "'ann'"),
        {"format": "sequences"},
    ),
    "month 13": Bad(
        "a.csv", HEADER + b"ann,tea,2024-13-01\n", ("line 2", "'2024-13-01'", "not a date such as")
    ),
    "the 30th of February": Bad("a.csv", HEADER + b"ann,tea,2023-02-30\n", ("line 2", "'2023-02-30'")),
    "the day first": Bad("a.csv", HEADER + b"ann,tea,31/01/2024\n", ("line 2", "'31/01/2024'", "2024-01-31")),
    "hour 24": Bad("a.csv", HEADER + b"ann,tea,2024-01-31 24:00:00\n", ("line 2", "24:00:00'")),
    "an invalid zone": Bad("a.csv", HEADER + b"ann,tea,2024-01-31T12:00:00+99:00\n", ("line 2", "+99:00'")),
    "a zone by name": Bad("a.csv", HEADER + b"ann,tea,2024-01-31 12:00:00 CET\n", ("line 2", "CET'")),
    "a date among numbers": Bad("a.csv", HEADER + ROW + b"bob,tea,2024-01-31\n", ("line 3", "'2024-01-31'")),
    "a number among dates": Bad(
        "a.csv", HEADER + b"ann,tea,2024-01-31\nann,oil,5\n", ("line 3", "'5' in the time column")
    ),
    "a time of day only": Bad("a.csv", b"user_id,item_id,time\nann,tea,12:30\n", ("line 2", "'12:30'")),
    "two spellings of one column": Bad(
        "a.csv", b"userId,UserID,item_id\na,b,c\n", ("'UserID', 'userId'", "--user-column")
    ),
    "two spellings of the time column": Bad(
        "a.csv", b"user,item,TimeStamp,Timestamp\na,b,1,2\n", ("'TimeStamp', 'Timestamp'", "--time-column")
    ),
    "no rating column": Bad(
        "a.csv",
        HEADER + ROW,
        ("no column 'rating'", "--rating-column", "leave --min-rating"),
        {"min_rating": 4},
    ),
    "no rating column, atomic": Bad(
        "a.inter", TYPED + b"a\tb\t1\n", ("no column 'rating'", "'user_id', 'item_id'"), {"min_rating": 4}
    ),
    "no ratings in pairs": Bad("a.txt", b"ann tea\n", ("no ratings", "--min-rating"), {"min_rating": 4}),
    "no ratings in sequences": Bad("a.txt", b"ann tea oil\n", ("no ratings",), {"min_rating": 4}),
    "a rating column without a threshold": Bad(
        "a.csv", RATED, ("'rating'", "has no effect by itself", "--min-rating"), {"rating": "rating"}
    ),
    "rating column named wrongly": Bad(
        "a.csv", RATED, ("no column 'stars'", "column of ratings"), {"rating": "stars", "min_rating": 4}
    ),
    "ratings and times in one column": Bad(
        "a.csv",
        RATED,
        ("'timestamp'", "cannot have both the times and the ratings"),
        {"rating": "timestamp", "min_rating": 4},
    ),
    "rating in words": Bad(
        "a.csv", RATED + b"bob,tea,good,2\n", ("line 3", "'good' in the rating column"), {"min_rating": 4}
    ),
    "rating not a number": Bad("a.csv", RATED + b"bob,tea,nan,2\n", ("line 3", "'nan'"), {"min_rating": 4}),
    "all ratings missing": Bad(
        "a.csv",
        b"user_id,item_id,rating\nbob,tea,\n",
        ("nothing is left", "1 ratings are all missing"),
        {"min_rating": 4},
    ),
    "threshold above every rating": Bad(
        "a.csv",
        RATED + b"bob,tea,2.5,2\n",
        ("dropping ratings below 6", "2 ratings are from 2.5 to 4", "lower --min-rating"),
        {"min_rating": 6},
    ),
    "threshold and filter": Bad(
        "a.csv", RATED, ("nothing is left", "1 interactions", "--k-core"), {"min_rating": 4}
    ),
    "threshold not a number": Bad("a.csv", RATED, ("--min-rating", "is nan"), {"min_rating": float("nan")}),
    "threshold in words": Bad("a.csv", RATED, ("--min-rating", "is '4'"), {"min_rating": "4"}),
    "MovieLens: three fields": Bad(
        "a.dat", RATING + b"1::2::5\n", ("line 2 has 3 field(s)", "user, item, rating and timestamp")
    ),
    "MovieLens: five fields": Bad("a.dat", RATING + b"1::2::5::9::9\n", ("line 2 has 5 field(s)", "has 4")),
    "MovieLens: other separators": Bad("a.dat", b"1;2;5;9\n", ("first line", "'1;2;5;9'", "--format")),
    "MovieLens: the films": Bad(
        "a.dat", b"1::Toy Story (1995)::Animation|Children's\n", ("line 1 has 3 field(s)", "--format")
    ),
    "MovieLens: one separator, then another": Bad("a.dat", RATING + b"1,2,5,9\n", ("line 2 has 1 field(s)",)),
    "MovieLens: a header": Bad(
        "a.dat",
        b"UserID::MovieID::Rating::Timestamp\n" + RATING,
        ("line 1", "'Timestamp' in the time column"),
    ),
    "MovieLens: no user": Bad("a.dat", RATING + b"::2::5::9\n", ("line 2", "no value in column 'user'")),
    "MovieLens: no time": Bad("a.dat", b"1::2::5::\n", ("line 1", "no value in column 'time'")),
    "MovieLens: columns by name": Bad("a.dat", RATING, ("no header", "'u'"), {"user": "u"}),
    "MovieLens: a column of ratings by name": Bad(
        "a.dat", RATING, ("no header", "'stars'"), {"rating": "stars", "min_rating": 1}
    ),
    "MovieLens: rating in words": Bad(
        "u.data", b"1\t2\tgood\t9\n", ("line 1", "'good' in the rating column"), {"min_rating": 4}
    ),
    "MovieLens: empty": Bad("ratings.dat", b"\n\n", ("is empty",)),
    "MovieLens: Latin-1": Bad("a.dat", RATING + b"1::caf\xe9::5::9\n", ("line 2", "0xe9", "--encoding")),
    "Parquet by name only": Bad("a.parquet", HEADER + ROW, ("is not a Parquet file", "--format")),
    "Parquet, empty": Bad("a.parquet", b"", ("is not a Parquet file",)),
    "Parquet, cut short": Bad("a.parquet", parquet(TABLE)[:-9], ("damaged Parquet file", "again")),
    "Parquet, beginning only": Bad("a.parquet", b"PAR1", ("damaged Parquet file",)),
    "CSV named .parquet.gz": Bad("a.parquet.gz", gzip.compress(HEADER + ROW), ("is not a Parquet file",)),
    "Parquet read as CSV": Bad("a.parquet", parquet(TABLE), ("is not text",), {"format": "csv"}),
    "Parquet without rows": Bad("a.parquet", TABLE.clear(), ("has no rows", "an interaction in each row")),
    "Parquet without users": Bad(
        "a.parquet", TABLE.rename({"user_id": "who"}), ("no column 'user_id'", "'who', 'item_id'")
    ),
    "Parquet without ratings": Bad(
        "a.parquet", TABLE.drop("rating"), ("no column 'rating'", "--rating-column"), {"min_rating": 4}
    ),
    "Parquet with times under another name": Bad(
        "a.parquet", TABLE.rename({"timestamp": "event_time"}), ("give --time-column event_time",)
    ),
    "Parquet with a missing item": Bad(
        "a.parquet",
        TABLE.with_columns(item_id=pl.Series([7, None])),
        ("row 1 (from 0)", "no value in column 'item_id'"),
    ),
    "Parquet with a user of spaces": Bad(
        "a.parquet",
        TABLE.with_columns(user_id=pl.Series([" ", "a"])),
        ("row 0", "no value in column 'user_id'"),
    ),
    "Parquet with fractions as ids": Bad(
        "a.parquet", TABLE.cast({"item_id": pl.Float64}), ("'item_id'", "Float64", "integers or strings")
    ),
    "Parquet with durations": Bad(
        "a.parquet",
        TABLE.cast({"timestamp": pl.Duration("us")}),
        ("'timestamp'", "Duration", "numbers, dates or datetimes"),
    ),
    "Parquet with times that are true or false": Bad(
        "a.parquet", TABLE.cast({"timestamp": pl.Boolean}), ("'timestamp'", "Boolean")
    ),
    "Parquet with an infinite time": Bad(
        "a.parquet", TABLE.with_columns(timestamp=pl.Series([1.0, float("inf")])), ("row 1", "inf")
    ),
    "Parquet with times in words": Bad(
        "a.parquet", TABLE.with_columns(timestamp=pl.Series(["1", "soon"])), ("row 1", "'soon'")
    ),
    "Parquet with dates for ratings": Bad(
        "a.parquet",
        TABLE.cast({"rating": pl.Int32}).cast({"rating": pl.Date}),
        ("Date", "ratings are"),
        {"min_rating": 4},
    ),
    "too few events for the k-core": Bad(
        "a.csv", HEADER + ROW, ("nothing is left", "1 interactions, 1 users and 1 items", "lower --k-core")
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_gives_one_clear_sentence(tmp_path: Path, case: str) -> None:
    bad = CASES[case]
    path = tmp_path / bad.name
    if isinstance(bad.content, pl.DataFrame):
        bad.content.write_parquet(path)
    else:
        path.write_bytes(bad.content)
    with pytest.raises(InputError) as raised:
        read_dataset(path, **bad.options)
    message = str(raised.value)
    assert "\n" not in message
    for part in bad.says:
        assert part in message


@pytest.mark.parametrize("name", ["none.csv", "none.dat", "none.log", "none.parquet", "none.txt.gz"])
def test_the_error_for_a_missing_file_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"there is no file .*{name}; check the path"):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["folder.inter", "folder.parquet", "folder"])
def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="is a folder without Parquet files; give one with them"):
        read_dataset(tmp_path / name)
