"""Config files: TOML with one table for each group of options; each mistake gives one clear sentence."""

import difflib
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from recblr.config.option import TABLES, Option, with_todays_names
from recblr.config.run import OPTIONS, DataConfig, TrainingConfig
from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.io.reading import check_ends

_HEAD = """\
# The options of this run.  A flag on the command line overrides the value in this file:
#   recblr train --config config.toml --out another-run
"""
_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    tuple: "a list of texts in quotes",
}


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config file as {key: value}; each value has the type of its option.

    Raises InputError, in one sentence, if the file cannot be read or is not TOML, a table or key is unknown
    (the sentence names the nearest known one), a key is in the wrong table, or a value has the wrong type or
    is out of range.
    """
    try:
        check_ends(path)
        # Some editors put a byte order mark before the text.
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no config file {path}", "check the path") from None
    except OSError as error:
        raise InputError(
            f"cannot read the config file {path}: {error.strerror}", "give another file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {_uncapitalised(str(error))}", "correct the file") from None
    except (ValueError, RecursionError):  # not UTF-8, a number with too many digits, too deep brackets
        raise InputError(
            f"{path} is not TOML", "give a file like the config.toml in a run's folder"
        ) from None
    values = {}
    for table, entries in tables.items():
        if table not in TABLES:
            raise _unknown_table(path, table)
        if not isinstance(entries, dict):
            raise InputError(
                f"{path}: {table} is a table", f"write [{table}], and its keys on the lines below"
            )
        for key, value in with_todays_names(entries).items():
            option = OPTIONS.get(key)
            if option is None or option.table != table:
                raise _unknown_key(path, table, key)
            values[key] = _typed(path, option, value)
    try:
        TrainingConfig.from_options(values)
        DataConfig.from_options(values)
    except InputError as error:
        raise InputError(f"{path}: {error.problem}", error.remedy) from None
    return values


def write_config(path: Path, values: dict[str, Any]) -> None:
    """Write {key: value} as a config file, atomically.  None is left out: a missing key means None."""
    lines = [_HEAD]
    for table in TABLES:
        entries = [
            f"{key} = {_toml(values[key])}  # {option.help}\n"
            for key, option in OPTIONS.items()
            if option.table == table and values.get(key) is not None
        ]
        if entries:
            lines += ["\n", f"[{table}]\n", *entries]
    try:
        text = "".join(lines).encode()
    except UnicodeEncodeError:
        raise InputError(
            "a path or column name is not valid text, so a config file cannot hold it", "rename it"
        ) from None
    with atomic_path(path) as draft:
        draft.write_bytes(text)


def _typed(path: Path, option: Option, value: Any) -> Any:
    kind: type = type(value)
    if option.type is float and kind is int:
        with suppress(OverflowError):
            return float(value)
    if option.type is tuple and kind is list and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if option.type is not kind or kind is tuple:
        raise InputError(
            f"{path}: {option.key} in [{option.table}] must be {_TYPE_NAMES[option.type]}, "
            f"but is {_shown(value)}"
        )
    return value


def _unknown_table(path: Path, name: str) -> InputError:
    if name in OPTIONS:
        return InputError(f"{path}: {name} is outside its table", f"put it under [{OPTIONS[name].table}]")
    return InputError(f"{path}: there is no table [{name}]", _nearest(name, TABLES, "the tables are"))


def _unknown_key(path: Path, table: str, key: str) -> InputError:
    if key in OPTIONS:
        return InputError(f"{path}: {key} is not a key of [{table}]", f"put it under [{OPTIONS[key].table}]")
    here = [known for known, option in OPTIONS.items() if option.table == table]
    near = difflib.get_close_matches(key, here, n=1) or difflib.get_close_matches(key, OPTIONS, n=1)
    if near and near[0] not in here:
        remedy = f"do you mean {near[0]}, under [{OPTIONS[near[0]].table}]?"
        return InputError(f"{path}: there is no {key}", remedy)
    return InputError(f"{path}: there is no {key} in [{table}]", _nearest(key, here, "its keys are"))


def _nearest(name: str, known: list[str] | tuple[str, ...], otherwise: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"do you mean {near[0]}?" if near else f"{otherwise} {', '.join(known)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # TOML has the escapes of JSON, except for this character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
