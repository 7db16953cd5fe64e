"""A small data file and a finished run on it, which all tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command import SMALL, succeeds
from training.tiny_runs import one_thread, tiny_dataset

from recblr.data import write_inter


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop.inter"
    write_inter(tiny_dataset(), path)
    return path


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test may change."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with one_thread():  # this fixture runs before those of a module
        succeeds("train", data, "--out", folder, "--k-core", "0", "--epochs", "2", *SMALL)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, which the test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
