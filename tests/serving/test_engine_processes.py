"""The engine without torch, from many threads, in forked workers, under Ctrl-C, and its memory."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cli.command import ENVIRONMENT
from serving.engines import (
    BY_NAME,
    IDS,
    NUM_ITEMS,
    START,
    case,
    everything,
    file_of,
    fresh,
    model_of,
    path_of,
)

from recblr.errors import InputError
from recblr.serving.engine import Engine


def program(text: str, *arguments: object, **variables: str) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "polars", "pandas"):
            raise ModuleNotFoundError(f"there is no {name}", name=name)
sys.meta_path.insert(0, Refuse())
from recblr.serving.engine import Engine
engine = Engine.load(sys.argv[1], history=True)
engine.update("u", "i1", time=10)
engine.update_many(["u", "v"], ["i2", "i3"], times=[20, 20])
best = engine.recommend("u", 3, time=30)
engine.add_items(["new"], like=[["i1"]])
engine.save(sys.argv[2])
assert Engine.load(sys.argv[2]).num_items == 24
assert engine.recommend_history(["i1", "i2"], 3, times=[10, 20], time=30, exclude=["new"]) == best
assert not {"torch", "polars"} & set(sys.modules)
print(best)
"""


def test_the_engine_works_without_torch_and_polars(tmp_path: Any) -> None:
    engine = fresh("request")
    engine.update_many(["u"] * 2, ["i1", "i2"], times=[10, 20])
    said = program(WITHOUT_TORCH, path_of(BY_NAME["request"]), tmp_path / "m.safetensors")
    assert said == repr(engine.recommend("u", 3, time=30))


FORKED = """
import os, signal, sys
from recblr.serving.engine import Engine
engine = Engine.load(sys.argv[1], threads=3)
users, items = [f"u{n}" for n in range(500)], ["i%d" % (n % 20) for n in range(500)]
engine.update_many(users, items)
best = engine.recommend_many(users)
workers = []
for _ in range(3):
    worker = os.fork()
    if worker == 0:
        signal.alarm(60)
        good = engine.recommend_many(users) == best and engine.recommend("u1") == best[1]
        good &= engine.update_many(users, items) == 500
        os._exit(0 if good else 3)
    workers.append(worker)
print([os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers])
assert engine.recommend_many(users) == best
"""


def test_forked_workers_answer_as_their_parent() -> None:
    assert program(FORKED, path_of(BY_NAME["plain"])) == "[0, 0, 0]"


@pytest.mark.parametrize("method", ["update_many", "recommend_many", "rebuild"])
def test_after_ctrl_c_the_state_is_that_before_or_after_the_call(method: str) -> None:
    many = case("many", time="none", d_model=32)
    engine, right = (Engine.load(file_of(model_of(many), IDS)) for _ in range(2))
    users, items = [f"u{n % 50}" for n in range(40_000)], [IDS[n * 7 % NUM_ITEMS] for n in range(40_000)]
    engine.update_many(users[:50], items[:50])
    before = everything(engine)
    calls: dict[str, Callable[[Engine], object]] = {
        "update_many": lambda e: e.update_many(users, items),
        "recommend_many": lambda e: e.recommend_many(users[:50] * 400, NUM_ITEMS),
        "rebuild": lambda e: e.rebuild({f"u{n}": items for n in range(10)}),
    }
    main = threading.main_thread().ident
    assert main is not None
    interrupter = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT))

    def again_and_again() -> None:
        interrupter.start()
        began = time.perf_counter()
        while time.perf_counter() < began + 30:
            calls[method](engine)

    gc.disable()  # a callback of the collector would swallow the interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            again_and_again()
    finally:
        gc.enable()
    interrupter.join()
    after = everything(engine)
    right.update_many(users[:50], items[:50])
    for _ in range(200):
        if everything(right) == after:
            break
        calls[method](right)
    else:
        pytest.fail("the state is neither that before nor that after a call")
    assert method != "recommend_many" or after == before
    assert engine.recommend("u1") == right.recommend("u1")


