"""From the start of a server to its end: options, several workers, new models, kills, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving.engines import BY_NAME, IDS, START, file_of, model_of
from serving.http.server import Server, alive, ask_on, refused, serving, wait_until

from recblr import Engine
from recblr.errors import InputError
from recblr.serving.http.parent import Parent
from recblr.serving.http.worker import ServeOptions, load

SECONDS = float(os.environ.get("RECBLR_LOAD_SECONDS", "3"))  # of the test under load; 60 for a thorough run
CONNECTIONS = 64
RELOADS = 10


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may replace."""
    return Path(shutil.copy(model, tmp_path / "model.safetensors"))


@pytest.fixture(scope="module")
def other() -> Path:
    """Another training of the same model."""
    return file_of(model_of(BY_NAME["request"], seed=1), IDS)


def replace(file: Path, by: Path | bytes) -> None:
    """Replace a model file as `recblr export` does: at once."""
    new = file.with_suffix(".new")
    new.write_bytes(by if isinstance(by, bytes) else by.read_bytes())
    new.replace(file)


def right(model: Path, *items: str, user: str = "u", times: list[float] | None = None) -> list[str]:
    engine = Engine.load(model)
    times = times or [START + at for at in range(len(items))]
    engine.rebuild({user: (list(items), times)})
    return [item for item, _ in engine.recommend(user, 10)]


def post(server: Server, user: str, *items: str, start: float = START) -> None:
    events = [{"user": user, "item": item, "time": start + at} for at, item in enumerate(items)]
    assert server.ask("POST", "/v1/events", {"events": events}).json["accepted"] == len(items)


# --- start -------------------------------------------------------------------------------------


def test_the_sentence_at_the_start(model: Path) -> None:
    with serving(model) as server:
        assert server.said == (
            f"serving {model} (23 items) at http://127.0.0.1:{server.port}, store memory, 1 worker;"
            " Ctrl-C stops, SIGHUP loads the model again\n"
        )


def test_what_cannot_be_served(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ["--store", "memory"]
    assert "none.safetensors" in refused(tmp_path / "none.safetensors", *memory)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    assert "bad.safetensors" in refused(tmp_path / "bad.safetensors", *memory)
    said = refused(model, *memory, "--workers", "2")
    assert said.startswith(
        "recblr: the store `memory` belongs to one process, and there are 2 workers; take "
    )
    assert "of no known kind" in refused(model, "--store", "nonsense:x")
    assert "check --titles" in refused(model, *memory, "--titles", tmp_path / "none.tsv")
    assert "check --token-file" in refused(model, *memory, "--token-file", tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    assert "empty or holds spaces" in refused(model, *memory, "--token-file", tmp_path / "empty")
    assert "cannot listen on 192.0.2.1 port 0" in refused(model, *memory, "--host", "192.0.2.1")
    assert "cannot listen on no.such.host.invalid" in refused(
        model, *memory, "--host", "no.such.host.invalid"
    )
    monkeypatch.setenv("RECBLR_TOKEN", "two words")
    assert "empty or holds spaces" in refused(model, *memory)


def test_the_store_of_the_environment(model: Path) -> None:
    with serving(model, store=None, environment={"RECBLR_STORE": "memory"}) as server:
        assert ", store memory, " in server.said


def test_a_port_that_is_taken(model: Path) -> None:
    with serving(model) as server:
        said = refused(model, "--store", "memory", "--port", str(server.port))
        assert f"cannot listen on 127.0.0.1 port {server.port}: Address already in use" in said


def test_ipv6(model: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(model, "--host", "::1") as server:
        assert f"http://[::1]:{server.port}," in server.said
        assert server.errors() == ""  # it is a loopback address
        connection = HTTPConnection("::1", server.port, timeout=30)
        assert ask_on(connection, "GET", "/healthz").status == 200
        connection.close()


# --- events that outlive the process -----------------------------------------------------------


def test_events_are_there_after_a_restart(file: Path) -> None:
    with serving(file, store=None) as server:
        post(server, "u", "i1", "i2")
        before = server.items("u")
    assert (file.parent / "events").is_dir()
    with serving(file, store=None) as server:
        assert server.items("u") == before == right(file, "i1", "i2")


def test_a_killed_worker_is_started_again_and_loses_nothing(file: Path) -> None:
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}") as server:
        first = server.workers()
        assert len(first) == 2
        post(server, "u", "i1", "i2")
        for pid in first:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in server.workers() and len(server.workers()) == 2)
            assert server.items("u") == right(file, "i1", "i2")
        assert server.metric('recblr_events_total{result="accepted"}') == 2  # counters never fall
        post(server, "u", "i3", start=START + 9)
        assert server.items("u") == right(file, "i1", "i2", "i3", times=[START, START + 1, START + 9])
        assert server.errors().count("ended by signal 9; it is started again") == 2


def test_a_get_sees_every_event_that_any_worker_acknowledged(file: Path) -> None:
    with serving(file, "--workers", "3", store=f"lmdb:{file.parent / 'kept'}") as server:
        engine = Engine.load(file)
        # Each request has a connection of its own, so any worker may get it.
        for at in range(40):
            user, item = f"u{at % 3}", IDS[at * 7 % 23]
            post(server, user, item, start=START + at)
            engine.update(user, item, time=START + at)
            assert server.items(user) == [item for item, _ in engine.recommend(user)]
        assert server.metric('recblr_events_total{result="accepted"}') == 40
        route = "/v1/users/{id}/recommendations"
        assert server.metric(f'recblr_request_seconds_count{{route="{route}"}}') == 40


def test_any_worker_counts_the_users_of_all(file: Path) -> None:
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}") as server:
        post(server, "u", "i1")
        for _ in range(40):  # each request may go to either worker
            server.items("u")
        time.sleep(1.5)
        assert server.metric("recblr_users_in_memory") == 2


