"""Options: one dataclass field describes one flag and one TOML key completely.

A field made with `option` needs nothing else.  It becomes the flag ``--its-name``, the key ``its-name`` in
its table of a config file, a line of RUN/config.toml, and a value that a resumed run must share.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from recblr.errors import InputError

Config = TypeVar("Config")

TABLES = ("data", "model", "optimisation", "loss", "run")
"""The tables of a config file and the panels of the help, in the order of display."""

RENAMED: dict[str, str] = {}
"""The present names of fields by their old names, so that old model files and config files can be read.

When a field gets a new name, add {"old_name": "new_name"} here, and never remove it.
"""

LARGEST = 2**31 - 1
"""The largest value of a count.  A larger count would need too much memory or time, and could overflow."""


def option(table: str, default: Any, help: str, *, fixed: bool = True) -> Any:
    """A dataclass field that is an option.

    Its annotation is bool, int, float, str, a Literal of words, or tuple[str, ...].  It may also allow None.

    table: one of TABLES.
    default: the value of an option that is not given; None only if the annotation allows it.
    help: one line, shown in the help and beside the value in RUN/config.toml.
    fixed: whether a resumed run must have the same value.
    """
    if table not in TABLES:
        raise ValueError(f"table must be one of {', '.join(TABLES)}, but is {table}")
    return field(default=default, metadata={"table": table, "help": help, "fixed": fixed})


def with_default(parent: type, name: str, default: Any) -> Any:
    """The option `name` of a parent class, with another default for a subclass."""
    (inherited,) = (entry for entry in fields(parent) if entry.name == name)
    return field(default=default, metadata=inherited.metadata)


@dataclass(frozen=True)
class Option:
    """An option, for the code that reads or writes options.

    name: the name of the dataclass field.
    key: the flag without its dashes, and the key in TOML.
    type: bool, int, float, str, or tuple for a list of texts.
    choices: the allowed words of a text.  Empty if any text is allowed.
    optional: whether None is allowed.
    """

    name: str
    key: str
    table: str
    type: type
    choices: tuple[str, ...]
    optional: bool
    default: Any
    help: str
    fixed: bool


def with_todays_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored file under their present names, which are fields (d_model) or keys (d-model).

    Where a file has both the old and the present name, the old one stays and is refused as unknown.
    """
    today = RENAMED | {_key(old): _key(new) for old, new in RENAMED.items()}
    return {name if today.get(name, name) in values else today[name]: value for name, value in values.items()}


def _key(name: str) -> str:
    """The key for a field name: the flag without its dashes, and the key in TOML."""
    return name.replace("_", "-")


def options(config: type) -> tuple[Option, ...]:
    """The options of a dataclass, in order; fields that are not options are left out."""
    hints = get_type_hints(config)
    return tuple(
        Option(entry.name, _key(entry.name), entry.metadata["table"], *_parsed(hints[entry.name]),
               entry.default, entry.metadata["help"], entry.metadata["fixed"])
        for entry in fields(config)
        if "table" in entry.metadata
    )  # fmt: skip


def check_choices(config: object) -> None:
    """Raise InputError for the first option whose value is not one of its choices."""
    for option in options(type(config)):
        value = getattr(config, option.name)
        if value is not None or not option.optional:
            check_choice(option, value)


def check_choice(option: Option, value: Any) -> None:
    """Raise InputError for a value that is not one of the option's choices."""
    if option.choices and value not in option.choices:
        near = difflib.get_close_matches(str(value), option.choices, n=1)
        raise InputError(
            f"--{option.key} must be one of {', '.join(option.choices)}, but is {value!r}",
            f"do you mean {near[0]}?" if near else "",
        )


def values_of(config: object) -> dict[str, Any]:
    """The options of a dataclass as {key: value}."""
    return {option.key: getattr(config, option.name) for option in options(type(config))}


def from_values(config: type[Config], values: dict[str, Any], **others: Any) -> Config:
    """Build the dataclass from {key: value}; keys of other dataclasses are ignored.

    others: fields that are not options.
    """
    given = {option.name: values[option.key] for option in options(config) if option.key in values}
    return config(**given, **others)


def _parsed(hint: Any) -> tuple[type, tuple[str, ...], bool]:
    """The plain type of an annotation, the words that it allows, and whether it allows None."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return *_parsed(inner)[:2], True
    if origin is Literal and all(type(word) is str for word in arguments):
        return str, arguments, False
    if hint in (bool, int, float, str) or hint == tuple[str, ...]:
        return origin or hint, (), False
    raise TypeError(f"an option cannot be of the type {hint}")
