"""Files that are either wholly there or not there at all.

A run that is killed while it writes must leave the file as it was before, so everything is
written beside its destination and renamed onto it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recblr.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an exception.

    Raises InputError where the folder cannot be written to or the disk is full; after any exception the
    file is as it was before, and nothing else is left behind.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.touch(exist_ok=False)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; choose a folder that exists and can be written to"
        ) from None
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; make room or choose another place"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
