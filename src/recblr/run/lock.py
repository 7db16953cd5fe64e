"""The lock of a run's folder: one process trains into it at a time, and any may read it.

The operating system holds it for the process and lets go when that ends, by kill -9 too.  The file that it is
on, RUN/.lock, holds nothing; one that a killed process left says nothing either.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recblr.errors import InputError

LOCK_FILE = ".lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep others from training into `folder`; InputError where one does, or it cannot be written to."""
    file = folder / LOCK_FILE
    try:
        descriptor = _locked(file)
    except BlockingIOError:
        raise InputError(
            f"another process is training into {folder}", "wait until it ends, or choose another --out"
        ) from None
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}", "choose another --out") from None
    try:
        yield
    finally:
        # Removed before it is let go: afterwards it may be another process's.
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _locked(file: Path) -> int:
    """A descriptor that holds the lock; BlockingIOError where another does."""
    while True:
        # For writing, without which network file systems lock nothing.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:  # a file system without locks is no reason not to train
                    raise
            if _is_at(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it in between


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
