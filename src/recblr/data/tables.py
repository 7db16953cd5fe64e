"""Tables with a header line: RecBole's atomic files and CSV.

The fast path hands the file to polars and asks only whether anything is wrong; the slow path, walked
only when something is, goes row by row to say where and what.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.columns import Column, choose_columns
from recblr.data.events import Events, Times
from recblr.errors import InputError


@dataclass(frozen=True)
class Dialect:
    """How a table is written; `typed` headers read ``name:type``, as in RecBole's files."""

    separator: str
    quoted: bool
    typed: bool


INTER = Dialect(separator="\t", quoted=False, typed=True)


def csv_dialect(path: Path, data: bytes) -> Dialect:
    """CSV's dialect: tabs in a .tsv file, else what the header has most of: commas, tabs or semicolons."""
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return Dialect("\t", quoted=True, typed=False)
    header = next(line for line in io.BytesIO(data) if line.strip()).decode()
    return Dialect(max(",\t;", key=header.count), quoted=True, typed=False)


def read_table(
    path: Path, data: bytes, dialect: Dialect, *, user: str | None, item: str | None, time: str | None
) -> Events:
    """The events of a table whose columns go by the given names (None: user_id, item_id, timestamp).

    Other columns are ignored, blank lines too. A table without a time column is in order already.
    Raises InputError for a column that is not there or there twice, a missing value, a time that is not a
    number, a row that is longer than the header, and a table without rows.
    """
    table = _Table(path, data, dialect)
    columns = choose_columns(path, table.names, user=user, item=item, time=time)
    frame = table.parse(columns)
    if frame.is_empty():
        raise InputError(f"{path} has a header and no rows: give a file with one interaction a row")
    times: Times | None = None
    if "time" in frame.columns:
        times, wrong = _numbers(frame["time"])
        if wrong is not None:
            raise table.not_a_number(wrong, columns[-1])
    return Events(frame["user"], frame["item"], times)


class _Table:
    """A table's bytes and header; its methods are the fast path and the slow path."""

    def __init__(self, path: Path, data: bytes, dialect: Dialect) -> None:
        self.path, self.data, self.dialect = path, data, dialect
        try:
            _, self.header_end, header = next(self._rows())
        except csv.Error as error:
            raise InputError(f"the header of {path} cannot be read ({error}): check its quotes") from None
        names = [field.strip() for field in header]
        self.names = [name.partition(":")[0] for name in names] if dialect.typed else names

    def parse(self, columns: list[Column]) -> pl.DataFrame:
        """The columns as strings without nulls or outer spaces, called by their roles."""
        roles = {column.position: column.role for column in columns}
        schema = {roles.get(place, f"ignored {place}"): pl.String for place in range(len(self.names))}
        try:
            frame = pl.read_csv(
                self._body(),
                has_header=False,
                schema=schema,
                columns=[column.position for column in columns],
                separator=self.dialect.separator,
                quote_char='"' if self.dialect.quoted else None,
            )
        except pl.exceptions.PolarsError as error:
            self._complain(columns)
            reason = str(error).partition("\n")[0]
            raise InputError(f"{self.path} cannot be read as a table ({reason}): check its quotes") from None
        frame = frame[1:].with_columns(pl.all().str.strip_chars())
        empty = frame.select(pl.all().is_null() | (pl.all() == ""))
        if empty.select(pl.any_horizontal(pl.all().any())).item():
            self._complain(columns)
            # Nobody is missing a value, so what is empty are blank lines.
            frame = frame.filter(~empty.select(blank=pl.all_horizontal(pl.all()))["blank"])
        return frame

    def not_a_number(self, row: int, column: Column) -> InputError:
        """The error for a time, in row `row` of the frame, that is not a number."""
        for index, (line, _, fields) in enumerate(self._rows(skip=1)):
            if index == row:
                value = fields[column.position]
                return InputError(
                    f"{self.path}, line {line}: {value!r} in the time column {column.name!r} is "
                    "not a number: convert times to numbers such as Unix seconds, or name another "
                    "column with --time-column (time= in Python)"
                )
        return InputError(
            f"column {column.name!r} of {self.path} holds times that are no numbers: convert them"
        )

    def _complain(self, columns: list[Column]) -> None:
        """Raise InputError for the first row that is too long or lacks a value; return if there is none."""
        line = self.header_end
        try:
            for line, _, fields in self._rows(skip=1):
                if len(fields) > len(self.names):
                    raise InputError(
                        f"{self.path}, line {line} has {len(fields)} fields and the header has "
                        f"{len(self.names)}: quote values that hold the separator, or name every column"
                    )
                for column in columns:
                    if len(fields) <= column.position or not fields[column.position].strip():
                        raise InputError(
                            f"{self.path}, line {line} has no value in column {column.name!r}: "
                            "fill it in or drop the row"
                        )
        except csv.Error as error:
            raise InputError(
                f"{self.path} cannot be read after line {line} ({error}): check the quotes there"
            ) from None

    def _rows(self, skip: int = 0) -> Iterator[tuple[int, int, list[str]]]:
        """First line, last line (both from 1) and fields of every row but blank ones, the header's first."""
        text = io.TextIOWrapper(io.BytesIO(self.data), encoding="utf-8", newline="")
        separator = self.dialect.separator
        if self.dialect.quoted:
            reader = csv.reader(text, delimiter=separator, strict=True)
        else:
            reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
        start = 1
        for fields in reader:
            if any(field.strip() for field in fields):
                if skip == 0:
                    yield start, reader.line_num, fields
                skip = max(skip - 1, 0)
            start = reader.line_num + 1

    def _body(self) -> bytes:
        """A first row as wide as the header, as polars takes the width from it, and then the rows."""
        first = self.dialect.separator.join("-" * len(self.names)).encode() + b"\n"
        start = 0
        for _ in range(self.header_end):
            start = self.data.find(b"\n", start) + 1
            if start == 0:
                return first
        # Trailing blank lines are common and harmless; left in, they would send us down the slow path.
        return first + self.data[start:].rstrip(b"\r\n")


def _numbers(texts: pl.Series) -> tuple[Times, int | None]:
    """The texts as numbers, and the position of the first that is not a finite number, if there is one."""
    # Whole numbers stay whole: nanoseconds since 1970 do not fit into a float64.
    whole = texts.cast(pl.Int64, strict=False)
    if not whole.null_count():
        return whole.to_numpy(), None
    real = texts.cast(pl.Float64, strict=False).fill_null(np.nan)
    times = real.to_numpy()
    wrong = np.flatnonzero(~np.isfinite(times))
    return times, int(wrong[0]) if wrong.size else None
