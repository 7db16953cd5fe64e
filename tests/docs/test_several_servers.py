"""The commands and files of docs/several-servers.md, on this machine."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.engines import BY_NAME, path_of
from serving.http.server import Server, serving, wait_until

PAGE = (Path(__file__).parents[2] / "docs/several-servers.md").read_text(encoding="utf-8")
FILES = [
    text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if not kind
]
CONF, ENVIRONMENT, UNIT, NGINX = FILES


class Redis:
    """A Redis with the lines of the page, at another place."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        self._conf = folder / "redis.conf"
        lines = CONF.replace("10.0.0.5", "127.0.0.1").replace("/var/lib/redis", str(folder))
        self._conf.write_text(f"port {self.port}\n{lines}")
        self.start()

    def start(self, *words: str) -> None:
        self._process = subprocess.Popen(["redis-server", self._conf, *words], stdout=subprocess.DEVNULL)
        wait_until(lambda: self.cli("PING").startswith("PONG"))

    def cli(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.port), "-a", "SECRET", "--no-auth-warning", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.stop()


def run(lines: str, server: Server, redis: Redis, folder: Path) -> str:
    """Run the lines of an example in a shell, with the places of this machine; returns what they print."""
    for there, here in (
        ("-h 10.0.0.5", f"-p {redis.port}"),
        ("/srv/recblr", str(folder)),
        ("systemctl reload recblr", f"kill -HUP {server.process.pid}"),
    ):
        lines = lines.replace(there, here)
    done = subprocess.run(
        ["bash", "-ec", lines], capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.skipif(not all(map(shutil.which, ("redis-server", "redis-cli"))), reason="needs redis")
def test_two_servers(redis: Redis, tmp_path: Path) -> None:
    model = Path(shutil.copy(path_of(BY_NAME["whole vectors"]), tmp_path / "model.safetensors"))
    shutil.copy(model, tmp_path / "next.safetensors")
    lines = ENVIRONMENT.replace("10.0.0.5:6379", f"127.0.0.1:{redis.port}").split()
    secrets = dict(line.split("=", 1) for line in lines)
    token = {"Authorization": f"Bearer {secrets['RECBLR_TOKEN']}"}

    def recommended(server: Server) -> list[dict[str, object]]:
        answer = server.ask("GET", "/v1/users/ada/recommendations", **token)
        assert answer.status == 200
        return answer.json["items"]

    words = ["--workers", "2"]
    with (
        serving(model, *words, store=None, environment=secrets) as one,
        serving(model, *words, store=None, environment=secrets) as two,
    ):
        assert "SECRET" not in one.said
        event = {"user": "ada", "item": "i1", "event_id": "e1"}
        assert one.ask("POST", "/v1/events", {"events": [event]}, **token).json["accepted"] == 1
        best = recommended(one)
        assert len(best) == 10
        assert recommended(two) == best
        model_lines = """
        # [model]
        cp next.safetensors /srv/recblr/model.new
        mv /srv/recblr/model.new /srv/recblr/model.safetensors
        systemctl reload recblr
        # [/model]
        """
        run(model_lines, two, redis, tmp_path)
        assert two.process.stdout is not None
        assert two.process.stdout.readline() == f"loaded {model} again: 23 items\n"
        backup = """
        # [backup]
        REDISCLI_AUTH=SECRET redis-cli -h 10.0.0.5 --rdb backup.rdb
        # [/backup]
        """
        run(backup, one, redis, tmp_path)
        one.ask("DELETE", "/v1/users/ada", **token)
        assert recommended(two) == []
    # The servers are stopped.
    redis.stop()
    (tmp_path / "appendonlydir").rename(tmp_path / "away")
    shutil.move(tmp_path / "backup.rdb", tmp_path / "dump.rdb")
    redis.start("--appendonly", "no")
    restore = """
    # [restore]
    REDISCLI_AUTH=SECRET redis-cli -h 10.0.0.5 CONFIG SET appendonly yes
    REDISCLI_AUTH=SECRET redis-cli -h 10.0.0.5 INFO persistence
    # [/restore]
    """
    shown = ("aof_enabled:1", "aof_rewrite_in_progress:0", "aof_last_bgrewrite_status:ok")
    for line in shown:
        assert f"`{line}`" in PAGE
    wait_until(lambda: {*shown} <= {*run(restore, one, redis, tmp_path).split()})
    redis.stop()
    redis.start()
    with serving(model, *words, store=None, environment=secrets) as one:
        assert recommended(one) == best


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_the_file_for_nginx(tmp_path: Path) -> None:
    for name in ("recblr.pem", "recblr.key"):
        assert f"/etc/ssl/{name};" in NGINX
    key = ["-keyout", tmp_path / "recblr.key", "-out", tmp_path / "recblr.pem", "-subj", "/CN=recblr"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *key], check=True, capture_output=True
    )
    conf = tmp_path / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = f"pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{}}\nhttp {{ access_log off; " + "".join(
        f"{kind}_temp_path {tmp_path}/{kind}; " for kind in kinds
    )
    conf.write_text(f"{own}{NGINX.replace('/etc/ssl', str(tmp_path))}}}")
    done = subprocess.run(["nginx", "-t", "-c", conf], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "recblr"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "recblr.service"
    unit.write_text(UNIT.replace("/opt/recblr", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if str(unit) in line or "recblr.service" in line]
