"""The options of `Recommender.fit`: those of `recblr train`, with the names that they have in Python."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from recblr.config import OPTIONS, Option, TrainingConfig
from recblr.config.option import options
from recblr.config.run import DataConfig
from recblr.errors import InputError

# Options whose place another argument of `fit` takes.
_ARGUMENTS = {
    "paths": "data",
    "user_column": "user",
    "item_column": "item",
    "time_column": "time",
    "rating_column": "rating",
    "valid_share": "valid",
}
# `time` is a column in Python.
_KEYS = {"time_use": "time"} | {
    option.name: key for key, option in OPTIONS.items() if key != "time" and option.name not in _ARGUMENTS
}
_DATA_KEYS = {option.key for option in options(DataConfig)}

_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """{key: value} of options by their names in Python.

    Raises InputError for an unknown name and for a value of a wrong type.
    """
    found = {}
    for name, value in given.items():
        if name not in _KEYS:
            raise _unknown(name)
        option = OPTIONS[_KEYS[name]]
        found[option.key] = _typed(name, option, value)
    return found


def data_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """{name: value} of those options that say how data are read."""
    return {OPTIONS[key].name: value for key, value in found.items() if key in _DATA_KEYS}


def training_config(found: Mapping[str, Any]) -> TrainingConfig:
    """The options of the training.  Raises InputError for a value out of range."""
    return TrainingConfig.from_options({key: value for key, value in found.items() if key not in _DATA_KEYS})


def call_of_fit(given: Mapping[str, Any]) -> str:
    """The call of `fit` with these arguments, for the report."""
    named = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"recblr.Recommender().fit(data{named})"


def _unknown(name: str) -> InputError:
    if name in _ARGUMENTS:
        return InputError(f"fit has no option {name!r}", f"give {_ARGUMENTS[name]}=")
    names = [*_KEYS, *_ARGUMENTS.values()]
    near = difflib.get_close_matches(name.replace("-", "_"), names, n=1)
    return InputError(
        f"fit has no option {name!r}",
        f"do you mean {near[0]}=?" if near else "docs/options.md lists all, and fit takes them with _ for -",
    )


def _typed(name: str, option: Option, value: Any) -> Any:
    if value is None and option.optional:
        return None
    if option.type is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if option.type is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if option.type in (bool, str) and isinstance(value, option.type):
        return value
    raise InputError(f"{name} must be {_KINDS[option.type]}, but is {value!r}", f"correct {name}=")