def test_a_get_never_keeps_others_waiting_for_a_lock(file: Path) -> None:
    """Another process holds the lock of the store, so an event waits, and with it a GET of the user."""
    kept = file.parent / "kept"
    with serving(file, store=f"lmdb:{kept}") as server:
        post(server, "stale", "i1")
    with serving(file, store=f"lmdb:{kept}") as server:
        post(server, "known", "i1")
        calls: list[threading.Thread] = []
        with (kept / "lock").open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                for call, *given in (
                    (server.post, ("stale", "i2"), ("known", "i2")),
                    (server.ask, "GET", "/v1/users/stale/recommendations"),
                    (server.ask, "GET", f"/v1/users/known/recommendations?time={START - 1}"),
                ):
                    calls.append(threading.Thread(target=call, args=given))
                    calls[-1].start()
                    time.sleep(0.2)
                started = time.perf_counter()
                assert server.ask("GET", "/healthz").status == 200
                assert time.perf_counter() - started < 1
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
        for thread in calls:
            thread.join()
        assert len(server.items("stale", k=23)) == 21


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after a long load"])
def test_workers_that_cannot_start_end_the_server(file: Path, tmp_path: Path, late: bool) -> None:
    fails = f"""
import time
from recblr.serving.http import parent, worker
if {late}: parent._YOUNG = 0.1
def fail(*a, **k):
    time.sleep(0.2)
    raise worker.InputError("no luck")
worker.Service = fail
"""
    with serving(file, "--workers", "2", store=f"lmdb:{tmp_path / 'kept'}", prelude=fails) as server:
        assert server.process.wait(30) == 2
        assert "recblr: no luck\n" in server.errors()
        assert "recblr: 3 workers in a row failed; " in server.errors().splitlines()[-1]


def test_workers_that_die_again_and_again_do_not_end_the_others(file: Path) -> None:
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}") as server:
        healthy = server.workers()[0]
        for dead in range(1, 5):
            wait_until(lambda: len(server.workers()) == 2)
            os.kill(next(pid for pid in server.workers() if pid != healthy), signal.SIGKILL)
            wait_until(lambda dead=dead: server.errors().count("it is started again") == dead)
        assert "it is started again in 2 seconds\n" in server.errors()
        assert server.ask("GET", "/readyz").status == 200
        wait_until(lambda: len(server.workers()) == 2)
        assert healthy in server.workers()


