"""Run stages one after another within a limit of time, each in its own process; a failed one costs no other.

Imports only the standard library.  What became of a stage is handed on as soon as it ends.  A stage that
takes too long is killed with all that it started.  The time that one leaves unused passes on to the others.
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
    """What runs as one process.

    command: called with the seconds that the stage may take, for those that divide them up.
    share: its part of the time, beside the shares of the stages after it.
    least: seconds below which starting it is of no use.
    why_not: called just before; a sentence that says why it cannot run here, or "".
    """

    name: str
    command: Callable[[float], tuple]
    share: float = 1.0
    least: float = 1.0
    environment: dict = field(default_factory=dict)
    why_not: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Outcome:
    """What became of a stage; why: the reason or the end of its output, where it is not done."""

    name: str
    status: str
    seconds: float
    why: str = ""


def run_stages(stages, seconds, logs, record, clock=perf_counter):
    """Run every stage and return the outcomes; `record` gets all so far after each.

    seconds: for all stages together.  logs: the folder for NAME.log, which holds what a stage printed.
    """
    started, outcomes = clock(), []
    for place, stage in enumerate(stages):
        left = seconds - (clock() - started)
        box = max(0, left) * stage.share / sum(later.share for later in stages[place:])
        if why := stage.why_not():
            outcome = Outcome(stage.name, SKIPPED, 0.0, why)
        elif box < stage.least:
            outcome = Outcome(stage.name, SKIPPED, 0.0, f"only {box:.0f} s were left for it")
        else:
            outcome = _run(stage, box, Path(logs) / f"{stage.name}.log")
        outcomes.append(outcome)
        record(outcomes)
    return outcomes


def _run(stage, seconds, log):
    started = perf_counter()
    with log.open("w", encoding="utf-8") as output:
        # A session of its own, so that everything that it started ends with it.
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
    """Between fork and exec: have Linux kill this process when the one that started it is killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
