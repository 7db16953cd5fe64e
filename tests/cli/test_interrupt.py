"""Ctrl-C, SIGTERM and SIGHUP: the run is saved, and the printed command continues it."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT, SMALL, at, recblr, succeeds
from training.tiny_runs import assert_same_run, checkpoint_names, tiny_dataset

import recblr.training.evaluate as evaluation
from recblr.cli.signals import StopOnSignal
from recblr.data import write_inter
from recblr.training.learner import Learner

WORDS = ["train", "shop.inter", "--out", "my run", "--k-core", "0", "--epochs", "3", *SMALL]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
NAMES = ["Ctrl-C", "SIGTERM", "SIGHUP"]


def stop_when(words: list[str], cwd: Path, ready: Callable[[], bool], how: int) -> tuple[int, str, str]:
    """Start the command and send it the signal when it is ready.  Returns exit code, output and errors."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recblr", *words],
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
    process.send_signal(how)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and a run of WORDS that was not stopped.  An epoch takes tenths of a second."""
    folder = tmp_path_factory.mktemp("straight")
    write_inter(tiny_dataset(users=600), folder / "shop.inter")
    with at(folder):
        succeeds(*WORDS)
    return folder


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=NAMES[:2])
def test_a_stopped_training_prints_the_command_that_continues_it(
    how: signal.Signals, straight: Path, tmp_path: Path
) -> None:
    shutil.copy(straight / "shop.inter", tmp_path)
    run = tmp_path / "my run"
    code, out, err = stop_when(WORDS, tmp_path, (run / "checkpoints" / "epoch-0001").exists, how)
    assert code == CODES[how]
    assert "Traceback" not in out + err
    assert err == "recblr: stopped; the run is saved: continue with recblr train --out 'my run' --resume\n"
    assert not (run / "report.json").exists()

    with at(tmp_path):
        out = succeeds(*shlex.split(err.partition("continue with ")[2])[1:])
    assert "epoch   1 " not in out
    assert_same_run(run, straight / "my run")


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that this process gets during the third step, in order.  The test fills the list."""
    numbers: list[int] = []
    steps, step = 0, Learner.step

    def spy(self: Learner, *arguments: object) -> float:
        nonlocal steps
        steps += 1
        if steps == 3:
            for number in numbers:
                os.kill(os.getpid(), number)
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", spy)
    return numbers


@pytest.mark.parametrize("how", CODES, ids=NAMES)
def test_the_current_step_is_finished_and_the_unfinished_epoch_is_saved(
    how: signal.Signals, data: Path, finished: Path, tmp_path: Path, signals: list[int]
) -> None:
    signals.append(how)
    before = [signal.getsignal(number) for number in CODES]
    seen = recblr("train", data, "--out", tmp_path / "run", "--k-core", "0", "--epochs", "2", *SMALL)
    assert seen.code == CODES[how]
    assert seen.err.startswith("recblr: stopped; the run is saved: continue with recblr train --out ")
    assert checkpoint_names(tmp_path / "run") == ["epoch-0000-step-000003"]
    assert [signal.getsignal(number) for number in CODES] == before
    succeeds("train", "--out", tmp_path / "run", "--resume")
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=NAMES[:2])
def test_a_second_signal_stops_at_once(
    second: signal.Signals, data: Path, finished: Path, tmp_path: Path, signals: list[int]
) -> None:
    signals.extend([signal.SIGINT, second])
    words = ["train", data, "--out", tmp_path / "run", "--k-core", "0", "--epochs", "2", *SMALL]
    seen = recblr(*words, "--checkpoint-minutes", "1e-9")
    assert seen.code == 130
    assert seen.err.startswith("recblr: stopped; earlier checkpoints are kept: continue with recblr train ")
    assert checkpoint_names(tmp_path / "run") == ["epoch-0000-step-000002"]
    succeeds("train", "--out", tmp_path / "run", "--resume")
    assert_same_run(tmp_path / "run", finished)


def test_a_closed_terminal_may_send_its_signal_twice(
    data: Path, finished: Path, tmp_path: Path, signals: list[int]
) -> None:
    signals.extend([signal.SIGHUP, signal.SIGHUP])
    seen = recblr("train", data, "--out", tmp_path / "run", "--k-core", "0", "--epochs", "2", *SMALL)
    assert seen.code == 129
    assert seen.err.startswith("recblr: stopped; the run is saved: continue with ")
    assert checkpoint_names(tmp_path / "run") == ["epoch-0000-step-000003"]


# A shell makes background processes ignore SIGINT, and nohup makes its command ignore SIGHUP.
@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "SIGHUP"])
def test_an_ignored_signal_stays_ignored(ignored: signal.Signals) -> None:
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        with StopOnSignal(lambda: None) as asked:
            os.kill(os.getpid(), ignored)
            assert not asked()
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked()
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        signal.signal(ignored, before)


