"""`recblr reproduce`: an experiment of the paper with several seeds, and the paper's figures beside ours."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from recblr.cli.app import app, example, plain_console, tell, typed_command
from recblr.cli.download import fetch
from recblr.cli.evaluate import evaluate_and_write
from recblr.cli.options import OptionValue, configs_from, typed_options, with_flags
from recblr.cli.signals import exit_code, signals_end_process
from recblr.cli.train import (
    print_dataset,
    print_device,
    read_data,
    train_and_show,
    warn_without_matplotlib,
    with_real_paths,
)
from recblr.errors import InputError
from recblr.experiments import Recipe, combined_report, finished_report, recipe
from recblr.system.machine import keep_freed_memory

if TYPE_CHECKING:  # the help needs no torch
    from recblr.evaluation.report_file import Report
    from recblr.run.folder import Run

_MOST_SEEDS = 1000


@app.command(epilog=example("recblr reproduce ml-1m", "recblr reproduce beauty --data Beauty.txt --seeds 1"))
@with_flags
def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ml-1m or beauty.")],
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The file of the dataset, or its folder. ml-1m is downloaded if this is not given.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Number of seeds; the first is --seed.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the runs and the report; by default reproduce-NAME."),
    ] = None,
    **typed: OptionValue,
) -> None:
    """Train and evaluate on a dataset of the paper, and print the paper's figures beside ours.

    Each seed is a run like those of `recblr train`, in DIR/seed-0, DIR/seed-1
    and so on. The means are written to DIR/report.json and DIR/report.png. An
    option that is not given has the value of the paper's recipe, not the default.
    After any interruption, the same command continues.
    """
    with signals_end_process():
        from recblr.evaluation import draw_report, print_comparison, write_report
        from recblr.run.folder import Run, settled_for, split_for
        from recblr.system.device import device_for
        from recblr.training.curves import can_draw

    keep_freed_memory()
    console, chosen, folder = plain_console(lasting=True), recipe(name), out or Path(f"reproduce-{name}")
    if not 1 <= seeds <= _MOST_SEEDS:
        raise InputError(f"--seeds must lie in 1..{_MOST_SEEDS}, but is {seeds}")
    config, reading = configs_from(chosen.options, typed_options(typed))
    runs = {seed: Run(folder / f"seed-{seed}") for seed in range(config.seed, config.seed + seeds)}
    device = device_for(config.device)
    if Run(folder).exists():
        raise InputError(f"{folder} holds a run, and its report would be replaced", "choose another --out")

    path = _data_file(name, chosen, data, console)
    reading = replace(reading, paths=(str(path),))
    dataset = replace(read_data(reading, console), name=name)  # not the name of the file
    reading = with_real_paths(reading)
    counts = dataset.num_users, dataset.num_items, dataset.num_interactions
    minimum = {key: reading.as_options()[key] for key in ("k-core", "min-user-events", "min-item-events")}
    filters = " ".join(f"--{key} {value}" for key, value in minimum.items() if value is not None)
    chosen.check_counts(*counts, source=str(path), filters=filters)
    train = split_for(dataset, config).train
    config, events = settled_for(train, config), train.items.size
    configs = {seed: replace(config, seed=seed) for seed in runs}
    for seed, run in runs.items():
        if run.exists():  # refuse wrong options now, not after hours of training other seeds
            with run.lock():
                run.resume(dataset, configs[seed], reading)

    print_dataset(dataset, config, console)
    print_device(device, console)
    warn_without_matplotlib("curves.png and report.png")
    again = typed_command()
    console.print(f"interrupt it at any time; the same command continues: {again}", soft_wrap=True)
    reports = {}
    for number, (seed, run) in enumerate(runs.items(), 1):
        title = f"seed {number} of {seeds}"
        console.print(f"{title}: {run.folder}", soft_wrap=True)
        done = train_and_show(
            dataset, run, configs[seed], reading, console, resume=True, command_to_resume=again, title=title
        )
        try:
            reports[seed] = _report_of(run, done.epoch, console, config.device)
        except KeyboardInterrupt as interrupt:
            tell(f"stopped; the model is saved: continue with {again}")
            raise typer.Exit(exit_code(interrupt)) from None

    report = combined_report(name, reports, dataset, config, reading, events=events, command=again)
    write_report(report, folder / "report.json")
    if can_draw():
        draw_report(report, folder / "report.png")
    print_comparison(report, console)
    console.print(f"written to {folder / 'report.json'}", soft_wrap=True)


def _data_file(name: str, chosen: Recipe, given: Path | None, console: Console) -> Path:
    """The given file, or the file in the given folder.  Without --data, it is downloaded once."""
    from recblr.data.download import ARCHIVES

    path = given or Path(name)
    if given is None and name not in ARCHIVES:
        raise InputError(
            f"there is no download for {name}",
            f"give its file with --data, the 5-core of {chosen.title} with "
            "one user in each line (user item item …, oldest first)",
        )
    if given is None and not path.exists():
        return fetch(name, path, None, console).ratings
    return chosen.file_in(path) if path.is_dir() else path


def _report_of(run: "Run", epochs: int, console: Console, device: str) -> "Report":
    """The report in the folder of the seed.  If it is missing, damaged or too old, evaluate the run again."""
    report = finished_report(run, epochs) or evaluate_and_write(run, console, device)
    unmasked, masked = (report["ours"]["test"][how]["ndcg@10"]["mean"] for how in ("unmasked", "masked"))
    console.print(f"test NDCG@10 {unmasked:.4f}  unseen {masked:.4f}")
    return report
