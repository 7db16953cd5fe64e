"""Every benchmark runs on tiny shapes and writes its results; these figures mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.harness import BENCHMARKS

NAMES = ("memory", "peers", "fused", "scaling", "overhead", "encoder", "loss", "layouts", "engine", "durable")


def one_core() -> None:
    """Use one core: on a busy machine, two threads that wait for each other take seconds for tiny shapes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


# Runs all benchmarks in one process.  To import torch in a process for each takes longer than the benchmarks.
IN_ONE_PROCESS = """
import runpy, subprocess, sys
from pathlib import Path

started = subprocess.run

def run(command, **options):
    if Path(command[1]).parent != folder:
        return started(command, **options)
    sys.argv = [*map(str, command[1:])]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return subprocess.CompletedProcess(command, 0)

folder = Path(sys.argv[1])
sys.path.insert(0, sys.argv[1])
subprocess.run, sys.argv = run, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: object, how: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *how, BENCHMARKS, *map(str, arguments)],
        preexec_fn=one_core,
        capture_output=True,
        text=True,
        check=False,
    )


# One test for all benchmarks, because one command runs them all.
def test_every_benchmark_writes_its_figures_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run("--quick", "--out", tmp_path, how=("-c", IN_ONE_PROCESS))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in NAMES:
        document = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        assert document["claim"].startswith("Claim: "), name
        assert document["results"], name
        for result in document["results"]:
            assert result["figures"], name
            for figure in result["figures"]:
                assert (figure["value"] is None) == bool(figure["note"]), name
                if figure["value"]:
                    assert figure["ours"] in result["took"], name
                    assert figure["beside"] in ("", *result["took"]), name
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8"), name


def test_missing_data_are_refused_before_anything_runs(tmp_path: Path) -> None:
    ended = run("--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert ended.returncode == 1
    assert ended.stderr == f"--data {tmp_path / 'nowhere'} does not exist\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.py")), ids=lambda file: file.stem)
def test_the_first_line_of_a_module_is_one_sentence(file: Path) -> None:
    first, second = file.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith('"""')
    assert first.rstrip('"').endswith(".")
    assert not second or first.endswith('"""')
