"""`recblr download`: MovieLens from its publisher, ready to train on."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from recblr.cli.app import app, example, plain_console, tell, typed_command


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
    from recblr.data import download as data

    console = plain_console()
    folder = to or Path(name)
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
            files = data.download(
                name,
                folder,
                source=source or data.PUBLISHER,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        tell(f"stopped, and nothing is kept: start again with {typed_command()}")
        raise typer.Exit(130) from None
    ratings, titles = shlex.quote(str(files.ratings)), shlex.quote(str(files.titles))
    console.print(f"{folder} is complete. Go on with", soft_wrap=True)
    console.print(f"  recblr train {ratings} --out run", soft_wrap=True)
    console.print(f"  recblr recommend run --user 1 --titles {titles}", soft_wrap=True)
