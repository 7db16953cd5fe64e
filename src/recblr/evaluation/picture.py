"""The picture of a report: validation by epoch for each seed, and the paper's figure as a line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recblr.evaluation.report_file import Report
from recblr.io.atomic import atomic_path

METRIC = "ndcg@10"
MASKINGS = {"unmasked": ("all items", "#4477aa"), "masked": ("unseen items", "#cc6677")}
"""The label and the colour of each masking."""


@contextmanager
def figure_in(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yields a matplotlib figure, and writes it to `path` as PNG, atomically, after the `with` block.

    Needs matplotlib, the extra `plot`.
    """
    # pyplot would look for a window system, so it is not used.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as draft:
        figure.savefig(draft, format="png", dpi=110)


def format_axes(axes: Any) -> None:
    """Number only whole epochs, and draw no frame at the top and on the right."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def plot_learning(axes: Any, report: Report) -> None:
    """Draw validation NDCG@10 by epoch on matplotlib's axes, one line for each seed and masking.

    If the report has the paper's figures, a dashed line shows the paper's test figure and a dotted line ours.
    """
    curves = [run["curve"] for run in report["runs"].values()] if "runs" in report else [report["curve"]]
    for masking, (words, colour) in MASKINGS.items():
        for number, curve in enumerate(curves):
            axes.plot(
                [point["epoch"] for point in curve],
                [point[masking][METRIC] for point in curve],
                color=colour,
                alpha=1 / len(curves) ** 0.5,
                marker="o" if len(curve) == 1 else None,  # one point makes no line
                label=None if number else words,
            )
    if "paper" in report:
        for name, root, style in (("ours", "ours", ":"), ("the paper", "paper", "--")):
            value = report[root]["test"]["unmasked"][METRIC]["mean"]
            colour = MASKINGS["unmasked"][1]
            axes.axhline(value, color=colour, linestyle=style, label=f"{name}, test, all items")
    axes.set(xlabel="epoch", ylabel=f"validation {METRIC.upper()}", ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    format_axes(axes)


def draw_report(report: Report, path: Path) -> None:
    """Draw the validation curves of a report as PNG, atomically.  Needs matplotlib, the extra `plot`."""
    dataset = report["dataset"]
    with figure_in(path, size=(6, 4)) as figure:
        axes = figure.subplots()
        plot_learning(axes, report)
        axes.set_title(f"{dataset['name']}: {dataset['users']:,} users, {dataset['items']:,} items")
