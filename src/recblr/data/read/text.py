"""Reads tables in text files: CSV with and without a header, RecBole's atomic files, MovieLens' ratings.

A table is read in one of two ways. polars reads the plain ones, which is fast. Python's csv module reads all
others, and decides what is legal: a quote begins a quoted field only at the start of the field, and a quoted
field may span lines. It also finds the line of a fault.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import polars as pl

from recblr.data.events import Events
from recblr.data.read.columns import (
    ADD_OR_DROP,
    Column,
    Wanted,
    choose_columns,
    is_usual_name,
    listed,
    refuse_unused_unit,
)
from recblr.data.read.lists import expand
from recblr.data.read.times import any_is_value, as_numbers, as_times, looks_like_times
from recblr.data.read.values import complete_rows, to_events
from recblr.errors import InputError

# One byte that replaces separators of several bytes, because polars and csv take one byte only.
_FIELD_MARK = "\x1f"

_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "space": " "}
_NAMES_OF_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)", " ": "spaces"}
_MAY_BE_EMPTY = ("rating", "item list", "time list")
_ROLES = ("user", "item", "time", "offset", "rating")

_MOVIELENS = ("user", "item", "rating", "time")
_HIGHEST_RATING = 1000

_ID_NAME = re.compile(
    r"(?i)(user|item|session|visitor|customer|reviewer|product|article|movie|track|artist|song|book|business)"
    r"[ _]?(id|name)"
)
_LONGEST_FIELD = 2**31 - 1

# The first rows, from which it is seen what a column holds.
_SAMPLE = 1000

# Rows that the slow way collects before it hands them to polars, which needs less memory for them.
_CHUNK = 100_000


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
        wrong = [word for word in self.columns if word not in (*_ROLES, "-")]
        twice = [word for word in _ROLES if self.columns.count(word) > 1]
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


def read_csv(path: Path, data: bytes, wanted: Wanted, form: TextForm) -> Events:
    """The events of a table with a header, or without one if the form names the columns.

    Blank lines, and columns that are not wanted, are ignored. Without a time column, the rows are taken in
    their order. Raises InputError for a column that is missing or occurs twice, for a missing value, for an
    invalid time or rating, for a row that is longer than the header, and for a table without rows.
    """
    if form.columns is not None:
        separator = form.separator or _separator_without_header(path, data, form.columns)
        data, separator, quoted = _one_byte(data, separator, quoted=form.quotes)
        return _read(path, data, Dialect(separator, quoted, columns=form.columns), wanted)
    first = _first_line(data)
    named = re.fullmatch(r'"?sep=(.)"?', first)  # the line that tells Excel the separator
    skip = 1 if named else 0
    separator = form.separator or (named[1] if named else _separator_of_header(path, first))
    data, separator, quoted = _one_byte(data, separator, quoted=form.quotes)
    return _read(path, data, Dialect(separator, quoted, skip=skip), wanted)


def read_inter(path: Path, data: bytes, wanted: Wanted, form: TextForm) -> Events:
    """The events of an atomic file of RecBole; see read_csv.

    A quote is an ordinary character. If the items are in a list, ``item_id_list:token_seq``, each element is
    an event, and the item in the column of that name without ``_list`` comes after them.
    """
    separator = form.separator or "\t"
    first = _first_line(data)
    if form.separator is None and "\t" not in first:
        raise _no_separator(path, first, "no tab, which separates the fields of an atomic file")
    data, separator, _ = _one_byte(data, separator, quoted=False)
    return _read(path, data, Dialect(separator, quoted=False, typed=True, form="inter"), wanted)


def read_movielens(path: Path, data: bytes, wanted: Wanted) -> Events:
    """The events of a file of ratings without a header: user, item, rating, timestamp.

    Its fields are separated by `::` (ratings.dat) or tabs (u.data). The first line decides. Raises InputError
    if that line has neither, or if the fields cannot be these four: other publishers use other orders.
    """
    first = _first_line(data)
    separator = next((mark for mark in ("::", "\t") if mark in first), None)
    if separator is None:
        raise InputError(
            f"the first line of {path} ({first[:40]!r}) has no `::` and no tab, but in the format "
            "movielens each line is user::item::rating::timestamp",
            f"{_NAME_COLUMNS}; or choose the right --format (format= in Python)",
        )
    fields = [field.strip() for field in first.split(separator)]
    if _cannot_be_movielens(fields):
        raise InputError(
            f"the first line of {path} is {first[:60]!r}, which is not user, item, rating and timestamp in "
            "this order",
            _NAME_COLUMNS,
        )
    data, separator, _ = _one_byte(data, separator, quoted=False)
    dialect = Dialect(separator, quoted=False, columns=_MOVIELENS, form="movielens")
    return _read(path, data, dialect, wanted)


def _read(path: Path, data: bytes, dialect: Dialect, wanted: Wanted) -> Events:
    table = _Table(path, data, dialect)
    columns = table.choose(wanted)
    frame, blank_rows, spanning = table.parse(columns, may_lack_values=wanted.drop_incomplete)
    if frame.is_empty():
        raise InputError(f"{path} has a header and no rows", "give a file with one interaction in each row")
    table.refuse_second_header(frame, columns)
    frame, used = table.with_lists(frame, columns)
    expanded = expand(frame, used, table.place, may_lack_values=wanted.drop_incomplete)
    frame, place, incomplete = complete_rows(expanded.frame, expanded.place)
    events = to_events(frame, used, source=str(path), place=place, offset_unit=wanted.offset_unit)
    blank_rows += expanded.empty_rows
    notes = [f"rows of {path.name} that span several lines: {spanning:,}"] if spanning else []
    notes += [
        f"{column.name!r} is not read: it has the time of the last item of each list only"
        for column in columns
        if column.role == "time" and column not in used
    ]
    return replace(events, blank_rows=blank_rows, incomplete_rows=incomplete, notes=tuple(notes))


class _Table:
    """The bytes and the header of a table, which can be read in the fast and in the slow way."""

    def __init__(self, path: Path, data: bytes, dialect: Dialect) -> None:
        self.path, self.data, self.dialect = path, data, dialect
        self.header_end = 0
        self.types: dict[str, str] = {}
        self.header: list[str] = []
        if dialect.columns is not None:
            self.names = list(dialect.columns)
            return
        try:
            _, self.header_end, header = next(islice(self._lines(), dialect.skip, None))
        except StopIteration:
            raise InputError(
                f"{path} holds separators and spaces only",
                "give a file with a header, and an interaction in each row",
            ) from None
        self.header = self.names = [field.strip() for field in header]
        if dialect.typed:
            self.types = dict(name.partition(":")[::2] for name in self.names)
            self.names = [name.partition(":")[0] for name in self.names]

    def choose(self, wanted: Wanted) -> list[Column]:
        """The columns to read: those of the header, or those that the dialect names."""
        if self.dialect.columns is not None:
            return self._choose_by_position(wanted)
        try:
            columns = choose_columns(
                str(self.path),
                self.names,
                wanted,
                self._sample,
                without_header="" if self.dialect.typed else _NAME_COLUMNS,
            )
        except InputError:
            if not _first_line_is_data(self.names) or any(
                name not in self.names for name in wanted.names().values()
            ):
                raise
            raise self._no_header() from None
        if _first_line_is_data([column.name for column in columns]):
            raise self._no_header()
        return columns + [
            Column(f"{column.role} list", name, self.names.index(name))
            for column in columns
            if self.types.get(name := f"{column.name}_list", "").endswith("_seq")
            and column.role in ("item", "time")
        ]

    def with_lists(self, frame: pl.DataFrame, columns: list[Column]) -> tuple[pl.DataFrame, list[Column]]:
        """The same table, but with lists in place of the texts of RecBole's lists, and the columns of that.

        If the item has a list beside it, the list is the history before the item.
        """
        for column in columns:
            if self.types.get(column.name, "").endswith("_seq"):
                frame = frame.with_columns(pl.col(column.role).str.extract_all(r"\S+").fill_null([]))
        if "item list" not in frame.columns:
            return frame, [column for column in columns if column.role != "time list"]
        again = (frame["user"].is_not_null() & ~frame["user"].is_first_distinct()).arg_true()
        if len(again):
            raise InputError(
                f"{self.place(again[0])} is another row of {frame['user'][again[0]]!r}, and each row has "
                "a list of items, so the same event may stand in several rows",
                "keep the row with the longest list of each user, or drop the column of the lists",
            )
        if "rating" in frame.columns:
            raise InputError(
                f"the items in the lists of {self.path} have no ratings to compare with --min-rating "
                "(min_rating= in Python)",
                "leave it out, or drop the column of the lists",
            )
        # Without a list of times, the time belongs to the last item only. The list has the order.
        listed_roles = [role for role in ("item", "time") if f"{role} list" in frame.columns]
        return frame.with_columns(
            pl.concat_list(f"{role} list", role).alias(role) for role in listed_roles
        ), [column for column in columns if column.role == "user" or column.role in listed_roles]

    def refuse_second_header(self, frame: pl.DataFrame, columns: list[Column]) -> None:
        """Raise InputError for a row that is a header too, as in files that were joined with their headers.

        Its columns may have changed places. A header of numbers looks like an event, so it is not looked for.
        """
        names = {column.role: self.header[column.position] for column in columns if self.header}
        if not names or any_is_value(names.values()):
            return
        user, item = names["user"], names["item"]
        again = (frame["user"] == user) & (frame["item"] == item)
        swapped = (frame["user"] == item) & (frame["item"] == user)
        rows = (again | swapped).arg_true()
        if len(rows):
            raise InputError(
                f"{self.place(rows[0])} is a header again, as if files were joined with their headers",
                "remove it, or give the files that were joined instead",
            )

    def _choose_by_position(self, wanted: Wanted) -> list[Column]:
        first = next(self._rows())[2]
        if self.dialect.form == "csv" and any(_is_in_header(field) for field in first):
            raise InputError(
                f"the first line of {self.path} looks like a header ({listed(first)}), and --columns "
                "(columns= in Python) is for files without one",
                "leave --columns out, and name columns with --user-column, --item-column and --time-column",
            )
        columns = [Column(role, role, self.names.index(role)) for role in _ROLES if role in self.names]
        if wanted.min_rating is None:
            columns = [column for column in columns if column.role != "rating"]
        elif "rating" not in self.names:
            raise InputError(
                f"--columns (columns= in Python) names no rating of {self.path}, and --min-rating needs it",
                "name the rating in --columns, or leave --min-rating out",
            )
        refuse_unused_unit(wanted, "offset" in self.names)
        if wanted.file_order:
            return [column for column in columns if column.role not in ("time", "offset")]
        if "time" not in self.names:
            for position, name in enumerate(self.names):
                if name == "-" and looks_like_times(self._sample_at(position)):
                    raise InputError(
                        f"--columns (columns= in Python) names no time of {self.path}, but field "
                        f"{position + 1} of its first line, {first[position]!r}, may be one",
                        "name it time in --columns, or give --file-order (file_order=True) if the rows are "
                        "in the order of time",
                    )
        return columns

    def parse(self, columns: list[Column], *, may_lack_values: bool) -> tuple[pl.DataFrame, int, int]:
        """Read the columns; returns a frame, the number of blank rows, and of rows that span several lines.

        The frame has a column for each role, of strings without spaces around them. Ratings may be null, and
        with may_lack_values other values too.
        """
        frame = self._parse_fast(columns) if self._is_plain() else None
        return self._parse_exactly(columns, may_lack_values) if frame is None else (frame, 0, 0)

    def place(self, row: int) -> str:
        """The place in the file of a row of the frame, for an error message."""
        line = next(islice(self._rows(), row, None))[0]
        return f"{self.path}, line {line}"

    def _is_plain(self) -> bool:
        """Whether polars and csv read the file alike.

        That is so without quotes, and if each line with quotes is one row in which every quoted field is
        quoted from its start to its end. A carriage return alone ends a line for csv only.
        """
        if self.data.count(b"\r") != self.data.count(b"\r\n"):
            return False
        if not self.dialect.quoted or b'"' not in self.data:
            return True
        mark = re.escape(self.dialect.separator)
        field = f'(?:[^"{mark}]*|"(?:[^"]|"")*")'
        lines = pl.read_csv(
            self.data, has_header=False, schema={"line": pl.String}, separator="\x00", quote_char=None
        )
        regular = lines["line"].str.contains(f"^{field}(?:{mark}{field})*\\r?$")
        return bool(regular.fill_null(True).all())

    def _parse_fast(self, columns: list[Column]) -> pl.DataFrame | None:
        """The frame of parse; None if a row is blank, has too many fields, or lacks a value."""
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
                quote_char='"' if self.dialect.quoted and b'"' in self.data else None,
            )
        except pl.exceptions.PolarsError:
            return None
        frame = frame[1:]
        if frame["beyond"].null_count() < len(frame):
            return None
        frame = frame.drop("beyond").with_columns(pl.all().str.strip_chars())
        # A row without a value may be blank, or too short.
        lacks = frame.select(pl.any_horizontal((pl.all().is_null() | (pl.all() == "")).any())).item()
        return None if lacks else frame

    def _parse_exactly(self, columns: list[Column], may_lack_values: bool) -> tuple[pl.DataFrame, int, int]:
        """As parse, row by row. InputError for the first row of wrong width or without a value."""
        schema = {column.role: pl.String for column in columns}
        frames, rows = [pl.DataFrame(schema=schema)], []
        blank_rows = empty_lines = spanning = 0
        for line, end, fields in self._lines(with_blank=True):
            if line <= self.header_end:
                continue
            if not fields:
                empty_lines += 1  # at the end of a file they are common and harmless
                continue
            blank_rows, empty_lines = blank_rows + empty_lines, 0
            if not any(field.strip() for field in fields):
                blank_rows += 1
                continue
            spanning += end > line
            self._check_width(line, fields)
            values = [fields[c.position].strip() if c.position < len(fields) else "" for c in columns]
            for column, value in zip(columns, values, strict=True):
                if not (value or may_lack_values or column.role in _MAY_BE_EMPTY):
                    raise InputError(
                        f"{self.path}, line {line} has no value in column {column.name!r}", ADD_OR_DROP
                    )
            rows.append([value or None for value in values])
            if len(rows) == _CHUNK:
                frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
                rows = []
        frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
        return pl.concat(frames), blank_rows, spanning

    def _check_width(self, line: int, fields: list[str]) -> None:
        """Raise InputError for too many fields, unless they are empty, and for too few in MovieLens."""
        columns, beyond = len(self.names), any(field.strip() for field in fields[len(self.names) :])
        if self.dialect.form == "movielens" and (beyond or len(fields) < columns):
            raise InputError(
                f"{self.path}, line {line} has {len(fields)} field(s), but in the format movielens each line "
                f"has {columns}, user, item, rating and timestamp",
                f"correct it, {_NAME_COLUMNS}, or choose the right --format (format= in Python)",
            )
        if self.dialect.columns is not None and beyond:
            raise InputError(
                f"{self.path}, line {line} has {len(fields)} field(s), but --columns (columns= in Python) "
                f"names {columns}",
                "correct the line, or name each field once, with - for one to ignore",
            )
        if beyond:
            raise InputError(
                f"{self.path}, line {line} has {len(fields)} fields, but the header has {columns}",
                "quote values that contain the separator, or name every column",
            )

    def _sample(self, name: str) -> pl.Series:
        """The first values of a column, without those that are empty."""
        return self._sample_at(self.names.index(name))

    def _sample_at(self, position: int) -> pl.Series:
        rows = (fields for _, _, fields in islice(self._rows(), _SAMPLE))
        values = [fields[position].strip() for fields in rows if position < len(fields)]
        return pl.Series([value for value in values if value], dtype=pl.String)

    def _no_header(self) -> InputError:
        return InputError(
            f"{self.path} seems to have no header: its first line holds {listed(self.names)}",
            f"{_NAME_COLUMNS}; or, if that line is the header, rename the columns that look like numbers or "
            "dates",
        )

    def _rows(self) -> Iterator[tuple[int, int, list[str]]]:
        """The rows under the header that are not blank."""
        return (row for row in self._lines() if row[0] > self.header_end)

    def _lines(self, *, with_blank: bool = False) -> Iterator[tuple[int, int, list[str]]]:
        """The first line, the last line (both from 1) and the fields of every row.

        The header, if there is one, comes first. Blank rows come only if they are asked for.

        Raises InputError, which names the first line of the row, for a quoted field without an end, and for
        text after the end of one.
        """
        text = io.TextIOWrapper(io.BytesIO(self.data), encoding="utf-8", newline="")
        reader = csv.reader(
            text,
            delimiter=self.dialect.separator,
            quoting=csv.QUOTE_MINIMAL if self.dialect.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        start = 1
        limit = csv.field_size_limit(_LONGEST_FIELD)  # the default, 128 KiB, would refuse a legal file
        try:
            for fields in reader:
                if with_blank or any(field.strip() for field in fields):
                    yield start, reader.line_num, fields
                start = reader.line_num + 1
        except csv.Error as error:
            if self.header_end or self.dialect.columns is not None:
                raise InputError(
                    f"{self.path}, line {start} cannot be read ({error})",
                    "correct the quotes there, or give --no-quotes (quotes=False in Python) if quotes are "
                    "ordinary characters",
                ) from None
            raise InputError(
                f"the header of {self.path} cannot be read ({error})", "check its quotes"
            ) from None
        finally:
            csv.field_size_limit(limit)

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


_NAME_COLUMNS = (
    "name the fields of a line in order with --columns (columns= in Python): user, item, time, offset, "
    "rating, or - to ignore one, such as user,item,-,time"
)


def _first_line_is_data(names: Sequence[str]) -> bool:
    """Whether one of the names is a number or a date, but not the number of the column."""
    return list(names) != [str(n) for n in range(len(names))] and any_is_value(names)


def _is_in_header(field: str) -> bool:
    """Whether a field can only stand in a header: a usual name of a column, or one such as sessionId."""
    return is_usual_name(field.strip()) or bool(_ID_NAME.fullmatch(field.strip()))


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
