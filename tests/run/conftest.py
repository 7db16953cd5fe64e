"""Every test here runs on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training.tiny_runs import one_thread


@pytest.fixture(autouse=True, scope="module")  # the scope of the fixtures that train, which also need it
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
