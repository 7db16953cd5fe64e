"""Files and folders that are written completely or not at all.

A run that is killed while it writes must leave the old file unchanged.  So everything is written to
a draft beside its destination, and then the draft is renamed.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recblr.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to.  This draft becomes `path` if the `with` block ends without an exception.

    Raises InputError if the file cannot be written, in the block or after it.  After any exception, `path` is
    unchanged and no draft is left behind.  An OSError of the block that names another file passes.
    """
    draft = _draft_beside(path)
    try:
        if path.is_dir():  # the draft could not take its place, which would be noticed only at the end
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        draft.touch(exist_ok=False)
        yield draft
        _flush_to_disk(draft)
        draft.replace(path)
    except OSError as error:
        named = str(error.filename)
        if error.filename is not None and named != str(path) and draft.name not in named:
            raise
        raise _cannot_write(path, error) from None
    finally:
        # If the folder is a file or cannot be reached, there is no draft and removing it fails.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a folder to put files into.  It becomes `path` if the `with` block ends without an exception.

    Raises InputError if `path` exists already (an empty folder is replaced) or cannot be written, in the
    block or after it.  After any exception, no draft is left behind.
    """
    draft = _draft_beside(path)
    try:
        draft.mkdir()
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        draft.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _flush_to_disk(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror or error}",
        "choose the name of a file"
        if isinstance(error, IsADirectoryError)
        else "choose a folder that exists, can be written to and has room",
    )
