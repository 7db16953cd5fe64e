"""Titles: the first two fields of each line, in several formats and with any characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from recblr.errors import InputError
from recblr.io.titles import read_titles


def titles(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "titles").write_bytes(content)
    return read_titles(folder / "titles")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1::Heat (1995)::Action\n2::Ran\n", {"1": "Heat (1995)", "2": "Ran"}),
        (b"id\ttitle\n1\tHeat\n2\tRan\tmore", {"id": "title", "1": "Heat", "2": "Ran"}),
        (b'1,"Good, Bad, Ugly"\r\n2,Ran\r\n', {"1": "Good, Bad, Ugly", "2": "Ran"}),
        (b"\n\n1::Heat\n\n2::Ran\n", {"1": "Heat", "2": "Ran"}),
        (b"\xef\xbb\xbf1,Heat\n", {"1": "Heat"}),
        (b" 1 :: Heat \n", {"1": "Heat"}),
        ("1::Léon\n".encode("latin-1"), {"1": "Léon"}),
        (b"1::Wait\x85 What\n2::Ran\n", {"1": "Wait\x85 What", "2": "Ran"}),
        (b'1\t"Heat\n2\tRan\n3\tThe 7" Disc\n', {"1": '"Heat', "2": "Ran", "3": 'The 7" Disc'}),
        (b"1\tCrash, or Not\n2\tA::B\n", {"1": "Crash, or Not", "2": "A::B"}),
        (b"1|Heat, the film (1995)|01-Jan-1995||\n2|Ran|\n", {"1": "Heat, the film (1995)", "2": "Ran"}),
        (b"1,Heat,Action|Crime\n2,Ran,Drama|War\n", {"1": "Heat", "2": "Ran"}),
        (b"1,Heat\nlonely\n2,Ran\n", {"1": "Heat", "2": "Ran"}),
        (b'1,"Two\nlines"\n2,Ran\n', {"1": "Two\nlines", "2": "Ran"}),
    ],
)
def test_ids_and_titles_are_found(tmp_path: Path, content: bytes, expected: dict[str, str]) -> None:
    assert titles(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no line with an id and a title"),
        (b"1\n2\n", "no line with an id and a title"),
        (b'1,"' + b"x" * 200_000, "cannot be read .*; check its quotes"),
    ],
)
def test_a_file_without_titles_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        titles(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.dat cannot be read \(No such file .*check --titles"):
        read_titles(tmp_path / "none.dat")
