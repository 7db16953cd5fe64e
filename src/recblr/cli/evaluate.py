"""`recblr evaluate`: rank the test items of a run, write the report and print it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from recblr.cli.app import Device, RunFolder, app, example, plain_console, tell
from recblr.cli.signals import exit_code, signals_end_process

if TYPE_CHECKING:  # the help needs no torch
    from recblr.evaluation.report_file import Report
    from recblr.run.folder import Run


@app.command(epilog=example("recblr evaluate run", "recblr evaluate run --engine"))
def evaluate(
    folder: RunFolder,
    *,
    device: Device = "auto",
    engine: Annotated[
        bool,
        typer.Option(
            "--engine",
            help="Rank with the engine that serves, and compare its figures with those of RUN/report.json.",
        ),
    ] = False,
) -> None:
    """Rank every user's test item among the whole catalogue; write RUN/report.json and print it.

    With --engine, the lists of the serving engine are ranked, and no file is written.
    """
    with signals_end_process():
        from recblr.run.folder import Run

    if engine:
        compare_with_engine(Run(folder), plain_console())
    else:
        evaluate_and_print(Run(folder), plain_console(), device)


def compare_with_engine(run: Run, console: Console) -> None:
    """Print the figures of the engine beside those of the report.  Exit with 1 if a printed digit differs."""
    with signals_end_process():
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        from recblr.cli.display import ranking_display
        from recblr.evaluation import read_report
        from recblr.run.folder import split_for
        from recblr.serving.engine import Engine
        from recblr.serving.engine_ranking import rank_with_engine

    report = read_report(run.report_file)
    dataset, config = run.dataset(), run.config()
    served = Engine.load(run.model_file, history=config.model.max_length is not None)
    test = split_for(dataset, config).test
    with ranking_display(console) as progress:
        ranks = rank_with_engine(
            served, test, progress=lambda done: progress("the engine", done, len(test.targets))
        )
    table = Table("", "report", "engine", box=SIMPLE_HEAD)
    differing = 0
    for masking, words in (("unmasked", "all items"), ("masked", "unseen items")):
        for metric, value in ranks.metrics()[masking].items():
            said = f"{report['ours']['test'][masking][metric]['mean']:.4f}"
            table.add_row(f"{metric.upper()}, {words}", said, f"{value:.4f}")
            differing += said != f"{value:.4f}"
    console.print(table)
    if differing:
        tell(f"the engine differs from {run.report_file} in {differing} figure(s)")
        raise typer.Exit(1)
    console.print(f"the engine gives every figure of {run.report_file}", soft_wrap=True)


def evaluate_and_print(run: Run, console: Console, device: str) -> None:
    from recblr.evaluation import print_report

    try:
        report = evaluate_and_write(run, console, device)
    except KeyboardInterrupt as interrupt:
        again = shlex.join(["recblr", "evaluate", str(run.folder)])
        tell(f"stopped; the model is saved: evaluate it with {again}")
        raise typer.Exit(exit_code(interrupt)) from None
    print_report(report, console)
    console.print(f"written to {run.report_file}", soft_wrap=True)


def evaluate_and_write(run: Run, console: Console, device: str) -> Report:
    """Evaluate the run, show the progress, and write the report into the folder of the run."""
    from recblr.cli.display import ranking_display
    from recblr.evaluation import write_report
    from recblr.training.evaluate import evaluate_run

    with ranking_display(console) as progress:
        report = evaluate_run(run, progress, device)
    write_report(report, run.report_file)
    return report
