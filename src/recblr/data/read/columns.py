"""Finds the columns of a table that have the users, the items, the times and the ratings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from recblr.errors import InputError

_DEFAULTS = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating"}

# Other clear spellings, in lower case and without underscores. They include those of MovieLens.
_OTHER_SPELLINGS = {
    "user": ("userid", "user"),
    "item": ("itemid", "item", "movieid"),
    "time": ("timestamp", "time"),
    "rating": ("rating",),
}

_MOST_SHOWN = 20


@dataclass(frozen=True)
class Wanted:
    """What to read from a table: the names of its columns, and the lowest rating to keep.

    user, item, time, rating: the names of columns; None for the usual names.
    min_rating: None to keep all events; then no column of ratings is read.

    Raises InputError for a column of ratings without a min_rating, and for a min_rating that is not a finite
    number.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    min_rating: float | None = None

    def __post_init__(self) -> None:
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

    def names(self) -> dict[str, str]:
        """The names that were given, by role."""
        named = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {role: name for role, name in named.items() if name is not None}


@dataclass(frozen=True)
class Column:
    """A column to read. role: a key of Wanted.names(). position: in the header, from 0."""

    role: str
    name: str
    position: int


def choose_columns(source: str, names: Sequence[str], wanted: Wanted) -> list[Column]:
    """The columns of the users, the items, the ratings (with a min_rating) and the times (if there are any).

    A role without a given name takes its default, user_id, item_id, timestamp or rating, or else another
    usual spelling (userId, User, movieId …). A table needs no time column: its rows are then in the order of
    time. But if another column looks like times, either guess could give histories in a wrong order without
    notice. So this raises an error that asks for the name.

    Raises InputError, which names `source`, for a given name that is not in `names`, is in it twice, or is
    given for two roles.
    """
    given = wanted.names()
    roles = [role for role in _DEFAULTS if role != "rating" or wanted.min_rating is not None]
    chosen: list[Column] = []
    for role in roles:
        name = given[role] if role in given else _usual_name(source, names, role)
        if name not in names:
            if role == "time" and role not in given:
                _refuse_likely_times(source, names, taken={column.name for column in chosen})
                continue
            raise _no_column(source, names, role, name)
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
    return chosen


def _usual_name(source: str, names: Sequence[str], role: str) -> str:
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


def _no_column(source: str, names: Sequence[str], role: str, name: str) -> InputError:
    otherwise = ", or leave --min-rating out" if role == "rating" else ""
    return InputError(
        f"{source} has no column {name!r}: it has {listed(names) or 'none at all'}",
        f"name the column of {role}s with --{role}-column ({role}= in Python){otherwise}",
    )


def _refuse_likely_times(source: str, names: Sequence[str], taken: set[str]) -> None:
    """Raise InputError if the name of a column that is not taken looks like times."""
    for name in names:
        if name not in taken and any(word in name.casefold() for word in ("time", "date")):
            raise InputError(
                f"{source} has no column {_DEFAULTS['time']!r}, but {name!r} seems to hold the times",
                f"give --time-column {name} (time= in Python), or drop the column if the rows are in order",
            )


def listed(names: Sequence[str]) -> str:
    """Names in quotes, for a sentence. If there are very many, only the first ones."""
    shown = ", ".join(repr(name) for name in names[:_MOST_SHOWN])
    return shown if len(names) <= _MOST_SHOWN else f"{shown} and {len(names) - _MOST_SHOWN} more"
