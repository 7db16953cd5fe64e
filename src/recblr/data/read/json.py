"""Reads JSON: an object on each line (JSON Lines), objects over several lines, or one array of objects.

It uses the json module of Python. The reader of polars is faster, but it takes the first of two equal names,
reads true and "true", or 1.0 and "1", as the same id, and writes a zero byte for half of a surrogate pair.

Some published files are not JSON: they have a dict of Python on each line. These are read too, but not run.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from recblr.data.events import Events
from recblr.data.packed import Int64Array
from recblr.data.read.columns import Column, Wanted
from recblr.data.read.frames import to_checked_events
from recblr.data.read.lists import Names, Steps, choose, from_python, is_list, value_at
from recblr.errors import InputError

# The first objects, from which it is seen whether a name has times.
_SAMPLE = 1000

_SPACES = re.compile(r"[ \t\r\n]*")
# What the parsers of JSON and of Python's literals raise.
_UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)
_EXAMPLE = 'an object such as {"user_id": 7, "item_id": 3}'


class _Repeated:
    """Stands for the value of a name that an object has twice."""


_REPEATED = _Repeated()


def read_json(path: Path, data: bytes, wanted: Wanted) -> Events:
    """The events of a JSON file, in its order. Its columns are the names of its objects; see lists.py.

    Ids are whole numbers or texts; 7 and "7" are the same. Times and ratings are numbers or texts. Numbers
    are read exactly. Blank lines, and values that are not wanted, are ignored.

    Raises InputError for a line that cannot be read or holds no object, for an id of another type, for a
    wanted name that an object has twice, and as read_frame does.
    """
    source = str(path)
    names = Names()
    guess: list[Steps] = []
    # Most often, the first object has all names. So the file is read once and not twice.
    with suppress(InputError, StopIteration, RecursionError):
        names.add(next(_objects(source, data))[1])
        guess, _ = _chosen(source, data, names, wanted)
    lines, values = _collect(source, _objects(source, data), guess, names)
    if not lines:
        raise InputError(f"{source} has no objects", "give a file with an interaction in each object")
    steps, columns = _chosen(source, data, names, wanted)
    if steps != guess:
        lines, values = _collect(source, _objects(source, data), steps, names)

    def place(row: int) -> str:
        return f"{source}, line {lines[row]}"

    table = {
        column.role: from_python(column_values, _converter(column, place))
        for column, column_values in zip(columns, values, strict=True)
    }
    return to_checked_events(table, columns, wanted, source=source, place=place)


def _chosen(source: str, data: bytes, names: Names, wanted: Wanted) -> tuple[list[Steps], list[Column]]:
    leaves = names.leaves()

    def sample(name: str) -> pl.Series:
        steps = next(leaf for leaf in leaves if ".".join(leaf) == name)
        values = [value_at(value, steps) for _, value in islice(_objects(source, data), _SAMPLE)]
        while any(map(is_list, values)):
            values = [inner for value in values for inner in (value if is_list(value) else [value])]
        plain = [str(value) for value in values if isinstance(value, str | int | float)]
        return pl.Series([text for text in plain if text.isprintable()], dtype=pl.String)

    columns = choose(source, leaves, wanted, sample)
    return [leaves[column.position] for column in columns], columns


def _collect(
    source: str, objects: Iterator[tuple[int, dict[str, Any]]], wanted: list[Steps], names: Names
) -> tuple[Sequence[int], list[list[Any]]]:
    """The line of each object, and its values, a list for each of the wanted names.

    The names in the objects are added to names.
    """
    lines = array("q")
    values: list[list[Any]] = [[] for _ in wanted]
    simple = [
        (steps[0], column.append) for steps, column in zip(wanted, values, strict=True) if len(steps) == 1
    ]
    deep = [(steps, column.append) for steps, column in zip(wanted, values, strict=True) if len(steps) > 1]
    for line, value in objects:
        lines.append(line)
        try:
            names.add(value)
            for key, append in simple:
                append(value.get(key))
            for steps, append in deep:
                append(value_at(value, steps))
        except RecursionError as error:
            raise _broken(f"{source}, line {line}", error) from None
    return lines, values


# From bytes to objects.


def _objects(source: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, each with its line, from 1."""
    first, start = next((number, line) for number, line in _lines(data))
    if start[:1] == "{":
        for parse in (_JSON.decode, _from_python_literal):
            try:
                fits = isinstance(parse(start), dict)
            except _UNREADABLE:
                continue
            if fits:
                return _objects_of_lines(source, data, parse)
    elif start[:1] != "[":
        raise InputError(
            f"{source}, line {first} is not JSON: it starts with {start[:20]!r} and not with {{ or [",
            "give a file with an object on each line, or choose the right --format (format= in Python)",
        )
    return _objects_of_text(source, data.decode())


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1, without spaces around them."""
    for number, line in enumerate(io.BytesIO(data), 1):
        text = line.decode().strip(" \t\r\n")
        if text:
            yield number, text


def _objects_of_lines(
    source: str, data: bytes, parse: Callable[[str], Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in _lines(data):
        try:
            value = parse(text)
        except _UNREADABLE as error:
            raise _broken(f"{source}, line {number}", error) from None
        if type(value) is not dict:
            raise _no_object(f"{source}, line {number}", value)
        yield number, value


def _objects_of_text(source: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of an array, or of a sequence of objects, at any place in the text."""
    position = _after_spaces(text, 0)
    in_array = text.startswith("[", position)
    line, counted = 1, 0
    if in_array:
        position = _after_spaces(text, position + 1)
        if text.startswith("]", position):
            return
    while in_array or position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _JSON.raw_decode(text, position)
        except json.JSONDecodeError as error:
            at = f" (which starts there, and is wrong in line {error.lineno})" if error.lineno != line else ""
            raise _broken(f"{source}, line {line}{at}", error) from None
        except (ValueError, RecursionError) as error:
            raise _broken(f"{source}, line {line}", error) from None
        if type(value) is not dict:
            raise _no_object(f"{source}, line {line}", value)
        yield line, value
        position = _after_spaces(text, position)
        if in_array:
            mark = text[position : position + 1]
            if mark not in (",", "]"):
                where = f"{source}, line {line + text.count(chr(10), counted, position)}"
                raise InputError(
                    f"{where}: after an object of the array stands {mark!r}"
                    if mark
                    else f"{source} ends in the middle of its array",
                    "correct it; the objects of an array have commas between them, and a ] at the end",
                )
            position = _after_spaces(text, position + 1)
            in_array = mark == ","
            if not in_array and position < len(text):
                where = f"{source}, line {line + text.count(chr(10), counted, position)}"
                raise InputError(
                    f"{where}: the array of objects has ended, but more follows",
                    "write one array, or an object on each line",
                )


