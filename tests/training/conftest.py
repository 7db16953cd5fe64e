"""Every test here uses one thread.  Tests with the fixture `device` run on every device."""

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