def test_nothing_leaves_a_forked_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = SimpleNamespace(options=ServeOptions(file, "memory"))
    parent, own = Parent(options, Engine.load(file)), os.getpid()

    def fail() -> None:
        raise RuntimeError

    with Path("/dev/full").open("w") as full:  # nothing can be written to it
        monkeypatch.setattr("sys.stderr", full)
        try:
            pid = parent._fork(fail)
        finally:
            if os.getpid() != own:
                os._exit(42)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_end_is_quiet(file: Path, how: signal.Signals, workers: int) -> None:
    with serving(file, "--workers", str(workers), store=f"lmdb:{file.parent / 'kept'}") as server:
        post(server, "u", "i1")
        pids = [server.process.pid, *server.workers()]
        # Ctrl-C goes to all processes of a terminal.
        for pid in pids if how == signal.SIGINT else pids[:1]:
            os.kill(pid, how)
        assert server.process.wait(30) == 0
        assert server.errors() == ""
        wait_until(lambda: not any(map(alive, pids[1:])))


def test_requests_that_run_are_finished(file: Path) -> None:
    slow = """
import time
from recblr.serving.service import Service
first = Service.update_each
def slowly(*a, **b):
    time.sleep(0.7)
    return first(*a, **b)
Service.update_each = slowly
"""
    with serving(file, store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server:
        answers: list[Any] = []
        client = threading.Thread(target=lambda: answers.append(server.post(("u", "i1"))))
        client.start()
        time.sleep(0.3)
        assert server.stop(signal.SIGTERM) == 0
        client.join()
        assert (answers[0].status, answers[0].json) == (200, {"accepted": 1, "duplicates": 0})
    with serving(file, store=f"lmdb:{file.parent / 'kept'}") as server:
        assert len(server.items("u")) == 10


def test_a_second_signal_ends_several_workers_at_once(file: Path) -> None:
    slow = (
        "from recblr.serving.service import Service; import time; Service.forget = lambda *a: time.sleep(15)"
    )
    with (
        serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"DELETE /v1/users/u HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.metric("recblr_requests_in_progress") == 2)  # with this one
        for _ in range(2):  # these two count as one
            server.send(signal.SIGTERM)
            time.sleep(0.3)
        time.sleep(0.8)
        assert server.process.poll() is None
        server.send(signal.SIGTERM)
        assert server.process.wait(5) == 0


def test_workers_end_with_their_parent(file: Path) -> None:
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}") as server:
        pids = server.workers()
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(alive, pids)))


