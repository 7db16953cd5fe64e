"""Lists of items in a terminal, with titles that people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from recblr.cli.app import printable, tell

if TYPE_CHECKING:  # the help needs no package of the data
    from recblr.data import Dataset

Titles = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File of titles: id::title, or separated by tabs or commas."),
]


def titles_for(file: Path | None, dataset: Dataset) -> dict[str, str]:
    """{item id: title} of a file, or none without a file.  Says so if most items have no title in it."""
    from recblr.io.titles import read_titles

    if file is None:
        return {}
    names = read_titles(file)
    titled = sum(token in names for token in dataset.item_ids)
    if not titled:
        # The last id of the file, because the first line may be a header.
        tell(
            f"no item has a title in {file}: its ids are like {next(reversed(names))!r}, "
            f"and those of the run like {dataset.item_ids[0]!r}"
        )
    elif 2 * titled < dataset.num_items:
        tell(f"only {titled:,} of the {dataset.num_items:,} items have a title in {file}")
    return names


def print_items(
    best: Sequence[tuple[str, float]], titles: Mapping[str, str], number: str, console: Console
) -> None:
    """Print items with their ranks and numbers, the best first.

    titles: {item id: title}; without any, there is no such column.  number: the name of the numbers.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("item", style="bold")
    if titles:
        table.add_column("title")
    table.add_column(number, justify="right")
    for rank, (token, value) in enumerate(best, 1):
        known = [printable(titles.get(token, ""))] if titles else []
        table.add_row(str(rank), printable(token), *known, f"{value:.3f}")
    console.print(table)
