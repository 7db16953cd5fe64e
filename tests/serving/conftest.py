"""One thread for every test here, and every device for those that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from devices import device, gpu
from training.tiny_runs import one_thread

__all__ = ["device", "gpu"]


@pytest.fixture(autouse=True, scope="module")  # before the fixtures that train
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
