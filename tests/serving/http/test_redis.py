"""Two servers that share a Redis, which goes away and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.http.server import serving, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs Redis: apt-get install redis-server"
)


class Redis:
    """A Redis that writes each change to the disk."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder = folder
        self.start()

    def start(self) -> None:
        words = ["--port", str(self.port), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(
            ["redis-server", "--dir", str(self._folder), *words], stdout=subprocess.DEVNULL
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100) == b"+PONG\r\n"
        except OSError:
            return False

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.kill()


def test_two_servers_with_a_redis(redis: Redis, model: Path) -> None:
    store = f"redis://127.0.0.1:{redis.port}/0"
    with serving(model, store=store) as one, serving(model, "--workers", "2", store=store) as two:
        assert one.post(("u", "i1"), ("u", "i2")).json == {"accepted": 2, "duplicates": 0}
        assert two.items("u") == one.items("u")
        assert two.post(("u", "i3")).status == 200
        before = one.items("u", include_seen="true")
        assert before == two.items("u", include_seen="true")

        redis.kill()
        for server in (one, two):
            assert server.post(("u", "i4")).error == (503, "unavailable")
            answer = server.ask("GET", "/v1/users/u/recommendations")
            assert answer.error == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert server.ask("GET", "/readyz").error == (503, "unavailable")
            assert server.ask("GET", "/healthz").status == 200

        redis.start()
        for server in (one, two):
            wait_until(lambda server=server: server.ask("GET", "/readyz").status == 200)
            assert server.items("u", include_seen="true") == before  # nothing was lost, and nothing was added
        assert two.post(("u", "i4")).json == {"accepted": 1, "duplicates": 0}
        assert one.items("u", include_seen="true") == two.items("u", include_seen="true") != before


def test_requests_that_wait_for_a_redis_hinder_nothing_else(redis: Redis, model: Path) -> None:
    store = f"redis://127.0.0.1:{redis.port}/0?socket_timeout=0.5"
    with serving(model, store=store) as server:
        waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        redis.send(signal.SIGSTOP)
        for connection in waiting:  # each takes a thread for 0.5 s
            connection.sendall(b"GET /v1/users/u/recommendations HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.metric("recblr_requests_in_progress") > 100)
        started = time.monotonic()
        assert server.ask("GET", "/readyz").error == (503, "unavailable")
        server.send(signal.SIGHUP)
        wait_until(lambda: server.metric('recblr_model_loads_total{result="loaded"}') == 1)
        assert time.monotonic() < started + 3
        redis.send(signal.SIGCONT)
        for connection in waiting:
            connection.close()


def test_a_worker_that_dies_while_redis_is_away(redis: Redis, model: Path) -> None:
    store = f"redis://127.0.0.1:{redis.port}/0"
    with serving(model, "--workers", "2", store=store) as server:
        assert server.post(("u", "i1")).status == 200
        before = server.items("u")
        healthy, other = server.workers()
        redis.kill()
        os.kill(other, signal.SIGKILL)
        wait_until(lambda: "it is started again in 2 seconds" in server.errors(), 60)
        assert healthy in server.workers()
        assert server.ask("GET", "/healthz").status == 200
        redis.start()
        wait_until(lambda: len(server.workers()) == 2 and server.ask("GET", "/readyz").status == 200)
        assert server.items("u") == before
        assert healthy in server.workers()


def test_the_end_while_redis_is_away(redis: Redis, model: Path) -> None:
    with serving(model, store=f"redis://127.0.0.1:{redis.port}/0") as server:
        assert server.post(*[("u", f"i{at % 20}") for at in range(40)]).status == 200
        redis.kill()
        assert server.stop(signal.SIGTERM) == 0
        assert "the last states are not written: " in server.errors().splitlines()[-1]
