"""The version in reports and model files, also for sources that are not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import recblr

ROOT = Path(__file__).parents[1]


def version_of(folder: Path) -> str:
    """The version of the recblr in this folder, in a Python without installed packages."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import recblr; print(recblr.__version__)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder like src/, with the files that `import recblr` needs."""
    package = tmp_path / "src" / "recblr"
    package.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "lazy.py", "_torch_hook.py"):
        shutil.copy(ROOT / "src/recblr" / name, package)
    return package.parent


def test_sources_that_are_not_installed_have_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version_of(ROOT / "src") == project["version"]
    assert recblr.__version__ == project["version"]


def test_the_version_is_read_from_pyproject_and_not_copied(sources: Path) -> None:
    (sources.parent / "pyproject.toml").write_text('[project]\nname = "recblr"\nversion = "9.8"\n')
    assert version_of(sources) == "9.8"


@pytest.mark.parametrize(
    "text", ['[project]\nname = "other"\nversion = "9.8"\n', "[tool]", "]", "project = 3"]
)
def test_without_the_project_it_is_the_version_of_the_build(sources: Path, text: str) -> None:
    (sources.parent / "pyproject.toml").write_text(text)
    assert version_of(sources) == "0+unknown"
    (sources / "recblr/_core.py").write_text('def build_info():\n    return {"version": "7.6"}\n')
    assert version_of(sources) == "7.6"
