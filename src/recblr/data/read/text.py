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
from dataclasses import replace
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
    refuse_unused_units,
)
from recblr.data.read.dialects import NAME_COLUMNS, ROLES, Dialect
from recblr.data.read.lists import expand
from recblr.data.read.times import any_is_value, looks_like_times
from recblr.data.read.values import complete_rows, to_events
from recblr.errors import InputError

_MAY_BE_EMPTY = ("rating", "item list", "time list")

_ID_NAME = re.compile(
    r"(?i)(user|item|session|visitor|customer|reviewer|product|article|movie|track|artist|song|book|business)"
    r"[ _]?(id|name)"
)
_LONGEST_FIELD = 2**31 - 1

# The first rows, from which it is seen what a column holds.
_SAMPLE = 1000

# Rows that the slow way collects before it hands them to polars, which needs less memory for them.
_CHUNK = 100_000


def read_table(path: Path, data: bytes, dialect: Dialect, wanted: Wanted) -> Events:
    """The events of a table.

    Blank lines, and columns that are not wanted, are ignored. Without a time column, the rows are taken in
    their order. If the items of an atomic file are in a list, ``item_id_list:token_seq``, each element is an
    event, and the item in the column of that name without ``_list`` comes after them.

    Raises InputError for a column that is missing or occurs twice, for a missing value, for an invalid time
    or rating, for a row that is longer than the header, and for a table without rows.
    """
    table = _Table(path, data, dialect)
    columns = table.choose(wanted)
    frame, blank_rows, spanning = table.parse(columns, may_lack_values=wanted.drop_incomplete)
    if frame.is_empty():
        raise InputError(f"{path} has a header and no rows", "give a file with one interaction in each row")
    table.refuse_second_header(frame, columns)
    frame, used = table.with_lists(frame, columns)
    refuse_unused_units(wanted, [column.role for column in used])
    expanded = expand(frame, used, table.place, may_lack_values=wanted.drop_incomplete)
    frame, place, incomplete = complete_rows(expanded.frame, expanded.place)
    events = to_events(frame, used, wanted, source=str(path), place=place)
    blank_rows += expanded.empty_rows
    notes = [f"rows of {path.name} that span several lines: {spanning:,}"] if spanning else []
    notes += [
        f"{column.name!r} is not read: it has the time of the last item of each list only"
        for column in columns
        if column.role == "time" and column not in used
    ]
    return replace(events, blank_rows=blank_rows, incomplete_rows=incomplete, notes=(*events.notes, *notes))


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
                without_header="" if self.dialect.typed else NAME_COLUMNS,
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
        columns = [Column(role, role, self.names.index(role)) for role in ROLES if role in self.names]
        if wanted.min_rating is None:
            columns = [column for column in columns if column.role != "rating"]
        elif "rating" not in self.names:
            raise InputError(
                f"--columns (columns= in Python) names no rating of {self.path}, and --min-rating needs it",
                "name the rating in --columns, or leave --min-rating out",
            )
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
                f"correct it, {NAME_COLUMNS}, or choose the right --format (format= in Python)",
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
            f"{NAME_COLUMNS}; or, if that line is the header, rename the columns that look like numbers or "
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


def _first_line_is_data(names: Sequence[str]) -> bool:
    """Whether one of the names is a number or a date, but not the number of the column."""
    return list(names) != [str(n) for n in range(len(names))] and any_is_value(names)


def _is_in_header(field: str) -> bool:
    """Whether a field can only stand in a header: a usual name of a column, or one such as sessionId."""
    return is_usual_name(field.strip()) or bool(_ID_NAME.fullmatch(field.strip()))
