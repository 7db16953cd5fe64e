"""Shell examples of the documents, run line by line as a user would type them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.command import at, recblr


def type_in(folder: Path, lines: str, smaller: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Run the `recblr` lines of an example in a folder; returns the output of each.  Each must succeed.

    smaller: options to add to a command if an example is too large for a test, such as
        {"train": ["--epochs", "1"]}.
    """
    printed = []
    with at(folder):
        for line in lines.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            assert words[0] == "recblr", f"this line of an example cannot be run: {line}"
            seen = recblr(*words[1:], *(smaller or {}).get(words[1], ()))
            assert (seen.code, seen.err) == (0, ""), f"{line}\n{seen.err}"
            printed.append(seen.out)
    return printed
