"""Text without a header, words separated by spaces or tabs: SASRec's two formats.

pairs       `user item`, one interaction a line, oldest first
sequences   `user item item …`, one user a line, oldest first
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Int64Array
from recblr.errors import InputError

# Every control character but the line feed becomes a space, so that one separator is left.
_TO_SPACES = bytes(ord(" ") if byte < ord(" ") and byte != ord("\n") else byte for byte in range(256))


def read_lines(path: Path, data: bytes, form: str) -> Events:
    """The events of a file in the format "pairs", "sequences" or, pairs if all lines have two words, "auto".

    Raises InputError for a line whose number of words does not fit, and for sequences a user with two lines.
    """
    lines, words, counts = _words(data)
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


def _words(data: bytes) -> tuple[Int64Array, pl.Series, Int64Array]:
    """Of the L lines that are not blank: numbers from 1 (L,), all words in a row, words a line (L,)."""
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
            f"{path}, line {lines[wrong]} has {counts[wrong]} word(s) ({shown!r}), and in the format pairs "
            "each line is `user item`: mend it, or choose the format sequences if each is a user's history"
        )


def _check_sequences(path: Path, lines: Int64Array, users: pl.Series, counts: Int64Array, form: str) -> None:
    if (counts < 2).any():
        wrong = int(np.argmax(counts < 2))
        raise InputError(
            f"{path}, line {lines[wrong]} has only one word, {users[wrong]!r}, and each line should be "
            "`user item item …` with spaces between: mend it, or choose the format csv for a table"
        )
    again = (~users.is_first_distinct()).arg_true()
    if len(again):
        user = users[int(again[0])]
        first, second = lines[(users == user).to_numpy()][:2]
        why = f" and line {lines[int(np.argmax(counts != 2))]} is no pair" if form == "auto" else ""
        raise InputError(
            f"{path}: lines {first} and {second} both start with {user!r}{why}, and in the format sequences "
            "each user has one line: join them, or make every line a pair `user item`"
        )
