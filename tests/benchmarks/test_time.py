"""The programs that compare ways to use times run on a small log, and keep what they have found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.harness import load
from cli.command import SMALL, succeeds
from training.test_times import told_by_gaps

SMALL_OPTIONS = ["d-model=8", "num-layers=1", "batch-tokens=256"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    told_by_gaps(users=20, events=8).write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def test_variants_are_trained_once(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    program, out = load("time_variants"), tmp_path / "time.jsonl"
    variants = ["none", "past+next+fading+answer", "past+fourier+film+clock+ties+visit", "past+buckets+dates"]
    words = [program.__file__, str(log), "--out", str(out), "--epochs", "1", "--option", *SMALL_OPTIONS, "--"]
    monkeypatch.setattr(sys, "argv", [*words, *variants])
    monkeypatch.setattr("recblr.training.learner.build_model", program.build_model)  # undone after the test
    monkeypatch.setattr("recblr.training.trainer.save_model", program.trainer.save_model)
    program.main()
    first = out.read_text(encoding="utf-8")
    found = [json.loads(line) for line in first.splitlines()]
    assert [result["variant"] for result in found] == variants
    assert all(0 <= result["valid"][-1]["ndcg@10"] <= 1 for result in found)
    program.main()
    assert out.read_text(encoding="utf-8") == first


def test_an_unknown_word_of_a_variant_is_refused() -> None:
    pytest.importorskip("optuna")
    with pytest.raises(SystemExit, match="there is no word 'future' for a variant"):
        load("time_variants").parsed("past+future")


def test_other_times_of_requests_are_ranked(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "ablation.json"
    succeeds("train", log, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL)
    program = load("time_ablation")
    monkeypatch.setattr(sys, "argv", [program.__file__, str(run), "--out", str(out)])
    program.main()
    test = json.loads(out.read_text(encoding="utf-8"))["test"]
    assert list(test) == ["true", "shuffled", "at once", "days"]
