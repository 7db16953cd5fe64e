"""Finds the columns of a table that have the users, the items, the times and the ratings."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Real

import polars as pl

from recblr.data.read.times import OFFSET_UNITS, TIME_UNITS, looks_like_times
from recblr.errors import InputError

_DEFAULTS = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating"}

# Other clear spellings, in lower case and without underscores. They include those of MovieLens.
_OTHER_SPELLINGS = {
    "user": ("userid", "user"),
    "item": ("itemid", "item", "movieid"),
    "time": ("timestamp", "time"),
    "rating": ("rating",),
}

ADD_OR_DROP = "add it, or give --drop-incomplete (drop_incomplete=True in Python) to drop and count such rows"
"""The remedy for a row without a user, an item or a time."""

# Words in the names of columns that may hold times.
_TIME_WORDS = re.compile(
    "time|timestamp|datetime|date|ts|utc|epoch|when|day|hour|month|year|created|updated|visited"
)

_MOST_SHOWN, _LONGEST_SHOWN = 20, 200


@dataclass(frozen=True)
class Wanted:
    """What to read from a table: the names of its columns, and the lowest rating to keep.

    user, item, time, rating: the names of columns; None for the usual names. The time may be two columns that
        are added, "date+offset".
    min_rating: None to keep all events; then no column of ratings is read.
    file_order: take the rows in their order, and read no times.
    time_unit: the unit of numbers as times, a key of TIME_UNITS; None if the numbers must show it.
    offset_unit: the unit of numbers in the offset of "date+offset", a key of OFFSET_UNITS.
    drop_incomplete: drop and count rows without a user, an item or a time. Otherwise they are an error.

    Raises InputError for a name that is not a text, for a column of ratings without a min_rating, for a
    min_rating that is not a finite number, for a time column or its unit with file_order, and for an unknown
    unit.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    min_rating: float | None = None
    file_order: bool = False
    time_unit: str | None = None
    offset_unit: str | None = None
    drop_incomplete: bool = False

    def __post_init__(self) -> None:
        for role, name in self.names().items():
            if not isinstance(name, str):
                raise InputError(
                    f"--{role}-column ({role}= in Python) is the name of a column, and it is {name!r}",
                    f"give a text, such as {role}={str(name)!r}",
                )
        lowest = self.min_rating
        if lowest is None:
            if self.rating is not None:
                raise InputError(
                    f"a column of ratings ({self.rating!r}) has no effect by itself",
                    "give the lowest rating "
                    "to keep with --min-rating (min_rating= in Python), or leave --rating-column out",
                )
        elif isinstance(lowest, bool) or not isinstance(lowest, Real) or not math.isfinite(lowest):
            raise InputError(
                f"--min-rating (min_rating= in Python) is the lowest rating to keep, and it is {lowest!r}",
                "give a number, such as 4",
            )
        if self.file_order and self.time is not None:
            raise InputError(
                f"--file-order (file_order= in Python) reads no times, but {self.time!r} is named for them",
                "leave one of the two out",
            )
        if self.file_order and self.time_unit is not None:
            raise InputError(
                "--file-order (file_order= in Python) reads no times, but --time-unit gives their unit",
                "leave one of the two out",
            )
        for name, unit, units in (
            ("time", self.time_unit, [*TIME_UNITS]),
            ("offset", self.offset_unit, [*OFFSET_UNITS]),
        ):
            if unit is not None and unit not in units:
                raise InputError(
                    f"there is no unit {unit!r} for --{name}-unit ({name}_unit= in Python)",
                    f"choose one of {', '.join(units)}",
                )

    def names(self) -> dict[str, str]:
        """The names that were given, by role."""
        named = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {role: name for role, name in named.items() if name is not None}


@dataclass(frozen=True)
class Column:
    """A column to read. role: user, item, time, offset or rating. position: in the header, from 0."""

    role: str
    name: str
    position: int


