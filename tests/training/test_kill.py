"""`kill -9` of the command: the resumed run ends with the same bits as a run that was not killed.

`make kills` sets RECBLR_KILLS to kill more often than `make test` does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.command import recblr, succeeds
from training.tiny_runs import assert_same_run, contents, tiny_dataset

from recblr.data import write_inter

OPTIONS = ["--epochs", "4", "--d-model", "16", "--num-layers", "1", "--batch-tokens", "256"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
DEADLINE = 120.0
KILLS = int(os.environ.get("RECBLR_KILLS", "1"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop.inter"
    # An epoch takes several tenths of a second, so a kill can come in its middle.
    write_inter(tiny_dataset(users=1200), path)
    return path


def start(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start `recblr train` in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "recblr", "train", str(data), "--out", str(out), *OPTIONS, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )


def finish(data: Path, out: Path, *more: str) -> None:
    """Run `recblr train` to its end, in this process: starting another one takes longer than the training."""
    succeeds("train", data, "--out", out, *OPTIONS, *more)


def finish_in_a_new_process(data: Path, out: Path, *more: str) -> str:
    """Run `recblr train` to its end.  Returns its output."""
    process = start(data, out, *more)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    return output


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> bool:
    """Kill the process as soon as it is ready.  Returns False if it ended first."""
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and not ready():
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)  # does nothing if the process has ended
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode == -signal.SIGKILL


def figures(run: Path) -> dict[str, object]:
    """The parts of a report about the model and the simple models, without the date and the seconds."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    curve = [{k: v for k, v in point.items() if k != "seconds"} for point in report["curve"]]
    return {name: report[name] for name in ("ours", "baselines", "dataset", "training")} | {"curve": curve}


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not stopped."""
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(data, out)
    return out


def assert_equal_runs(run: Path, straight: Path) -> None:
    assert_same_run(run, straight)
    assert figures(run) == figures(straight)
    assert contents(run).keys() == contents(straight).keys()


def test_a_run_killed_after_epoch_2_equals_one_that_was_not_killed(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    second = run / "checkpoints" / "epoch-0002"
    assert kill_when(start(data, run), second.exists), "it ended before it could be killed"
    assert not (run / "checkpoints" / "epoch-0004").exists()
    assert not (run / "report.json").exists()
    output = finish_in_a_new_process(data, run, "--resume")
    assert "epoch   1 " not in output
    assert_equal_runs(run, straight)


def test_a_run_killed_in_the_first_epoch_equals_one_that_was_not_killed(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert kill_when(start(data, run), (run / "run.json").exists)
    assert not (run / "checkpoints").exists()
    finish(data, run, "--resume")
    assert_equal_runs(run, straight)


def test_a_run_killed_at_random_moments_equals_one_that_was_not_killed(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    moments = random.Random()
    waits = [round(moments.uniform(0.0, 0.8), 3) for _ in range(KILLS)]
    print(f"seconds from the first written file to the kill: {waits}")  # shown if the test fails
    for wait in waits:
        before = contents(run) if run.exists() else {}
        alive: list[float] = []

        def due(before: dict[str, bytes] = before, alive: list[float] = alive, wait: float = wait) -> bool:
            if not alive and (run / "run.json").exists() and contents_changed(run, before):
                alive.append(time.monotonic())
            return bool(alive) and time.monotonic() - alive[0] >= wait

        # Checkpoints within epochs let some kills come while a checkpoint is being written.
        kill_when(start(data, run, "--resume", "--checkpoint-minutes", "0.001"), due)
    finish(data, run, "--resume", "--checkpoint-minutes", "10")
    assert_equal_runs(run, straight)


def test_a_second_process_may_read_the_run_but_not_train_into_it(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = start(data, run)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (run / "checkpoints" / "epoch-0001").exists():
            assert first.poll() is None, "it ended before it could be halted"
            assert time.monotonic() < deadline, "the first epoch never ended"
            time.sleep(0.002)
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        before = contents(run)
        for more in (["--resume"], ["--resume", "--device", "cpu", "--checkpoint-minutes", "5"], []):
            second = recblr("train", data, "--out", run, *OPTIONS, *more)
            assert second.code == 2
            assert second.err == (
                f"recblr: another process is training into {run}; wait until it ends, "
                "or choose another --out\n"
            )
        assert contents(run) == before
        for words in (["evaluate", run], ["recommend", run, "--user", "u1"]):
            assert recblr(*words).code == 0
    finally:
        first.kill()
        first.communicate(timeout=DEADLINE)
    assert (run / ".lock").exists()
    finish(data, run, "--resume")
    assert_equal_runs(run, straight)
    assert not (run / ".lock").exists()


def contents_changed(run: Path, before: dict[str, bytes]) -> bool:
    try:
        return contents(run) != before
    except FileNotFoundError:  # the file was replaced while it was read
        return True
