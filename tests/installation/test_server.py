"""The engine works with the packages that docs/serving.md names for a server, and with no others."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from try_wheel import SERVER, installs

import recblr


def packages_of(name: str) -> list[Path]:
    """The files and folders of an installed distribution, at the top of where it is installed."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}
    return [Path(str(installed.locate_file(top))) for top in tops]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder that has these packages and recblr, to import from."""
    *others, ours = installs(SERVER)
    assert ours == ["--no-deps", "recblr"]
    for name in (name for words in others for name in words):
        for package in packages_of(name):
            (tmp_path / package.name).symlink_to(package)
    (tmp_path / "recblr").symlink_to(Path(recblr.__file__).parent)
    return tmp_path


def test_the_named_packages_are_enough(server: Path) -> None:
    program = Path(__file__).with_name("installed.py")
    start = f"import runpy, sys; sys.path.append({str(server)!r}); sys.argv = ['installed.py', 'server']"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{start}; runpy.run_path({str(program)!r}, run_name='__main__')"],
        cwd=server, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok    the engine serves by the event" in done.stdout


@pytest.mark.parametrize("name", ["numpy", "safetensors"])
def test_each_of_the_named_packages_is_needed(server: Path, name: str) -> None:
    (server / name).unlink()
    start = f"import sys; sys.path.append({str(server)!r}); from recblr import Engine"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, timeout=60, check=False
    )
    expected = f"recblr.Engine needs {name}, which is not installed: pip install {name}"
    assert done.stderr.splitlines()[-1].endswith(expected)
