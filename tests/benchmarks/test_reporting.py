"""What a benchmark prints about its figures, what it refuses, and how it measures in three processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.harness import BENCHMARKS, figure, measuring

PROGRAM = """'''Claim: waiting takes time.

More about it.
'''
import sys, time
import figure, measuring, reporting

def cases(quick):
    return [{"shape": shape, "direction": "forward", "threads": 1} for shape in ("1×2", "3×4")]

def measure(case, quick):
    print("chatter of a peer")
    if case["shape"] == "FAILS":
        sys.exit("no luck")
    waits = {"ours": 0.001, "other": 0.004}
    return measuring.take_turns({name: lambda s=s: time.sleep(s) for name, s in waits.items()}, quick=quick)

def figures(result):
    return [figure.Figure("ours", "other", result.times_faster("ours", "other"), 2)]

if __name__ == "__main__":
    reporting.main(__doc__, cases, measure, figures, summary=lambda results: [f"cases: {len(results)}"])
"""


def run(folder: Path, *options: object, fails: str = "none") -> subprocess.CompletedProcess[str]:
    program = folder / "waiting.py"
    program.write_text(PROGRAM.replace("FAILS", fails), encoding="utf-8")
    return subprocess.run(
        [sys.executable, program, *map(str, options)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_benchmark_measures_in_three_processes_and_writes_what_it_prints(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run(tmp_path, "--out", tmp_path / "new" / "folder")
    assert ended.returncode == 0, ended.stderr
    assert "Claim: waiting takes time." in ended.stdout
    assert ended.stdout.count("≥ 2 reached") == 2
    assert "cases: 2" in ended.stdout
    assert "chatter" not in ended.stdout
    written = json.loads((tmp_path / "new" / "folder" / "waiting.json").read_text(encoding="utf-8"))
    assert (written["claim"], written["processes"]) == ("Claim: waiting takes time.", measuring.PROCESSES)
    assert written["summary"] == ["cases: 2"]
    assert {"commit", "command", "machine", "load_average"} <= written.keys()
    for result in written["results"]:
        (figure,) = result["figures"]
        assert figure["reached"]
        assert figure["value"]["low"] <= figure["value"]["median"] <= figure["value"]["high"] < 4.5
        assert result["took"]["ours"]["median"] >= 0.001
    assert "</svg>" in (tmp_path / "new" / "folder" / "waiting.svg").read_text(encoding="utf-8")


def test_after_a_case_that_fails_the_benchmark_ends_and_writes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run(tmp_path, "--out", tmp_path / "out", fails="3×4")
    assert ended.returncode == 1
    assert "no luck" in ended.stderr
    assert "waiting.py failed after 1 of 2 cases, see above" in ended.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run(tmp_path, "--out", tmp_path / "file")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot write to --out {tmp_path / 'file'}")
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "chatter" not in ended.stdout


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"bar": 2.0}, True),
        ({"bar": 2.1}, False),
        ({"bar": 2.0, "at_most": True}, True),
        ({"bar": 1.9, "at_most": True}, False),
        ({"bar": 9.0, "reached": True}, True),
        ({}, None),
    ],
)
def test_the_median_decides_whether_a_bar_is_reached(
    options: dict[str, object], verdict: bool | None
) -> None:
    compared = figure.Figure("ours", "other", measuring.Spread(median=2.0, low=0.0, high=9.0), **options)
    assert compared.verdict() is verdict


def test_a_contender_that_did_not_run_has_no_verdict() -> None:
    assert figure.Figure("ours", "other", None, bar=2.0, note="not installed").verdict() is None
