"""The examples of docs/server.md.  What curl must print is in the comment below each line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT, SMALL, at, succeeds
from docs.shell import type_in
from serving.http.server import Server, serving, wait_until
from training.tiny_runs import one_thread, tiny_dataset

from recblr.data import write_inter
from recblr.serving.http.messages import ERRORS

PAGE = (Path(__file__).parents[2] / "docs/server.md").read_text(encoding="utf-8")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run that knows no time, and a file of titles."""
    folder = tmp_path_factory.mktemp("server")
    dataset = tiny_dataset()
    write_inter(dataset, folder / "shop.inter")
    titles = "".join(f"{item}\tEpisode {item}\n" for item in dataset.item_ids)
    (folder / "titles.tsv").write_text(titles)
    with at(folder), one_thread():
        succeeds("train", "shop.inter", "--out", "run", "--epochs", "1", *SMALL)
        yield folder


@pytest.fixture(scope="module")
def server(shop: Path) -> Iterator[Server]:
    lines = """
    # [start]
    recblr export run model.safetensors
    recblr serve model.safetensors --titles titles.tsv
    # [/start]
    """
    export, serve = (line.strip() for line in lines.splitlines() if line.strip().startswith("recblr"))
    type_in(shop, export)
    with at(shop), serving(*map(Path, serve.split()[2:3]), *serve.split()[3:], store=None) as running:
        yield running


def run(lines: str, server: Server) -> None:
    """Run the lines of an example in a shell.  Each prints what the comment below says; … is anything."""
    parts = re.findall(r"^ *([^# \n](?:.*\\\n)*.*)\n(?: *# (\S.*)\n)?", lines, re.MULTILINE)
    assert parts
    for command, wanted in parts:
        typed = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done
        if wanted:
            pattern = ".*".join(map(re.escape, wanted.split("…")))
            pattern = re.sub(r"\d+\\\.\d+", r"-?\\d+\\.\\d+(e-\\d+)?", pattern)  # a score
            assert re.fullmatch(pattern, done.stdout.strip()), f"{command}\n{done.stdout}"


@needs_curl
def test_events_and_recommendations(server: Server) -> None:
    run(
        """
        # [events]
        curl -s 127.0.0.1:8000/v1/events --json '{"events": [
          {"user": "ada", "item": "s01e12", "event_id": "e1"}]}'
        # {"accepted":1,"duplicates":0}
        curl -s 127.0.0.1:8000/v1/events --json '{"events": [
          {"user": "ada", "item": "s01e12", "event_id": "e1"},
          {"user": "bob", "item": "s02e01", "time": 1800000000.0}]}'
        # {"accepted":1,"duplicates":1}
        # [/events]
        """.replace("[\n          ", "[").replace("},\n          ", "},"),
        server,
    )
    run(
        """
        # [recommend]
        curl -s '127.0.0.1:8000/v1/users/ada/recommendations?k=2'
        # {"user":"ada","items":[{"item":"…","score":4.2},{"item":"…","score":3.9}]}
        curl -s '127.0.0.1:8000/v1/users/ada/recommendations?k=1&include_seen=true&titles=true&time=19e8'
        # {"user":"ada","items":[{"item":"…","score":4.2,"title":"…"}]}
        curl -s 127.0.0.1:8000/v1/users/nobody/recommendations
        # {"user":"nobody","items":[],"known":false}
        # [/recommend]
        """,
        server,
    )
    assert PAGE.count("curl -s") >= 9


@needs_curl
def test_histories_and_the_rest(server: Server) -> None:
    run(
        """
        # [history]
        curl -s 127.0.0.1:8000/v1/recommend --json '{"history": ["s01e12", "s02e01"], "k": 1}'
        # {"items":[{"item":"…","score":4.2}]}
        # [/history]
        # [rest]
        curl -s '127.0.0.1:8000/v1/users/ada/explanation?item=s03e01'
        # {"item":"s03e01","events":[{"position":0,"item":"s01e12","change":0.7}]}
        curl -s 127.0.0.1:8000/v1/explain --json '{"history": ["s01e12", "s02e01"], "item": "s03e01"}'
        # {"item":"s03e01","events":[{"position":…,"item":"…","change":0.7},…]}
        curl -s '127.0.0.1:8000/v1/items/s01e12/similar?k=1'
        # {"items":[{"item":"…","score":0.8}]}
        curl -s '127.0.0.1:8000/v1/items?query=episode+s03e0&k=2'
        # {"items":[{"item":"…","title":"Episode s03e0…"},{"item":"…","title":"Episode s03e0…"}]}
        curl -s -X DELETE 127.0.0.1:8000/v1/users/bob
        # {"user":"bob","deleted":true}
        # [/rest]
        """,
        server,
    )


@needs_curl
def test_an_error(server: Server) -> None:
    run(
        """
        # [error]
        curl -s 127.0.0.1:8000/v1/events --json '{"events": [{"user": "ada", "item": "s99"}]}'
        # {"error":{"type":"unknown_item","message":"the model has no item 's99'; …","item":"s99"}}
        # [/error]
        """,
        server,
    )


def test_every_error_is_in_the_table() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    named = {kind: statuses for statuses, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert named.keys() == ERRORS.keys()
    for kind, status in ERRORS.items():
        assert str(status) in named[kind]


def test_every_metric_is_in_the_table(server: Server) -> None:
    page = server.ask("GET", "/metrics").body.decode()
    shown = set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))
    assert set(re.findall(r"^\| `(recblr_\w+)", PAGE, re.MULTILINE)) == shown


@needs_curl
def test_a_token(shop: Path, server: Server) -> None:
    lines = """
    # [token]
    openssl rand -hex 32 > token
    recblr serve model.safetensors --token-file token --host 0.0.0.0
    curl -s -H "Authorization: Bearer $(cat token)" 127.0.0.1:8000/v1/users/ada/recommendations
    # {"user":"ada","items":[…],"known":false}
    # [/token]
    """
    _, serve, curl = (line.strip() for line in lines.splitlines() if line.strip() and "#" not in line)
    (shop / "token").write_text("0123456789abcdef\n")
    words = serve.split()[2:]
    with at(shop), serving(Path(words[0]), *words[1:]) as running:
        assert running.errors() == ""
        run(f"{curl}\n# {{…\n", running)


def test_a_new_model(shop: Path) -> None:
    lines = """
    # [reload]
    recblr serve model.safetensors & echo $! > server.pid
    recblr export new model.safetensors
    kill -HUP "$(cat server.pid)"
    # [/reload]
    """
    shutil.copytree(shop / "run", shop / "new", dirs_exist_ok=True)
    type_in(shop, "recblr export run model.safetensors")
    serve, export, kill = (line.strip() for line in lines.splitlines() if line.strip() and "[" not in line)
    command = shop / "recblr"
    command.write_text(f"#!{sys.executable}\nfrom recblr.cli import main; main()\n")
    command.chmod(0o755)
    typed = {"cwd": shop, "env": {**ENVIRONMENT, "PATH": f"{shop}:{os.environ['PATH']}"}, "check": True}
    (shop / "said").touch()
    place = "--port 0 --store memory > said"
    try:
        subprocess.run(["bash", "-c", serve.replace(" &", f" {place} &")], **typed)
        wait_until(lambda: "serving " in (shop / "said").read_text())
        type_in(shop, export)
        subprocess.run(["bash", "-c", kill], **typed)
        wait_until(lambda: "loaded model.safetensors again" in (shop / "said").read_text())
    finally:
        os.kill(int((shop / "server.pid").read_text()), signal.SIGTERM)
