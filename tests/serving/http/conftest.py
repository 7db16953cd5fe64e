"""A server with one worker that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.conftest import _one_thread
from serving.engines import BY_NAME, IDS, path_of
from serving.http.server import Server, serving

__all__ = ["_one_thread"]


@pytest.fixture(scope="session")
def model() -> Path:
    """The file of a model that knows the time of the request."""
    return path_of(BY_NAME["request"])


@pytest.fixture(scope="session")
def titles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a title for each item but the last."""
    file = tmp_path_factory.mktemp("titles") / "titles.tsv"
    file.write_text("".join(f"{item}\tThe Amélie Story {item[1:]}\n" for item in IDS[:-1]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def server(model: Path, titles: Path) -> Iterator[Server]:
    with serving(model, "--titles", titles) as running:
        yield running
