"""Ctrl-C: exit code 130, no traceback, a run that goes on with the very command that was printed."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cli.command import ENVIRONMENT, SMALL, shell, succeeds
from training.tiny_runs import assert_same_run, contents, tiny_dataset

from recblr.data import write_inter

WORDS = ["train", "shop.inter", "--out", "my run", "--k-core", "0", "--epochs", "3", *SMALL]


def interrupt_when(words: list[str], cwd: Path, ready: Callable[[], bool]) -> tuple[int, str, str]:
    """Start the command and press Ctrl-C as soon as it is ready; its exit code and streams."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recblr.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_training_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    write_inter(tiny_dataset(users=1200), tmp_path / "shop.inter")
    first = tmp_path / "my run" / "checkpoints" / "epoch-0001"
    code, out, err = interrupt_when(WORDS, tmp_path, first.exists)
    assert code == 130
    assert "Traceback" not in out + err
    assert err.startswith("recblr: stopped; every finished epoch is kept: continue with recblr train ")
    assert err.count("\n") == 1
    assert not (tmp_path / "my run" / "report.json").exists()

    command = shlex.split(err.partition("continue with ")[2])
    assert command == ["recblr", "train", "--out", "my run", "--resume"]
    seen = shell(*command[1:], cwd=tmp_path)
    assert (seen.code, seen.err) == (0, "")
    assert "epoch   1 " not in seen.out
    WORDS_STRAIGHT = [word.replace("my run", str(tmp_path / "straight")) for word in WORDS]
    WORDS_STRAIGHT[1] = str(tmp_path / "shop.inter")
    succeeds(*WORDS_STRAIGHT)
    assert_same_run(tmp_path / "my run", tmp_path / "straight")


def test_the_command_that_is_printed_resumes_only_once(tmp_path: Path) -> None:
    write_inter(tiny_dataset(users=1200), tmp_path / "shop.inter")
    words = [*WORDS, "--resume"]
    code, _, err = interrupt_when(words, tmp_path, (tmp_path / "my run" / "run.json").exists)
    assert code == 130
    assert err.count("--resume") == 1
    left = contents(tmp_path / "my run")
    assert "run.json" in left
    assert "checkpoints" not in left


def test_an_interrupted_evaluation_says_how_to_go_on(finished: Path) -> None:
    import contextlib

    import pytest
    from cli.command import recblr

    import recblr.training.evaluate as evaluation

    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.nullcontext():
        patch.setattr(evaluation, "evaluate_run", press)
        seen = recblr("evaluate", finished)
    assert (seen.code, seen.out) == (130, "")
    assert seen.err == f"recblr: stopped; the model is kept: evaluate it with recblr evaluate {finished}\n"
