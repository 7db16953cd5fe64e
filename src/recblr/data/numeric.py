"""Times and ratings as numbers, from whatever a column holds: numbers, texts, dates."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers: TypeAlias = npt.NDArray[np.int64 | np.float64]

_DAY_TIME_ZONE = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,9})?)?)?"
    r" ?(?:Z|UTC|(?:([+-])([01]\d|2[0-3]):?([0-5]\d)))?$"
)


def as_numbers(values: pl.Series) -> tuple[Numbers, int | None]:
    """Numbers, or texts that are some, (N,) int64 if all are whole, else float64.

    Also the position of the first that is not a finite number, None where there is none. values: of any
    numeric dtype or strings, without nulls.
    """
    # Whole numbers stay whole: nanoseconds since 1970 do not fit into a float64.
    if values.dtype == pl.String or values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole.to_numpy(), None
    numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return numbers, _first(~np.isfinite(numbers))


def as_times(values: pl.Series) -> tuple[Numbers, int | None]:
    """Times as numbers, with the position of the first that is no time, None where there is none.

    values (N,), without nulls: numbers, which stay as they are, in whatever unit; dates and datetimes,
    which become Unix seconds (UTC where they name no zone; whole ones int64, with fractions float64, exact
    to a quarter of a microsecond in this century); or strings of either kind, dates by ISO 8601.
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
    # Where the first is a date all should be, else all should be numbers.
    return numbers, no_number if no_date == 0 else no_date


def _first(wrong: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(wrong)) if wrong.any() else None


def _parsed(texts: pl.Series) -> pl.Series:
    """ISO 8601 dates, with or without a time of day and a zone, as UTC; null where a text is none."""
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
    # Divided in two steps, because a float64 does not hold nanoseconds since 1970.
    return whole + rest / per_second if rest.any() else whole
