"""Validation by epoch as a picture, of every seed that a report holds, beside the paper's figure."""

from pathlib import Path
from typing import Any

from recblr.evaluation.report_file import Report
from recblr.io.atomic import atomic_path

METRIC = "ndcg@10"
MASKINGS = {"unmasked": ("all items", "#4477aa"), "masked": ("unseen items", "#cc6677")}
"""What is said for each masking, and its colour."""


def plot_learning(axes: Any, report: Report) -> None:
    """Draw validation NDCG@10 by epoch on matplotlib's axes: a line a seed and masking.

    Where the report has a paper's figures, a dashed line is theirs and a dotted one ours, both of the test.
    """
    from matplotlib.ticker import MaxNLocator

    curves = [run["curve"] for run in report["runs"].values()] if "runs" in report else [report["curve"]]
    for masking, (words, colour) in MASKINGS.items():
        for number, curve in enumerate(curves):
            axes.plot(
                [point["epoch"] for point in curve],
                [point[masking][METRIC] for point in curve],
                color=colour,
                alpha=1 / len(curves) ** 0.5,
                marker="o" if len(curve) == 1 else None,  # which is no line yet
                label=None if number else words,
            )
    if "paper" in report:
        for name, root, style in (("ours", "ours", ":"), ("the paper", "paper", "--")):
            value = report[root]["test"]["unmasked"][METRIC]["mean"]
            colour = MASKINGS["unmasked"][1]
            axes.axhline(value, color=colour, linestyle=style, label=f"{name}, test, all items")
    axes.set(xlabel="epoch", ylabel=f"validation {METRIC.upper()}", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def draw_report(report: Report, path: Path) -> None:
    """Draw a report's validation curves as PNG, atomically.  Takes matplotlib, the extra `plot`."""
    # Not pyplot, which would choose a window to draw in.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    plot_learning(axes, report)
    dataset = report["dataset"]
    axes.set_title(f"{dataset['name']}: {dataset['users']:,} users, {dataset['items']:,} items")
    with atomic_path(path) as draft:
        figure.savefig(draft, format="png", dpi=110)
