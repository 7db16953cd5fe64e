"""Runs phases one after another within a budget of time: none takes another's results with it.

A phase is a process of its own.  One that fails, or that the budget ends, is recorded with what it printed
last; one for which too little time is left is skipped.  What happened is handed on after every phase.
"""

import os
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

DONE, FAILED, OUT_OF_TIME, SKIPPED = "done", "failed", "out of time", "skipped"
TAIL = 2000  # characters of a failure's output that the record keeps


@dataclass(frozen=True)
class Phase:
    """A command.

    least: seconds that it must have to be worth starting.  most: what it may take, however much is left.
    why_not: where it cannot run here, the reason.
    """

    name: str
    command: tuple = ()
    least: float = 1.0
    most: float = float("inf")
    environment: dict = field(default_factory=dict)
    why_not: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a phase."""

    name: str
    status: str
    seconds: float
    why: str = ""

    def as_json(self):
        return asdict(self)


def run_phases(phases, budget, logs, told=lambda outcomes: None, clock=perf_counter):
    """The outcome of every phase; `told` gets those so far after each.

    budget: seconds for all of them.  logs: the folder for NAME.log, what a phase prints.
    """
    started, outcomes = clock(), []
    for phase in phases:
        left = budget - (clock() - started)
        if phase.why_not:
            outcome = Outcome(phase.name, SKIPPED, 0.0, phase.why_not)
        elif left < phase.least:
            outcome = Outcome(phase.name, SKIPPED, 0.0, f"{max(0, left):.0f} s of the budget were left")
        else:
            outcome = _run(phase, min(left, phase.most), Path(logs) / f"{phase.name}.log")
        outcomes.append(outcome)
        told(outcomes)
    return outcomes


def _run(phase, seconds, log):
    started = perf_counter()
    with log.open("w", encoding="utf-8") as output:
        # A session of its own, so that what it has started ends with it.
        process = subprocess.Popen(
            list(map(str, phase.command)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | phase.environment,
            start_new_session=True,
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
    return Outcome(phase.name, status, took, why)
