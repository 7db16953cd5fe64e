"""Which columns of a table hold the users, the items and the times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recblr.errors import InputError

_DEFAULTS = {"user": "user_id", "item": "item_id", "time": "timestamp"}


@dataclass(frozen=True)
class Column:
    """A column that is read. role: "user", "item" or "time"; position: counted from 0 in the header."""

    role: str
    name: str
    position: int


def choose_columns(
    path: Path, names: Sequence[str], *, user: str | None, item: str | None, time: str | None
) -> list[Column]:
    """The user, item and, where there is one, time column among a table's column names.

    A role that is None goes by its default name: user_id, item_id, timestamp. A table may do without a
    time column, as its rows are then in order; but where some other column seems to hold times, guessing
    either way would reorder histories in silence, so it is asked for.

    Raises InputError for a name that is not among `names`, is there twice, or is given for two roles.
    """
    asked = {"user": user, "item": item, "time": time}
    chosen: list[Column] = []
    for role, default in _DEFAULTS.items():
        name = asked[role] or default
        if role == "time" and not time and name not in names:
            _no_times(path, names, taken={column.name for column in chosen})
            continue
        if name not in names:
            raise InputError(
                f"{path} has no column {name!r}: it has {_listed(names)}; name the one that holds "
                f"the {role}s with --{role}-column ({role}= in Python)"
            )
        if names.count(name) > 1:
            count = names.count(name)
            raise InputError(f"{path} has {count} columns called {name!r}: rename all but one of them")
        for other in chosen:
            if other.name == name:
                raise InputError(
                    f"column {name!r} of {path} cannot hold both the {other.role}s and the {role}s: "
                    f"name another with --{other.role}-column or --{role}-column"
                )
        chosen.append(Column(role, name, names.index(name)))
    return chosen


def _no_times(path: Path, names: Sequence[str], taken: set[str]) -> None:
    for name in names:
        if name not in taken and any(word in name.casefold() for word in ("time", "date")):
            raise InputError(
                f"{path} has no column {_DEFAULTS['time']!r}, and {name!r} seems to hold the times: "
                f"pass --time-column {name} (time= in Python), or drop the column if the rows are in order"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
