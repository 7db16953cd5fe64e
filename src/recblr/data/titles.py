"""Titles of items, for people to read: the first two fields of each line are an id and its title."""

from __future__ import annotations

import csv
from pathlib import Path

from recblr.errors import InputError


def read_titles(path: str | Path) -> dict[str, str]:
    """Item id -> title.

    Lines are ``id::title::…`` (MovieLens' movies.dat, often Latin-1), or tab or comma separated.  A header
    line does no harm.  Raises InputError where the file cannot be read or no line has two fields.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the titles file {path} cannot be read ({error.strerror}): check --titles"
        ) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = text.splitlines()
    first = lines[0] if lines else ""
    if "::" in first:
        rows = [line.split("::") for line in lines]
    else:
        rows = list(csv.reader(lines, delimiter="\t" if "\t" in first else ","))
    titles = {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}
    if not titles:
        raise InputError(
            f"the titles file {path} has no line with an id and a title: "
            "give id::title, or tab or comma separated lines"
        )
    return titles
