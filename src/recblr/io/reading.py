"""Reading files: pipes and devices are refused, and text files are returned as decompressed UTF-8."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recblr.errors import InputError

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A gzip file may always decompress to the first number of bytes, and else to the second number times its own
# size.  Logs compress to about a tenth.  A file that compresses to a thousandth would fill the memory.
_ALWAYS_ALLOWED, _MOST_TIMES = 256 << 20, 100


class Endless(OSError):
    """A pipe or a device: reading it may never end."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is a pipe or a device, not a file")


def check_ends(path: str | Path) -> None:
    """Raise Endless for a pipe or a device, because opening one may wait for ever.

    Raises OSError if the path does not exist.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Endless


def read_text(path: Path, encoding: str = "utf-8") -> bytes:
    """The file's content as UTF-8 bytes, decompressed, without a byte order mark.

    Raises InputError for an unknown encoding, and if the file does not exist, is a folder, a pipe or a
    device, cannot be read, is a damaged gzip file, decompresses to far too much, is binary, has another
    encoding, or is empty.
    """
    data = _decompressed(path, _read(path))
    if encoding != "utf-8":
        data = _as_utf8(path, data, encoding)
    if data.startswith(_BYTE_ORDER_MARK):
        data = data[len(_BYTE_ORDER_MARK) :]
    if not data[:1024].strip() and not data.strip():
        raise InputError(f"{path} is empty", "give a file with one interaction or one user per line")
    zero = data.find(b"\0")
    if zero >= 0:
        raise InputError(
            f"{path} is not text (line {_line(data, zero)} holds a zero byte)",
            "export the data as UTF-8 text",
        )
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} is not UTF-8 (line {_line(data, error.start)} holds the byte "
                f"0x{data[error.start]:02x})",
                "name its encoding, such as --encoding latin-1 (encoding= in Python)",
            ) from None
    return data


def _as_utf8(path: Path, data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).encode()
    except LookupError:
        raise InputError(
            f"there is no encoding {encoding!r}", "give one that Python knows, such as utf-8 or latin-1"
        ) from None
    except UnicodeError:
        raise InputError(f"{path} is not in the encoding {encoding}", "give the right --encoding") from None


def check_readable(path: Path) -> None:
    """Raise InputError if the file does not exist, is a folder, a pipe or a device, or cannot be read."""
    with _errors_explained(path):
        check_ends(path)
        with path.open("rb"):
            pass


def _read(path: Path) -> bytes:
    with _errors_explained(path):
        check_ends(path)
        return path.read_bytes()


@contextmanager
def _errors_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", "check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", "give the data file inside it, or several files") from None
    except Endless:
        raise InputError(f"{path} is a pipe or a device", "save the data into a file and give that") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read", "check its permissions") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "check the path") from None


def _decompressed(path: Path, data: bytes) -> bytes:
    if data.startswith(_GZIP):
        try:
            most = max(_ALWAYS_ALLOWED, _MOST_TIMES * len(data))
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                decompressed = file.read(most + 1)
            if len(decompressed) > most:
                raise InputError(
                    f"{path} decompresses to more than {_MOST_TIMES} times its size, which no log does",
                    "decompress it yourself if you trust it",
                )
            return decompressed
        except (EOFError, OSError, zlib.error):
            raise InputError(f"{path} is a damaged gzip file", "fetch or compress it again") from None
    if data and path.suffix.lower() == ".gz":
        raise InputError(f"{path} is named .gz but is not gzip", "rename it without .gz, or compress it")
    return data


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
