"""What the commands share: the application, its streams, and how mistakes are told."""

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.core import TyperGroup

from recblr import __version__
from recblr.cli.signals import exit_code, signals_interrupt
from recblr.config.run import DEVICE_WORDS

ORDER = (
    "train",
    "evaluate",
    "recommend",
    "reproduce",
    "download",
    "synth",
    "doctor",
)  # of the commands, in the help

_LONGEST = 1500  # characters of a sentence


class _Commands(TyperGroup):
    """The commands in the order of the help.  A signal that none of them handles ends it with a sentence."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            with signals_interrupt():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            tell(f"stopped: start again with {typed_command()}")
            raise typer.Exit(exit_code(interrupt)) from None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sequential recommendation with behavior-dependent linear recurrent units (RecBLR).",
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"recblr {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
]


@app.callback()
def _before_any_command(version: Version = False) -> None:
    """Options that are no command's."""


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `recblr train` wrote.")]
Device = Annotated[str, typer.Option(metavar="WORD", help=DEVICE_WORDS)]


def example(*lines: str) -> str:
    """The end of a command's help: lines to copy."""
    return "Example:\n\n" + "\n\n".join(f"  [bold]{line}[/bold]" for line in lines)


def plain_console() -> Console:
    """Standard output, where ids, titles and paths are shown as they are and never taken for markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a line stays a line, for whoever greps or cuts it
    return console


def tell(sentence: str) -> None:
    """Say something beside the results, on standard error: one line, whatever names and ids hold."""
    if len(sentence) > _LONGEST:
        half = _LONGEST // 2
        sentence = f"{sentence[:half]}…{sentence[-half:]}"  # the thing comes first, the remedy last
    if sys.stderr is not None:
        with suppress(OSError):  # nobody can be told, and the exit code still says it
            print(f"recblr: {printable(sentence)}", file=sys.stderr)


def printable(text: str) -> str:
    """The text with line breaks and the terminal's control codes as escapes: a file may hold any."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def typed_command() -> str:
    """The command as it was typed, fit to be copied."""
    return shlex.join(["recblr", *sys.argv[1:]])
