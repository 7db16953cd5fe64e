"""A machine in a poor state: full disks, closed streams, Ctrl-C, no home folder, old terminals."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cli.command import ENVIRONMENT, SMALL, at, recblr, succeeds
from hostile.rows import assert_one_sentence
from training.tiny_runs import contents

from recblr import cli as door

# The code that the installed command runs.  Before it prints, only Python itself has run.
PROGRAM = "from recblr.cli import main; print('up', flush=True); main()"
SYNTH = ["synth", "demo.inter", "--users", "50"]


@contextmanager
def disk_space(size: int) -> Iterator[None]:
    """Limit every file to `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_in(folder: Path, script: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of shell, in which $RECBLR stands for the command."""
    done = subprocess.run(
        ["bash", "-c", script.replace("$RECBLR", f"{sys.executable} -m recblr")],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_full_disk_leaves_no_data_file(size: int, tmp_path: Path) -> None:
    with at(tmp_path), disk_space(size):
        seen = recblr(*SYNTH)
    assert_one_sentence(seen, ("cannot write demo.inter: File too large", "has room"))
    assert list(tmp_path.iterdir()) == []


# Each size is too small for one more of the files of a new run.
@pytest.mark.parametrize("size", [0, 500, 3000, 4000])
def test_a_full_disk_leaves_no_new_run(size: int, data: Path, tmp_path: Path) -> None:
    with disk_space(size):
        seen = recblr("train", data, "--out", tmp_path / "run", "--k-core", "0", *SMALL, "--epochs", "1")
    assert_one_sentence(seen, (f"cannot write {tmp_path / 'run'}", "File too large", "room"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_report(run: Path) -> None:
    before = contents(run)
    with disk_space(1000):
        seen = recblr("evaluate", run)
    assert_one_sentence(seen, (f"cannot write {run / 'report.json'}: File too large",))
    assert contents(run) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", ["--help", " ".join(SYNTH)])
def test_a_full_output_gives_one_sentence(words: str, tmp_path: Path) -> None:
    code, _, err = run_in(tmp_path, f"$RECBLR {words} > /dev/full")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot write the output: No space left on device; make room" in err


STREAMS = {
    "output closed": ("$RECBLR synth demo.inter --users 50 >&-", 0),
    "output and errors closed": ("$RECBLR synth demo.inter --users 50 >&- 2>&-", 0),
    "input closed": ("$RECBLR synth demo.inter --users 50 <&- > /dev/null", 0),
    "errors closed, with an error to print": ("$RECBLR synth demo.csv 2>&-", 2),
    "errors full, with an error to print": ("$RECBLR synth demo.csv 2> /dev/full", 2),
    "output not read to the end": ("set -o pipefail; $RECBLR synth demo.inter --users 50 | true", None),
    "help not read to the end": ("$RECBLR --help | head -1 > /dev/null", 0),
}


@pytest.mark.parametrize("name", STREAMS)
def test_closed_or_full_streams_give_no_traceback(name: str, tmp_path: Path) -> None:
    script, expected = STREAMS[name]
    code, out, err = run_in(tmp_path, script)
    assert (out, err) == ("", "")
    assert code == expected if expected is not None else code in (0, 1)
    assert not list(tmp_path.glob(".*"))


def test_the_command_works_without_a_home_folder(data: Path, tmp_path: Path) -> None:
    script = f"$RECBLR train {data} --out run --k-core 0 --epochs 1 --d-model 8 --num-layers 1"
    code, out, err = run_in(tmp_path, script, HOME="/dev/null", XDG_CONFIG_HOME="", XDG_CACHE_HOME="")
    assert (code, err) == (0, "")
    assert "written to run/report.json" in out


@pytest.mark.parametrize("columns", [1, 20])
def test_the_command_works_in_a_narrow_terminal(columns: int, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "recblr", *SYNTH]
    done = subprocess.run(
        command, stdout=theirs, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, timeout=60, check=False
    )
    os.close(theirs)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "demo.inter").exists()


def test_the_command_works_in_the_plainest_locale(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    code, out, err = run_in(tmp_path, "$RECBLR synth 'd\u00e9mo.csv'", **plain)
    assert (code, out) == (2, "")
    assert err.startswith("recblr: ")
    assert err.count("\n") == 1
    code, _, err = run_in(tmp_path, "$RECBLR --help", **plain)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("words", [["--help"], [*SYNTH[:3], "9000"]], ids=["help", "synth"])
def test_ctrl_c_never_gives_a_traceback(words: list[str], seconds: float, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in out + err
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("words", [["--version"], ["synth", "demo.csv"]], ids=["good", "bad"])
def test_ctrl_c_at_any_line_of_the_entry_point_never_gives_a_traceback(
    words: list[str], tmp_path: Path
) -> None:
    before = sys.gettrace()
    left = 0

    def interrupt(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != door.__file__ or frame.f_code is door.main.__code__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return interrupt

    with at(tmp_path):
        for line in range(1, 1000):
            left = line
            sys.settrace(interrupt)
            try:
                seen = recblr(*words)
            finally:
                sys.settrace(before)
            if left > 0:  # the command has ended before the interrupt
                break
            assert seen.code == 130
    assert line > 10
    assert seen.code != 130


def test_titles_cannot_control_the_terminal(finished: Path, tmp_path: Path) -> None:
    items = [f"s{series:02d}e{episode:02d}" for series in range(1, 5) for episode in range(1, 26)]
    lines = [f"{item}::\x1b]0;owned\x07title\n" for item in (*items, *(f"x{n}" for n in range(1, 31)))]
    (tmp_path / "titles.dat").write_text("".join(lines), encoding="utf-8")
    out = succeeds("recommend", finished, "--user", "u1", "--titles", tmp_path / "titles.dat")
    assert r"\x1b]0;owned\x07title" in out
    assert out.replace("\n", "").isprintable()
