"""Converts the values of a table: its columns become events with times and ratings as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from recblr.data.events import Events, likely_in_units
from recblr.data.packed import Numbers
from recblr.data.read.columns import Column, Wanted
from recblr.data.read.times import Times, as_numbers, as_times, in_unit, with_offsets
from recblr.errors import InputError

# What pandas and PostgreSQL write for lists. An id may be in brackets too, but has no comma or quote then.
_IN_BRACKETS = r"^[\[({].*[\])}]$"

_FAULTS = {
    "time": (
        "not a number and not a date such as 2024-01-31T18:30:00",
        "convert times to numbers such as Unix seconds, or to such dates",
    ),
    "offset": ("not a number and not a time of day such as 18:30:00", "correct it"),
    "rating": ("not a number", "correct it"),
}


def complete_rows(
    frame: pl.DataFrame, place: Callable[[int], str]
) -> tuple[pl.DataFrame, Callable[[int], str], int]:
    """The rows of a frame in which only the rating may be null, their places, and the number of other rows.

    frame: its columns are named by their roles.
    place: gives the place of a row of the frame.
    """
    kept = frame.select(pl.all_horizontal(pl.exclude("rating").is_not_null())).to_series()
    if kept.all():
        return frame, place, 0
    rows = kept.arg_true()
    return frame.filter(kept), lambda row: place(int(rows[row])), len(kept) - len(rows)


def to_events(
    frame: pl.DataFrame,
    columns: Sequence[Column],
    wanted: Wanted,
    *,
    source: str,
    place: Callable[[int], str],
) -> Events:
    """The events of a frame with N rows.

    frame: its columns are named by their roles. Only ratings may be null. Users and items are integers or
        strings. Times are as for as_times, offsets as for with_offsets, ratings as for as_numbers.
    wanted: its units of times and of offsets.
    place: gives the place of a row of the frame, for error messages.

    Raises InputError for a value that is not a time, an offset or a rating, for dates if a unit of times is
    wanted, and if all items are texts of lists, such as "[1, 2]".
    """
    names = {column.role: column.name for column in columns}
    items = frame["item"]
    in_brackets = items.dtype == pl.String and len(items) > 0 and items.str.contains(_IN_BRACKETS).all()
    if in_brackets and items.str.contains("[,'\"]").any():
        raise InputError(
            f"{place(0)} has a list that is written as a text, {items[0][:60]!r}, in the item column "
            f"{names['item']!r}",
            "write a row for each item, or real lists as JSON or Parquet",
        )

    def refuse(role: str, row: int) -> InputError:
        fault, remedy = _FAULTS[role]
        flag = "time" if role == "offset" else role
        return InputError(
            f"{place(row)}: {frame[role][row]!r} in the {role} column {names[role]!r} is {fault}",
            f"{remedy}, or name another column with --{flag}-column ({flag}= in Python)",
        )

    times: Times | None = None
    notes: tuple[str, ...] = ()
    if "time" in names:
        times = as_times(frame["time"])
        if times.wrong is not None:
            raise refuse("time", times.wrong)
        if frame["time"].dtype == pl.Float32 and len(frame):
            step = np.spacing(np.float32(np.abs(times.numbers).max()))
            if step > 1:
                notes = (f"the float32 of {names['time']!r} rounds times to steps of {step:g}",)
        if wanted.time_unit is not None and len(frame):
            likely = (unit for unit, fits in likely_in_units(times.numbers).items() if fits.all())
            notes += tuple(
                f"the times are in 1990 to 2100 if they are in {unit}, not in {wanted.time_unit} as given"
                for unit in likely
                if times.unit is None and unit != wanted.time_unit
            )
            times = in_unit(times, wanted.time_unit, source=source)
        if "offset" in names and len(frame):
            times = with_offsets(times, frame["offset"], wanted.offset_unit, source=source)
            if times.wrong is not None:
                raise refuse("offset", times.wrong)
    ratings: Numbers | None = None
    if "rating" in names:
        given = frame["rating"].is_not_null().to_numpy()
        some, wrong = as_numbers(frame["rating"].filter(given))
        if wrong is not None:
            raise refuse("rating", int(np.flatnonzero(given)[wrong]))
        ratings = some
        if not given.all():
            ratings = np.full(len(frame), np.nan)
            ratings[given] = some
    return Events(
        source,
        frame["user"],
        frame["item"],
        None if times is None else times.numbers,
        ratings,
        time_unit=None if times is None else times.unit,
        ordered_by=" + ".join(names[role] for role in ("time", "offset") if role in names),
        notes=notes,
    )
