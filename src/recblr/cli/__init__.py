"""The `recblr` command.

Each command has its own module.  It only calls the library, and its help shows a worked example.
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

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # `recblr … > file` on a full disk


def _plain_warnings() -> None:
    """Show our warnings as one sentence, without the line of code that caused them."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return f"recblr: {message}\n" if "recblr" in filename else f"{category.__name__}: {message}\n"

    warnings.formatwarning = show
    # If matplotlib cannot keep a cache, it says so on several lines.  The curves are drawn anyway.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # The command imports the operators itself.  It then shows the error that this warning announces.
    warnings.filterwarnings("ignore", message=r"torch\.ops\.recblr\.\* could not be registered")


def main() -> None:
    """The entry point of the command.  A mistake of the user gives one sentence and exit code 2."""
    share_cores(os.environ)
    try:
        with signals_end_process():  # until a command starts
            _command()
    except KeyboardInterrupt as interrupt:  # the signal came just when a command started or ended
        sys.exit(exit_code(interrupt))


def _command() -> None:
    _open_standard_streams()
    try:
        from recblr.cli import commands  # noqa: F401  registers them
        from recblr.cli.app import app, discard, tell
    except ModuleNotFoundError as error:  # not even the packages that the help needs
        sentence = needed("this command", error)
        if sentence is error:
            raise
        print(f"recblr: {sentence}", file=sys.stderr)
        sys.exit(2)

    if isinstance(sys.stdout, io.TextIOWrapper):
        # The terminal may not be able to show every letter of a title.
        sys.stdout.reconfigure(errors="backslashreplace")
    _plain_warnings()
    try:
        app(prog_name="recblr")
    except InputError as error:
        tell(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:  # recblr is installed without its dependencies
        sentence = needed("this command", error)
        if sentence is error:
            raise
        tell(str(sentence))
        sys.exit(2)
    except BrokenPipeError:  # `recblr … | head`
        discard(sys.stdout)
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or error.errno not in _CANNOT_WRITE:
            raise
        discard(sys.stdout)
        tell(f"cannot write the output: {error.strerror}; make room where the output is written")
        sys.exit(2)


def _open_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that is closed, as after `recblr … >&-`.

    Otherwise the next file would get the number of the stream, perhaps a model.  What a library prints would
    then go into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
