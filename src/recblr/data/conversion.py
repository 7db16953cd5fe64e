"""From a table's columns, called by their roles, to events: the one place that says what a value may be."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from recblr.data.columns import Column
from recblr.data.events import Events
from recblr.data.numeric import Numbers, as_numbers, as_times
from recblr.errors import InputError

_AS = {
    "time": (
        as_times,
        "not a number and no date such as 2024-01-31T18:30:00: convert times to numbers such as Unix seconds "
        "or to such dates",
    ),
    "rating": (as_numbers, "not a number: mend it"),
}


def to_events(
    frame: pl.DataFrame, columns: list[Column], *, source: str, place: Callable[[int], str]
) -> Events:
    """The events of a frame with N rows whose columns go by their roles, without nulls.

    Users and items are integers or strings, times whatever as_times takes, ratings numbers or texts that
    are some. place: says where a row of the frame stands, for error messages.

    Raises InputError for a time or rating that is none.
    """
    numbers: dict[str, Numbers] = {}
    for column in columns:
        role, values = column.role, frame[column.role]
        if role not in _AS:
            continue
        convert, fault = _AS[role]
        numbers[role], wrong = convert(values)
        if wrong is not None:
            raise InputError(
                f"{place(wrong)}: {values[wrong]!r} in the {role} column {column.name!r} is {fault}, or name "
                f"another column with --{role}-column ({role}= in Python)"
            )
    return Events(source, frame["user"], frame["item"], numbers.get("time"), numbers.get("rating"))
