"""Files that are either wholly there or not there at all.

A run that is killed while it writes must leave the file as it was before, so everything is
written beside its destination and renamed onto it.
"""

from __future__ import annotations

import os
import secrets
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
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.touch(exist_ok=False)
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; "
            "choose a folder that exists, can be written to and has room"
        ) from None
    finally:
        # Where the folder itself is a file or out of reach, there is no draft to remove.
        with suppress(OSError):
            draft.unlink(missing_ok=True)
