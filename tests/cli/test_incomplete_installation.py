"""The command on an incomplete installation: a package or the native module is missing, or cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT, SMALL

COMMANDS = [
    ("torch", ["train", "log.inter", "--out", "run"]),
    ("torch", ["evaluate", "run"]),
    ("typer", ["--help"]),
    ("rich", ["doctor"]),
    ("polars", ["synth", "log.inter"]),
    ("safetensors", ["train", "log.inter", "--out", "run"]),
]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env={**ENVIRONMENT, **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("package", "words"), COMMANDS)
def test_a_command_names_the_missing_package(package: str, words: list[str], tmp_path: Path) -> None:
    done = python(
        f"import os, sys; os.chdir({str(tmp_path)!r}); sys.modules[{package!r}] = None\n"
        f"from recblr.cli import main; sys.argv = {['recblr', *words]}; main()"
    )
    sentence = f"recblr: this command needs {package}, which is not installed: pip install {package}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["msgspec", "uvicorn", "prometheus_client"])
def test_the_server_names_its_extra(package: str, tmp_path: Path) -> None:
    done = python(
        f"import os, sys; os.chdir({str(tmp_path)!r}); sys.modules[{package!r}] = None\n"
        "from recblr.cli import main; sys.argv = ['recblr', 'serve', 'm.safetensors']; main()"
    )
    sentence = f"recblr: this command needs {package}, which is not installed; pip install 'recblr[serve]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_help_and_doctor_work_without_torch_and_the_data_packages() -> None:
    hide = "import sys; sys.modules.update(torch=None, polars=None, safetensors=None)\n"
    for word in ("--help", "doctor"):
        done = python(f"{hide}from recblr.cli import main; sys.argv = ['recblr', {word!r}]; main()")
        assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_module_of_recblr_itself_is_shown_as_a_traceback() -> None:
    done = python(
        "import sys; sys.modules['recblr.data.events'] = None\n"
        "from recblr.cli import main; sys.argv = ['recblr', 'synth', 'x.inter']; main()"
    )
    assert done.returncode == 1
    assert "recblr.data.events" in done.stderr.splitlines()[-1]
    assert "Traceback" in done.stderr


def training(data: Path, run: Path) -> str:
    words = ["recblr", "train", str(data), "--out", str(run), "--k-core", "0", "--epochs", "1", *SMALL]
    return f"import sys; from recblr.cli import main; sys.argv = {words}; main()"


def test_an_unknown_instruction_set_is_refused(data: Path, tmp_path: Path) -> None:
    done = python(training(data, tmp_path / "run"), RECBLR_ISA="nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("recblr: RECBLR_ISA is 'nonsense', which this machine cannot run; unset it")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_without_the_native_module_the_reference_runs_with_one_warning(data: Path, tmp_path: Path) -> None:
    # On a machine without a wheel, recblr._core cannot be imported.
    hide = "import sys; sys.modules['recblr._core'] = None; "
    done = python(hide + training(data, tmp_path / "run"), RECBLR_REQUIRE_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("recblr: ")
    assert "the slower PyTorch reference is used" in done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads((tmp_path / "run" / "report.json").read_text())["commit"] is None