# Starts the command in a terminal of its own, as a login does.
IN_A_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "recblr", *sys.argv[2:]])
"""


@pytest.mark.parametrize("nohup", ["", "nohup"])
def test_a_training_whose_terminal_is_lost_is_saved_or_goes_on_as_asked(
    nohup: str, straight: Path, tmp_path: Path
) -> None:
    shutil.copy(straight / "shop.inter", tmp_path)
    run = tmp_path / "my run"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, nohup, *WORDS],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    os.close(theirs)
    deadline = time.monotonic() + 120
    shown = b""
    while not (run / "checkpoints" / "epoch-0001").exists():
        assert process.poll() is None, shown
        assert time.monotonic() < deadline
        if select.select([ours], [], [], 0.002)[0]:
            shown += os.read(ours, 1 << 16)
    os.close(ours)  # the command now gets SIGHUP, and cannot write any more
    assert process.wait(timeout=120) == (0 if nohup else 129)
    assert b"epoch" in shown
    assert (run / "report.json").exists() == bool(nohup)
    if not nohup:
        assert not (run / ".lock").exists()
        seen = recblr("train", "--out", run, "--resume")
        assert (seen.code, seen.err) == (0, "")
    assert_same_run(run, straight / "my run")


# The function in which each command waits for the signal, and the words that it prints then.
AT_WORK = {
    "train": ("recblr.data", "read_dataset", ["train", "shop.inter", "--out", "new"], "start again with"),
    "evaluate": ("recblr.training.evaluate", "evaluate_run", ["evaluate", "run"], "evaluate it with"),
    "recommend": (
        "recblr.serving.recommendations",
        "recommend",
        ["recommend", "run", "--user", "u1"],
        "start again with",
    ),
    "export": (
        "recblr.run.model_content",
        "write_model_file",
        ["export", "run", "new.safetensors"],
        "start again with",
    ),
    "reproduce": (
        "recblr.data", "read_dataset", ["reproduce", "ml-1m", "--data", "shop.inter"], "start again with"
    ),
    "download": ("recblr.data.download", "download", ["download", "ml-1m"], "start again with"),
    "synth": ("recblr.data", "generate", ["synth", "new.inter"], "start again with"),
    "doctor": ("recblr.system.build", "findings", ["doctor"], "start again with"),
}  # fmt: skip


# All signals have the same handler, so one of them per command is enough.
@pytest.mark.parametrize(("command", "how"), list(zip(AT_WORK, itertools.cycle(CODES), strict=False)))
def test_every_command_ends_in_one_sentence(
    command: str, how: signal.Signals, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(data, tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    module, name, words, says = AT_WORK[command]

    def held(*_: object, **__: object) -> None:
        os.kill(os.getpid(), how)
        time.sleep(60)
        raise AssertionError("the command went on")

    monkeypatch.setattr(importlib.import_module(module), name, held)
    with at(tmp_path):
        seen = recblr(*words)
    assert (seen.code, seen.err.count("\n")) == (CODES[how], 1)
    assert re.fullmatch(rf"recblr: stopped.*: {says} recblr {command} .*\n|.* recblr doctor\n", seen.err)
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("how", CODES, ids=NAMES)
def test_a_process_that_is_stopped_at_work_ends_in_one_sentence(how: signal.Signals, tmp_path: Path) -> None:
    code = """
import os, sys, time
import recblr.data
from recblr.cli import main
def held(*_, **__):
    os.write(1, b"at work")
    time.sleep(60)
recblr.data.generate = held
sys.argv = ["recblr", "synth", "new.inter"]
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None
    seen = ""
    while "at work" not in seen and process.poll() is None:
        seen += process.stdout.read(1)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == CODES[how]
    assert err == "recblr: stopped: start again with recblr synth new.inter\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_sigterm_at_any_moment_shows_no_traceback(seconds: float, run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recblr", "evaluate", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    if process.returncode == 143:
        assert re.fullmatch("recblr: stopped.*\n", err)
    else:  # it was already done, or Python had not yet run our first line
        assert (process.returncode, err) in [(0, ""), (-signal.SIGTERM, "")]


def test_a_signal_during_the_imports_ends_the_program_with_a_sentence() -> None:
    code = "import os, signal; from recblr.cli.signals import signals_end_process\n"
    code += "with signals_end_process(): os.kill(os.getpid(), signal.SIGTERM); print('never')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "recblr: stopped\n")


def test_an_interrupted_evaluation_prints_the_command_that_repeats_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate_run", press)
    seen = recblr("evaluate", finished)
    assert (seen.code, seen.out) == (130, "")
    assert seen.err == f"recblr: stopped; the model is saved: evaluate it with recblr evaluate {finished}\n"
