"""The `recblr` command.  Each command is a thin door to the library, in a module of its own; its help shows a
worked example.
"""

import io
import os
import sys
import warnings

from recblr.cli import doctor, download, evaluate, recommend, synth, train  # noqa: F401 - registers each command
from recblr.cli.app import app, tell
from recblr.errors import InputError, needed

__all__ = ["app", "main"]


def _plain_warnings() -> None:
    """Our warnings as a sentence, without the line of code that gave them."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return f"recblr: {message}\n" if "recblr" in filename else f"{category.__name__}: {message}\n"

    warnings.formatwarning = show
    # The command imports the operators itself, and then meets the error that this one announces.
    warnings.filterwarnings("ignore", message=r"torch\.ops\.recblr\.\* could not be registered")


def main() -> None:
    """The command's entry point: a mistake that a person can mend is one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles in letters that the terminal lacks
    _plain_warnings()
    try:
        app(prog_name="recblr")
    except InputError as error:
        tell(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:  # installed without its dependencies
        sentence = needed("this command", error)
        if sentence is error:
            raise
        tell(str(sentence))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `recblr … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
