"""Runs the command as a user does: the words that are typed, both output streams, and the exit code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from recblr.cli import main

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
for _name in ("FORCE_COLOR", "TTY_COMPATIBLE", "RECBLR_ISA"):
    ENVIRONMENT.pop(_name, None)

# Options for a model that is small enough to train in a moment.
SMALL = ["--d-model", "16", "--num-layers", "1", "--batch-tokens", "256", "--learning-rate", "0.01"]
SMALL += ["--device", "cpu"]


@dataclass(frozen=True)
class Seen:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def recblr(*words: str | Path) -> Seen:
    """Run the command in this process.  An exception that a user would see as a traceback is raised here."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        patch.setattr(sys, "argv", ["recblr", *map(str, words)])
        patch.setenv("COLUMNS", "80")
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            patch.delenv(name, raising=False)
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
    texts = [stream.buffer.getvalue().decode() for stream in streams]
    assert code is None or isinstance(code, int)
    return Seen(code or 0, *texts)


def shell(*words: str | Path, cwd: Path | None = None) -> Seen:
    """Run the command in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "recblr", *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return Seen(done.returncode, done.stdout, done.stderr)


def succeeds(*words: str | Path) -> str:
    """The output of a command that must succeed and print nothing on standard error."""
    seen = recblr(*words)
    assert (seen.code, seen.err) == (0, "")
    return seen.out


@contextmanager
def at(folder: Path) -> Iterator[None]:
    """Inside the `with` block, this is the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def items_in(out: str) -> list[str]:
    """The item ids in the output of `recblr recommend` without titles, best first."""
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == [str(rank) for rank in range(1, len(rows) + 1)]
    return [row[1] for row in rows]
