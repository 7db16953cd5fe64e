"""Converts the values of a table: its columns become events with times and ratings as numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Numbers
from recblr.data.read.columns import Column
from recblr.errors import InputError

_DAY_TIME_ZONE = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,9})?)?)?"
    r" ?(?:Z|UTC|(?:([+-])([01]\d|2[0-3]):?([0-5]\d)))?$"
)


def as_numbers(values: pl.Series) -> tuple[Numbers, int | None]:
    """Values as numbers (N,), and the position of the first one that is not a finite number, or None.

    values: numbers of any dtype, or strings; without nulls. The result is int64 if all are whole, else
        float64.
    """
    # Whole numbers stay integers: nanoseconds since 1970 do not fit into a float64.
    if values.dtype == pl.String or values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole.to_numpy(), None
    numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return numbers, _first(~np.isfinite(numbers))


def as_times(values: pl.Series) -> tuple[Numbers, int | None]:
    """Times as numbers (N,), and the position of the first value that is not a time, or None.

    values: numbers, dates or datetimes, or strings of these (dates by ISO 8601); without nulls.

    Numbers of any unit stay as they are. Dates become Unix seconds; without a time zone, they are in UTC.
    Whole seconds are int64. Fractions make them float64, exact to a quarter of a microsecond in this century.
    """
    if values.dtype == pl.Date:
        return _seconds(values.cast(pl.Datetime("us"))), None
    if isinstance(values.dtype, pl.Datetime):
        return _seconds(values), None
    numbers, no_number = as_numbers(values)
    if no_number is None or values.dtype != pl.String:
        return numbers, no_number
    dates = _parsed(values)
    no_date = _first(dates.is_null().to_numpy())
    if no_date is None:
        return _seconds(dates), None
    # If the first value is a date, all should be dates. Otherwise all should be numbers.
    return numbers, no_number if no_date == 0 else no_date


def _first(wrong: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(wrong)) if wrong.any() else None


def _parsed(texts: pl.Series) -> pl.Series:
    """ISO 8601 dates, with or without a time of day and a zone, as UTC; null for other texts."""
    part = pl.col("parts").struct.field
    day = part("1") + "T" + part("2").fill_null("00:00") + part("3").fill_null(":00")
    minutes = part("5").cast(pl.Int64) * 60 + part("6").cast(pl.Int64)
    east = pl.when(part("4") == "-").then(-minutes).otherwise(minutes).fill_null(0)
    parts = pl.DataFrame({"parts": texts.str.extract_groups(_DAY_TIME_ZONE)})
    utc = day.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False) - pl.duration(
        minutes=east
    )
    return parts.select(utc=utc)["utc"]


def _seconds(datetimes: pl.Series) -> Numbers:
    """Datetimes of any unit as Unix seconds, whole ones as int64."""
    assert isinstance(datetimes.dtype, pl.Datetime)
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[datetimes.dtype.time_unit]
    whole, rest = np.divmod(datetimes.to_physical().to_numpy(), per_second)
    # Divided in two steps, because nanoseconds since 1970 do not fit into a float64.
    return whole + rest / per_second if rest.any() else whole


_AS = {
    "time": (
        as_times,
        "not a number and not a date such as 2024-01-31T18:30:00",
        "convert times to numbers such as Unix seconds, or to such dates",
    ),
    "rating": (as_numbers, "not a number", "correct it"),
}


def to_events(
    frame: pl.DataFrame, columns: list[Column], *, source: str, place: Callable[[int], str]
) -> Events:
    """The events of a frame with N rows.

    frame: its columns are named by their roles, and have no nulls. Users and items are integers or strings.
        Times are as for as_times, ratings as for as_numbers.
    place: gives the place of a row of the frame, for error messages.

    Raises InputError for a value that is not a time or not a rating.
    """
    numbers: dict[str, Numbers] = {}
    for column in columns:
        role, values = column.role, frame[column.role]
        if role not in _AS:
            continue
        convert, fault, remedy = _AS[role]
        numbers[role], wrong = convert(values)
        if wrong is not None:
            raise InputError(
                f"{place(wrong)}: {values[wrong]!r} in the {role} column {column.name!r} is {fault}",
                f"{remedy}, or name another column with --{role}-column ({role}= in Python)",
            )
    return Events(source, frame["user"], frame["item"], numbers.get("time"), numbers.get("rating"))
