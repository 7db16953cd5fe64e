"""Comparing runs over the same users: how far the first is ahead of each other one, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from recblr.evaluation.bootstrap import RESAMPLES, paired_bootstrap
from recblr.evaluation.picture import figure_in
from recblr.evaluation.ranking import users_metric

METRICS: tuple[Literal["hr", "ndcg"], ...] = ("hr", "ndcg")
K = 10
Row = dict[str, Any]
"""What is known of one run: its facts, the mean of each metric, and how far the first run is ahead."""


@dataclass(frozen=True)
class RankedRun:
    """A run with the ranks of its seeds.

    facts: what a table or a file says of it; `run`, `model` and `time` are shown.
    ranks: (seeds, S) int64, the rank of the test item of each of S users, who are the same in all runs.
    """

    facts: Mapping[str, object]
    ranks: npt.NDArray[np.int64]

    def metric(self, metric: Literal["hr", "ndcg"]) -> npt.NDArray[np.float64]:
        """(S,) the metric of each user at K, as the mean over the seeds."""
        mean: npt.NDArray[np.float64] = users_metric(self.ranks, metric, K).mean(0)
        return mean


def compare(runs: Sequence[RankedRun], *, resamples: int = RESAMPLES) -> list[Row]:
    """A row for each run: its facts, the seeds and the users, and its HR@10 and NDCG@10 over all items.

    Every row but the first also has "first ahead in hr@10" and "first ahead in ndcg@10", each with the
    fields of :class:`recblr.evaluation.Difference`.

    Raises InputError if there are no users, and ValueError if the runs have not ranked as many users.
    """
    first, rows = runs[0], []
    for run in runs:
        row: Row = {**run.facts, "seeds": len(run.ranks), "users": run.ranks.shape[1]}
        for metric in METRICS:
            ours, theirs = first.metric(metric), run.metric(metric)
            row[f"{metric}@{K}"] = float(theirs.mean())
            if run is not first:
                ahead = paired_bootstrap(ours, theirs, resamples=resamples)
                row[f"first ahead in {metric}@{K}"] = vars(ahead)
        rows.append(row)
    return rows


def render_runs(rows: Sequence[Row]) -> Table:
    """The rows of `compare`, two or more, as a table."""
    draws = rows[1][f"first ahead in ndcg@{K}"]["resamples"]
    table = Table(
        title=Text(f"Test items of {rows[0]['users']:,} users, among all items"),
        caption=Text(
            "ahead by: the first run less this one in NDCG@10, the 95 % interval of a paired bootstrap,"
            f" {draws:,} resamples of the users; p: of a two-sided sign-flip test, {draws:,} flips;"
            " differ: users whose NDCG@10 differs",
            style="dim",
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    for words in ("HR@10", "p", "NDCG@10", "ahead by", "p", "differ"):
        table.add_column(words, justify="right", no_wrap=True)
    for row in rows:
        seeds = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
        hr, ndcg = (row.get(f"first ahead in {metric}@{K}") for metric in METRICS)
        table.add_row(
            Text(f"{row['run']}: {row['model']}, time {row['time']}{seeds}"),
            f"{row[f'hr@{K}']:.4f}",
            p_words(hr) if hr else "",
            f"{row[f'ndcg@{K}']:.4f}",
            f"{ndcg['low']:+.4f} to {ndcg['high']:+.4f}" if ndcg else "",
            p_words(ndcg) if ndcg else "",
            f"{ndcg['differ']:,}" if ndcg else "",
            style=None if ndcg else "bold",
        )
    return table


def p_words(ahead: Mapping[str, Any]) -> str:
    """The p-value of a difference as text.  ahead: the fields of a `Difference`."""
    p_value, draws = ahead["p_value"], ahead["resamples"]
    return f"{p_value:.4f}" if p_value > 1 / (draws + 1) else f"< {1 / draws:.4f}"


def draw_runs(rows: Sequence[Row], path: Path) -> None:
    """Draw how far the first run is ahead, with the intervals, as PNG, atomically.  Needs matplotlib."""
    others = rows[1:]
    with figure_in(path, size=(8, 1.6 + 0.4 * len(others))) as figure:
        pair = figure.subplots(1, len(METRICS), sharey=True)
        for axes, metric in zip(pair, METRICS, strict=True):
            for place, row in enumerate(others):
                ahead = row[f"first ahead in {metric}@{K}"]
                colour = "#4477aa" if ahead["low"] * ahead["high"] > 0 else "#999999"
                axes.plot([ahead["low"], ahead["high"]], [place, place], color=colour)
                axes.plot([ahead["mean"]], [place], marker="o", color=colour)
            axes.axvline(0, color="#222222", linewidth=0.8, linestyle=":")
            axes.set_xlabel(f"{metric.upper()}@{K} of {rows[0]['run']}, less that of the run")
            axes.set_yticks(range(len(others)), [f"{row['run']}\n{row['model']}" for row in others])
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(len(others) - 0.5, -0.5)
        figure.suptitle("95 % intervals over resamples of the users; grey ones contain 0", fontsize=9)
