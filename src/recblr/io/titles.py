"""Titles of items, which people can read. In a file of titles, each line begins with an id and its title."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from recblr.errors import InputError
from recblr.io.reading import check_ends


def read_titles(path: str | Path) -> dict[str, str]:
    """Read the titles as {item id: title}.

    Fields are separated by ``::`` (MovieLens' movies.dat), tabs, commas or vertical bars (MovieLens' u.item).
    The text is UTF-8 or Latin-1. A header line is read as one more item. Raises InputError if the file cannot
    be read, or if no line has two fields.
    """
    path = Path(path)
    try:
        check_ends(path)
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the titles file {path} cannot be read ({error.strerror})", "check --titles"
        ) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    try:
        titles = {row[0].strip(): row[1].strip() for row in _rows(text) if len(row) > 1}
    except csv.Error as error:
        raise InputError(f"the titles file {path} cannot be read ({error})", "check its quotes") from None
    if not titles:
        raise InputError(
            f"the titles file {path} has no line with an id and a title",
            "give id::title, or lines separated by tabs, commas or bars",
        )
    return titles


def titles_as_text(titles: Mapping[str, str]) -> str:
    """{item id: title} in a form that read_titles reads.  They must not contain tabs or line breaks."""
    return "".join(f"{item}\t{title}\n" for item, title in titles.items())


def _rows(text: str) -> Iterable[list[str]]:
    # Not str.splitlines: it also splits at characters that Latin-1 titles may contain, such as 0x85.
    lines = text.replace("\r\n", "\n").split("\n")
    first = next((line for line in lines if line.strip()), "")
    separators = ["::", "\t"]
    # A bar counts only before the first comma: in a CSV file, bars may separate genres.
    if "|" in first.partition(",")[0]:
        separators.append("|")
    for separator in separators:
        if separator in first:
            # Quotes are ordinary characters here. Otherwise a single one would join the lines after it.
            return (line.split(separator) for line in lines)
    return csv.reader(io.StringIO(text, newline=""))
