"""Reads numbers and times: whole numbers stay whole, and dates of every form become exact numbers.

Dates become whole numbers since 1970 in UTC, in the coarsest of the units s, ms, us and ns that is exact for
all of them. So events that are a nanosecond apart keep their order, which float64 seconds would lose.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recblr.data.events import UNITS, are_days, as_seconds, likely_in_units
from recblr.data.packed import Int64Array, Numbers
from recblr.errors import InputError

OFFSET_UNITS = {"h": 3600 * 10**9, "min": 60 * 10**9} | UNITS
"""Nanoseconds in each unit that an offset may have."""

TIME_UNITS = {"d": 24 * 3600 * 10**9} | OFFSET_UNITS
"""Nanoseconds in each unit that numbers as times may have."""

# Times of a given unit are at most so many seconds from 1970, 285 million years: a float64 has all of these.
_MOST_SECONDS = 2**53

_ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r" ?(?:Z|UTC|(?:([+-])([01]\d|2[0-3])(?::?([0-5]\d))?))?$"
)
# The form of Twitter and Foursquare: Tue Apr 03 18:00:09 +0000 2012.
_IN_WORDS = (
    r"^[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d{2}:\d{2}):(\d{2}) ([+-])([01]\d|2[0-3])([0-5]\d) (\d{4})$"
)
_TIME_OF_DAY = r"^(\d{1,2}):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9}))?)?$"

# Dates that cannot be read, because day and month may change places, or for other reasons: 31.01.2024,
# 1/31/24 6:30 PM, 31-Jan-2024, 20240131T183000Z. Only the question whether a column has dates needs them.
_OTHER_DATES = (
    r"^[0-3]?\d([./-])[0-3]?\d[./-]\d{4}(?:[ T,].*)?$|^[0-3]?\d/[0-3]?\d/\d{2}(?:[ T,].*)?$"
    r"|^\d{4}[./-][01]?\d[./-][0-3]?\d(?:[ T,].*)?$|^\d{8}T\d{4,6}"
    r"|(?i)^(?:.*[^a-z])?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}[^a-z].*\b(?:19|20)\d\d\b"
)

# A number of 10 digits or more with at most 6 of them.
_ROUNDED = r"^\d(?:\.\d{1,5})?[eE]\+?(?:0?9|1\d)$"

# A float64 keeps every number of so many digits.
_EXACT_DIGITS = 15


class Times(NamedTuple):
    """Times that were read.

    numbers: (N,) int64 or float64.
    wrong: the position of the first value that is not a time, or None. Then the numbers have no meaning.
    unit: a key of UNITS if the values were dates or their unit was given, and None for other numbers.
    """

    numbers: Numbers
    wrong: int | None
    unit: str | None = None


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
    return numbers, first_true(~np.isfinite(numbers))


def as_times(values: pl.Series) -> Times:
    """Values as times.

    values: numbers, dates or datetimes, or strings of these; without nulls. Texts of dates have the form of
        ISO 8601, with a point or a comma before up to nine digits of a second, or the form
        `Tue Apr 03 18:00:09 +0000 2012`. Without a zone they are in UTC.

    Numbers of any unit stay as they are.

    Raises InputError for two different numbers that a float64 cannot tell apart, and for numbers that a
    spreadsheet has rounded.
    """
    moments = _dates(values)
    if moments is not None:
        return moments
    numbers, no_number = as_numbers(values)
    if no_number is None:
        _refuse_rounded(values)
        _refuse_lost_digits(values, numbers)
    if no_number is None or values.dtype != pl.String:
        return Times(numbers, no_number)
    seconds, nanos = _parsed(values)
    no_date = first_true(seconds.is_null().to_numpy())
    # If the first value is a date, all should be dates. Otherwise all should be numbers.
    if no_date is not None:
        return Times(numbers, no_number if no_date == 0 else no_date)
    return _coarsest(seconds.to_numpy(), nanos.to_numpy())


def in_unit(times: Times, unit: str, *, source: str) -> Times:
    """Numbers as times since 1970 in a unit that was given, a key of TIME_UNITS.

    Days, hours and minutes become seconds: int64 if all are whole, else float64. Raises InputError, which
    names `source`, for dates, and for numbers that are too large for the unit.
    """
    if times.unit is not None:
        raise InputError(
            f"the times of {source} are dates, and --time-unit (time_unit= in Python) is for numbers",
            "leave it out",
        )
    numbers = times.numbers
    if unit in UNITS:
        most, seconds = _MOST_SECONDS * (UNITS["s"] // UNITS[unit]), 1
    else:
        seconds = TIME_UNITS[unit] // UNITS["s"]
        most = _MOST_SECONDS // seconds
    # In float64, because -2**63 has no absolute value in int64.
    far = first_true(np.abs(numbers.astype(np.float64)) > most)
    if far is not None:
        raise InputError(
            f"{source} has the time {numbers[far]}, which in {unit} is more than 285 million years from 1970",
            "give the unit of its times with --time-unit (time_unit= in Python)",
        )
    if seconds == 1:
        return Times(numbers, None, unit)
    converted = numbers * seconds
    if converted.dtype == np.float64:
        if (converted == np.rint(converted)).all():
            converted = converted.astype(np.int64)
        if np.unique(converted).size < np.unique(numbers).size:
            raise InputError(
                f"the times of {source} have too many digits for a conversion from {unit} to seconds",
                "convert them to whole numbers, such as nanoseconds since 1970",
            )
    return Times(converted, None, "s")


def with_offsets(times: Times, offsets: pl.Series, unit: str | None, *, source: str) -> Times:
    """Dates, or whole numbers of a known unit, plus offsets: times of day, or numbers of a unit.

    offsets: texts such as 18:30 or 18:30:05.25, or numbers; without nulls.
    unit: the unit of numbers, a key of OFFSET_UNITS.

    In the result, wrong is the position of the first offset that is none. Raises InputError, which names
    `source`, for times without a unit or with fractions, and for numbers without a unit.
    """
    if times.unit is None:
        raise InputError(
            f"the offsets of {source} cannot be added to numbers, whose unit is unknown",
            "name a column of dates before the + in --time-column (time= in Python), or give the unit of the "
            "numbers with --time-unit (time_unit= in Python)",
        )
    if times.numbers.dtype != np.int64:
        raise InputError(
            f"the offsets of {source} cannot be added to numbers with fractions",
            "name a column of dates or of whole numbers before the + in --time-column (time= in Python)",
        )
    if offsets.dtype == pl.String and offsets.str.contains(":").any():
        hour, minute, second, fraction = _groups(offsets, _TIME_OF_DAY)
        clock = hour.cast(pl.Int64) * 3600 + minute.cast(pl.Int64) * 60 + _as_int(second)
        wrong = first_true(clock.is_null().to_numpy())
        whole, rest = clock.fill_null(0).to_numpy(), _nanos(fraction).to_numpy()
    else:
        if unit is None:
            raise InputError(
                f"the offsets of {source} are numbers, such as {offsets[0]}, and their unit is unknown",
                f"give it with --offset-unit (offset_unit= in Python): {', '.join(OFFSET_UNITS)}",
            )
        numbers, wrong = as_numbers(offsets)
        if wrong is None:
            wrong = first_true(np.abs(numbers) > 2**62 // OFFSET_UNITS[unit])
        if wrong is not None:
            return Times(numbers, wrong, times.unit)
        whole, rest = np.divmod(np.rint(numbers * OFFSET_UNITS[unit]).astype(np.int64), UNITS["s"])
    seconds, nanos = np.divmod(times.numbers, UNITS["s"] // UNITS[times.unit])
    carry, nanos = np.divmod(nanos * UNITS[times.unit] + rest, UNITS["s"])
    return _coarsest(seconds + whole + carry, nanos, wrong)


def looks_like_times(values: pl.Series) -> bool:
    """Whether all values are dates, or are numbers that fit to the years 1990 to 2100.

    values: of any dtype, without nulls. False if there are none. Numbers may have one of UNITS, or be written
        as 20240131 or 20240131183000. Texts may be dates in a form that as_times cannot read.
    """
    if values.is_empty() or isinstance(values.dtype, pl.Date | pl.Datetime):
        return not values.is_empty()
    if values.dtype != pl.String and not values.dtype.is_numeric():
        return False
    numbers, wrong = as_numbers(values)
    if wrong is not None:
        if values.dtype != pl.String:
            return False
        return bool((_parsed(values)[0].is_not_null() | values.str.contains(_OTHER_DATES)).all())
    if are_days(numbers) or are_days(numbers // 10**6):
        return True
    return any(bool(fits.all()) for fits in likely_in_units(numbers).values())


def any_is_value(texts: Iterable[str]) -> bool:
    """Whether one of the texts is a number or a date."""
    values = pl.Series(list(texts), dtype=pl.String)
    numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return bool(np.isfinite(numbers).any()) or bool(_parsed(values)[0].is_not_null().any())


def as_moment(text: str, name: str) -> float:
    """The seconds since 1970 of a time that a person typed: a date in a form of as_times, or these seconds.

    Raises InputError, which calls the time `name`, for any other text, and for a number that is milliseconds
    or a finer unit in every likely reading.
    """
    numbers, wrong, unit = as_times(pl.Series([text.strip()]))
    if wrong is not None:
        raise InputError(
            f"{name} is no time: {text!r}", "give a date such as 2026-11-01T12:00, or seconds since 1970"
        )
    if unit is None:
        finer = next((u for u, fits in likely_in_units(numbers).items() if u != "s" and fits.all()), None)
        if finer is not None:
            raise InputError(f"{name} must be in seconds, but {text} seems to be in {finer}", "convert it")
        return float(numbers[0])
    return float(as_seconds(numbers, unit)[0])


def first_true(wrong: npt.NDArray[np.bool_]) -> int | None:
    """The position of the first true value, or None."""
    return int(np.argmax(wrong)) if wrong.any() else None


def _dates(values: pl.Series) -> Times | None:
    """The times of a column of dates or datetimes; None for any other column."""
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if not isinstance(values.dtype, pl.Datetime):
        return None
    per_unit = UNITS[values.dtype.time_unit]
    seconds, rest = np.divmod(values.to_physical().to_numpy(), UNITS["s"] // per_unit)
    return _coarsest(seconds, rest * per_unit)


def _coarsest(seconds: Int64Array, nanos: Int64Array, wrong: int | None = None) -> Times:
    """Seconds plus nanoseconds (0 to 10**9 - 1) as whole numbers of the coarsest unit that is exact.

    If that unit has no int64 for a value, its position is in `wrong`: nanoseconds end in the year 2262.
    """
    name = next(name for name, unit in UNITS.items() if not (nanos % unit).any())
    per_second = UNITS["s"] // UNITS[name]
    # One second less than fits, because the fraction is added.
    outside = np.abs(seconds) > np.iinfo(np.int64).max // per_second - 1
    return Times(
        seconds * per_second + nanos // UNITS[name], first_true(outside) if wrong is None else wrong, name
    )


def _parsed(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Seconds since 1970 in UTC, and nanoseconds beyond them. Seconds are null for a text that is no date."""
    day, clock, second, fraction, sign, hours, minutes = _groups(texts, _ISO)
    date = day + "T" + clock.fill_null("00:00") + ":" + second.fill_null("00")
    # `2024-01-31-05` could be an hour or a zone.
    unclear = clock.is_null() & hours.is_not_null() & minutes.is_null()
    seconds = _seconds(date, "%Y-%m-%dT%H:%M:%S", sign, hours, minutes)
    seconds = seconds.set(unclear, None)
    if seconds.null_count():
        month, day, clock, second, sign, hours, minutes, year = _groups(texts, _IN_WORDS)
        date = year + " " + month + " " + day.str.zfill(2) + " " + clock + ":" + second
        seconds = seconds.fill_null(_seconds(date, "%Y %b %d %H:%M:%S", sign, hours, minutes))
    return seconds, _nanos(fraction)


