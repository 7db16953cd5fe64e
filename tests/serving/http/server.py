"""Starts `recblr serve` as a user does, and talks to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

from cli.command import ENVIRONMENT, recblr

TIMEOUT = 30.0  # seconds, for anything that should take less than one


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """The status and the type of an error; its message is a sentence."""
        content = self.json["error"]
        assert len(content["message"]) > 10
        return self.status, content["type"]


class Server:
    """A running `recblr serve`."""

    def __init__(self, process: subprocess.Popen[str], err: IO[str], port: int, said: str) -> None:
        self.process = process
        self.port = port
        self.said = said
        self._err = err

    def ask(self, method: str, path: str, content: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own.  content: for a JSON body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            return ask_on(connection, method, path, content, **headers)
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes or says nothing for 1 s."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            connection.sendall(data)
            return received(connection)

    def post(self, *events: tuple[str, str], **headers: str) -> Answer:
        """Send events (user, item)."""
        return self.ask(
            "POST",
            "/v1/events",
            {"events": [{"user": user, "item": item} for user, item in events]},
            **headers,
        )

    def items(self, user: str, **parameters: object) -> list[str]:
        """The recommended items of a user."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        answer = self.ask("GET", f"/v1/users/{user}/recommendations?{query}")
        assert answer.status == 200, answer
        return [entry["item"] for entry in answer.json["items"]]

    def metric(self, line: str) -> float:
        """A figure of /metrics, by its name with its labels; 0 if it is not there."""
        page = self.ask("GET", "/metrics").body.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def workers(self) -> list[int]:
        """The process ids of the workers of a server with several."""
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def errors(self) -> str:
        """What the server has written to standard error so far."""
        self._err.seek(0)
        return self._err.read()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.send(number)
        return self.process.wait(TIMEOUT)


def ask_on(connection: HTTPConnection, method: str, path: str, content: Any = None, **headers: str) -> Answer:
    """One request on an open connection."""
    body = None
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if content is not None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **headers}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def received(connection: socket.socket, silence: float = 1.0) -> bytes:
    connection.settimeout(silence)
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except (TimeoutError, ConnectionResetError):
        pass
    return data


@contextmanager
def serving(
    model: Path,
    *words: str | Path,
    store: str | None = "memory",
    prelude: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[Server]:
    """A server on a free port.  It must end without an error of its own when the block ends.

    prelude: Python code that runs before the command.
    """
    program = f"import sys; sys.argv[0] = 'recblr'\n{prelude}\nfrom recblr.cli import main; main()"
    typed = ["serve", model, "--port", "0", *(["--store", store] if store else []), *words]
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, typed)],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env={**ENVIRONMENT, **(environment or {})},
        )
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.search(r"http://\S+:(\d+),", said)
            if found is None:
                process.wait(TIMEOUT)
                err.seek(0)
                raise AssertionError(f"the server did not start: {said}{err.read()}")
            yield Server(process, err, int(found[1]), said)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(TIMEOUT) == 0
            err.seek(0)
            assert "Traceback" not in (text := err.read()), text
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


def refused(*words: str | Path) -> str:
    """What `recblr serve` says on standard error if it cannot start; its exit code is 2."""
    seen = recblr("serve", "--port", "0", *words)
    assert (seen.code, seen.out) == (2, ""), seen
    assert seen.err.count("\n") == 1
    return seen.err


def wait_until(true: Any, seconds: float = TIMEOUT) -> None:
    """Wait until a function returns something true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
