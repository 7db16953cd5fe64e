"""`recblr export`: write the one file that a server needs."""

from pathlib import Path
from typing import Annotated

import typer

from recblr.cli.app import app, example, plain_console
from recblr.cli.signals import signals_end_process
from recblr.errors import InputError

_TIME = {
    "none": "knows the order of events, and no times",
    "past": "knows the times of events",
    "request": "knows the times of events and of the request",
}


@app.command(
    epilog=example(
        "recblr export run model.safetensors", "recblr export run/model.safetensors model.safetensors"
    )
)
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder that `recblr train` wrote, or a model file.")
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file to write: .safetensors. An older one is replaced."),
    ],
) -> None:
    """Write the one file that a server needs, from a run or another model file.

    It holds the weights, the ids of the items and the configuration. Everything is checked first. A
    server that uses the older file goes on with it until it starts again.
    """
    with signals_end_process():
        from recblr.run.folder import Run
        from recblr.run.model_content import read_for_serving, servable, write_model_file

    if out.suffix != ".safetensors":
        raise InputError(f"{out} does not look like a model file", "end it in .safetensors")
    if not source.exists():
        raise InputError(
            f"there is no {source}", "give the folder that `recblr train` wrote, or a file .safetensors"
        )
    if source.is_dir():
        run = Run(source)
        saved = servable(run.model_file, run.content_and_dataset()[0])
    else:
        saved = read_for_serving(source)
    write_model_file(out, saved)
    retired = f" ({len(saved.retired):,} retired)" if saved.retired else ""
    length = saved.config.max_length
    needs = "no histories" if length is None else f"the last {length:,} events of each user"
    plain_console().print(
        f"{out}: {saved.num_items:,} items{retired}, {out.stat().st_size / 1e6:,.1f} MB;"
        f" {_TIME[saved.config.time_use]}; needs {needs}",
        soft_wrap=True,
    )
