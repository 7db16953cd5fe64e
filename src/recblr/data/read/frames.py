"""Reads tables with typed columns: data frames of polars and pandas, and Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from recblr.data.events import Events
from recblr.data.read.columns import Column, Wanted, choose_columns
from recblr.data.read.values import to_events
from recblr.data.storage import UNREADABLE_PARQUET
from recblr.errors import InputError
from recblr.io.reading import check_readable

Frame: TypeAlias = Any
"""A polars DataFrame or LazyFrame, or a pandas DataFrame. pandas is not a dependency, so its frames are
recognised by their attributes."""

_PARQUET = b"PAR1"

# The first rows, from which it is seen whether a column holds times.
_SAMPLE = 1000


def read_frame(frame: Frame, wanted: Wanted, *, source: str = "the frame") -> Events:
    """The events of a data frame, in the order of its rows. Columns that are not wanted are ignored.

    Ids are integers, strings or categories. Times are numbers, dates, datetimes, or strings of these. Ratings
    are numbers. Raises InputError for a column that is missing, occurs twice or has a wrong type, for a
    missing value, for a frame without rows, and for an object that is not a data frame.
    """
    if isinstance(frame, pl.LazyFrame):
        names = frame.collect_schema().names()
        return _events(source, names, lambda chosen: frame.select(_names(chosen)).collect(), wanted)
    if isinstance(frame, pl.DataFrame):
        return _events(source, frame.columns, lambda chosen: frame.select(_names(chosen)), wanted)
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):
        names = [str(name) for name in frame.columns]
        return _events(source, names, lambda chosen: _from_pandas(frame, chosen, source), wanted)
    raise InputError(
        f"a {type(frame).__name__} is no data frame",
        "give one of polars or pandas, for example polars.DataFrame(…)",
    )


def read_parquet(path: Path, wanted: Wanted) -> Events:
    """The events of a Parquet file; see read_frame. InputError too if the file cannot be read."""
    check_readable(path)
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) != _PARQUET:
            raise InputError(f"{path} is not a Parquet file", "give one, or choose the right --format")
    try:
        names = list(pl.read_parquet_schema(path))
        return _events(str(path), names, lambda chosen: _from_parquet(path, chosen), wanted)
    except UNREADABLE_PARQUET:
        raise InputError(f"{path} is a damaged Parquet file", "fetch or write it again") from None


def _from_parquet(path: Path, columns: list[Column]) -> pl.DataFrame:
    return pl.read_parquet(path, columns=_names(columns), glob=False, hive_partitioning=False)


def _events(
    source: str, names: Sequence[str], read: Callable[[list[Column]], pl.DataFrame], wanted: Wanted
) -> Events:
    columns = choose_columns(source, names, wanted, lambda name: _sample(read, names, name))
    frame = read(columns).rename({column.name: column.role for column in columns})
    if frame.is_empty():
        raise InputError(f"{source} has no rows", "give one with an interaction in each row")
    for column in columns:
        frame = frame.with_columns(_checked(frame[column.role], column, source))
    return to_events(
        frame,
        columns,
        source=source,
        place=lambda row: _place(source, row),
        offset_unit=wanted.offset_unit,
    )


def _sample(read: Callable[[list[Column]], pl.DataFrame], names: Sequence[str], name: str) -> pl.Series:
    """The first values of a column, without nulls."""
    return read([Column("", name, names.index(name))])[name].drop_nulls().head(_SAMPLE)


def _names(columns: list[Column]) -> list[str]:
    return [column.name for column in columns]


def _place(source: str, row: int) -> str:
    return f"{source}, row {row} (from 0)"


def _no_value(column: Column, source: str, row: int) -> InputError:
    return InputError(
        f"{_place(source, row)} has no value in column {column.name!r}", "add it, or drop the row"
    )


def _checked(values: pl.Series, column: Column, source: str) -> pl.Series:
    """The column, with spaces around strings removed. InputError for a missing value or a wrong type."""
    missing = values.is_null()
    if column.role in ("user", "item"):
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            values = values.cast(pl.String)
        fits, takes = values.dtype == pl.String or values.dtype.is_integer(), "are integers or strings"
    elif column.role == "time":
        fits = (
            values.dtype == pl.String or values.dtype.is_numeric() or values.dtype in (pl.Date, pl.Datetime)
        )
        takes = "are numbers, dates or datetimes"
    else:
        fits, takes = values.dtype == pl.String or values.dtype.is_numeric(), "are numbers"
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        missing |= values == ""
    if missing.any():
        row = int(missing.fill_null(True).arg_max() or 0)
        raise _no_value(column, source, row)
    if not fits:
        raise InputError(
            f"column {column.name!r} of {source} holds {values.dtype}, but {column.role}s {takes}",
            f"convert it, or name another with --{column.role}-column ({column.role}= in Python)",
        )
    return values


def _from_pandas(frame: Frame, columns: list[Column], source: str) -> pl.DataFrame:
    series = []
    for column in columns:
        values = frame.iloc[:, column.position]
        missing = values.isna().to_numpy()
        if missing.any():
            row = int(np.argmax(missing))
            raise _no_value(column, source, row)
        series.append(_to_polars(values, column, source))
    return pl.DataFrame(series)


def _to_polars(values: Any, column: Column, source: str) -> pl.Series:
    """A pandas column without missing values, through NumPy: polars' own conversion needs pyarrow."""
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert(None)
    array = np.asarray(values)
    if array.dtype.kind == "M" and np.datetime_data(array.dtype)[0] not in ("ms", "us", "ns"):
        array = array.astype("datetime64[us]")
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    try:
        if array.dtype == object:
            return pl.Series(column.name, array.tolist(), strict=True)
        return pl.Series(column.name, array)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        kinds = sorted({type(value).__name__ for value in array.tolist()})
        raise InputError(
            f"column {column.name!r} of {source} has values of the types {', '.join(kinds)}, but a column "
            "must have one type",
            "convert them, for example with astype(str)",
        ) from None
