"""The forms of tables in text files: separators, quotes, and whether there is a header.

The first line of a file decides, and what the user says about the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recblr.data.read.times import as_numbers, as_times
from recblr.errors import InputError

# One byte that replaces separators of several bytes, because polars and csv take one byte only.
_FIELD_MARK = "\x1f"

_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "space": " "}
_NAMES_OF_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)", " ": "spaces"}

ROLES = ("user", "item", "time", "offset", "rating")
"""What the fields of a file without a header can be."""

_MOVIELENS = ("user", "item", "rating", "time")
_HIGHEST_RATING = 1000

NAME_COLUMNS = (
    "name the fields of a line in order with --columns (columns= in Python): user, item, time, offset, "
    "rating, or - to ignore one, such as user,item,-,time"
)
"""The remedy for a file whose columns have no names."""


@dataclass(frozen=True)
class TextForm:
    """What the user says about the form of a text file.

    columns: what the fields of a file without a header are, in their order: user, item, time, offset, rating,
        each at most once, or - for a field to ignore. None if the file has a header.
    separator: what stands between fields: a text, or the words tab or space; None to find it out.
    quotes: whether fields may be in quotes. False if quotes are ordinary characters.

    Raises InputError for columns without user and item, and for other words.
    """

    columns: tuple[str, ...] | None = None
    separator: str | None = None
    quotes: bool = True

    def __post_init__(self) -> None:
        if self.separator is not None and (not self.separator or re.search(r'[\r\n"\0]', self.separator)):
            raise InputError(
                f"--separator (separator= in Python) cannot be {self.separator!r}",
                "give the text between two fields, such as ';', or the word tab or space",
            )
        if self.columns is None:
            return
        wrong = [word for word in self.columns if word not in (*ROLES, "-")]
        twice = [word for word in ROLES if self.columns.count(word) > 1]
        missing = [word for word in ("user", "item") if word not in self.columns]
        if "offset" in self.columns and "time" not in self.columns:
            missing.append("time")
        if wrong or twice or missing:
            fault = (
                f"holds the word {wrong[0]!r}" if wrong
                else f"names {twice[0]} twice" if twice
                else f"does not name {missing[0]}"
            )  # fmt: skip
            raise InputError(
                f"--columns (columns= in Python) {fault}",
                "give what each field of a line is, in order: user, item, time, offset, rating, or - to "
                "ignore it, such as user,item,-,time",
            )


@dataclass(frozen=True)
class Dialect:
    """The form of a table.

    separator: the character between fields.
    quoted: whether fields may be in quotes.
    typed: whether the header has ``name:type``, as in RecBole's files.
    columns: what the fields are, in order, if there is no header; else None.
    skip: how many rows stand before the header.
    form: the name of the format, for messages.
    """

    separator: str
    quoted: bool
    typed: bool = False
    columns: tuple[str, ...] | None = None
    skip: int = 0
    form: str = "csv"


def csv_dialect(path: Path, data: bytes, form: TextForm) -> tuple[bytes, Dialect]:
    """The bytes and the dialect of a table with a header, or without one if the form names the columns."""
    if form.columns is not None:
        separator = form.separator or _separator_without_header(path, data, form.columns)
        data, separator, quoted = _one_byte(data, separator, quoted=form.quotes)
        return data, Dialect(separator, quoted, columns=form.columns)
    first = _first_line(data)
    named = re.fullmatch(r'"?sep=(.)"?', first)  # the line that tells Excel the separator
    skip = 1 if named else 0
    separator = form.separator or (named[1] if named else _separator_of_header(path, first))
    data, separator, quoted = _one_byte(data, separator, quoted=form.quotes)
    return data, Dialect(separator, quoted, skip=skip)


def inter_dialect(path: Path, data: bytes, form: TextForm) -> tuple[bytes, Dialect]:
    """The bytes and the dialect of an atomic file of RecBole. A quote is an ordinary character."""
    separator = form.separator or "\t"
    first = _first_line(data)
    if form.separator is None and "\t" not in first:
        raise _no_separator(path, first, "no tab, which separates the fields of an atomic file")
    data, separator, _ = _one_byte(data, separator, quoted=False)
    return data, Dialect(separator, quoted=False, typed=True, form="inter")


def movielens_dialect(path: Path, data: bytes) -> tuple[bytes, Dialect]:
    """The bytes and the dialect of a file of ratings without a header: user, item, rating, timestamp.

    Its fields are separated by `::` (ratings.dat) or tabs (u.data). The first line decides. Raises InputError
    if that line has neither, or if the fields cannot be these four: other publishers use other orders.
    """
    first = _first_line(data)
    separator = next((mark for mark in ("::", "\t") if mark in first), None)
    if separator is None:
        raise InputError(
            f"the first line of {path} ({first[:40]!r}) has no `::` and no tab, but in the format "
            "movielens each line is user::item::rating::timestamp",
            f"{NAME_COLUMNS}; or choose the right --format (format= in Python)",
        )
    fields = [field.strip() for field in first.split(separator)]
    if _cannot_be_movielens(fields):
        raise InputError(
            f"the first line of {path} is {first[:60]!r}, which is not user, item, rating and timestamp in "
            "this order",
            NAME_COLUMNS,
        )
    data, separator, _ = _one_byte(data, separator, quoted=False)
    return data, Dialect(separator, quoted=False, columns=_MOVIELENS, form="movielens")


def _cannot_be_movielens(fields: Sequence[str]) -> bool:
    """Whether the second field is a date, which no item is, or the third is larger than any rating."""
    if len(fields) != len(_MOVIELENS):
        return False
    is_date = as_times(pl.Series([fields[1]])).unit is not None
    rating, wrong = as_numbers(pl.Series([fields[2]]))
    return is_date or (wrong is None and abs(rating[0]) > _HIGHEST_RATING)


def _separator_of_header(path: Path, first: str) -> str:
    """The separator of a table with a header: tabs in a .tsv file, else the most frequent one."""
    unquoted = re.sub('"[^"]*"', "", first)
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        if "\t" not in unquoted:
            raise _no_separator(path, first, "no tab, which separates the fields of a .tsv file")
        return "\t"
    best = max(",\t;|", key=unquoted.count)
    if best not in unquoted and first.strip():
        raise _no_separator(path, first, "no comma, semicolon, tab or bar between fields")
    return best


def _no_separator(path: Path, first: str, fault: str) -> InputError:
    """The error for a first line without the separators that are looked for. Names others that it has."""
    others = [mark for mark in (",", ";", "\t", "|", " ", ":", "^") if mark in first]
    has = (
        f"; it has {' and '.join(_NAMES_OF_SEPARATORS.get(mark, mark) for mark in others)}" if others else ""
    )
    example = {"\t": "tab", " ": "space"}.get(others[0], f"'{others[0]}'") if others else "';'"
    return InputError(
        f"the first line of {path}, {first[:60]!r}, has {fault}{has}",
        f"name its separator, such as --separator {example} (separator= in Python), or choose the right "
        "--format (format= in Python)",
    )


def _separator_without_header(path: Path, data: bytes, columns: Sequence[str]) -> str:
    """The separator that gives the first line as many fields as there are columns."""
    first = re.sub('"[^"]*"', "", _first_line(data))
    marks = ["\t"] if ".tsv" in (suffix.lower() for suffix in path.suffixes) else ["::", *"\t,;|", " "]
    counts = {mark: len(first.split() if mark == " " else first.split(mark)) for mark in marks}
    for mark, count in counts.items():
        if count == len(columns):
            return mark
    most = max(counts, key=lambda mark: (counts[mark], -marks.index(mark)))
    raise InputError(
        f"the first line of {path} has {counts[most]} field(s) between "
        f"{_NAMES_OF_SEPARATORS.get(most, most)}, but --columns (columns= in Python) names {len(columns)}",
        "name each field once, with - for one to ignore, or give --separator (separator= in Python)",
    )


def _one_byte(data: bytes, separator: str, *, quoted: bool) -> tuple[bytes, str, bool]:
    """The data with a separator of one byte, that separator, and whether fields may be in quotes.

    If the separator is longer, or is a space, quotes are ordinary characters. Several spaces or tabs count as
    one space.
    """
    separator = _SEPARATOR_NAMES.get(separator, separator)
    if separator == " ":
        return re.sub(rb"[ \t]+", b" ", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", data)), " ", False
    mark = separator.encode()
    if len(mark) > 1:
        return data.replace(mark, _FIELD_MARK.encode()), _FIELD_MARK, False
    return data, separator, quoted


def _first_line(data: bytes) -> str:
    return next(line for line in io.BytesIO(data) if line.strip()).decode().strip("\r\n")
