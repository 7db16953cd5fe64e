"""Every test here runs on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recommender.shop import NAMES, SMALL, pandas_log
from run.conftest import _one_thread
from training.tiny_runs import one_thread

from recblr import Recommender

__all__ = ["_one_thread"]


@pytest.fixture(scope="session")
def shop() -> Iterator[Recommender]:
    """A recommender that is fitted on a frame of pandas.  Tests must not change it."""
    with one_thread():
        yield Recommender().fit(pandas_log(), **NAMES, **SMALL, k_core=0)


@pytest.fixture
def own(shop: Recommender, tmp_path: Path) -> Recommender:
    """The same, for a test that changes it."""
    shop.save(tmp_path / "own")
    return Recommender.load(tmp_path / "own")