def test_a_worker_that_ends_with_its_parent_waits_without_work(file: Path) -> None:
    slow = (
        "from recblr.serving.service import Service; import time; Service.forget = lambda *a: time.sleep(2)"
    )
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server:
        pids = server.workers()
        clients = [threading.Thread(target=server.ask, args=("DELETE", "/v1/users/u")) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        server.process.kill()
        server.process.wait()
        before = list(map(processor_seconds, pids))
        time.sleep(1)
        assert all(processor_seconds(pid) < was + 0.2 for pid, was in zip(pids, before, strict=True))
        for client in clients:
            client.join()
        wait_until(lambda: not any(map(alive, pids)))


def processor_seconds(pid: int) -> float:
    try:
        figures = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


# --- new models --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_loads_the_new_file(file: Path, other: Path, workers: int) -> None:
    with serving(file, "--workers", str(workers), store=f"lmdb:{file.parent / 'kept'}") as server:
        post(server, "u", "i1", "i2")
        old, new = right(file, "i1", "i2"), right(other, "i1", "i2")
        assert old != new
        assert server.items("u") == old
        replace(file, other)
        assert server.items("u") == old
        server.send(signal.SIGHUP)
        loads = 'recblr_model_loads_total{result="loaded"}'
        wait_until(lambda: server.metric(loads) == 1)
        wait_until(lambda: all(server.items("u") == new for _ in range(4 * workers)))
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"loaded {file} again: 23 items\n"
        # The disk gets the space of the old file back only when no process has it open.
        pids = {server.process.pid, *server.workers()}
        wait_until(lambda: all(models_open(pid) == [str(file)] for pid in pids))


def models_open(pid: int) -> list[str]:
    """The model files that a process has open."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if "model.safetensors" in link]


NO_FORKS = """
import errno, os
first, forks = os.fork, []
def fork():
    forks.append(0)
    if len(forks) > 2:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return first()
os.fork = fork
"""


def test_a_new_model_for_which_there_is_no_process(file: Path) -> None:
    store = f"lmdb:{file.parent / 'kept'}"
    with serving(file, "--workers", "2", store=store, prelude=NO_FORKS) as server:
        before = models_open(server.process.pid)
        server.send(signal.SIGHUP)
        said = f"recblr: the model was not replaced: {file}: Resource temporarily unavailable\n"
        wait_until(lambda: server.errors() == said)
        assert models_open(server.process.pid) == before


def test_a_file_under_another_name(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"nonsense")
    with pytest.raises(InputError) as raised:
        load(ServeOptions(file, "memory"), str(other))
    assert str(file) in str(raised.value)
    assert str(other) not in str(raised.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_leaves_the_old_model(file: Path, other: Path, workers: int) -> None:
    with serving(file, "--workers", str(workers), store=f"lmdb:{file.parent / 'kept'}") as server:
        post(server, "u", "i1", "i2")
        before, refusals = server.items("u"), 'recblr_model_loads_total{result="refused"}'
        damaged = bytearray(other.read_bytes())
        damaged[-1] ^= 1
        for said, bad in enumerate((b"nonsense", bytes(damaged)), 1):
            replace(file, bad)
            server.send(signal.SIGHUP)
            wait_until(lambda said=said: server.errors().count("\n") >= said)
            assert server.errors().count("\n") == said
            assert server.errors().splitlines()[-1].startswith(f"recblr: the model was not replaced: {file} ")
            assert server.items("u") == before
            wait_until(lambda said=said: server.metric(refusals) == said)
        replace(file, other)
        server.send(signal.SIGHUP)
        wait_until(lambda: server.items("u") == right(other, "i1", "i2"))


WATCHED = """
import gc, signal, sys, threading, time, weakref
from recblr.serving.http import parent, run, worker
first, engines = worker.load, []
def load(*given):
    engine = first(*given)
    engines.append(weakref.ref(engine))
    return engine
def watch():
    while len(engines) < 2:
        time.sleep(0.01)
    for _ in range(200):
        time.sleep(0.01)
        gc.collect()
        if engines[0]() is None:
            break
    print("kept" if engines[0]() else "freed", file=sys.stderr, flush=True)
serve = worker.Worker.run
def run_worker(*given):
    threading.Thread(target=watch, daemon=True).start()
    return serve(*given)
parent.load = run.load = worker.load = load
worker.Worker.run = run_worker
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_is_replaced_is_freed(file: Path, other: Path, workers: int) -> None:
    store = f"lmdb:{file.parent / 'kept'}"
    with serving(file, "--workers", str(workers), store=store, prelude=WATCHED) as server:
        post(server, "u", "i1", "i2")
        for _ in range(10 * workers):  # so each worker gets some
            assert server.ask("GET", "/v1/items?query=i1").status == 200
            assert server.post(("u", "nope")).status == 422
            early = {"events": [{"user": "u", "item": "i1", "time": START - 1}]}
            assert server.ask("POST", "/v1/events", early).error == (422, "invalid")
            assert len(server.items("u")) == 10
        replace(file, other)
        server.send(signal.SIGHUP)
        wait_until(lambda: server.errors().count("\n") == workers)
        assert server.errors() == "freed\n" * workers


SLOW_LOADS = """
import sys, time
from recblr.serving.http import parent, worker
first = worker.load
def load(options, file=None):
    engine = first(options, file)
    if file is not None:
        print("read", file=sys.stderr, flush=True)
        time.sleep(SECONDS)
    return engine
parent.load = worker.load = load
"""


def test_all_workers_load_the_file_that_was_tried(file: Path, other: Path) -> None:
    slow = SLOW_LOADS.replace("SECONDS", "0.5")
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server:
        post(server, "u", "i1", "i2")
        new = right(other, "i1", "i2")
        replace(file, other)
        server.send(signal.SIGHUP)
        wait_until(lambda: "read" in server.errors())
        replace(file, b"nonsense")
        wait_until(lambda: all(server.items("u") == new for _ in range(8)))
        # So does a worker that is started later.
        pid = server.workers()[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in server.workers() and len(server.workers()) == 2)
        time.sleep(1)
        assert all(server.items("u") == new for _ in range(8))
        assert "not replaced" not in server.errors()


def test_a_load_that_takes_too_long(file: Path) -> None:
    slow = SLOW_LOADS.replace("SECONDS", "100") + "parent.LOAD_SECONDS = 0.5"
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server:
        server.send(signal.SIGHUP)
        wait_until(lambda: server.metric('recblr_model_loads_total{result="refused"}') == 1)
        assert "recblr: the model was not replaced: loading took over 0.5 seconds\n" in server.errors()
        server.send(signal.SIGHUP)
        wait_until(lambda: server.errors().count("read") == 2)
        assert server.stop(signal.SIGTERM) == 0  # also while a file is loaded


def test_a_load_that_is_killed(file: Path) -> None:
    slow = SLOW_LOADS.replace("SECONDS", "100")
    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}", prelude=slow) as server:
        workers = server.workers()
        server.send(signal.SIGHUP)
        wait_until(lambda: "read" in server.errors())
        os.kill(next(pid for pid in server.workers() if pid not in workers), signal.SIGKILL)
        wait_until(lambda: server.metric('recblr_model_loads_total{result="refused"}') == 1)
        said = "recblr: the model was not replaced: the process that loaded it was ended by signal 9\n"
        assert said in server.errors()


