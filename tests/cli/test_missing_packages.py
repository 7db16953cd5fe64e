"""The command where one of its packages is not installed: one sentence that names it, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.test_native import python

COMMANDS = [
    ("torch", ["train", "log.inter", "--out", "run"]),
    ("torch", ["evaluate", "run"]),
    ("typer", ["--help"]),
    ("rich", ["doctor"]),
    ("polars", ["synth", "log.inter"]),
    ("safetensors", ["train", "log.inter", "--out", "run"]),
]


@pytest.mark.parametrize(("package", "words"), COMMANDS)
def test_a_command_names_the_package_that_it_needs(package: str, words: list[str], tmp_path: Path) -> None:
    done = python(
        f"import os, sys; os.chdir({str(tmp_path)!r}); sys.modules[{package!r}] = None\n"
        f"from recblr.cli import main; sys.argv = {['recblr', *words]}; main()"
    )
    sentence = f"recblr: this command needs {package}, which is not installed: pip install {package}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
    assert list(tmp_path.iterdir()) == []


def test_the_help_and_the_doctor_need_neither_torch_nor_the_data_packages() -> None:
    hide = "import sys; sys.modules.update(torch=None, polars=None, safetensors=None)\n"
    for word in ("--help", "doctor"):
        done = python(f"{hide}from recblr.cli import main; sys.argv = ['recblr', {word!r}]; main()")
        assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_module_of_its_own_is_a_defect_not_a_mistake() -> None:
    done = python(
        "import sys; sys.modules['recblr.data.events'] = None\n"
        "from recblr.cli import main; sys.argv = ['recblr', 'synth', 'x.inter']; main()"
    )
    assert done.returncode == 1
    assert "recblr.data.events" in done.stderr.splitlines()[-1]
    assert "Traceback" in done.stderr
