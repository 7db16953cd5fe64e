"""The benchmark of lists in bulk runs for few users, and keeps what it has measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.harness import load
from cli.command import SMALL, succeeds
from training.test_times import told_by_gaps


def test_few_users_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by_gaps(users=20, events=8).write_csv(tmp_path / "log.csv")
    run, out = tmp_path / "run", tmp_path / "bulk.json"
    succeeds("train", tmp_path / "log.csv", "--out", run, "--k-core", "0", "--epochs", "1", *SMALL)
    program = load("bulk")
    monkeypatch.setattr(
        sys, "argv", [program.__file__, "--users", "30", "--run", str(run), "--out", str(out)]
    )
    program.main()
    made, given = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert (made["users"], given["users"]) == (30, 20)
    for row in (made, given):
        assert row["users a second"] > 0
        assert 0 < row["GB"] < 4
    for words in ("the first call", "from kept states", "with items="):
        assert 0 < given[f"of a processor, {words}"] < 10
