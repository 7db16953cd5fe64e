"""An option: a dataclass field that says all there is to say about one flag and one TOML key.

A field made with `option` needs nothing else to become ``--its-name``, ``its-name = …`` in its table
of a config file, a line of RUN/config.toml, and a value that a resumed run must share.
"""

import difflib
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from recblr.errors import InputError

Config = TypeVar("Config")

TABLES = ("data", "model", "optimisation", "loss", "run")
"""The tables of a config file and the panels of the help, in the order in which they are shown."""


def option(table: str, default: Any, help: str, *, fixed: bool = True, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field that is an option.

    table: one of TABLES.
    default: the value where nobody says otherwise; None only for a type that allows it.
    help: one sentence; it is read in the help, and beside the value in RUN/config.toml.
    fixed: whether a resumed run must have the same value.
    choices: the words that a text may be; any where empty.
    """
    if table not in TABLES:
        raise ValueError(f"table must be one of {', '.join(TABLES)}, but is {table}")
    return field(default=default, metadata={"table": table, "help": help, "fixed": fixed, "choices": choices})


@dataclass(frozen=True)
class Option:
    """An option as its readers and writers see it.

    name: the dataclass field's. key: the flag without its dashes, and the key in TOML.
    type: bool, int, float, str, or tuple for a list of texts. optional: whether None is a value.
    """

    name: str
    key: str
    table: str
    type: type
    optional: bool
    default: Any
    help: str
    fixed: bool


def options(config: type) -> list[Option]:
    """The options of a dataclass in their order; fields that are none are left out."""
    hints = get_type_hints(config)
    found = []
    for entry in fields(config):
        if "table" not in entry.metadata:
            continue
        kind, optional = _kind(hints[entry.name])
        if entry.default is MISSING:
            raise TypeError(f"{config.__name__}.{entry.name} has no default")
        found.append(
            Option(
                entry.name,
                entry.name.replace("_", "-"),
                entry.metadata["table"],
                kind,
                optional,
                entry.default,
                entry.metadata["help"],
                entry.metadata["fixed"],
            )
        )
    return found


def check_choices(config: object) -> None:
    """InputError for the first option whose value is none of its choices."""
    for entry in fields(config):  # type: ignore[arg-type]
        choices, value = entry.metadata.get("choices"), getattr(config, entry.name)
        if choices and value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1)
            raise InputError(
                f"--{entry.name.replace('_', '-')} must be one of {', '.join(choices)}, but is {value!r}"
                + (f"; do you mean {near[0]}?" if near else "")
            )


def values_of(config: object) -> dict[str, Any]:
    """{key: value} of a dataclass's options."""
    return {option.key: getattr(config, option.name) for option in options(type(config))}


def from_values(config: type[Config], values: dict[str, Any], **others: Any) -> Config:
    """The dataclass with the values given by key; keys of other dataclasses are passed over.

    others: fields that are no options.
    """
    given = {option.name: values[option.key] for option in options(config) if option.key in values}
    return config(**given, **others)


def _kind(hint: Any) -> tuple[type, bool]:
    """The plain type of an annotation, and whether it allows None."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _kind(inner)[0], True
    kind = get_origin(hint) or hint
    if kind not in (bool, int, float, str, tuple) or (kind is tuple and arguments != (str, ...)):
        raise TypeError(f"an option cannot be of the type {hint}")
    return kind, False
