"""Stages run one after another, each in its own process, and no stage can spoil another."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import load

stages = load("stages")
Stage = stages.Stage


def python(code: str):
    return lambda seconds: (sys.executable, "-c", code)


def test_a_failing_stage_does_not_stop_the_others(tmp_path: Path) -> None:
    recorded: list[int] = []
    code = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
    outcomes = stages.run_stages(
        [
            Stage("first", python("print('fine')")),
            Stage("second", python(code), environment={"WORD": "alas"}),
            Stage("third", python("pass")),
        ],
        60,
        tmp_path,
        lambda outcomes: recorded.append(len(outcomes)),
    )
    assert [(o.name, o.status, o.why) for o in outcomes] == [
        ("first", "done", ""),
        ("second", "failed", "alas"),
        ("third", "done", ""),
    ]
    assert recorded == [1, 2, 3]
    assert (tmp_path / "first.log").read_text() == "fine\n"


def test_a_stage_that_takes_too_long_is_killed_with_its_child_processes(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    sleeper = f"import time; time.sleep(3); open({str(marker)!r}, 'w')"
    begin = "import subprocess, sys; print('begun', flush=True)"
    code = f"{begin}; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    outcomes = stages.run_stages(
        [Stage("slow", python(code)), Stage("next", python("import time; time.sleep(2.5)"), share=9)],
        20,
        tmp_path,
        lambda outcomes: None,
    )
    assert [(o.status, o.why) for o in outcomes] == [("out of time", "begun"), ("done", "")]
    assert outcomes[0].seconds < 10
    assert not marker.exists()


def test_unused_time_goes_to_later_stages_and_a_stage_with_too_little_time_is_skipped(tmp_path: Path) -> None:
    # Of 100 seconds, the first stage may take 50 and takes 10.  The second may take 45 and takes 89, so the
    # third gets the last second.
    times = iter([0.0, 0.0, 10.0, 99.0])
    limits: list[float] = []

    def command(seconds: float) -> tuple[str, ...]:
        limits.append(seconds)
        return sys.executable, "-c", "pass"

    outcomes = stages.run_stages(
        [Stage("build", command, 100), Stage("tests", command, 50), Stage("train", command, 50, least=20)],
        100,
        tmp_path,
        lambda outcomes: None,
        clock=lambda: next(times),
    )
    assert limits == [50.0, 45.0]
    assert [(o.status, o.why) for o in outcomes[1:]] == [
        ("done", ""),
        ("skipped", "only 1 s were left for it"),
    ]


def test_the_reason_to_skip_a_stage_is_asked_when_its_turn_comes(tmp_path: Path) -> None:
    ended: list[str] = []
    outcomes = stages.run_stages(
        [
            Stage("build", python("raise SystemExit(1)")),
            Stage("tests", python("pass"), why_not=lambda: f"it comes after {ended}"),
        ],
        60,
        tmp_path,
        lambda outcomes: ended.append(outcomes[-1].status),
    )
    assert (outcomes[1].status, outcomes[1].why) == ("skipped", "it comes after ['failed']")