def test_a_model_that_lacks_items_of_histories(file: Path) -> None:
    fewer = file_of(model_of(BY_NAME["request"], num_items=10, seed=2), IDS[:10])
    with serving(file, store=f"lmdb:{file.parent / 'kept'}") as server:
        post(server, "u", "i1", "i20", "i2")
        post(server, "v", "i20")
        replace(file, fewer)
        server.send(signal.SIGHUP)
        wait_until(lambda: server.metric('recblr_model_loads_total{result="loaded"}'))
        assert server.items("u") == right(fewer, "i1", "i2", times=[START, START + 2])
        assert server.items("v") == []
        assert server.metric("recblr_events_left_out") == 2
        assert server.post(("u", "i20")).error == (422, "unknown_item")
        assert "does not have item 'i20'" in server.errors()


def test_new_models_under_load(file: Path, other: Path) -> None:
    """64 connections add events and ask, the model is replaced ten times, and no request fails."""
    models = [file.read_bytes(), other.read_bytes()]
    taken: dict[str, list[str]] = {f"load {number}": [] for number in range(CONNECTIONS)}
    failures: list[object] = []
    ending = threading.Event()

    def client(user: str, number: int) -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        path = f"/v1/users/{user.replace(' ', '%20')}/recommendations?k=5&include_seen=true"
        try:
            while not ending.is_set():
                item, at = IDS[(number * 5 + len(taken[user]) * 3) % 23], START + len(taken[user])
                event = {"user": user, "item": item, "time": at, "event_id": str(at)}
                added = ask_on(connection, "POST", "/v1/events", {"events": [event]})
                taken[user].append(item)
                asked = ask_on(connection, "GET", path)
                if (added.status, asked.status) != (200, 200) or added.json["accepted"] != 1:
                    failures.append((added, asked))
                if len(asked.json["items"]) != 5:
                    failures.append(asked)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    with serving(file, "--workers", "2", store=f"lmdb:{file.parent / 'kept'}") as server:
        clients = [threading.Thread(target=client, args=(u, n)) for n, u in enumerate(taken)]
        for one in clients:
            one.start()
        for number in range(1, RELOADS + 1):
            time.sleep(SECONDS / (RELOADS + 1))
            replace(file, models[number % 2])
            server.send(signal.SIGHUP)
        time.sleep(SECONDS / (RELOADS + 1))
        ending.set()
        for one in clients:
            one.join()
        assert failures == []
        wait_until(lambda: server.metric('recblr_model_loads_total{result="loaded"}') >= 2)
        assert server.metric('recblr_model_loads_total{result="refused"}') == 0
        # The last model answers, and each user has every event.
        server.send(signal.SIGHUP)
        engine, best = Engine.load(file), {}
        for user, items in taken.items():
            engine.rebuild({user: (items, [START + at for at in range(len(items))])})
            best[user] = [item for item, _ in engine.recommend(user, 5, mask_seen=False)]

        def answer(user: str) -> list[str]:
            return server.items(user.replace(" ", "%20"), k=5, include_seen="true")

        # Each request may go to either worker, and each loads the model in its own time.
        wait_until(lambda: all(answer("load 0") == best["load 0"] for _ in range(20)))
        assert {user: answer(user) for user in taken} == best
        assert sum(map(len, taken.values())) > CONNECTIONS
        assert server.errors() == ""
