"""Ends the servers that tests have started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving.stores.places import end_servers


@pytest.fixture(scope="session", autouse=True)
def _no_server_stays() -> Iterator[None]:
    yield
    end_servers()
