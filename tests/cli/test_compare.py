"""`recblr compare`: the figures are those of the reports, and only runs with the same test are compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli.command import SMALL, at, recblr, succeeds
from training.test_times import told_by_gaps

from recblr.evaluation import read_report

OPTIONS = ["--k-core", "0", "--epochs", "1", *SMALL]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs: two seeds in `both`, a model without time, a baseline, and another split."""
    folder = tmp_path_factory.mktemp("runs")
    told_by_gaps(users=20, events=8).write_csv(folder / "log.csv")
    with at(folder):
        for seed in ("0", "1"):
            succeeds("train", "log.csv", "--out", f"both/seed-{seed}", "--seed", seed, *OPTIONS)
        succeeds("train", "log.csv", "--out", "none", "--time", "none", *OPTIONS)
        succeeds("train", "log.csv", "--out", "gru", "--model", "gru4rec", *OPTIONS)
        succeeds("train", "log.csv", "--out", "by time", "--split", "time", *OPTIONS)
    return folder


def figure(run: Path, metric: str) -> float:
    mean: float = read_report(run / "report.json")["ours"]["test"]["unmasked"][metric]["mean"]
    return mean


def test_runs_are_compared_over_the_same_users(runs: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "compared.json", tmp_path / "compared.png"
    with at(runs):
        printed = succeeds("compare", "both", "none", "gru", "--out", out, "--plot", plot)
    first, second, third = json.loads(out.read_text())["rows"]
    assert [row["run"] for row in (first, second, third)] == ["both", "none", "gru"]
    assert [row["model"] for row in (first, second, third)] == ["RecBLR", "RecBLR", "GRU4Rec"]
    assert [row["seeds"] for row in (first, second, third)] == [2, 1, 1]
    assert [row["time"] for row in (first, second)] == ["request", "none"]
    for metric in ("hr@10", "ndcg@10"):
        both = [figure(runs / "both" / seed, metric) for seed in ("seed-0", "seed-1")]
        assert first[metric] == pytest.approx(sum(both) / 2)
        assert second[metric] == pytest.approx(figure(runs / "none", metric))
        ahead = second[f"first ahead in {metric}"]
        assert ahead["mean"] == pytest.approx(first[metric] - second[metric])
        assert ahead["low"] <= ahead["mean"] <= ahead["high"]
    rows = [line for line in printed.splitlines() if ": RecBLR" in line or ": GRU4Rec" in line]
    assert rows[0].split()[:6] == ["both:", "RecBLR,", "time", "request,", "2", "seeds"]
    assert ahead["resamples"] == 10_000
    assert rows[1].split()[-2:] == [f"{ahead['p_value']:.4f}", f"{ahead['differ']}"]
    assert printed.endswith(f"written to {out}\nwritten to {plot}\n")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_nothing_is_written_without_the_options(runs: Path) -> None:
    before = sorted(os.listdir(runs))
    with at(runs):
        assert "20 users" in succeeds("compare", "none", "gru")
    assert sorted(os.listdir(runs)) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none"], "there are no two different runs to compare; give two or more, each once"),
        (["none", "none"], "there are no two different runs to compare"),
        (["none", "by time"], "by time has another test than none; give runs with the same --split"),
        (["none", "nowhere"], "nowhere holds no run; give a folder that"),
        (["none", "gru", "--out", "x", "--plot", "./x"], "--out and --plot both name x; give each a file"),
        (["none", "gru", "--out", "no folder/x.json"], "cannot write no folder/x.json"),
        (["none", "gru", "--plot", "no folder/x.png"], "cannot write no folder/x.png"),
    ],
)
def test_what_cannot_be_compared_gives_one_sentence_and_no_file(
    words: list[str], says: str, runs: Path
) -> None:
    before = sorted(os.listdir(runs))
    with at(runs):
        seen = recblr("compare", *words)
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert says in seen.err
    assert sorted(os.listdir(runs)) == before


def test_other_data_are_named_before_any_ranking(runs: Path, finished: Path) -> None:
    seen = recblr("compare", runs / "none", finished)
    assert (seen.code, seen.out) == (2, "")
    assert f"{finished} was trained on other data than {runs / 'none'}" in seen.err
