"""The lock of a run's folder: one process trains into it at a time, and any process may read it.

The operating system holds the lock for the process and releases it when the process ends, also after kill -9.
The locked file, RUN/.lock, is always empty.  A file that a killed process has left behind locks nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recblr.errors import InputError

LOCK_FILE = ".lock"
_LOCKS_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from training into `folder`.

    Raises InputError if another process trains into it, or if it cannot be written to.
    """
    file = folder / LOCK_FILE
    try:
        descriptor = _open_locked(file)
    except BlockingIOError:
        raise InputError(
            f"another process is training into {folder}", "wait until it ends, or choose another --out"
        ) from None
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}", "choose another --out") from None
    try:
        yield
    finally:
        # Removed while it is still locked: afterwards the file may belong to another process.
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _open_locked(file: Path) -> int:
    """A descriptor that holds the lock.  BlockingIOError if another process holds it."""
    while True:
        # Opened for writing, because network file systems lock no file that is opened only for reading.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _LOCKS_NOT_SUPPORTED:  # then train without a lock
                    raise
            if _still_has_name(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed the file meanwhile: try again


def _still_has_name(descriptor: int, file: Path) -> bool:
    """Whether the open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
