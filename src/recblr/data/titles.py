"""Titles of items, for people to read: the first two fields of each line are an id and its title."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.io.reading import check_ends


def read_titles(path: str | Path) -> dict[str, str]:
    """Item id -> title.

    Lines are ``id::title::…`` (MovieLens' movies.dat, often Latin-1), or separated by tabs, commas or
    upright bars (its u.item).  A header line does no harm.  Raises InputError where the file cannot be read,
    or no line has two fields.
    """
    path = Path(path)
    try:
        check_ends(path)
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the titles file {path} cannot be read ({error.strerror}): check --titles"
        ) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    try:
        titles = {row[0].strip(): row[1].strip() for row in _rows(text) if len(row) > 1}
    except csv.Error as error:
        raise InputError(f"the titles file {path} cannot be read ({error}): check its quotes") from None
    if not titles:
        raise InputError(
            f"the titles file {path} has no line with an id and a title: "
            "give id::title, or lines separated by tabs, commas or bars"
        )
    return titles


def write_titles(titles: Mapping[str, str], path: str | Path) -> None:
    """Write {item id: title}, neither with a tab or line break, as read_titles reads them; atomically."""
    with atomic_path(Path(path)) as draft:
        draft.write_text("".join(f"{item}\t{title}\n" for item, title in titles.items()), encoding="utf-8")


def _rows(text: str) -> Iterable[list[str]]:
    # Not str.splitlines: it also breaks lines at bytes that Latin-1 titles hold, such as 0x85.
    lines = text.replace("\r\n", "\n").split("\n")
    first = next((line for line in lines if line.strip()), "")
    separators = ["::", "\t"]
    # Before any comma: lines with commas may have bars between their genres.
    if "|" in first.partition(",")[0]:
        separators.append("|")
    for separator in separators:
        if separator in first:
            # No quoting: a title that holds a lone quote must not swallow the lines after it.
            return (line.split(separator) for line in lines)
    return csv.reader(io.StringIO(text, newline=""))
