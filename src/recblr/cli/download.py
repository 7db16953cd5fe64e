"""`recblr download`: download MovieLens from its publisher, ready for training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from recblr.cli.app import app, example, plain_console, tell, typed_command
from recblr.cli.signals import exit_code

if TYPE_CHECKING:  # the help needs no package of the data
    from recblr.data.download import Downloaded


@app.command(epilog=example("recblr download ml-1m", "recblr download ml-100k --to films"))
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ml-1m or ml-100k.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The new folder to write; by default NAME.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL", help="A mirror, or a folder with the archive; by default GroupLens."
        ),
    ] = None,
) -> None:
    """Download MovieLens from GroupLens, check its checksum, and print how to train on it.

    The data are for research. The terms are printed, and are in the README of the folder.
    """
    console, folder = plain_console(), to or Path(name)
    files = fetch(name, folder, source, console)
    ratings, titles = shlex.quote(str(files.ratings)), shlex.quote(str(files.titles))
    console.print(f"{folder} is complete. Continue with", soft_wrap=True)
    console.print(f"  recblr train {ratings} --out run", soft_wrap=True)
    console.print(f"  recblr recommend run --user 1 --titles {titles}", soft_wrap=True)


def fetch(name: str, folder: Path, source: str | None, console: Console) -> Downloaded:
    """Show the terms, then download the dataset into the folder and show the progress."""
    from recblr.data import download as data

    terms = data.archive(name).terms
    console.print(
        "MovieLens is by GroupLens, University of Minnesota, for research. Commercial use and\n"
        "redistribution need their permission. Cite it in publications, and do not claim their\n"
        f"endorsement. If you use it, you accept the terms at {terms}",
        soft_wrap=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            task = bars.add_task(f"downloading {name}", total=None)
            return data.download(
                name,
                folder,
                source=source or data.PUBLISHER,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt as interrupt:
        tell(f"stopped; nothing was saved: start again with {typed_command()}")
        raise typer.Exit(exit_code(interrupt)) from None
