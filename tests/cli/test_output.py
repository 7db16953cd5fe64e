"""Output that ends before the command: a closed pipe, a closed stream, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT, SMALL
from training.tiny_runs import assert_same_run

TRAIN = "$RECBLR train $DATA --out run --k-core 0 --epochs 2 " + " ".join(SMALL)
needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


def run_in(folder: Path, script: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of shell, in which $RECBLR stands for the command."""
    script = "set -o pipefail; " + script.replace("$RECBLR", f"{sys.executable} -m recblr")
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**ENVIRONMENT, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


FULL = "recblr: cannot write the output any more: No space left on device; the command goes on without it\n"


@pytest.mark.parametrize(
    ("redirection", "lines", "says"),
    [
        ("2>&1 | head -1", 1, ""),
        (">&- 2>&-", 0, ""),
        pytest.param("> /dev/full", 0, FULL, marks=needs_dev_full),
    ],
)
def test_a_training_does_not_end_with_its_output(
    redirection: str, lines: int, says: str, data: Path, finished: Path, tmp_path: Path
) -> None:
    code, out, err = run_in(tmp_path, f"{TRAIN} {redirection}", DATA=str(data))
    assert (code, err) == (0, says)
    assert out.count("\n") == lines
    assert_same_run(tmp_path / "run", finished)
    assert (tmp_path / "run" / "report.json").exists()


def test_a_command_whose_output_is_not_read_ends_quietly(run: Path) -> None:
    command = "$RECBLR recommend run --user u1 -k 100"
    assert run_in(run.parent, f"{command} | true") == (1, "", "")


def test_a_closed_stream_does_not_give_its_number_to_a_file(tmp_path: Path) -> None:
    code = "import os; from recblr.cli import _open_standard_streams as fill; fill()"
    code += "; file = os.open('model', os.O_CREAT | os.O_WRONLY); os.write(1, b'a warning'); assert file > 2"
    for closed in (">&-", "2>&- >&- <&-", "<&-"):
        done = subprocess.run(
            ["bash", "-c", f'"$PYTHON" -c "$CODE" {closed}'],
            env={**ENVIRONMENT, "PYTHON": sys.executable, "CODE": code},
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0
        assert (tmp_path / "model").read_bytes() == b""
