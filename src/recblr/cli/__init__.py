"""The `recblr` command.  Each command is a thin door to the library, in a module of its own; its help shows a
worked example.
"""

import errno
import io
import logging
import os
import sys
import warnings

from recblr.cli.signals import exit_code, signals_end_process
from recblr.errors import InputError, needed
from recblr.system.machine import share_cores

__all__ = ["main"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of `recblr … > file` on a full disk


def _plain_warnings() -> None:
    """Our warnings as a sentence, without the line of code that gave them."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return f"recblr: {message}\n" if "recblr" in filename else f"{category.__name__}: {message}\n"

    warnings.formatwarning = show
    # Where it can keep no cache it says so on several lines; the curves are drawn all the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # The command imports the operators itself, and then meets the error that this one announces.
    warnings.filterwarnings("ignore", message=r"torch\.ops\.recblr\.\* could not be registered")


def main() -> None:
    """The command's entry point: a mistake that a person can mend is one sentence and exit code 2."""
    share_cores(os.environ)
    try:
        with signals_end_process():  # until a command begins
            _command()
    except KeyboardInterrupt as interrupt:  # that came just as a command began or ended
        sys.exit(exit_code(interrupt))


def _command() -> None:
    try:
        # Importing a command's module registers it.
        from recblr.cli import doctor, download, evaluate, recommend, reproduce, synth, train  # noqa: F401
        from recblr.cli.app import app, tell
    except ModuleNotFoundError as error:  # not even what the help takes
        sentence = needed("this command", error)
        if sentence is error:
            raise
        print(f"recblr: {sentence}", file=sys.stderr)
        sys.exit(2)

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
    except BrokenPipeError:  # `recblr … | head`
        _print_no_more()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_ROOM:
            raise
        _print_no_more()
        tell(f"cannot write what it prints: {error.strerror}; make room where the output goes")
        sys.exit(2)


def _print_no_more() -> None:
    """What is still to be flushed would fail again, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
