"""From a table's columns, called by their roles, to events: the one place that says what a value may be."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from recblr.data.columns import Column
from recblr.data.events import Events
from recblr.data.numeric import Numbers, as_numbers, as_times
from recblr.errors import InputError


def to_events(
    frame: pl.DataFrame, columns: list[Column], *, source: str, place: Callable[[int], str]
) -> Events:
    """The events of a frame with N rows whose columns go by their roles, without nulls.

    Users and items are integers or strings, times whatever as_times takes, ratings numbers or texts that
    are some. place: says where a row of the frame stands, for error messages.

    Raises InputError for a time or rating that is none.
    """
    by_role = {column.role: column for column in columns}
    times: Numbers | None = None
    if "time" in by_role:
        times, wrong = as_times(frame["time"])
        if wrong is not None:
            value, name = frame["time"][wrong], by_role["time"].name
            raise InputError(
                f"{place(wrong)}: {value!r} in the time column {name!r} is not a number and no date such as "
                "2024-01-31T18:30:00: convert times to numbers such as Unix seconds or to such dates, or "
                "name another column with --time-column (time= in Python)"
            )
    ratings: Numbers | None = None
    if "rating" in by_role:
        ratings, wrong = as_numbers(frame["rating"])
        if wrong is not None:
            value, name = frame["rating"][wrong], by_role["rating"].name
            raise InputError(
                f"{place(wrong)}: {value!r} in the rating column {name!r} is not a number: mend it, or name "
                "another column with --rating-column (rating= in Python)"
            )
    return Events(source, frame["user"], frame["item"], times, ratings)