def choose_columns(
    source: str,
    names: Sequence[str],
    wanted: Wanted,
    sample: Callable[[str], pl.Series],
    *,
    without_header: str = "",
) -> list[Column]:
    """The columns of the users, the items, the ratings (with a min_rating) and the times (if there are any).

    sample: gives the first values of a column, without nulls.
    without_header: what to do if the source has no header, for the remedy; empty if it must have one.

    A role without a given name takes its default, user_id, item_id, timestamp or rating, or else another
    usual spelling (userId, User, movieId …). A table needs no time column: its rows are then in the order of
    time. But if another column can hold times, by its name or by its values, either guess could give
    histories in a wrong order without notice. So this raises an error that asks for the name.

    Raises InputError, which names `source`, for a given name that is not in `names`, is in it twice, or is
    given for two roles.
    """
    given = wanted.names()
    roles = [role for role in _DEFAULTS if role != "rating" or wanted.min_rating is not None]
    if wanted.file_order:
        roles.remove("time")
    if "time" in given and given["time"] not in names and "+" in given["time"]:
        given["time"], _, given["offset"] = (part.strip() for part in given["time"].partition("+"))
        roles.append("offset")
    chosen: list[Column] = []
    for role in roles:
        name = given[role] if role in given else usual_name(source, names, role)
        if name not in names:
            if role == "time" and role not in given:
                continue
            raise _no_column(source, names, role, name, without_header)
        if names.count(name) > 1:
            count = names.count(name)
            raise InputError(f"{source} has {count} columns called {name!r}", "rename all but one of them")
        for other in chosen:
            if other.name == name:
                raise InputError(
                    f"column {name!r} of {source} cannot have both the {other.role}s and the {role}s",
                    f"name another with --{other.role}-column or --{role}-column",
                )
        chosen.append(Column(role, name, names.index(name)))
    if "time" in roles and all(column.role != "time" for column in chosen):
        taken = {column.name for column in chosen}
        _refuse_likely_times(source, [name for name in names if name not in taken], sample)
    refuse_unused_units(wanted, [column.role for column in chosen])
    return chosen


def refuse_unused_units(wanted: Wanted, roles: Collection[str]) -> None:
    """Raise InputError for a unit of times or of offsets if the columns, with these roles, have none."""
    if wanted.time_unit is not None and "time" not in roles:
        raise InputError(
            "--time-unit (time_unit= in Python) has no effect without a column of times",
            "name it with --time-column (time= in Python), or leave the unit out",
        )
    if wanted.offset_unit is not None and "offset" not in roles:
        raise InputError(
            "--offset-unit (offset_unit= in Python) has no effect without a column of offsets",
            "name it after a +, as in --time-column date+offset, or leave the unit out",
        )


def is_usual_name(name: str) -> bool:
    """Whether a name is a default name of a column, or another usual spelling of one."""
    return any(_folded(name) in (_folded(_DEFAULTS[role]), *_OTHER_SPELLINGS[role]) for role in _DEFAULTS)


def usual_name(source: str, names: Sequence[str], role: str) -> str:
    """The column of a role without a given name. The default name if no column has a usual name."""
    default = _DEFAULTS[role]
    if default in names:
        return default
    for spelling in _OTHER_SPELLINGS[role]:
        found = sorted({name for name in names if _folded(name) == spelling})
        if len(found) > 1:
            raise InputError(
                f"{source} has the columns {listed(found)}, and each may have the {role}s",
                f"name the right one with --{role}-column ({role}= in Python)",
            )
        if found:
            return found[0]
    return default


def _folded(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "")


def _no_column(source: str, names: Sequence[str], role: str, name: str, without_header: str) -> InputError:
    role = "time" if role == "offset" else role
    remedy = f"name the column of {role}s with --{role}-column ({role}= in Python)"
    if role == "rating":
        remedy += ", or leave --min-rating out"
    elif without_header:
        remedy += f"; or, if the first line is an event already, {without_header}"
    return InputError(f"{source} has no column {name!r}: it has {listed(names) or 'none at all'}", remedy)


def _refuse_likely_times(source: str, names: Sequence[str], sample: Callable[[str], pl.Series]) -> None:
    """Raise InputError if one of the columns can hold times. Its name or its values show that."""
    likely: dict[str, int] = {}
    for name in dict.fromkeys(names):
        # The words of names such as utcTimestamp, event_time and TIME2.
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
        named = any(_TIME_WORDS.fullmatch(word.casefold()) for word in words)
        holds = looks_like_times(sample(name))
        if named or holds or any(word in name.casefold() for word in ("time", "date")):
            likely[name] = 2 * holds + named
    if not likely:
        return
    found = sorted(likely, key=lambda name: -likely[name])
    raise InputError(
        f"{source} has no column {_DEFAULTS['time']!r}, but {listed(found, 'or')} may hold the times",
        f"give --time-column {shlex.quote(found[0])}{' or another' if len(found) > 1 else ''} "
        "(time= in Python), "
        "or --file-order (file_order=True) if the rows are in the order of time",
    )


def listed(names: Sequence[str], last: str = ",") -> str:
    """Names in quotes, for a sentence. If there are very many, only the first ones.

    last: what stands before the last name, a comma or a word.
    """
    quoted = [
        repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…")
        for name in names[:_MOST_SHOWN]
    ]
    if len(names) > _MOST_SHOWN:
        return f"{', '.join(quoted)} and {len(names) - _MOST_SHOWN} more"
    if last != "," and len(quoted) > 1:
        return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"
    return ", ".join(quoted)
