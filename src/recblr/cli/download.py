"""`recblr download`: MovieLens from its publisher, ready to train on."""

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
        Path | None, typer.Option(metavar="FOLDER", help="A new folder for it; by default NAME.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL", help="A mirror, or a folder with the archive; by default GroupLens."
        ),
    ] = None,
) -> None:
    """Fetch MovieLens from GroupLens, compare its checksum, and print how to train on it.

    The data are for research: see the terms, which are printed and come along as README.
    """
    console, folder = plain_console(), to or Path(name)
    files = fetch(name, folder, source, console)
    ratings, titles = shlex.quote(str(files.ratings)), shlex.quote(str(files.titles))
    console.print(f"{folder} is complete. Go on with", soft_wrap=True)
    console.print(f"  recblr train {ratings} --out run", soft_wrap=True)
    console.print(f"  recblr recommend run --user 1 --titles {titles}", soft_wrap=True)


def fetch(name: str, folder: Path, source: str | None, console: Console) -> Downloaded:
    """Show the terms, then fetch the dataset into the folder with progress; Ctrl-C ends the command."""
    from recblr.data import download as data

    terms = data.archive(name).terms
    console.print(
        "MovieLens is by GroupLens, University of Minnesota, for research: no commercial use and no passing\n"
        "on without their permission; cite it in publications, and claim no endorsement by them.\n"
        f"Whoever uses it accepts the terms at {terms}",
        soft_wrap=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            task = bars.add_task(f"fetching {name}", total=None)
            return data.download(
                name,
                folder,
                source=source or data.PUBLISHER,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt as interrupt:
        tell(f"stopped, and nothing is kept: start again with {typed_command()}")
        raise typer.Exit(exit_code(interrupt)) from None
