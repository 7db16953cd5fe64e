"""`recblr train`: a file of interactions becomes a run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from recblr.cli.app import app, example, plain_console
from recblr.cli.evaluate import evaluate_and_print
from recblr.cli.options import typed_options, with_flags
from recblr.cli.running import (
    print_dataset,
    print_device,
    read_data,
    tell_if_nothing_draws,
    train_and_show,
    with_real_paths,
)
from recblr.cli.starting import starting
from recblr.config import DataConfig, TrainingConfig
from recblr.system.memory import keep_freed_memory


@app.command(
    epilog=example(
        "recblr train ratings.csv --item-column movie --out run",
        "recblr train --out run --resume",
        "recblr train --config run/config.toml --out again",
    )
)
@with_flags
def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA",
            help="Interactions: .inter, .csv, .tsv, .dat, .parquet or SASRec .txt, also gzipped."
            " Several files are read as one.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the model, the log and the report.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Options as TOML, such as RUN/config.toml; flags go before it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, bit for bit; it knows its options.")
    ] = False,
    **typed: Any,
) -> None:
    """Train on a log of interactions, then evaluate: one pass over whole histories an epoch.

    Users' histories are ordered by time, ties in file order. The last item of
    each is for the test, the one before it for validation, unless --split
    says otherwise.
    """
    with starting():
        from recblr.config.file import read_config
        from recblr.system.device import device_for
        from recblr.training import Run
        from recblr.training.tensorboard import check_tensorboard

    keep_freed_memory()
    console = plain_console()
    run = Run(out)
    continuing = resume and run.exists()
    given = typed_options(typed)
    if data:
        given["paths"] = tuple(map(str, data))
    if config is not None:
        given = read_config(config) | given
    own_data = continuing and "paths" not in given
    values = (run.options() if continuing and config is None else {}) | given
    training = TrainingConfig.from_options(values)
    reading = DataConfig.from_options(values)
    if training.tensorboard:
        check_tensorboard()
    device = device_for(training.device)
    if own_data:
        dataset = run.dataset()
    else:
        dataset = read_data(reading, console)
        reading = with_real_paths(reading)
    print_dataset(dataset, console)
    print_device(device, console)
    tell_if_nothing_draws("curves.png")
    train_and_show(dataset, run, training, reading, console, resume=resume, going_on=run.resume_command)
    evaluate_and_print(run, console, training.device)
