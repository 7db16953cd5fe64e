"""Which columns of a table hold the users, the items, the times and the ratings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from recblr.errors import InputError

_DEFAULTS = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating"}

# Other spellings that leave no doubt, in lower case and without underscores, MovieLens' own among them.
_ALSO = {
    "user": ("userid", "user"),
    "item": ("itemid", "item", "movieid"),
    "time": ("timestamp", "time"),
    "rating": ("rating",),
}

_MOST_SHOWN = 20


@dataclass(frozen=True)
class Wanted:
    """What to read of a table: the names of its columns, and the lowest rating that counts.

    user, item, time, rating: None for the usual names. min_rating: None where ratings do not matter, and
    then no column of ratings is looked for.

    Raises InputError for a column of ratings without a min_rating, and for one that is no finite number.
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
                    f"a column of ratings ({self.rating!r}) drops nothing by itself: give the lowest rating "
                    "to keep with --min-rating (min_rating= in Python), or leave --rating-column out"
                )
        elif isinstance(lowest, bool) or not isinstance(lowest, Real) or not math.isfinite(lowest):
            raise InputError(
                f"--min-rating (min_rating= in Python) is the lowest rating to keep and is {lowest!r}: "
                "give a number, such as 4"
            )

    def names(self) -> dict[str, str]:
        """The names that were asked for, by role."""
        named = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {role: name for role, name in named.items() if name is not None}


@dataclass(frozen=True)
class Column:
    """A column that is read. role: a key of Wanted.names(); position: counted from 0 in the header."""

    role: str
    name: str
    position: int


def choose_columns(source: str, names: Sequence[str], wanted: Wanted) -> list[Column]:
    """The columns for user, item, rating (with a min_rating) and, where there is one, time among `names`.

    A role without a name goes by its default, user_id, item_id, timestamp or rating, else by another usual
    spelling (userId, User, movieId …). A table may do without a time column, as its rows are then in order;
    but where some other column seems to hold times, guessing either way would reorder histories in
    silence, so it is asked for.

    Raises InputError, which names `source`, for a name that is not among `names`, is there twice, or is
    given for two roles.
    """
    asked = wanted.names()
    roles = [role for role in _DEFAULTS if role != "rating" or wanted.min_rating is not None]
    chosen: list[Column] = []
    for role in roles:
        name = asked[role] if role in asked else _usual_name(source, names, role)
        if name not in names:
            if role == "time" and role not in asked:
                _no_times(source, names, taken={column.name for column in chosen})
                continue
            raise _no_column(source, names, role, name)
        if names.count(name) > 1:
            count = names.count(name)
            raise InputError(f"{source} has {count} columns called {name!r}: rename all but one of them")
        for other in chosen:
            if other.name == name:
                raise InputError(
                    f"column {name!r} of {source} cannot hold both the {other.role}s and the {role}s: "
                    f"name another with --{other.role}-column or --{role}-column"
                )
        chosen.append(Column(role, name, names.index(name)))
    return chosen


def _usual_name(source: str, names: Sequence[str], role: str) -> str:
    """The column that a role goes by when nobody names one; the default where there is none."""
    default = _DEFAULTS[role]
    if default in names:
        return default
    for spelling in _ALSO[role]:
        found = sorted({name for name in names if _folded(name) == spelling})
        if len(found) > 1:
            raise InputError(
                f"{source} has the columns {listed(found)}, and each may hold the {role}s: "
                f"name the one that does with --{role}-column ({role}= in Python)"
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
        f"name the one that holds the {role}s with --{role}-column ({role}= in Python){otherwise}",
    )


def _no_times(source: str, names: Sequence[str], taken: set[str]) -> None:
    for name in names:
        if name not in taken and any(word in name.casefold() for word in ("time", "date")):
            raise InputError(
                f"{source} has no column {_DEFAULTS['time']!r}, and {name!r} seems to hold the times: "
                f"pass --time-column {name} (time= in Python), or drop the column if the rows are in order"
            )


def listed(names: Sequence[str]) -> str:
    """Names in quotes, for a sentence; of very many the first."""
    shown = ", ".join(repr(name) for name in names[:_MOST_SHOWN])
    return shown if len(names) <= _MOST_SHOWN else f"{shown} and {len(names) - _MOST_SHOWN} more"
