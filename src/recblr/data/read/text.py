"""Reads text files: tables (RecBole's atomic files, CSV, MovieLens), and the two formats of SASRec.

A table is read in one of two ways. The fast one gives the file to polars, and finds out whether anything is
wrong. If so, the slow one reads row by row, and says what is wrong and where.

The formats of SASRec have no header, and words separated by spaces or tabs:

pairs       `user item`, one interaction in each line, oldest first
sequences   `user item item …`, one user in each line, oldest first
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Int64Array
from recblr.data.read.columns import Column, Wanted, choose_columns
from recblr.data.read.values import to_events
from recblr.errors import InputError

# One byte that replaces `::`, because polars and csv take separators of one byte only.
_FIELD_MARK = "\x1f"


@dataclass(frozen=True)
class Dialect:
    """The form of a table.

    separator: the character between fields.
    quoted: whether fields may be in quotes.
    typed: whether the header has ``name:type``, as in RecBole's files.
    columns: the names of the columns, in order, if there is no header; else None.
    """

    separator: str
    quoted: bool
    typed: bool
    columns: tuple[str, ...] | None = None


INTER = Dialect(separator="\t", quoted=False, typed=True)

_MOVIELENS = ("user_id", "item_id", "rating", "timestamp")


def csv_dialect(path: Path, data: bytes) -> Dialect:
    """The dialect of a CSV file. A .tsv file has tabs. Another has the most frequent of , ; and tab."""
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return Dialect("\t", quoted=True, typed=False)
    return Dialect(max(",\t;", key=_first_line(data).count), quoted=True, typed=False)


def movielens(path: Path, data: bytes) -> tuple[bytes, Dialect]:
    """The bytes and the dialect of a file of ratings without a header: user, item, rating, timestamp.

    Its fields are separated by `::` (ratings.dat), tabs (u.data) or commas (Amazon's ratings). The first line
    decides. Raises InputError if that line has none of them.
    """
    first = _first_line(data)
    separator = next((mark for mark in ("::", "\t", ",") if mark in first), None)
    if separator is None:
        raise InputError(
            f"the first line of {path} ({first[:40]!r}) has no `::`, tab or comma, but in the format "
            "movielens each line is user::item::rating::timestamp",
            "choose the right --format (format= in Python)",
        )
    if separator == "::":
        data, separator = data.replace(b"::", _FIELD_MARK.encode()), _FIELD_MARK
    return data, Dialect(separator, quoted=False, typed=False, columns=_MOVIELENS)


def read_table(path: Path, data: bytes, dialect: Dialect, wanted: Wanted) -> Events:
    """The events of a table.

    Blank lines, and columns that are not wanted, are ignored. Without a time column, the rows are taken in
    their order. Raises InputError for a column that is missing or occurs twice, for a missing value, for an
    invalid time or rating, for a row that is longer than the header, and for a table without rows.
    """
    table = _Table(path, data, dialect)
    columns = choose_columns(str(path), table.names, wanted)
    frame, blank_rows = table.parse(columns)
    if frame.is_empty():
        raise InputError(f"{path} has a header and no rows", "give a file with one interaction in each row")
    events = to_events(frame, columns, source=str(path), place=table.place)
    return replace(events, blank_rows=blank_rows)


def _first_line(data: bytes) -> str:
    return next(line for line in io.BytesIO(data) if line.strip()).decode().strip("\r\n")


class _Table:
    """The bytes and the header of a table, which can be read in the fast and in the slow way."""

    def __init__(self, path: Path, data: bytes, dialect: Dialect) -> None:
        self.path, self.data, self.dialect = path, data, dialect
        self.header_end = 0
        if dialect.columns is not None:
            self.names = list(dialect.columns)
            return
        try:
            _, self.header_end, header = next(self._lines())
        except csv.Error as error:
            raise InputError(f"the header of {path} cannot be read ({error})", "check its quotes") from None
        except StopIteration:
            raise InputError(
                f"{path} holds separators and spaces only",
                "give a file with a header, and an interaction in each row",
            ) from None
        names = [field.strip() for field in header]
        self.names = [name.partition(":")[0] for name in names] if dialect.typed else names

    def parse(self, columns: list[Column]) -> tuple[pl.DataFrame, int]:
        """Read the columns in the fast way; returns a frame, and the number of blank rows.

        The frame has a column for each role, of strings without nulls and without spaces around them.
        """
        roles = {column.position: column.role for column in columns}
        width = len(self.names)
        schema = {roles.get(place, f"ignored {place}"): pl.String for place in range(width)}
        # One more column: polars does not report fields beyond the last column that it reads.
        schema["beyond"] = pl.String
        try:
            frame = pl.read_csv(
                self._body(),
                has_header=False,
                schema=schema,
                columns=[*(column.position for column in columns), width],
                separator=self.dialect.separator,
                quote_char='"' if self.dialect.quoted else None,
            )
        except pl.exceptions.PolarsError as error:
            self._raise_first_fault(columns)
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{self.path} cannot be read as a table ({reason})", "check its quotes"
            ) from None
        frame = frame[1:]
        if frame["beyond"].null_count() < len(frame):
            self._raise_first_fault(columns)
        frame = frame.drop("beyond").with_columns(pl.all().str.strip_chars())
        rows = len(frame)
        empty = frame.select(pl.all().is_null() | (pl.all() == ""))
        if empty.select(pl.any_horizontal(pl.all().any())).item():
            self._raise_first_fault(columns)
            # No row lacks a value, so the empty rows are blank lines.
            frame = frame.filter(~empty.select(blank=pl.all_horizontal(pl.all()))["blank"])
        return frame, rows - len(frame)

    def place(self, row: int) -> str:
        """The place in the file of a row of the frame, for an error message."""
        with suppress(csv.Error):  # csv limits the length of a field, and polars does not
            for index, (line, _, _) in enumerate(self._rows()):
                if index == row:
                    return f"{self.path}, line {line}"
        return str(self.path)

    def _raise_first_fault(self, columns: list[Column]) -> None:
        """Read in the slow way; raise InputError for the first row of wrong width or without a value."""
        line = self.header_end
        try:
            for line, _, fields in self._rows():
                self._check_width(line, fields)
                for column in columns:
                    if len(fields) <= column.position or not fields[column.position].strip():
                        raise InputError(
                            f"{self.path}, line {line} has no value in column {column.name!r}",
                            "add it, or drop the row",
                        )
        except csv.Error as error:
            raise InputError(
                f"{self.path} cannot be read after line {line} ({error})", "check the quotes there"
            ) from None

    def _check_width(self, line: int, fields: list[str]) -> None:
        """Raise InputError for too many fields, unless they are empty, and for too few in MovieLens."""
        columns, beyond = len(self.names), any(field.strip() for field in fields[len(self.names) :])
        if self.dialect.columns is not None and (beyond or len(fields) < columns):
            raise InputError(
                f"{self.path}, line {line} has {len(fields)} field(s), but in the format movielens each line "
                f"has {columns}, user, item, rating and timestamp",
                "correct it, or choose the right --format (format= in Python)",
            )
        if beyond:
            raise InputError(
                f"{self.path}, line {line} has {len(fields)} fields, but the header has {columns}",
                "quote values that contain the separator, or name every column",
            )

    def _rows(self) -> Iterator[tuple[int, int, list[str]]]:
        """The lines under the header."""
        lines = self._lines()
        if self.dialect.columns is None:
            next(lines)
        return lines

    def _lines(self) -> Iterator[tuple[int, int, list[str]]]:
        """The first line, the last line (both from 1) and the fields of every row that is not blank.

        The header, if there is one, comes first.
        """
        text = io.TextIOWrapper(io.BytesIO(self.data), encoding="utf-8", newline="")
        separator = self.dialect.separator
        if self.dialect.quoted:
            reader = csv.reader(text, delimiter=separator, strict=True)
        else:
            reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
        start = 1
        for fields in reader:
            if any(field.strip() for field in fields):
                yield start, reader.line_num, fields
            start = reader.line_num + 1

    def _body(self) -> bytes:
        """The rows after a first row of full width, from which polars takes the number of columns."""
        first = self.dialect.separator.join("-" * (len(self.names) + 1)).encode() + b"\n"
        start = 0
        for _ in range(self.header_end):
            start = self.data.find(b"\n", start) + 1
            if start == 0:
                return first
        # Blank lines at the end are common and harmless, but they would make the slow way necessary.
        return first + self.data[start:].rstrip(b"\r\n")


# Every control character except the line feed becomes a space, so that only one separator remains.
_TO_SPACES = bytes(ord(" ") if byte < ord(" ") and byte != ord("\n") else byte for byte in range(256))


def read_lines(path: Path, data: bytes, form: str) -> Events:
    """The events of a file in the format "pairs", "sequences" or "auto": pairs if all lines have two words.

    Raises InputError for a line with a wrong number of words, and for a user with two lines of sequences.
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
            "join them, or make every line a pair `user item`",
        )
