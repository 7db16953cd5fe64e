"""Whatever is wrong with a file, one sentence says what and where, and what to do about it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recblr.data import read_dataset
from recblr.errors import InputError

HEADER = b"user_id,item_id,timestamp\n"
TYPED = b"user_id:token\titem_id:token\ttimestamp:float\n"
ROW = b"ann,tea,1\n"


@dataclass(frozen=True)
class Bad:
    """A file that cannot be read, and what the sentence about it must hold."""

    name: str
    content: bytes
    says: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "empty": Bad("a.csv", b"", ("a.csv is empty", "give a file")),
    "empty, gzipped": Bad("a.csv.gz", gzip.compress(b""), ("is empty",)),
    "nothing but blank lines": Bad("a.txt", b"\n \n\n", ("is empty",)),
    "nothing but a byte order mark": Bad("a.csv", b"\xef\xbb\xbf", ("is empty",)),
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
    "UTF-16": Bad("a.csv", (HEADER + ROW).decode().encode("utf-16"), ("is not text",)),
    "Latin-1": Bad(
        "a.csv", HEADER + "ann,café,1\n".encode("latin-1"), ("line 2", "not UTF-8", "0xe9", "iconv")
    ),
    "suffix unknown": Bad("a.dat", HEADER + ROW, ("a.dat", "inter, csv, pairs, sequences")),
    "a binary file of another kind": Bad("a.parquet", b"PAR1\x00", ("inter, csv, pairs, sequences",)),
    "no suffix": Bad("events.gz", gzip.compress(HEADER), ("inter, csv, pairs, sequences",)),
    "format unknown": Bad("a.csv", HEADER + ROW, ("'parquet'", "auto, inter, csv"), {"format": "parquet"}),
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
        "a.csv", b"user_id,item_id,event_time\na,b,1\n", ("'event_time'", "pass --time-column event_time")
    ),
    "one column for two roles": Bad(
        "a.csv", HEADER + ROW, ("'item_id'", "cannot hold both the users and the items"), {"user": "item_id"}
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
    "time as a date": Bad(
        "a.inter", TYPED + b"a\tb\t2024-01-31\n", ("line 2", "'2024-01-31'", "--time-column")
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
    "quote not closed": Bad("a.csv", HEADER + ROW + b'bob,"tea,1\n', ("a.csv", "check the quotes")),
    "quote not closed in the header": Bad(
        "a.csv", b'user_id,"item_id\n' + ROW, ("header", "check its quotes")
    ),
    "text after a quote": Bad("a.csv", HEADER + b'ann,"tea" x,1\n', ("a.csv", "quotes")),
    "one word on a line": Bad(
        "a.txt", b"ann tea oil\n\nbob\n", ("line 3", "only one word, 'bob'", "mend it")
    ),
    "commas in .txt": Bad("a.txt", b"ann,tea\nann,oil\n", ("line 1", "'ann,tea'", "the format csv")),
    "three words in pairs": Bad(
        "a.txt",
        b"ann tea\nbob tea oil\n",
        ("line 2 has 3 word(s)", "'bob tea oil'", "sequences"),
        {"format": "pairs"},
    ),
    "pairs with one bad line": Bad(
        "a.txt", b"ann tea\nann oil\nbob tea 5\n", ("lines 1 and 2", "'ann'", "line 3 is no pair")
    ),
    "a user with two sequences": Bad(
        "a.txt",
        b"ann tea oil\nbob tea oil\nann rum nut\n",
        ("lines 1 and 3", "'ann'"),
        {"format": "sequences"},
    ),
    "too little for the filter": Bad(
        "a.csv", HEADER + ROW, ("nothing is left", "1 interactions, 1 users and 1 items", "lower --k-core")
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_gets_one_clear_sentence(tmp_path: Path, case: str) -> None:
    bad = CASES[case]
    path = tmp_path / bad.name
    path.write_bytes(bad.content)
    with pytest.raises(InputError) as raised:
        read_dataset(path, **bad.options)
    message = str(raised.value)
    assert "\n" not in message
    for part in bad.says:
        assert part in message


@pytest.mark.parametrize("name", ["none.csv", "none.dat", "none.txt.gz"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"there is no file .*{name}: check the path"):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["folder.inter", "folder"])
def test_a_folder_is_no_data_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="is a folder: give the data file inside it"):
        read_dataset(tmp_path / name)
