"""`recblr train`: train on a log of interactions.  `recblr reproduce` uses the functions here, too."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from recblr.cli.app import app, example, plain_console, printable, tell, typed_command
from recblr.cli.evaluate import evaluate_and_print
from recblr.cli.options import OptionValue, configs_from, typed_options, with_flags
from recblr.cli.signals import StopOnSignal, signals_end_process
from recblr.config import DataConfig, TrainingConfig
from recblr.errors import InputError
from recblr.system.machine import keep_freed_memory

if TYPE_CHECKING:  # the help needs no torch
    import torch

    from recblr.data import Dataset
    from recblr.run.folder import Run
    from recblr.training import Progress


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
            help="Interactions: .inter, .csv, .tsv, .dat, .json, .jsonl, .parquet or SASRec .txt, also"
            " compressed, or a folder of Parquet files. Several files are read as one log.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the model, the log and the report.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Options as TOML, such as RUN/config.toml; flags override it."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in --out with its own options; the result has the same bits."
        ),
    ] = False,
    **typed: OptionValue,
) -> None:
    """Train a model on a log of interactions, then evaluate it.

    The history of each user is ordered by time, and events at the same time in
    file order. Its last item is for the test, and the item before it for
    validation, unless --split says otherwise. An epoch is one pass over all
    histories.
    """
    with signals_end_process():
        from recblr.config.file import read_config
        from recblr.run.folder import Run
        from recblr.system.device import device_for
        from recblr.training.tensorboard import check_tensorboard

    keep_freed_memory()
    console = plain_console(lasting=True)
    run = Run(out)
    continuing = resume and run.exists()
    given = (read_config(config) if config is not None else {}) | typed_options(typed)
    if data:
        given["paths"] = tuple(map(str, data))
    own_data = continuing and "paths" not in given
    if resume and not continuing:
        if "paths" not in given:
            raise _nothing_to_continue(run)
        # A command that a cluster starts again has --resume from the first time on.
        console.print(f"{out} holds no run yet, so a new one starts", soft_wrap=True)
    training, reading = configs_from(run.options() if continuing and config is None else {}, given)
    if training.tensorboard:
        check_tensorboard()
    device = device_for(training.device)
    if own_data:
        dataset = run.dataset()
    else:
        dataset = read_data(reading, console)
        reading = with_real_paths(reading)
    print_dataset(dataset, training, console)
    print_device(device, console)
    warn_without_matplotlib("curves.png")
    train_and_show(
        dataset, run, training, reading, console, resume=resume, command_to_resume=run.resume_command
    )
    evaluate_and_print(run, console, training.device)


def _nothing_to_continue(run: "Run") -> InputError:
    remedy = "check --out, or give DATA to start a new run"
    if not os.path.lexists(run.folder):
        return InputError(f"there is no folder {run.folder}, so there is no run to continue", remedy)
    try:
        run.facts()
    except InputError as error:
        return InputError(error.problem, remedy)
    raise AssertionError("the folder holds a run")


def read_data(config: DataConfig, console: Console) -> "Dataset":
    """The dataset that the options name."""
    from recblr.data import read_dataset

    if not config.paths:
        raise InputError("there are no data to train on", "give DATA, or paths under [data] in --config FILE")
    with console.status(Text(f"reading {', '.join(config.paths)}")):
        return read_dataset(
            config.paths,
            format=config.format,
            columns=config.columns,
            user=config.user_column,
            item=config.item_column,
            time=config.time_column,
            rating=config.rating_column,
            file_order=config.file_order,
            time_unit=config.time_unit,
            offset_unit=config.offset_unit,
            separator=config.separator,
            quotes=config.quotes,
            encoding=config.encoding,
            drop_incomplete=config.drop_incomplete,
            min_rating=config.min_rating,
            k_core=config.k_core,
            min_user_events=config.min_user_events,
            min_item_events=config.min_item_events,
        )


def with_real_paths(config: DataConfig) -> DataConfig:
    """The same options with absolute paths, to be saved in the run: they are valid from any folder."""
    return replace(config, paths=tuple(os.path.realpath(path) for path in config.paths))


def print_dataset(dataset: "Dataset", config: TrainingConfig, console: Console) -> None:
    from recblr.data.splits import TESTED_EVENTS

    if dataset.reading is not None:
        console.print(printable(str(dataset.reading)), soft_wrap=True)
    console.print(
        f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{dataset.num_interactions:,} interactions, {dataset.mean_length:.1f} per user",
    )
    short = int((dataset.histories.lengths < TESTED_EVENTS).sum())
    if config.keep_short and short:
        users = "1 user has" if short == 1 else f"{short:,} users have"
        console.print(f"{users} fewer than {TESTED_EVENTS} events: they train, and are not tested")
    if config.model.time is None and dataset.times is not None:
        line = _time_line(dataset, config)
        if line is not None:
            console.print(line, soft_wrap=True)


_COARSE = {86400: "dates", 3600: "whole hours", 60: "whole minutes"}


def _time_line(dataset: "Dataset", config: TrainingConfig) -> str | None:
    """What the model learns of time by default, for a dataset with times; None if it cannot be split."""
    from recblr.data.packed import time_range
    from recblr.run.folder import split_for

    if dataset.seconds is None:
        return "the model uses only the order of the events: the unit of their times is unknown (--time-unit)"
    try:
        train = split_for(dataset, config).train
    except InputError:  # the training will say why
        return None
    found = time_range(train)
    if found is None:
        return "the model uses only the order of the events, because all times of the training are the same"
    coarse = _COARSE.get(found.step)
    rounded = f"; the times are {coarse}, so a request counts as one, too" if coarse else ""
    return (
        "the model learns from the gaps between events, and from when the next item is asked for (--time "
        f"past, --time none){rounded}"
    )


def print_device(device: "torch.device", console: Console) -> None:
    """Print the name of a GPU.  A CPU is the usual case, so it is not printed."""
    from recblr.system.device import device_name

    if device.type != "cpu":
        console.print(f"on {device_name(device)}, {device}", soft_wrap=True)


def warn_without_matplotlib(pictures: str) -> None:
    from recblr.training.curves import can_draw

    if not can_draw():
        tell(f"there will be no {pictures}, because matplotlib is not installed: pip install 'recblr[plot]'")


def train_and_show(
    dataset: "Dataset",
    run: "Run",
    config: TrainingConfig,
    data: DataConfig,
    console: Console,
    *,
    resume: bool,
    command_to_resume: str,
    title: str = "training",
) -> "Progress":
    """Train and show the progress.  A signal saves the run, prints how to continue it, and exits.

    command_to_resume: the command that continues the run.
    title: the text beside the progress bar of the run.
    """
    from recblr.cli.display import TrainingDisplay
    from recblr.training import TrainingStopped, train
    from recblr.training.curves import Curves, can_draw
    from recblr.training.progress import ListenerGroup

    display = TrainingDisplay(console, title)
    stop = StopOnSignal(display.show_saving)
    try:
        with stop, display, Curves(run) as curves:
            done = train(
                dataset,
                run,
                config,
                data=data,
                resume=resume,
                facts={"command": typed_command()},
                listener=ListenerGroup([display, curves]) if can_draw() else display,
                stop=stop,
            )
    except (TrainingStopped, KeyboardInterrupt) as how:
        saved = "the run is saved" if isinstance(how, TrainingStopped) else "earlier checkpoints are kept"
        tell(f"stopped; {saved}: continue with {command_to_resume}")
        raise typer.Exit(stop.exit_code) from None
    console.print(f"best validation NDCG@10 {done.best:.4f} in epoch {done.best_epoch}")
    if run.curves_file.exists():
        console.print(f"learning curves are in {run.curves_file}", soft_wrap=True)
    return done
