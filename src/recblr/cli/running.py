"""What the commands that train share: the data as they are read, and a training as people see it."""

import os
from dataclasses import replace
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from recblr.cli.app import tell, typed_command
from recblr.cli.stopping import Stopping
from recblr.config import DataConfig, TrainingConfig
from recblr.errors import InputError


def read_data(config: DataConfig, console: Console) -> Any:
    """The dataset that the options name."""
    from recblr.data import read_dataset

    if not config.paths:
        raise InputError("there are no data to train on: give DATA, or paths under [data] in --config FILE")
    with console.status(Text(f"reading {', '.join(config.paths)}")):
        return read_dataset(
            config.paths,
            format=config.format,
            user=config.user_column,
            item=config.item_column,
            time=config.time_column,
            rating=config.rating_column,
            min_rating=config.min_rating,
            k_core=config.k_core,
        )


def with_real_paths(config: DataConfig) -> DataConfig:
    """The same options with paths that hold from any folder, to be kept with the run."""
    return replace(config, paths=tuple(os.path.realpath(path) for path in config.paths))


def print_dataset(dataset: Any, console: Console) -> None:
    console.print(
        f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{dataset.num_interactions:,} interactions, {dataset.mean_length:.1f} a user",
    )


def print_device(device: Any, console: Console) -> None:
    """Say which GPU it is; of the CPU nothing needs to be said."""
    from recblr.system.device import device_name

    if device.type != "cpu":
        console.print(f"on {device_name(device)}, {device}", soft_wrap=True)


def tell_if_nothing_draws(pictures: str) -> None:
    from recblr.training.curves import can_draw

    if not can_draw():
        tell(f"there will be no {pictures}, for want of matplotlib: pip install 'recblr[plot]'")


def train_and_show(
    dataset: Any,
    run: Any,
    config: TrainingConfig,
    data: DataConfig,
    console: Console,
    *,
    resume: bool,
    going_on: str,
    title: str = "training",
) -> Any:
    """Train with progress; how far the run has come.  A signal saves the run, says how to go on, and exits.

    going_on: the command that goes on with the run. title: what the run's bar says.
    """
    from recblr.console import TrainingDisplay
    from recblr.training import TrainingStopped, train
    from recblr.training.curves import Curves, can_draw
    from recblr.training.listener import ListenerGroup

    display = TrainingDisplay(console, title)
    asked = Stopping(display.stopping)
    try:
        with asked, display, Curves(run) as curves:
            done = train(
                dataset,
                run,
                config,
                data=data,
                resume=resume,
                facts={"command": typed_command()},
                listener=ListenerGroup([display, curves]) if can_draw() else display,
                stop=asked,
            )
    except (TrainingStopped, KeyboardInterrupt) as how:
        kept = "the run is saved" if isinstance(how, TrainingStopped) else "what was saved before is kept"
        tell(f"stopped; {kept}: continue with {going_on}")
        raise typer.Exit(asked.exit_code) from None
    console.print(f"best validation NDCG@10 {done.best:.4f} in epoch {done.best_epoch}")
    return done
