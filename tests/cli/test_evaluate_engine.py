"""`recblr evaluate --engine`: the serving path gives the figures of the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.command import SMALL, recblr, succeeds


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users of 12 events each, among 20 items, so that users often have the item that comes next."""
    generator, users, events = np.random.default_rng(0), 60, 12
    gaps = generator.choice([5, 600, 90_000], (users, events))
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), events),
            "item": generator.integers(0, 20, users * events),
            "time": 1_600_000_000 + gaps.cumsum(1).reshape(-1),
        }
    )
    file = tmp_path_factory.mktemp("log") / "log.csv"
    frame.write_csv(file)
    return file


@pytest.mark.parametrize("options", [["--time", "none"], ["--time", "past"], ["--time", "request"],
                                     ["--time", "request", "--max-length", "6"]])  # fmt: skip
def test_the_engine_gives_the_figures_of_the_report(log: Path, tmp_path: Path, options: list[str]) -> None:
    run = tmp_path / "run"
    succeeds("train", log, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL, *options)
    before = run.joinpath("report.json").read_bytes()
    printed = succeeds("evaluate", run, "--engine")
    assert printed.endswith(f"the engine gives every figure of {run / 'report.json'}\n")
    assert "NDCG@10, unseen items" in printed
    assert run.joinpath("report.json").read_bytes() == before


def test_a_figure_that_differs_is_named(log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeeds("train", log, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL)
    report = json.loads(run.joinpath("report.json").read_text())
    report["ours"]["test"]["masked"]["hr@10"]["mean"] += 0.001
    run.joinpath("report.json").write_text(json.dumps(report))
    seen = recblr("evaluate", run, "--engine")
    assert seen.code == 1
    assert seen.err == f"recblr: the engine differs from {run / 'report.json'} in 1 figure(s)\n"


def test_a_baseline_cannot_be_served_by_the_event(log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--k-core", "0", "--epochs", "1", "--model", "gru4rec", *SMALL]
    succeeds("train", log, "--out", run, *options)
    seen = recblr("evaluate", run, "--engine")
    assert seen.code == 2
    assert "holds the baseline gru4rec, which cannot be served event by event" in seen.err