def _groups(texts: pl.Series, pattern: str) -> list[pl.Series]:
    return texts.str.extract_groups(pattern).struct.unnest().get_columns()


def _seconds(date: pl.Series, form: str, sign: pl.Series, hours: pl.Series, minutes: pl.Series) -> pl.Series:
    """The seconds since 1970 of a date and its zone; null if it is none."""
    moments = date.str.to_datetime(form, time_unit="us", strict=False).to_physical() // 10**6
    east = _as_int(hours) * 3600 + _as_int(minutes) * 60
    return moments - east * (1 - 2 * (sign == "-").fill_null(False).cast(pl.Int64))


def _as_int(digits: pl.Series) -> pl.Series:
    return digits.cast(pl.Int64).fill_null(0)


def _nanos(fraction: pl.Series) -> pl.Series:
    return _as_int(fraction.str.pad_end(9, "0"))


def _refuse_rounded(values: pl.Series) -> None:
    """Raise InputError if all texts are such as 1.7E+12, which spreadsheets write for 1700000001000."""
    if values.dtype == pl.String and len(values) and values.str.contains(_ROUNDED).all():
        raise InputError(
            f"the times are rounded, such as {values[0]}, as spreadsheets write long numbers",
            "export them with all digits",
        )


def _refuse_lost_digits(values: pl.Series, numbers: Numbers) -> None:
    """Raise InputError for two different numbers that are equal as float64, because their order is lost."""
    if numbers.dtype != np.float64 or values.dtype in (pl.Float64, pl.Float32):
        return
    texts = values.cast(pl.String)
    long = texts.str.count_matches(r"\d") > _EXACT_DIGITS
    if not long.any():
        return
    table = pl.DataFrame({"text": texts, "number": numbers, "long": long}).unique("text")
    table = table.filter(pl.len().over("number") > 1, pl.col("long").any().over("number"))
    seen: dict[float, str] = {}
    for text, number in table.select("text", "number").iter_rows():
        other = seen.setdefault(number, text)
        if Decimal(other) != Decimal(text):
            raise InputError(
                f"the times {other} and {text} have too many digits: a float64 cannot tell them apart",
                "convert all times to whole numbers, such as nanoseconds since 1970, or to dates",
            )
