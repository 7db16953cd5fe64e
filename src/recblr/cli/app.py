"""The parts that all commands share: the application, its output, and its error messages."""

import errno
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from typer.core import TyperGroup

from recblr import __version__
from recblr.cli.signals import exit_code, signals_interrupt
from recblr.config.run import DEVICE_WORDS

ORDER = (
    "train",
    "evaluate",
    "compare",
    "recommend",
    "similar",
    "embeddings",
    "export",
    "serve",
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


class _LastingOutput:
    """Standard output for a command that must not end with it.

    The reader of a pipe may close it, a terminal may be lost, a disk may be full.  The rest of the output is
    then discarded.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self._stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            discard(self._stream)
            if error.errno != errno.EPIPE:  # `recblr … | head` wants no more output
                tell(f"cannot write the output any more: {error.strerror}; the command goes on without it")


def discard(stream: TextIO) -> None:
    """Discard what is not written yet and what comes later.  Python's last try at exit would fail again."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def plain_console(*, lasting: bool = False) -> Console:
    """Standard output.  Ids, titles and paths are shown as they are, and are never read as markup.

    lasting: if the output can no longer be written, go on without it.  By default, this ends the command.
    """
    file = _LastingOutput(sys.stdout) if lasting and sys.stdout is not None else None
    console = Console(file=file, markup=False, emoji=False, highlight=False)  # type: ignore[arg-type]
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
        try:
            print(f"recblr: {printable(sentence)}", file=sys.stderr)
        except OSError:  # the message cannot be shown, but the exit code reports the failure
            discard(sys.stderr)


def printable(text: str) -> str:
    """The text with escaped line breaks and control codes: text of a file must not control the terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def typed_command() -> str:
    """The command as the user typed it, quoted for a shell."""
    return shlex.join(["recblr", *sys.argv[1:]])
