"""Run stages one after another within a time limit, each in its own process; failures do not stop the rest.

This module imports only the standard library.  The outcome of a stage is recorded as soon as the stage ends.
A stage that takes too long is killed, together with all processes that it started.  Time that a stage does
not use goes to the later stages.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

DONE, FAILED, OUT_OF_TIME, SKIPPED = "done", "failed", "out of time", "skipped"
TAIL = 1500  # characters of a failure's output that its record keeps


@dataclass(frozen=True)
class Stage:
    """A command that runs as one process.

    command: takes the seconds that the stage may use, and returns the words of the command.
    share: the weight of the stage when the remaining time is divided among it and the stages after it.
    least: the minimum number of seconds; with less, the stage is skipped.
    why_not: called just before the stage; returns the reason why it cannot run here, or "".
    """

    name: str
    command: Callable[[float], tuple]
    share: float = 1.0
    least: float = 1.0
    environment: dict = field(default_factory=dict)
    why_not: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended; why: if it is not done, the reason or the end of its output."""

    name: str
    status: str
    seconds: float
    why: str = ""


def run_stages(stages, seconds, logs, record, clock=perf_counter):
    """Run every stage and return the outcomes; after each stage, `record` gets all outcomes so far.

    seconds: for all stages together.  logs: the folder for NAME.log, which holds the output of a stage.
    """
    started, outcomes = clock(), []
    for index, stage in enumerate(stages):
        left = seconds - (clock() - started)
        limit = max(0, left) * stage.share / sum(later.share for later in stages[index:])
        if why := stage.why_not():
            outcome = Outcome(stage.name, SKIPPED, 0.0, why)
        elif limit < stage.least:
            outcome = Outcome(stage.name, SKIPPED, 0.0, f"only {limit:.0f} s were left for it")
        else:
            outcome = _run(stage, limit, Path(logs) / f"{stage.name}.log")
        outcomes.append(outcome)
        record(outcomes)
    return outcomes


def _run(stage, seconds, log):
    started = perf_counter()
    with log.open("w", encoding="utf-8") as output:
        # The stage gets its own session, so that all processes that it started can be killed with it.
        process = subprocess.Popen(
            list(map(str, stage.command(seconds))),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | stage.environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            status = DONE if process.wait(timeout=seconds) == 0 else FAILED
        except subprocess.TimeoutExpired:
            status = OUT_OF_TIME
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    took = perf_counter() - started
    why = "" if status == DONE else log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
    return Outcome(stage.name, status, took, why)


def _die_with_parent():
    """Ask Linux to kill this process when its parent dies; called between fork and exec."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
