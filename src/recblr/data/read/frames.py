"""Reads tables with typed columns: data frames of polars and pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Int64Array
from recblr.data.read.columns import ADD_OR_DROP, Column, Wanted
from recblr.data.read.lists import (
    Lists,
    Names,
    Steps,
    Values,
    choose,
    expand,
    from_python,
    is_list,
    is_nested,
    leaves,
    value_at,
    values_at,
)
from recblr.data.read.values import complete_rows, to_events
from recblr.errors import InputError

Frame: TypeAlias = Any
"""A polars DataFrame or LazyFrame, or a pandas DataFrame. pandas is not a dependency, so its frames are
recognised by their attributes."""

# The first rows, from which it is seen whether a column holds times.
_SAMPLE = 1000


def read_frame(frame: Frame, wanted: Wanted, *, source: str = "the frame") -> Events:
    """The events of a data frame, in the order of its rows. Columns that are not wanted are ignored.

    Ids are integers, strings or categories. Times are numbers, dates, datetimes, or strings of these. Ratings
    are numbers. Rows may hold lists of these, also in structs; see lists.py. Raises InputError for a column
    that is missing, occurs twice or has a wrong type, for a missing value, for lists of different lengths in
    a row, for a frame without rows, and for an object that is not a data frame.
    """
    if isinstance(frame, pl.LazyFrame):
        schema = frame.collect_schema()
        return _read_typed(source, schema, lambda names: frame.select(names).collect(), wanted)
    if isinstance(frame, pl.DataFrame):
        return _read_typed(source, frame.schema, frame.select, wanted)
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):
        return _read_pandas(source, frame, wanted)
    raise InputError(
        f"a {type(frame).__name__} is no data frame",
        "give one of polars or pandas, for example polars.DataFrame(…)",
    )


def _read_typed(
    source: str, schema: Mapping[str, Any], read: Callable[[list[str]], pl.DataFrame], wanted: Wanted
) -> Events:
    found = typed_leaves(schema)
    columns = choose(source, found, wanted, typed_sample(found, read))
    table = typed_table(found, columns, read)
    return to_checked_events(table, columns, wanted, source=source, place=lambda row: row_of(source, row))


def typed_leaves(schema: Mapping[str, Any]) -> list[Steps]:
    """The names in a table of polars, also in structs; schema has the types of its columns."""
    return [leaf for name, dtype in schema.items() for leaf in leaves((name,), dtype)]


def typed_sample(
    found: Sequence[Steps], read: Callable[[list[str]], pl.DataFrame]
) -> Callable[[str], pl.Series]:
    """A function that gives the first values of a column, without nulls and lists."""

    def sample(name: str) -> pl.Series:
        steps = next(steps for steps in found if ".".join(steps) == name)
        values = values_at(read([steps[0]])[steps[0]].head(_SAMPLE), steps[1:])
        while isinstance(values, Lists):
            values = values.elements
        return values.drop_nulls()

    return sample


def typed_table(
    found: Sequence[Steps], columns: Sequence[Column], read: Callable[[list[str]], pl.DataFrame]
) -> dict[str, Values]:
    """The chosen columns of a table of polars, by role; read gives the columns with some names."""
    frame = read(list(dict.fromkeys(found[column.position][0] for column in columns)))
    return {
        column.role: values_at(frame[found[column.position][0]], found[column.position][1:])
        for column in columns
    }


def to_checked_events(
    table: Mapping[str, Values],
    columns: Sequence[Column],
    wanted: Wanted,
    *,
    source: str,
    place: Callable[[int], str],
    may_be_empty: bool = False,
) -> Events:
    """The events of a table with N rows, whose values are not checked yet.

    table: its columns by role.
    place: gives the place of a row, for error messages.
    wanted: its units, and whether it drops incomplete rows.
    may_be_empty: whether no event at all is allowed.

    Raises InputError as read_frame does.
    """
    drop = wanted.drop_incomplete
    expanded = expand(table, columns, place, may_lack_values=drop)
    frame, place = expanded.frame, expanded.place
    if frame.is_empty() and not may_be_empty:
        lists = f" but empty lists in its {expanded.empty_rows} rows" if expanded.empty_rows else ""
        raise InputError(f"{source} has no rows{lists}", "give one with an interaction in each row")
    for column in columns:
        frame = frame.with_columns(_checked(frame[column.role], column, source, None if drop else place))
    frame, place, incomplete = complete_rows(frame, place)
    events = to_events(frame, columns, wanted, source=source, place=place)
    return replace(events, blank_rows=expanded.empty_rows, incomplete_rows=incomplete)


def row_of(source: str, row: int) -> str:
    """The place of a row, for error messages."""
    return f"{source}, row {row} (from 0)"


def _no_value(column: Column, place: str) -> InputError:
    return InputError(f"{place} has no value in column {column.name!r}", ADD_OR_DROP)


def _checked(values: pl.Series, column: Column, source: str, place: Callable[[int], str] | None) -> pl.Series:
    """The column, with spaces around strings removed, and null in place of an empty string.

    Raises InputError for a wrong type, and for a missing value unless place is None.
    """
    missing = values.is_null()
    flag = "time" if column.role == "offset" else column.role
    if column.role in ("user", "item"):
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            values = values.cast(pl.String)
        fits, takes = values.dtype == pl.String or values.dtype.is_integer(), "are integers or strings"
    elif column.role == "time":
        fits = (
            values.dtype == pl.String or values.dtype.is_numeric() or values.dtype in (pl.Date, pl.Datetime)
        )
        takes = "are numbers, dates or datetimes"
    elif column.role == "offset":
        if values.dtype == pl.Time:
            values = values.cast(pl.String)
        fits, takes = values.dtype == pl.String or values.dtype.is_numeric(), "are numbers or times of day"
    else:
        fits, takes = values.dtype == pl.String or values.dtype.is_numeric(), "are numbers"
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        missing |= values == ""
        values = values.set(missing.fill_null(True), None)
    # An event without a rating is dropped and counted.
    if column.role != "rating" and place is not None and missing.any():
        row = int(missing.fill_null(True).arg_max() or 0)
        raise _no_value(column, place(row))
    if not fits:
        raise InputError(
            f"column {column.name!r} of {source} holds {values.dtype}, but {column.role}s {takes}",
            f"convert it, or name another with --{flag}-column ({flag}= in Python)",
        )
    return values


def _read_pandas(source: str, frame: Frame, wanted: Wanted) -> Events:
    found: list[Steps] = []
    positions: list[int] = []  # the columns of the frame that the names are from
    for position, name in enumerate(frame.columns):
        names = Names()
        values = frame.iloc[:, position]
        for value in values if values.dtype == object and is_nested(values) else [None]:
            names.add(None if _is_missing(value) else value, (str(name),))
        own = names.leaves()
        found += own
        positions += [position] * len(own)

    def sample(name: str) -> pl.Series:
        steps = next(steps for steps in found if ".".join(steps) == name)
        values = frame.iloc[:_SAMPLE, positions[found.index(steps)]].dropna()
        if values.dtype == object:
            plain = [value for value in values if isinstance(value, str | int | float | date)]
            return pl.Series([str(value) for value in plain], dtype=pl.String)
        return _to_polars(values, Column("", name, 0), source)

    columns = choose(source, found, wanted, sample)
    table: dict[str, Values] = {}
    for column in columns:
        values, steps = frame.iloc[:, positions[column.position]], found[column.position][1:]
        if values.dtype == object and is_nested(values):
            nested = [None if _is_missing(value) else value_at(value, steps) for value in values]
            table[column.role] = from_python(
                nested, partial(_elements, column=column, source=source, drop=wanted.drop_incomplete)
            )
            continue
        missing = values.isna().to_numpy()
        if missing.any() and column.role != "rating" and not wanted.drop_incomplete:
            raise _no_value(column, row_of(source, int(np.argmax(missing))))
        table[column.role] = _with_nulls(_to_polars(values[~missing], column, source), missing)
    return to_checked_events(table, columns, wanted, source=source, place=lambda row: row_of(source, row))


def _with_nulls(present: pl.Series, missing: npt.NDArray[np.bool_]) -> pl.Series:
    """The values, with null where missing (N,) is true."""
    if not missing.any():
        return present
    return present.gather(pl.Series(np.cumsum(~missing) - 1).set(pl.Series(missing), None))


def _is_missing(value: object) -> bool:
    """Whether it is None, NaN, NaT or NA, which all differ from themselves or are neither true nor false."""
    if value is None or is_list(value) or isinstance(value, dict):
        return value is None
    try:
        return bool(value != value)
    except TypeError:
        return True


def _elements(
    values: Sequence[Any], rows: Int64Array, *, column: Column, source: str, drop: bool
) -> pl.Series:
    """Elements of the lists of a pandas column."""
    # Times of pandas have nanoseconds, which those of Python lack.
    plain = [None if _is_missing(value) else getattr(value, "asm8", value) for value in values]
    missing = np.array([value is None for value in plain], dtype=np.bool_)
    if missing.any() and not drop:
        raise _no_value(column, f"a list in {row_of(source, int(rows[np.argmax(missing)]))}")
    plain = [value for value in plain if value is not None]
    if plain and all(isinstance(value, np.datetime64) for value in plain):
        return _with_nulls(_to_polars(np.array(plain), column, source), missing)
    objects = np.empty(len(plain), dtype=object)
    objects[:] = [value.item() if isinstance(value, np.generic) else value for value in plain]
    return _with_nulls(_to_polars(objects, column, source), missing)


def _to_polars(values: Any, column: Column, source: str) -> pl.Series:
    """A pandas column or array without missing values, through NumPy: polars itself would need pyarrow."""
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert(None)
    array = np.asarray(values)
    if array.dtype.kind == "M" and np.datetime_data(array.dtype)[0] not in ("ms", "us", "ns"):
        array = array.astype("datetime64[us]")
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    try:
        if array.dtype == object:
            if array.size and all(hasattr(value, "asm8") for value in array):
                # Times of pandas. polars would drop their nanoseconds without notice.
                return _to_polars(np.array([value.asm8 for value in array]), column, source)
            return pl.Series(column.name, array.tolist(), strict=True)
        return pl.Series(column.name, array)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        kinds = sorted({type(value).__name__ for value in array.tolist()})
        raise InputError(
            f"column {column.name!r} of {source} has values of the types {', '.join(kinds)}, but a column "
            "must have one type",
            "convert them, for example with astype(str)",
        ) from None
