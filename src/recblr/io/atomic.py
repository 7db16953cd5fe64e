"""Files and folders that are either wholly there or not there at all.

A run that is killed while it writes must leave the file as it was before, so everything is
written beside its destination and renamed onto it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recblr.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an exception.

    Raises InputError where it cannot be written, in the block or after it; after any exception `path` is
    as it was and nothing else is left behind.
    """
    draft = _beside(path)
    try:
        draft.touch(exist_ok=False)
        yield draft
        _to_disk(draft)
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        # Where the folder itself is a file or out of reach, there is no draft to remove.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to put files into, which becomes `path` when the block ends without an exception.

    Raises InputError where `path` is there already (an empty folder does no harm) or cannot be written, in
    the block or after it; after any exception nothing is left behind.
    """
    draft = _beside(path)
    try:
        draft.mkdir()
        yield draft
        for file in draft.iterdir():
            _to_disk(file)
        draft.rename(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _to_disk(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror}",
        "choose a folder that exists, can be written to and has room",
    )
