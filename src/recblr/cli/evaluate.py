"""`recblr evaluate`: rank the test items of a run, write the report and print it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from recblr.cli.app import Device, RunFolder, app, example, plain_console, tell
from recblr.cli.signals import exit_code, signals_end_process

if TYPE_CHECKING:  # the help needs no torch
    from recblr.evaluation.report_file import Report
    from recblr.run.folder import Run


@app.command(epilog=example("recblr evaluate run"))
def evaluate(folder: RunFolder, *, device: Device = "auto") -> None:
    """Rank every user's test item among the whole catalogue; write RUN/report.json and print it."""
    with signals_end_process():
        from recblr.run.folder import Run

    evaluate_and_print(Run(folder), plain_console(), device)


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
