"""Comparing runs: who is ahead, how sure that is, and how it looks."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from recblr.evaluation import paired_bootstrap, users_metric
from recblr.evaluation.comparison import RankedRun, compare, draw_runs, render_runs

USERS = 400


def run(name: str, best: int, seeds: int = 1) -> RankedRun:
    """A run whose ranks lie between `best` and 20."""
    ranks = np.random.default_rng(best).integers(best, 20, (seeds, USERS))
    return RankedRun({"run": name, "model": "RecBLR", "time": "none"}, ranks)


def text(rows: list[dict[str, Any]], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render_runs(rows))
    return console.export_text()


def test_each_run_is_compared_with_the_first() -> None:
    runs = [run("ours", 1, 2), run("worse", 8), run("equal", 1, 2)]
    first, worse, equal = compare(runs, resamples=500)
    assert (first["seeds"], first["users"]) == (2, USERS)
    assert "first ahead in hr@10" not in first
    for metric in ("hr", "ndcg"):
        ours = np.mean([users_metric(ranks, metric, 10) for ranks in runs[0].ranks], 0)
        theirs = users_metric(runs[1].ranks[0], metric, 10)
        assert first[f"{metric}@10"] == pytest.approx(ours.mean())
        expected = paired_bootstrap(ours, theirs, resamples=500)
        assert worse[f"first ahead in {metric}@10"] == vars(expected)
        assert expected.low > 0
        assert equal[f"first ahead in {metric}@10"]["p_value"] == 1


def test_another_number_of_users_is_refused() -> None:
    other = RankedRun({"run": "x", "model": "RecBLR", "time": "none"}, np.ones((1, USERS - 1), np.int64))
    with pytest.raises(ValueError, match="one figure for each user"):
        compare([run("ours", 1), other])


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_has_all_figures_within_the_width(width: int) -> None:
    rows = compare([run("a [bold]name[/bold]", 1), run("other", 8)], resamples=200)
    shown = text(rows, width)
    assert max(map(len, shown.splitlines())) <= width
    ahead = rows[1]["first ahead in ndcg@10"]
    assert f"{ahead['low']:+.4f} to {ahead['high']:+.4f}" in shown
    assert f"{rows[0]['hr@10']:.4f}" in shown
    assert "< 0.0050" in shown  # no p-value of 200 flips is below 1 / 201
    assert f"{ahead['differ']}" in shown
    assert shown.count(" 200 ") == 2
    assert "[bold]" in shown
    assert "…" not in shown


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, the extra `plot`")
    rows = compare([run("ours", 1), run("other", 8), run("equal", 1)], resamples=200)
    draw_runs(rows, tmp_path / "runs.png")
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["runs.png"]
