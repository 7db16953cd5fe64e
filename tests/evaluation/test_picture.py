"""The picture of a report: a curve for each seed and masking, and a line for the paper's figure."""

from pathlib import Path
from typing import Any

import pytest
from evaluation.reports import report
from evaluation.test_comparison_table import beside_paper

from recblr.evaluation import draw_report
from recblr.evaluation.picture import plot_learning

figure = pytest.importorskip("matplotlib.figure", reason="pictures need matplotlib, the extra `plot`")

CURVE = [
    {"epoch": epoch, "unmasked": {"ndcg@10": epoch / 10}, "masked": {"ndcg@10": epoch / 5}}
    for epoch in (1, 2, 3)
]


def lines(made: dict[str, Any]) -> dict[str, list[list[float]]]:
    """{label: values of its lines} of the picture.  Lines without a label, of later seeds, are under ""."""
    axes = figure.Figure().subplots()
    plot_learning(axes, made)
    found: dict[str, list[list[float]]] = {}
    for line in axes.lines:
        label = str(line.get_label())
        found.setdefault("" if label.startswith("_") else label, []).append(list(line.get_ydata()))
    return found


def test_every_seed_is_drawn_and_every_label_appears_once() -> None:
    made = beside_paper(0, 1)
    for run in made["runs"].values():
        run["curve"] = CURVE
    drawn = lines(made)
    assert drawn["all items"] == [[0.1, 0.2, 0.3]]
    assert drawn["unseen items"] == [[0.2, 0.4, 0.6]]
    assert drawn[""] == [[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]]
    assert drawn["the paper, test, all items"] == [[0.1901, 0.1901]]
    assert drawn["ours, test, all items"] == [pytest.approx([0.15, 0.15])]


def test_a_report_of_one_run_has_one_curve_and_no_paper() -> None:
    assert set(lines({**report(), "curve": CURVE})) == {"all items", "unseen items"}


def test_the_same_report_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw_report({**report(), "curve": CURVE}, tmp_path / name)
    one = (tmp_path / "one.png").read_bytes()
    assert one.startswith(b"\x89PNG\r\n\x1a\n")
    assert one == (tmp_path / "two.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
