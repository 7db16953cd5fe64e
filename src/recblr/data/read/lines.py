"""Reads the two formats of SASRec. They have no header, and words separated by spaces or tabs.

pairs       `user item`, one interaction in each line, oldest first
sequences   `user item item …`, one user in each line, oldest first
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Int64Array
from recblr.data.read.columns import is_usual_name
from recblr.errors import InputError

# Lines of one length up to this can be a table. Published logs without a header have three to eight fields.
_WIDEST_TABLE = 8

# Every control character except the line feed becomes a space, so that only one separator remains.
_TO_SPACES = bytes(ord(" ") if byte < ord(" ") and byte != ord("\n") else byte for byte in range(256))


def read_lines(path: Path, data: bytes, form: str) -> Events:
    """The events of a file in the format "pairs", "sequences" or "auto": pairs if all lines have two words.

    Raises InputError for a line with a wrong number of words, and for a user with two lines of sequences.
    """
    lines, words, counts = _words(data)
    _refuse_header(path, words[: int(counts[0])].to_list())
    if form == "auto" and counts.size > 1 and 2 < counts[0] <= _WIDEST_TABLE and (counts == counts[0]).all():
        shown = " ".join(words[: min(int(counts[0]), 4)])
        raise InputError(
            f"every line of {path} has {counts[0]} words, such as {shown!r}, so it can be a table or "
            "histories",
            "name the fields with --columns (columns= in Python), such as user,item,time, or choose the "
            "format sequences if each line is a user and the items of its history",
        )
    if form == "auto":
        _refuse_values_with_spaces(path, data)
    if form == "pairs" or (form == "auto" and (counts == 2).all()):
        _check_pairs(path, lines, words, counts)
        return Events(str(path), words.gather_every(2), words.gather_every(2, offset=1))
    firsts = np.cumsum(counts) - counts
    users = words.gather(firsts)
    _check_sequences(path, lines, users, counts, form)
    is_item = np.ones(len(words), dtype=np.bool_)
    is_item[firsts] = False
    owners = np.repeat(np.arange(counts.size), counts - 1)
    return Events(str(path), users.gather(owners), words.filter(pl.Series(is_item)))


def _refuse_header(path: Path, first: list[str]) -> None:
    if all(map(is_usual_name, first[:2])):
        raise InputError(
            f"the first line of {path} is a header, {' '.join(first[:4])!r}, and the formats pairs and "
            "sequences have none",
            "remove it, or choose the format csv, with --separator if the fields are not separated by commas",
        )


def _refuse_values_with_spaces(path: Path, data: bytes) -> None:
    """Raise InputError if tabs may separate the fields, and spaces belong to values such as `green tea`.

    That is so if all lines have the same number of tabs.
    """
    if b"\t" not in data:
        return
    lines = [line.strip() for line in data.splitlines() if line.strip()]
    if len({line.count(b"\t") for line in lines}) > 1:
        return
    spaced = next((line for line in lines if re.search(rb"[^\s] +[^\s]", line)), None)
    if spaced is not None:
        raise InputError(
            f"the lines of {path} have tabs and spaces, such as {spaced[:60].decode(errors='ignore')!r}, so "
            "spaces can be parts of values",
            "name the fields between tabs with --columns (columns= in Python), such as user,item; or choose "
            "the format sequences if spaces separate items too",
        )


def _words(data: bytes) -> tuple[Int64Array, pl.Series, Int64Array]:
    """The numbers (L,), from 1, of lines that are not blank, all words, and the words of each line (L,)."""
    text = pl.read_csv(
        data.translate(_TO_SPACES),
        has_header=False,
        schema={"words": pl.String},
        separator="\x1f",
        quote_char=None,
    )
    words = (
        text.with_row_index("line", offset=1)
        .with_columns(pl.col("words").str.split(" "))
        .explode("words")
        .filter(pl.col("words") != "")
    )
    lines, counts = np.unique(words["line"].to_numpy(), return_counts=True)
    return lines.astype(np.int64), words["words"], counts.astype(np.int64)


def _check_pairs(path: Path, lines: Int64Array, words: pl.Series, counts: Int64Array) -> None:
    if (counts != 2).any():
        wrong = int(np.argmax(counts != 2))
        start = int(counts[:wrong].sum())
        shown = " ".join(words[start : start + min(int(counts[wrong]), 4)])
        raise InputError(
            f"{path}, line {lines[wrong]} has {counts[wrong]} word(s) ({shown!r}), but in the format pairs "
            "each line is `user item`",
            "correct it, or choose the format sequences if each line is a history",
        )


def _check_sequences(path: Path, lines: Int64Array, users: pl.Series, counts: Int64Array, form: str) -> None:
    if (counts < 2).any():
        wrong = int(np.argmax(counts < 2))
        raise InputError(
            f"{path}, line {lines[wrong]} has only one word, {users[wrong]!r}, but each line must be "
            "`user item item …` with spaces between",
            "correct it, or choose the format csv for a table",
        )
    again = (~users.is_first_distinct()).arg_true()
    if len(again):
        user = users[int(again[0])]
        first, second = lines[(users == user).to_numpy()][:2]
        why = f" and line {lines[int(np.argmax(counts != 2))]} is not a pair" if form == "auto" else ""
        raise InputError(
            f"{path}: lines {first} and {second} both start with {user!r}{why}, but in the format sequences "
            "each user has one line",
            "join them, make every line a pair `user item`, or name the fields of a table with --columns "
            "(columns= in Python), such as user,item,time",
        )
