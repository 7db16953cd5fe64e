"""`recblr compare`: rank the same test items with several runs, and say how sure their differences are."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

from recblr.cli.app import Device, app, example, plain_console
from recblr.cli.signals import signals_end_process
from recblr.errors import InputError

if TYPE_CHECKING:  # the help needs no torch
    from recblr.data import Holdout
    from recblr.evaluation.comparison import RankedRun
    from recblr.run.folder import Run


@app.command(
    epilog=example("recblr compare run other", "recblr compare run other --out both.json --plot both.png")
)
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Folders of `recblr train`, or of `recblr reproduce` with all its seeds."
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON, too.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the differences as PNG.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Compare the first run with each of the others, on the same test items of the same users.

    Each run ranks the test item of every user among all items. A paired bootstrap
    and a sign-flip test, each of 10,000 draws, say how sure the differences in
    HR@10 and NDCG@10 are. With several seeds, the metric of a user is the mean
    over them.
    """
    with signals_end_process():
        from recblr.evaluation import comparison
        from recblr.io.atomic import atomic_path
        from recblr.run.folder import runs_in
        from recblr.system.build import commit
        from recblr.system.machine import describe_machine
        from recblr.training.curves import can_draw

    if len(set(folders)) < len(folders) or len(folders) < 2:
        raise InputError("there are no two different runs to compare", "give two or more, each once")
    if out is not None and plot is not None and out.resolve() == plot.resolve():
        raise InputError(f"--out and --plot both name {out}", "give each a file of its own")
    if plot is not None and not can_draw():
        raise InputError(
            "--plot needs matplotlib, which is not installed", "pip install 'recblr[plot]', or leave it out"
        )
    found = {folder: runs_in(folder) for folder in folders}
    _check_same_data([run for runs in found.values() for run in runs])
    console = plain_console()
    with ExitStack() as open_files:  # before the ranking, so that a wrong place is known at once
        drafts = {file: open_files.enter_context(atomic_path(file)) for file in (out, plot) if file}
        rows = comparison.compare(_ranked(found, console, device))
        if out is not None:
            result = {"rows": rows, "commit": commit(), "machine": describe_machine()}
            drafts[out].write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if plot is not None:
            comparison.draw_runs(rows, drafts[plot])
    console.print(comparison.render_runs(rows))
    for file in drafts:
        console.print(f"written to {file}", soft_wrap=True)


def _ranked(found: dict[Path, list[Run]], console: Console, device: str) -> list[RankedRun]:
    """The ranks of the runs in each folder.  InputError if they have not the same test."""
    from recblr.cli.display import ranking_display
    from recblr.evaluation.comparison import RankedRun
    from recblr.training.evaluate import rank_test

    ranked, first = [], None
    for folder, runs in found.items():
        ranks = []
        for run in runs:
            with ranking_display(console) as bar:
                name, test, own = rank_test(run, partial(bar, str(run.folder)), device)
            first = first or test
            if not _same_test(first, test):
                problem = f"{run.folder} has another test than {next(iter(found))}"
                raise InputError(problem, "give runs with the same --split")
            ranks.append(own.unmasked)
        facts = {
            "run": str(folder),
            "model": name,
            "time": runs[0].config().model.time_use,
            "command": runs[0].facts().get("command", ""),
        }
        ranked.append(RankedRun(facts, np.array(ranks)))
    return ranked


def _check_same_data(runs: list[Run]) -> None:
    """Raise InputError unless all runs were trained on the same data."""
    prints = [run.facts()["fingerprint"] for run in runs]
    for run, fingerprint in zip(runs, prints, strict=True):
        if fingerprint != prints[0]:
            raise InputError(
                f"{run.folder} was trained on other data than {runs[0].folder}", "give runs on the same data"
            )


def _same_test(first: Holdout, other: Holdout) -> bool:
    """Whether two tests on the same data have the same users and items."""
    assert first.users is not None
    assert other.users is not None
    pairs = ((first.users, other.users), (first.targets, other.targets))
    return all(np.array_equal(*pair) for pair in pairs)
