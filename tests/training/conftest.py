"""One thread for every test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training.tiny_runs import one_thread


@pytest.fixture(autouse=True, scope="module")  # before the fixtures that train
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
