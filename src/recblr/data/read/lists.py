"""Turns rows that hold lists into events: an event for each element. Also finds values in nested objects.

A row may hold a whole history or a basket: a list of items, with one time for all of them or a list of times
of equal length. Instead of lists of values, a row may have a list of objects, each with an item and a time.
Lists in lists are expanded too. A value that is not in a list belongs to every event of its row.

Nested values have names with dots: `user.id`, and `events.aid` for a list of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from recblr.data.packed import Int64Array
from recblr.data.read.columns import ADD_OR_DROP, Column, Wanted, choose_columns, listed
from recblr.errors import InputError

Steps: TypeAlias = tuple[str, ...]
"""The names that lead to a value: that of a column, then those of fields. A list adds no name."""


@dataclass(frozen=True, eq=False)
class Lists:
    """A column of N lists.

    lengths: (N,) the number of elements of each; -1 if a row has no list.
    elements: those of all lists, one list after another; (sum of the lengths that are not -1,).
    """

    lengths: Int64Array
    elements: Values


Values: TypeAlias = pl.Series | Lists
"""The values of a column: one for each row, or a list for each row."""


@dataclass(frozen=True, eq=False)
class Expanded:
    """A table with an event in each row.

    frame: its columns are named by their roles, and hold no lists.
    place: gives the place of a row of the frame, for error messages.
    empty_rows: how many rows had empty lists, and so no event.
    """

    frame: pl.DataFrame
    place: Callable[[int], str]
    empty_rows: int


def expand(
    frame: pl.DataFrame | Mapping[str, Values],
    columns: Sequence[Column],
    place: Callable[[int], str],
    *,
    may_lack_values: bool = False,
) -> Expanded:
    """A table with an event for each element of the lists of a row.

    frame: N rows; its columns are named by their roles. Columns may hold lists, also nested ones.
    place: gives the place of one of the N rows.
    may_lack_values: whether null is allowed: as a value, in a list, and as a list, which then is empty.

    Raises InputError for lists of different lengths in a row; for a row without a list or with null in it,
    if that is not allowed; for lists of times or ratings without lists of items; and for lists of users,
    unless they come from the same list of objects as all other lists.
    """
    table: dict[str, Values] = {column.role: as_lists(frame[column.role]) for column in columns}
    names = {column.role: column.name for column in columns}
    rows = next((len(_lengths(values)) for values in table.values()), 0)
    origins = np.arange(rows)
    deepest = 0
    while nested := {role: values for role, values in table.items() if isinstance(values, Lists)}:
        deepest += 1
        if may_lack_values:
            nested = {role: replace(lists, lengths=lists.lengths.clip(0)) for role, lists in nested.items()}
        lengths = _common_lengths(nested, names, place, origins)
        taken = np.repeat(np.arange(lengths.size), lengths)
        origins = origins[taken]
        table = {
            role: values.elements if isinstance(values, Lists) else values.gather(taken)
            for role, values in table.items()
        }
    flat = pl.DataFrame({role: values for role, values in table.items() if isinstance(values, pl.Series)})
    if not deepest:
        return Expanded(flat, place, 0)
    counts = np.bincount(origins, minlength=rows)
    firsts = np.cumsum(counts) - counts

    def place_of_event(event: int) -> str:
        row = int(origins[event])
        return f"{place(row)}, element {event - int(firsts[row])} (from 0)"

    for role, values in flat.to_dict().items():
        if values.has_nulls() and not may_lack_values:
            raise InputError(
                f"{place_of_event(int(values.is_null().arg_max() or 0))} has no value in column "
                f"{names[role]!r}",
                ADD_OR_DROP,
            )
    return Expanded(flat, place_of_event, int(np.count_nonzero(counts == 0)))


def _lengths(values: Values) -> Sequence[Any]:
    return values.lengths if isinstance(values, Lists) else values  # type: ignore[return-value]


def _common_lengths(
    nested: Mapping[str, Lists], names: Mapping[str, str], place: Callable[[int], str], origins: Int64Array
) -> Int64Array:
    """The lengths (N,) of the lists of each row, which must be equal for all columns.

    origins: (N,) the rows of the table that the rows are from; place gives their places.
    """
    (first, one), *others = nested.items()
    parents = {names[role].rpartition(".")[0] for role in nested}
    if "user" in nested and one.lengths.size and (len(parents) > 1 or "" in parents):
        raise InputError(
            f"{place(int(origins[0]))} has a list in column {names['user']!r}, but all events of a row "
            "belong to one user",
            "write a row for each user, or name another column with --user-column (user= in Python)",
        )
    if not nested.keys() & {"user", "item"} and one.lengths.size:
        # It may be the start and the end of one event.
        raise InputError(
            f"{place(int(origins[0]))} has a list in column {names[first]!r}, but one value in column "
            f"{names['item']!r}",
            f"write a list of items too, or name another column with --{first}-column ({first}= in Python)",
        )
    for role, lists in nested.items():
        if (lists.lengths < 0).any():
            row = int(origins[np.argmax(lists.lengths < 0)])
            raise InputError(f"{place(row)} has no value in column {names[role]!r}", ADD_OR_DROP)
    for role, lists in others:
        differ = lists.lengths != one.lengths
        if differ.any():
            row = int(np.argmax(differ))
            raise InputError(
                f"{place(int(origins[row]))} has {one.lengths[row]} elements in column {names[first]!r} and "
                f"{lists.lengths[row]} in column {names[role]!r}",
                "make the lists of a row equally long",
            )
    return one.lengths


def as_lists(values: Values) -> Values:
    """A polars column of lists or arrays as Lists; other values unchanged."""
    if isinstance(values, Lists):
        return values
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if not isinstance(values.dtype, pl.List):
        return values
    counts = values.list.len().cast(pl.Int64)
    # To explode an empty list would give an element.
    elements = values.filter((counts > 0).fill_null(False)).explode()
    return Lists(counts.fill_null(-1).to_numpy(), as_lists(elements))


# Nested columns of polars: structs and lists of them.


def leaves(steps: Steps, dtype: Any) -> list[Steps]:
    """The values of a polars column: itself, or the fields of its structs, also in lists."""
    inner = dtype
    while isinstance(inner, pl.List | pl.Array):
        inner = inner.inner
    if not isinstance(inner, pl.Struct):
        return [steps]
    return [leaf for field in inner.fields for leaf in leaves((*steps, field.name), field.dtype)]


def dtype_at(dtype: Any, steps: Steps) -> Any:
    """The type of the values that steps lead to from a polars column of a type, without their lists."""
    while isinstance(dtype, pl.List | pl.Array):
        dtype = dtype.inner
    if not steps:
        return dtype
    return dtype_at(next(field.dtype for field in dtype.fields if field.name == steps[0]), steps[1:])


def values_at(values: Values, steps: Steps) -> Values:
    """The values that steps lead to from a polars column. Null where a struct on the way is null."""
    values = as_lists(values)
    if isinstance(values, Lists):
        return replace(values, elements=values_at(values.elements, steps))
    return values_at(values.struct.field(steps[0]), steps[1:]) if steps else values


# Nested values of Python: from JSON, and in object columns of pandas.


_LISTS = (list, tuple, np.ndarray)
_NESTED = frozenset((dict, *_LISTS))


def is_list(value: object) -> bool:
    return isinstance(value, _LISTS)


def is_nested(values: Iterable[object]) -> bool:
    """Whether any of the values is a list or an object."""
    return not _NESTED.isdisjoint(map(type, values))


class Names:
    """The names of the values in Python objects, in the order of their first appearance."""

    def __init__(self) -> None:
        self._found: dict[Steps, None] = {}
        self._plain: dict[Steps, set[str]] = {}  # for each object, the names that had plain values

    def add(self, value: Any, steps: Steps = ()) -> None:
        """Add the names in a value, which has the name `steps` itself if it is no object."""
        if type(value) is dict:
            plain = self._plain.setdefault(steps, set())
            nested = is_nested(value.values())
            if not nested and value.keys() <= plain:
                return  # by far the most frequent case
            for key, inner in value.items():
                if type(key) is not str:
                    continue  # no column can have this name
                if type(inner) in _NESTED:
                    self.add(inner, (*steps, key))
                elif key not in plain:
                    plain.add(key)
                    self._found[(*steps, key)] = None
        elif is_list(value) and is_nested(value):
            for inner in value:
                self.add(inner, steps)
        else:
            self._found[steps] = None

    def leaves(self) -> list[Steps]:
        """The names of plain values and of lists of these; not of a null where other rows have an object."""
        objects = {steps[:end] for steps in self._found for end in range(1, len(steps))}
        return [steps for steps in self._found if steps not in objects]


def value_at(value: Any, steps: Steps) -> Any:
    """The Python value that steps lead to, a list if there is a list on the way; None if there is none."""
    for taken, step in enumerate(steps):
        if is_list(value):
            return [value_at(inner, steps[taken:]) for inner in value]
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def from_python(values: Sequence[Any], convert: Callable[[Sequence[Any], Int64Array], pl.Series]) -> Values:
    """Python values as a column; with lists in any row, as Lists.

    convert: makes a column from values that are not lists, and from the numbers of their rows.
    """
    return _from_python(values, np.arange(len(values)), convert)


def _from_python(
    values: Sequence[Any], rows: Int64Array, convert: Callable[[Sequence[Any], Int64Array], pl.Series]
) -> Values:
    if set(_LISTS).isdisjoint(map(type, values)):
        return convert(values, rows)
    # One value among lists is a list of one: some programs write a single element without brackets.
    wrapped = [value if is_list(value) else [] if value is None else [value] for value in values]
    lengths = np.fromiter(map(len, wrapped), np.int64, len(wrapped))
    elements = _from_python(
        [element for value in wrapped for element in value], np.repeat(rows, lengths), convert
    )
    lengths[[value is None for value in values]] = -1
    return Lists(lengths, elements)


def choose(
    source: str, found: Sequence[Steps], wanted: Wanted, sample: Callable[[str], pl.Series]
) -> list[Column]:
    """As choose_columns, where the last part of a nested name suffices if no other name has it.

    found: the names of all columns; a Column has its position in it.
    sample: gives the first values of a column, without nulls.
    """
    names = [".".join(steps) for steps in found]
    full: dict[str, Any] = {}
    for role, name in wanted.names().items():
        if name in names:
            continue
        fits = [
            other for other, steps in zip(names, found, strict=True) if len(steps) > 1 and steps[-1] == name
        ]
        if len(fits) > 1:
            raise InputError(
                f"{source} has the columns {listed(fits)}, and {name!r} may be any of them",
                f"give the full name with --{role}-column ({role}= in Python)",
            )
        if fits:
            full[role] = fits[0]
    return choose_columns(source, names, replace(wanted, **full), sample)
