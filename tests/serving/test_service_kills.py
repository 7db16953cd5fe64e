"""`kill -9` while events are added: what was acknowledged counts, once, and nothing else does.

`make kills` sets RECBLR_STORE_KILLS to kill more often than `make test` does.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving.engines import BY_NAME, fresh, path_of
from serving.stores import killed
from serving.stores.places import needs_lmdb, needs_redis, server

from recblr.serving import Service, StoreError, open_store, service
from recblr.serving.stores import lmdb, log, memory

KILLS = int(os.environ.get("RECBLR_STORE_KILLS", "10"))
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (log, "_FILE_BYTES"), (lmdb, "_FOLD_EVENTS"), (lmdb, "SPAN"), (memory, "SPAN"),
        (service, "_STATE_EVERY"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, getattr(module, name))
    killed.often()


class Forking:
    """The process that forks the children which are killed."""

    def __init__(self, address: str, model: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.stores.killed", address, model, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])},
        )

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def child(self, number: int) -> int:
        return int(self._ask(str(number)))

    def kill(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        assert self._ask(f"wait {child}") == "ended"

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(30) == 0


@contextmanager
def forking(address: str, folder: Path) -> Iterator[Forking]:
    one = Forking(address, path_of(BY_NAME["plain"]), folder)
    try:
        yield one
    finally:
        one.end()


class Acknowledged:
    """What the children's files say: what must be there, and what may be."""

    def __init__(self) -> None:
        self.must: dict[str, set[float]] = {}
        self.may: dict[str, set[float]] = {}
        self.groups = 0

    def read(self, child: int, lines: list[str]) -> None:
        number = 0  # of the group
        own = f"own{child}"
        for at, line in enumerate(lines):
            last = at == len(lines) - 1
            if line == "begin" and last:
                self._add(self.may, child, number)
            elif line == "end":
                self._add(self.must, child, number)
                self.groups += 1
                number += 1
            elif line == "begin to forget":
                self.may.setdefault(own, set()).update(self.must.pop(own, set()))
            elif line == "end of forgetting":
                self.may.pop(own, None)
            else:
                assert line == "begin", f"child {child}: {line}"

    @staticmethod
    def _add(where: dict[str, set[float]], child: int, number: int) -> None:
        for user, _, moment, _ in killed.group(child, number):
            where.setdefault(user, set()).add(moment)

    def check(self, serving: Service) -> None:
        for user in sorted(self.must.keys() | self.may.keys()):
            items, times = serving.history(user)
            must, may = self.must.get(user, set()), self.may.get(user, set())
            assert len(set(times)) == len(times), f"an event of {user} counted twice"
            assert must <= set(times), f"acknowledged events of {user} are lost"
            assert set(times) <= must | may, f"{user} has events that nobody sent"
            assert [f"i{(int(t % 1e6) // 32 + int(t % 32)) % 20}" for t in times] == items


def read_all(folder: Path) -> Acknowledged:
    said = Acknowledged()
    for file in folder.iterdir():
        said.read(int(file.name), file.read_text().splitlines())
    return said


def settle(serving: Service, folder: Path) -> None:
    """Send again what was not acknowledged, as a client would; then nothing is open any more."""
    for file in folder.iterdir():
        lines = file.read_text().splitlines()
        if lines and lines[-1] == "begin":
            killed.send(serving, killed.group(int(file.name), lines.count("end")))
            with file.open("a") as more:
                more.write("end\n")
        elif lines and lines[-1] == "begin to forget":
            serving.forget(f"own{file.name}")
            with file.open("a") as more:
                more.write("end of forgetting\n")


@needs_lmdb
def test_kills_lose_no_acknowledged_event_on_disk(tmp_path: Path) -> None:
    """Two processes at a time add events to one store, and one of them or both are killed."""
    random_ = random.Random(KILLS)
    folder, address, kills, child = tmp_path / "said", f"lmdb:{tmp_path / 'store'}", 0, 0
    folder.mkdir()
    engine = fresh("plain", threads=1)
    with forking(address, folder) as forks:
        while kills < KILLS:
            children = [forks.child(child), forks.child(child + 1)]
            child += 2
            time.sleep(0.02 + random_.expovariate(1 / 0.06))
            for one in children:
                forks.kill(one)
                kills += 1
                if random_.random() < 0.5:
                    time.sleep(random_.expovariate(1 / 0.005))
            with Service(fresh("plain", threads=1), open_store(address), write_behind=3600) as serving:
                said = read_all(folder)
                said.check(serving)
                settle(serving, folder)
                read_all(folder).check(serving)
                for user in killed.USERS:
                    items, _ = serving.history(user)
                    if items:
                        engine.rebuild({user: items})
                        assert serving.recommend(user, 2, mask_seen=False) == engine.recommend(
                            user, 2, mask_seen=False
                        )
        assert said.groups >= kills  # else they were killed before they did anything


@needs_redis
def test_kills_of_redis_lose_no_acknowledged_event(tmp_path: Path) -> None:
    """The server is killed while two clients add events, and started again."""
    random_, ended = random.Random(KILLS), threading.Event()
    wrong: list[BaseException] = []
    said: set[str] = set()
    kills = max(3, KILLS // 5)

    def adds(child: int, address: str) -> None:
        try:
            with Service(fresh("plain", threads=1), open_store(address), write_behind=3600) as serving:
                number = 0
                while not ended.is_set():
                    with (tmp_path / str(child)).open("a") as file:
                        file.write("begin\n")
                    while True:
                        try:
                            killed.send(serving, killed.group(child, number))
                            break
                        except StoreError as error:
                            said.add(error.problem.partition(": ")[0])
                    with (tmp_path / str(child)).open("a") as file:
                        file.write("end\n")
                    number += 1
        except BaseException as error:
            wrong.append(error)

    with server() as redis:
        clients = [threading.Thread(target=adds, args=(child, redis.address)) for child in range(2)]
        for client in clients:
            client.start()
        for _ in range(kills):
            time.sleep(0.05 + random_.expovariate(1 / 0.1))
            redis.kill()
            redis.start()
        time.sleep(0.2)
        ended.set()
        for client in clients:
            client.join()
        assert wrong == []
        assert said <= {f"the Redis at {redis.address} {what}" for what in ("does not answer", "refuses")}
        with Service(fresh("plain", threads=1), open_store(redis.address), write_behind=3600) as serving:
            acknowledged = read_all(tmp_path)
            acknowledged.check(serving)
            assert acknowledged.may == {}
            assert acknowledged.groups > 2 * kills
