"""The parts that all commands share: the application, its output, and its error messages."""

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
)
"""The order of the commands in the help."""

_LONGEST = 1500
"""The most characters of an error message."""


class _Commands(TyperGroup):
    """Lists the commands in ORDER.  Handles the signals that a command does not handle itself."""

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
    """Options of `recblr` itself."""


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `recblr train` wrote.")]
Device = Annotated[str, typer.Option(metavar="WORD", help=DEVICE_WORDS)]


def example(*lines: str) -> str:
    """The end of the help of a command: lines to copy."""
    return "Example:\n\n" + "\n\n".join(f"  [bold]{line}[/bold]" for line in lines)


def plain_console() -> Console:
    """Standard output.  Ids, titles and paths are shown as they are, and are never read as markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # do not wrap lines, so that grep and cut find whole lines
    return console


def tell(sentence: str) -> None:
    """Print a sentence on standard error.  It is always one line, even if a name holds a line break."""
    if len(sentence) > _LONGEST:
        half = _LONGEST // 2
        # Cut the middle: the problem comes first and the remedy last.
        sentence = f"{sentence[:half]}…{sentence[-half:]}"
    if sys.stderr is not None:
        with suppress(OSError):  # the message cannot be shown, but the exit code reports the failure
            print(f"recblr: {printable(sentence)}", file=sys.stderr)


def printable(text: str) -> str:
    """The text with escaped line breaks and control codes: text of a file must not control the terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def typed_command() -> str:
    """The command as the user typed it, quoted for a shell."""
    return shlex.join(["recblr", *sys.argv[1:]])
