"""`recblr serve`: answer over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from recblr.cli.app import app, example, plain_console, tell
from recblr.cli.signals import signals_end_process
from recblr.errors import InputError, needed

_TOKEN = "RECBLR_TOKEN"
_STORE = "RECBLR_STORE"  # an address may hold a password, and other users see the arguments of a process


@app.command(
    epilog=example(
        "recblr serve model.safetensors",
        "recblr serve model.safetensors --titles titles.tsv --port 8080",
        "recblr serve model.safetensors --workers 2 --token-file token",
    )
)
def serve(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="The model file that `recblr export` wrote.")],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Where events are kept: lmdb:FOLDER, redis://HOST:PORT/0 or memory; by default what"
            f" {_STORE} says, or else the folder `events` beside the model file.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Number of processes.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1024, help="Threads of a worker; by default its share of the processors."
        ),
    ] = None,
    max_users: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="The most users in the memory of a worker; others are loaded when they are asked for.",
        ),
    ] = None,
    titles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of titles: id::title, or separated by tabs or commas."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"File with the token that requests must carry; or set {_TOKEN}."),
    ] = None,
) -> None:
    """Serve a model over HTTP: events in, recommendations out, and a page to try it at /.

    An event is answered when it is durable. Ctrl-C finishes the requests that run. SIGHUP loads the model
    file again.
    """
    with signals_end_process():
        try:
            from recblr.io.titles import read_titles
            from recblr.serving.http.run import serve as run
            from recblr.serving.http.worker import ServeOptions
        except ModuleNotFoundError as error:
            if needed("", error) is error:
                raise
            raise InputError(
                f"this command needs {error.name}, which is not installed", "pip install 'recblr[serve]'"
            ) from None

    console = plain_console(lasting=True)
    run(
        ServeOptions(
            model,
            store or os.environ.get(_STORE) or f"lmdb:{model.parent / 'events'}",
            host,
            port,
            workers,
            _token(token_file),
            read_titles(titles) if titles else {},
            threads or max(1, len(os.sched_getaffinity(0)) // workers),
            max_users,
        ),
        lambda sentence: console.print(sentence, soft_wrap=True),
        tell,
    )


def _token(file: Path | None) -> str | None:
    """The token of the file, or else of the environment."""
    token, origin = os.environ.get(_TOKEN), _TOKEN
    if file is not None:
        origin = str(file)
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InputError(
                f"the token file {file} cannot be read ({reason})", "check --token-file"
            ) from None
    if token is None:
        return None
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise InputError(
            f"the token in {origin} is empty or holds spaces or special letters",
            "take one such as `openssl rand -hex 32` prints",
        )
    return token
