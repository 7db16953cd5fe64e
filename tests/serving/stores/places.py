"""Places for stores: folders, and a Redis of the tests' own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest

from recblr.serving.stores.address import open_store
from recblr.serving.stores.store import Store

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
NO_SERVER = "needs redis-server: apt-get install redis-server"
DEADLINE = 30.0
MEMORY = "/dev/shm"


def missing(kind: str) -> str:
    """Why a kind of store cannot be tested here; empty if it can."""
    if kind != "memory" and importlib.util.find_spec(kind) is None:
        return f"needs the package {kind}: pip install {kind}"
    return NO_SERVER if kind == "redis" and not shutil.which("redis-server") else ""


def kinds(*names: str) -> list[object]:
    """Parameters for tests of these kinds of stores."""
    marks = {
        name: [pytest.mark.skipif(True, reason=missing(name))] if missing(name) else [] for name in names
    }
    return [pytest.param(name, marks=marks[name]) for name in names]


needs_lmdb = pytest.mark.skipif(bool(missing("lmdb")), reason=missing("lmdb"))
needs_redis = pytest.mark.skipif(bool(missing("redis")), reason=missing("redis"))


class Server:
    """A redis-server on a socket in a folder, which may be killed and started again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder, self.settings = folder, settings or DURABLE
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"unix://{self.folder / 's'}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.folder / "s", "--dir", self.folder,
             "--save", "", *self.settings],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + DEADLINE
        while (
            subprocess.run(
                ["redis-cli", "-s", self.folder / "s", "ping"], capture_output=True, check=False
            ).stdout
            != b"PONG\n"
        ):
            assert time.monotonic() < deadline, "redis-server does not start"
            assert self.process.poll() is None, "redis-server ended"
            time.sleep(0.01)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@contextmanager
def server(*settings: str) -> Iterator[Server]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="redis-", dir="/tmp") as folder:
        started = Server(Path(folder), *settings)
        try:
            yield started
        finally:
            started.kill()


@lru_cache
def _shared() -> Server:
    """One server for all tests of a process that do not stop it."""
    context = server()
    started = context.__enter__()
    _ENDING.append(lambda: context.__exit__(None, None, None))
    return started


_ENDING: list[Callable[[], object]] = []


def end_servers() -> None:
    for end in _ENDING:
        end()
    _ENDING.clear()
    _shared.cache_clear()


_counter = iter(range(10**9))


@contextmanager
def place(kind: str) -> Iterator[Callable[[], Store]]:
    """An empty store, as a function that opens it once more."""
    opened: list[Store] = []
    # In memory, where there is such a folder: the tests of this module wait for the disk thousands of times.
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        prefix = f"{next(_counter)}:"
        address = {
            "memory": lambda: "memory",
            "lmdb": lambda: f"lmdb:{folder}/store",
            "redis": lambda: f"{_shared().address}?prefix={prefix}",
        }[kind]()

        def open_it() -> Store:
            if kind == "memory" and opened:  # it lives in one object
                return opened[0]
            opened.append(open_store(address))
            return opened[-1]

        try:
            yield open_it
        finally:
            for store in opened:
                store.close()
