"""Text is read and decompressed, and each mistake in a file gives one sentence that names the file."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recblr.errors import InputError
from recblr.io.reading import Endless, check_ends, check_readable, read_text

TEXT = "user,item\nä,1\n"


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        gzip.compress(TEXT.encode()),
        gzip.compress(TEXT.encode("utf-8-sig")),
    ],
    ids=["plain", "byte order mark", "gzip", "both"],
)
def test_text_is_read_without_compression_and_byte_order_mark(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(raw)
    check_readable(file)
    assert read_text(file) == TEXT.encode()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "there is no file"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is a pipe or a device"),
    "no bytes": (Path.touch, "is empty"),
    "spaces": (lambda path: path.write_text(" \n" * 2000), "is empty"),
    "a zero byte": (lambda path: path.write_bytes(b"a\nb\0c\n"), "line 2 holds a zero byte"),
    "Latin-1": (lambda path: path.write_bytes("a\nä\n".encode("latin-1")), "line 2 holds the byte 0xe4"),
    "half a gzip": (lambda path: path.write_bytes(gzip.compress(b"abc" * 99)[:-9]), "is a damaged gzip file"),
    "plain text": (lambda path: path.write_text("a,b\n"), "is named .gz but is not gzip"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_sentence(tmp_path: Path, name: str) -> None:
    make, says = BAD[name]
    file = tmp_path / ("log.csv.gz" if "gzip" in says else "log.csv")
    make(file)
    with pytest.raises(InputError) as raised:
        read_text(file)
    message = str(raised.value)
    assert message.startswith(f"{file} ") or message == f"there is no file {file}; check the path"
    assert says in message
    assert "\n" not in message


def test_a_file_that_decompresses_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recblr.io.compression._ALWAYS_ALLOWED", 1000)
    file = tmp_path / "log.gz"
    file.write_bytes(gzip.compress(b"a" * 100_000))
    with pytest.raises(InputError, match="decompresses to more than 100 times its size"):
        read_text(file)


def test_files_and_folders_pass_the_check_and_pipes_do_not(tmp_path: Path) -> None:
    check_ends(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Endless):
            check_ends(endless)
    with pytest.raises(FileNotFoundError):
        check_ends(tmp_path / "nothing")
