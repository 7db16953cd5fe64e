"""Decompresses gzip, bzip2, xz, zstd and zip files in memory, completely or with an error.

The first bytes decide, not the name. A file may consist of several compressed streams, one after another, and
bytes after the last one are an error. Python's own readers of bzip2 and xz ignore them without notice.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from recblr.errors import InputError

# The first bytes of each kind of file.
_MAGIC = {
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\x00",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "zip": rb"PK(?:\x03\x04|\x05\x06)",
}
_KIND_OF_SUFFIX = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}

# A file may always decompress to the first number of bytes, and else to the second number times its own size.
# Logs compress to about a tenth.  A file that compresses to a thousandth would fill the memory.
_ALWAYS_ALLOWED, _MOST_TIMES = 256 << 20, 100
# A zip may hold a file that is compressed too.
_MOST_LAYERS = 3
# 4 KiB of zstd decompress to 128 MiB at most.
_CHUNK = 4 << 10
_MOST_WINDOW = 1 << 30
_MOST_SHOWN = 10


class _TooLarge(Exception):
    """The decompressed bytes are more than allowed."""


class _Decompressor(Protocol):
    """What bz2, lzma and both packages for zstd have in common: reads one compressed stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def without_compression(path: Path) -> Path:
    """The path without the suffixes of compressed files at its end: a.csv for a.csv.gz."""
    while path.suffix.lower() in _KIND_OF_SUFFIX:
        path = path.with_suffix("")
    return path


def is_compressed(start: bytes) -> bool:
    """Whether a file with these first bytes is compressed. 10 bytes suffice."""
    return _kind(start) is not None


def inner_path(path: Path) -> Path:
    """The path of the data: path/member for a member of a zip file, else the path itself.

    Raises InputError as decompressed() for a zip file without exactly one member, and OSError if the file
    cannot be read.
    """
    with path.open("rb") as file:
        if _kind(file.read(10)) != "zip":
            return path
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                return path / _printable(_member(path, archive).filename)
        except InputError:
            raise
        except _FAULTS:
            raise _damaged(path, "zip") from None


def decompressed(path: Path, data: bytes) -> bytes:
    """The data without any compression; unchanged if they are not compressed.

    path: where the data are from, for error messages.

    Raises InputError if the data are damaged, decompress to far too much, or are not compressed although
    their name says so; for a zip file without exactly one member or with a password; and for zstd without a
    package that reads it.
    """
    most = max(_ALWAYS_ALLOWED, _MOST_TIMES * len(data))
    source, name = path, path
    for _ in range(_MOST_LAYERS):
        kind = _kind(data)
        if kind is None:
            expected = _KIND_OF_SUFFIX.get(name.suffix.lower())
            if data and expected:
                raise InputError(
                    f"{source} is named {name.suffix} but is not {expected}",
                    f"rename it without {name.suffix}, or compress it",
                )
            return data
        try:
            if kind == "zip":
                inside, data = _from_zip(source, data, most)
                source = source / _printable(inside)
                name = Path(inside)
            else:
                data = _DECOMPRESS[kind](data, most)
                name = name.with_suffix("") if name.suffix.lower() in _KIND_OF_SUFFIX else name
        except InputError:
            raise
        except _TooLarge:
            raise InputError(
                f"{source} decompresses to more than {_MOST_TIMES} times its size, which no log does",
                "decompress it yourself if you trust it",
            ) from None
        except ImportError:
            raise InputError(
                f"{source} is compressed with zstd, and no package that reads it is installed",
                "install one with pip install zstandard, or decompress the file with zstd -d",
            ) from None
        except _FAULTS:
            raise _damaged(source, kind) from None
    if _kind(data) is not None:
        raise InputError(f"{path} is compressed {_MOST_LAYERS + 1} times or more", "decompress it yourself")
    return data


def _kind(data: bytes) -> str | None:
    return next((kind for kind, magic in _MAGIC.items() if re.match(magic, data)), None)


class _Damaged(Exception):
    """A compressed stream ends too early, or something else follows it."""


# What gzip, bz2, lzma and zipfile raise for damaged files.
_FAULTS = (
    _Damaged,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def _damaged(path: Path, kind: str) -> InputError:
    return InputError(f"{path} is a damaged {kind} file", "fetch or compress it again")


def _from_gzip(data: bytes, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return _at_most(file.read(most + 1), most)


def _from_bzip2(data: bytes, most: int) -> bytes:
    return _streams(bz2.BZ2Decompressor, data, most)


def _from_xz(data: bytes, most: int) -> bytes:
    # The format allows zeros between and after the streams, four or a multiple of it.
    return _streams(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_WINDOW), data, most, padding=b"\0" * 4
    )


def _from_zstd(data: bytes, most: int) -> bytes:
    new, fault = _zstd()
    try:
        return _streams(new, data, most)
    except fault:
        raise _Damaged from None


def _zstd() -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """What makes a decompressor, and its error. Python has one since 3.14, if it was built with it."""
    if sys.version_info >= (3, 14):
        with suppress(ImportError):
            from compression import zstd

            options = {zstd.DecompressionParameter.window_log_max: _MOST_WINDOW.bit_length() - 1}
            return partial(zstd.ZstdDecompressor, options=options), zstd.ZstdError
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW)
    return decompressor.decompressobj, zstandard.ZstdError


_DECOMPRESS = {"gzip": _from_gzip, "bzip2": _from_bzip2, "xz": _from_xz, "zstd": _from_zstd}


def _streams(new: Callable[[], _Decompressor], data: bytes, most: int, padding: bytes = b"") -> bytes:
    """All streams of a file, joined. Raises _Damaged if the last is not complete."""
    parts, size, position = [], 0, 0
    while position < len(data):
        stream = new()
        while not stream.eof:
            if position >= len(data):
                raise _Damaged
            part = stream.decompress(data[position : position + _CHUNK])
            position = min(position + _CHUNK, len(data))
            size += len(part)
            if size > most:
                raise _TooLarge
            parts.append(part)
        position -= len(stream.unused_data)
        while padding and data.startswith(padding, position):
            position += len(padding)
    return b"".join(parts)


def _from_zip(path: Path, data: bytes, most: int) -> tuple[str, bytes]:
    """The name and the bytes of the only member of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = _member(path, archive)
        try:
            with archive.open(member) as file:
                return member.filename, _at_most(file.read(most + 1), most)
        except NotImplementedError:
            raise InputError(
                f"{path} is compressed in a way that Python cannot read", "unpack it, and give the file in it"
            ) from None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The only member that is not a folder or hidden. InputError for none, several, and a password."""
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not Path(info.filename).name.startswith(".")
    ]
    if archive.NameToInfo.keys() & {"[Content_Types].xml", "content.xml"}:
        raise InputError(
            f"{path} is a file of Excel or of another office program",
            "save the sheet with the interactions as a CSV file, and give that",
        )
    if len(members) != 1:
        shown = ", ".join(repr(info.filename) for info in members[:_MOST_SHOWN])
        more = f" and {len(members) - _MOST_SHOWN} more" if len(members) > _MOST_SHOWN else ""
        raise InputError(
            f"{path} has {len(members)} files ({shown}{more}), but a zip file must have one"
            if members
            else f"{path} has no file in it",
            "unpack it, and give the file with the interactions",
        )
    if members[0].flag_bits & 0x1:
        raise InputError(f"{path} needs a password", "unpack it, and give the file in it")
    return members[0]


def _printable(member: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in Path(member).name)


def _at_most(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise _TooLarge
    return data