def test_many_threads_give_the_states_of_one() -> None:
    engine, right = (fresh("request in minutes", history=True, threads=3) for _ in range(2))
    histories: dict[str, tuple[list[str], list[float]]] = {f"u{n}": ([], []) for n in range(40)}
    random = np.random.default_rng(0)
    for n, (items, times) in enumerate(histories.values()):
        items += random.choice(IDS, 60 + n).tolist()
        times += (START + np.sort(random.uniform(0, 1e6, 60 + n))).tolist()
    asked, end = [0], threading.Event()

    def write(part: int) -> None:
        mine = [(user, *histories[user]) for user in list(histories)[part::4]]
        for at in range(0, 100, 5):
            batch = [
                (u, i, t) for u, ii, tt in mine for i, t in zip(ii[at : at + 5], tt[at : at + 5], strict=True)
            ]
            if part % 2 and batch:
                users, items, times = zip(*batch, strict=True)
                engine.update_many(users, items, times=times)
            for u, i, t in () if part % 2 else batch:
                engine.update(u, i, time=t)

    def read() -> None:
        users = list(histories)
        while not end.is_set():
            for user in users[:: 1 + asked[0] % 7]:
                if user in engine:
                    engine.recommend(user, 5)
                    engine.set_state("copy of " + user, engine.state(user))
                    engine.forget("copy of " + user)
            known = [user for user in users if user in engine]
            engine.recommend_many(known, 3)
            asked[0] += 1

    def add() -> None:
        while not end.is_set() and engine.num_items < 100:
            engine.add_items([f"n{engine.num_items}"], like=[["i1", "i2"]])
            engine.retire_items([f"n{engine.num_items - 1}"])
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(f) for f in (read, read, add)]
        try:
            for writer in [pool.submit(write, part) for part in range(4)]:
                writer.result(60)
        finally:
            end.set()
        for other in others:
            other.result(60)
    assert asked[0] > 0
    right.rebuild(histories)
    assert {user: engine.state(user) for user in engine.user_ids} == everything(right)["states"]
    assert engine.seen_bytes == right.seen_bytes


def test_threads_that_add_items_keep_their_vectors(tmp_path: Any) -> None:
    engine = fresh("plain")
    width = BY_NAME["plain"].config.d_model

    def add(part: int) -> None:
        for n in range(40):
            engine.add_items([f"{part}-{n}"], vectors=np.full((1, width), part * 100 + n))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    engine.save(tmp_path / "m.safetensors")
    saved = Engine.load(tmp_path / "m.safetensors")
    saved.update("u", "i1")
    hidden = saved.score("u", ["0-1"])[0]
    for part in range(4):
        for n in (0, 7, 39):
            assert saved.score("u", [f"{part}-{n}"])[0] == pytest.approx(hidden * (part * 100 + n), rel=1e-4)


def test_a_long_call_lets_other_threads_of_python_run() -> None:
    engine = Engine.load(
        file_of(model_of(case("slow", time="none", d_model=64, num_layers=3)), IDS), threads=1
    )
    users, items = ["u"] * 20_000, ["i1"] * 20_000
    engine.update("v", "i1")
    began, longest = time.perf_counter(), 0.0
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(engine.update_many, users, items)
        while not call.done():
            last = time.perf_counter()
            time.sleep(0.001)
            longest = max(longest, time.perf_counter() - last)
    assert longest < 0.5 * (time.perf_counter() - began)


@pytest.mark.parametrize("change", ["add", "retire"])
def test_waiting_to_change_the_items_lets_other_threads_run(change: str) -> None:
    engine = Engine.load(
        file_of(model_of(case("slow", time="none", d_model=64, num_layers=3)), IDS), threads=1
    )
    users, items, called = ["u"] * 20_000, ["i1"] * 20_000, threading.Event()

    def update() -> None:
        called.set()
        engine.update_many(users, items)

    def alter() -> None:
        if change == "add":
            engine.add_items(["new"], like=[["i1"]])
        else:
            engine.retire_items(["i1"])

    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(update)
        called.wait()
        time.sleep(0.01)  # the update has the items' lock
        changed, ticks = pool.submit(alter), 0
        while not changed.done():
            time.sleep(0.001)
            ticks += not changed.done()
        changed.result()
        call.result()
    assert ticks >= 5


MEMORY = """
import ctypes, sys
from recblr.serving.engine import Engine
def resident():
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what calls have freed is not memory of users
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
engine = Engine.load(sys.argv[1], states=sys.argv[2], threads=1)
part = 20_480  # five blocks of users
users = [f"u{n}" for n in range(2 * part)]
items = ["i1"] * part
engine.update_many(["one"] * part, items)  # the memory of a call, which is used again
engine.forget("one")
before = resident()
engine.update_many(users[:part], items)
engine.update_many(users[part:], items)
print((resident() - before) / (2 * part))
"""
SEEN_BLOCK = 48  # bytes of a small set of seen items, which counts apart


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory is read from /proc")
@pytest.mark.parametrize(("states", "most"), [("float32", 4.8), ("bfloat16", 2.5)])
def test_a_user_takes_little_memory(states: str, most: float) -> None:
    path = file_of(model_of(case("d64", time="none", d_model=64, num_layers=2)), IDS)
    taken = float(program(MEMORY, path, states)) - SEEN_BLOCK
    assert 2000 < taken <= most * 1024


def test_an_unknown_user_in_another_thread_is_the_same_error() -> None:
    engine = fresh("plain")
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError, match="no user"):
        pool.submit(engine.recommend, "nobody").result(10)