def _after_spaces(text: str, position: int) -> int:
    match = _SPACES.match(text, position)
    assert match is not None
    return match.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        value |= {name: _REPEATED for name in names if names.count(name) > 1}
    return value


_JSON = json.JSONDecoder(object_pairs_hook=_object)


def _from_python_literal(text: str) -> Any:
    """The value of a Python literal, such as {u'user': u'x'}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about backslashes in texts
        tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if len(names) != len(set(names)):
                raise ValueError("it has a name twice")
    return ast.literal_eval(tree)


def _broken(place: str, error: BaseException) -> InputError:
    if isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg}, character {error.colno}"
    elif isinstance(error, RecursionError | MemoryError):
        reason = "it is nested too deeply"
    elif isinstance(error, SyntaxError):
        reason = f"{error.msg}, character {error.offset}"
    else:
        reason = str(error).partition(";")[0].partition("\n")[0]
    return InputError(f"{place} is not valid JSON ({reason})", "correct it, or drop it")


def _no_object(place: str, value: object) -> InputError:
    return InputError(
        f"{place} holds {_kind(value)}, but each event must be in {_EXAMPLE}",
        "convert the file, or choose the right --format (format= in Python)",
    )


# From values to columns.


def _converter(
    column: Column, place: Callable[[int], str]
) -> Callable[[Sequence[Any], Int64Array], pl.Series]:
    is_id = column.role in ("user", "item")

    def convert(values: Sequence[Any], rows: Int64Array) -> pl.Series:
        """Whole numbers as int64 if all are such, else texts. Texts keep all digits, and 7 becomes "7"."""
        types = set(map(type, values)) - {type(None)}
        try:
            if types <= {str}:
                return pl.Series(values, dtype=pl.String)
            if types == {int} and all(value is None or abs(value) < 2**63 for value in values):
                return pl.Series(values, dtype=pl.Int64)
        except UnicodeEncodeError:
            pass  # found below
        texts: list[str | None] = []
        for value, row in zip(values, rows, strict=True):
            kind = type(value)
            try:
                if value is None:
                    texts.append(None)
                elif kind is str:
                    # Python's literals may have the two halves of a character as two escapes.
                    texts.append(value.encode("utf-16", "surrogatepass").decode("utf-16"))
                elif kind is int or (kind is float and not is_id):
                    texts.append(repr(value))
                else:
                    raise InputError(
                        f"{place(int(row))} has {_kind(value)} in the {column.role} column {column.name!r}",
                        "correct it: "
                        + ("ids are texts or whole numbers" if is_id else "it must be a number or text"),
                    )
            except InputError:
                raise
            except UnicodeError:
                raise InputError(
                    f"{place(int(row))} has half of a character in the {column.role} column "
                    f"{column.name!r}: {value!r}",
                    "correct it, or drop the row",
                ) from None
            except ValueError:
                raise InputError(
                    f"{place(int(row))} has a number of too many digits in the {column.role} column "
                    f"{column.name!r}",
                    "write it as a text",
                ) from None
        return pl.Series(texts, dtype=pl.String)

    return convert


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Repeated):
        return "two values"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, int):
        return "a number"
    names = {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
