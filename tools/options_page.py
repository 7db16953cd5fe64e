"""Prints docs/options.md: every option of every command, as the code has it.

    python tools/options_page.py > docs/options.md

A test compares the page with what this prints, so the page cannot fall behind the code.
"""

from typing import Any

import typer

from recblr.cli import commands  # noqa: F401  registers them
from recblr.cli.app import app
from recblr.config import OPTIONS, Option
from recblr.config.option import TABLES

HEAD = """\
# Options

Every option of every command. `python tools/options_page.py` makes this page; do not edit it by hand. The
last column is the text that `--help` shows.

**Where a value comes from.** A flag on the command line counts first, then the file given with `--config`,
then the default. [How to train on your own log](own-log.md#keep-options-in-a-file) shows such a file.

**Types.** *N* is a whole number, *X* is a number, and *WORD* is a text. An option of type *on/off* has two
flags: the first one turns it on, the second one turns it off. In a file it is `true` or `false`. If the
default is –, the option is off, or recblr chooses a value as the text says.

## Options of a run

`recblr train` and `recblr reproduce` take all of these. Each heading names a table of the config file. Each
key is the flag without its dashes. Options marked † may change when a run is resumed; all others must stay
the same.
"""
TAIL = """
## Environment variables

| variable | meaning |
|---|---|
| `OMP_NUM_THREADS` | how many threads torch and the operators use |
| `GOMP_SPINCOUNT` | how often a waiting thread looks for work before it sleeps; the command sets 4000 |
| `OMP_WAIT_POLICY` | `passive` lets a waiting thread sleep soon; `active` keeps it awake |
| `RECBLR_ISA` | run the kernels of one instruction set: `baseline`, `x86-64-v3`, `x86-64-v4` |
| `RECBLR_TOKEN`, `RECBLR_STORE` | for `recblr serve`: the token that requests must carry; the store |
| `RECBLR_REQUIRE_NATIVE=1` | an error, not a warning, if the native kernels are missing |

**Several trainings on the same cores.** A waiting thread keeps its core busy until it sleeps. The library's
own count, 300,000, lets two trainings on the same cores almost stop each other. So the `recblr` command sets
`GOMP_SPINCOUNT` to 4000. If you have set `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY`, it changes nothing. A Python
program must set one of the two itself, before it imports torch.
"""
TITLES = {
    "data": "what is read, and how it is split",
    "model": "the model",
    "optimisation": "how it is trained",
    "loss": "what is minimised",
    "run": "the rest",
}
KINDS = {bool: "on/off", int: "N", float: "X", str: "WORD", tuple: "list"}


def row(*cells: str) -> str:
    """A line of a Markdown table. Bars inside a cell are escaped, because a bar ends a cell."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(*head: str) -> list[str]:
    """The first two lines of a Markdown table."""
    return [row(*head), "|" + "---|" * len(head)]


def shown(default: object) -> str:
    """A default as a user types it; – if there is none."""
    if default is None or default == ():
        return "–"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default}`"


def run_row(option: Option) -> str:
    """The row of an option of a run, which is a dataclass field."""
    if option.type is bool:
        flag = f"`--{option.key}`, `--no-{option.key}`"
    elif option.type is tuple:
        flag = f"`{option.key}` (in the file only; DATA on the command line)"
    else:
        flag = f"`--{option.key}`"
    kind = " ".join(f"`{word}`" for word in option.choices) or KINDS[option.type]
    return row(flag + ("" if option.fixed else " †"), kind, shown(option.default), option.help)


def command_row(parameter: Any) -> str:
    """The row of an argument or option of one command."""
    argument = parameter.param_type_name == "argument"
    if argument:
        name, kind = f"`{parameter.metavar}`", "argument"
    else:
        name = ", ".join(f"`{flag}`" for flag in parameter.opts)
        kind = "flag" if parameter.is_flag else parameter.metavar or KINDS[type(parameter.default)]
    default = "required" if parameter.required else shown(parameter.default)
    return row(name, kind, default, parameter.help or "")


def page() -> str:
    """The whole page."""
    lines = HEAD.splitlines()
    for name in TABLES:
        lines += ["", f"### `[{name}]`: {TITLES[name]}", ""]
        lines += table("option", "type", "default", "what it is")
        lines += [run_row(option) for option in OPTIONS.values() if option.table == name]
    lines += ["", "## Commands", "", "The arguments and other options of each command. All take `--help`."]
    group = typer.main.get_command(app)
    lines += ["", "### `recblr`", "", *table("option", "type", "default", "what it is")]
    lines += [command_row(parameter) for parameter in group.params if parameter.name != "help"]
    runs = {option.key.replace("-", "_") for option in OPTIONS.values()}
    for name in group.list_commands(None):
        command = group.commands[name]
        taken = {parameter.name for parameter in command.params}
        shared = runs & taken == runs - {"paths"}  # a command with --device alone does not share them
        lines += ["", f"### `recblr {name}`", (command.help or "").split("\n\n")[0].replace("\n", " ")]
        if shared:
            lines += ["It also takes the [options of a run](#options-of-a-run)."]
        own = [one for one in command.params if one.name != "help" and not (shared and one.name in runs)]
        if own:
            lines += ["", *table("option", "type", "default", "what it is"), *map(command_row, own)]
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(page(), end="")
