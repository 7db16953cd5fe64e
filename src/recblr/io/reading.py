"""Reading files: pipes and devices are refused, and text files are returned as decompressed UTF-8."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recblr.errors import InputError
from recblr.io.compression import decompressed

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
    """The file's content as UTF-8 bytes, decompressed, without byte order marks at starts of lines.

    Raises InputError for an unknown encoding, and if the file does not exist, is a folder, a pipe or a
    device, cannot be read, cannot be decompressed (see decompressed() in compression.py), is binary, has
    another encoding, or is empty.
    """
    data = read_bytes(path)
    if encoding != "utf-8":
        data = _as_utf8(path, data, encoding)
    if data.startswith(_BYTE_ORDER_MARK):
        data = data[len(_BYTE_ORDER_MARK) :]
    # Files that were joined have one in the middle too. It would be an invisible part of an id.
    data = data.replace(b"\n" + _BYTE_ORDER_MARK, b"\n")
    if not data[:1024].strip() and not data.strip():
        raise InputError(f"{path} is empty", "give a file with one interaction or one user per line")
    # UTF-32 begins with the mark of UTF-16 and two zeros.
    if re.match(rb"\xff\xfe(?!\0\0)|\xfe\xff", data):
        raise InputError(
            f"{path} is in UTF-16, as Excel saves 'Unicode text'",
            "give --encoding utf-16 (encoding= in Python)",
        )
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
    except UnicodeError:
        raise InputError(f"{path} is not in the encoding {encoding}", "give the right --encoding") from None
    except (LookupError, TypeError, ValueError):
        raise InputError(
            f"there is no encoding {encoding!r}", "give one that Python knows, such as utf-8 or latin-1"
        ) from None


def check_readable(path: Path) -> None:
    """Raise InputError if the file does not exist, is a folder, a pipe or a device, or cannot be read."""
    with _errors_explained(path):
        check_ends(path)
        with path.open("rb"):
            pass


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed. Raises InputError as read_text does, except for what is not text."""
    with _errors_explained(path):
        check_ends(path)
        data = path.read_bytes()
    return decompressed(path, data)


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


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
