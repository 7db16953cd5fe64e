"""The command where the native module cannot run as asked, or is not there at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cli.command import ENVIRONMENT, SMALL


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env={**ENVIRONMENT, **environment},
        timeout=120,
        check=False,
    )


def training(data: Path, run: Path) -> str:
    words = ["recblr", "train", str(data), "--out", str(run), "--k-core", "0", "--epochs", "1", *SMALL]
    return f"import sys; from recblr.cli import main; sys.argv = {words}; main()"


def test_an_instruction_set_that_is_not_there_stops_it(data: Path, tmp_path: Path) -> None:
    done = python(training(data, tmp_path / "run"), RECBLR_ISA="nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("recblr: RECBLR_ISA is 'nonsense', which this machine cannot run; unset it")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_without_the_native_module_the_reference_serves_with_one_warning(data: Path, tmp_path: Path) -> None:
    # What a machine sees for which there is no wheel: recblr._core cannot be imported.
    hide = "import sys; sys.modules['recblr._core'] = None; "
    done = python(hide + training(data, tmp_path / "run"), RECBLR_REQUIRE_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("recblr: ")
    assert "the slower PyTorch reference is used" in done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads((tmp_path / "run" / "report.json").read_text())["commit"] is None
