"""The examples of docs/serving.md."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.command import ENVIRONMENT, SMALL, at, succeeds
from docs.shell import type_in
from training.tiny_runs import one_thread, tiny_dataset

from recblr import Engine
from recblr.data import write_inter
from recblr.serving import recommend_ids

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the runs that the examples use; they run in this folder."""
    folder = tmp_path_factory.mktemp("serving")
    dataset = tiny_dataset()
    write_inter(dataset, folder / "shop.inter")
    timed = replace(dataset, times=1_600_000_000 + 60.0 * np.arange(dataset.num_interactions))
    write_inter(timed, folder / "visits.inter")
    with at(folder), one_thread():
        succeeds("train", "shop.inter", "--out", "run", "--epochs", "1", *SMALL)
        succeeds("train", "visits.inter", "--out", "visits", "--epochs", "1", *SMALL)
        succeeds("export", "run", "model.safetensors")
        succeeds("export", "visits", "visits.safetensors")
        yield folder


@pytest.fixture
def engine(shop: Path) -> Engine:
    engine = Engine.load("model.safetensors")
    engine.update_many(["ada", "ada", "bob"], ["s01e12", "s02e01", "s01e13"])
    return engine


def test_the_commands(shop: Path) -> None:
    lines = """
    # [command]
    recblr export run model.safetensors
    recblr evaluate run --engine
    recblr recommend run --user u7
    recblr recommend run --history s01e12,s02e01 -k 5
    # [/command]
    """
    type_in(shop, lines)


def test_the_first_event(shop: Path) -> None:
    # [load]
    from recblr import Engine

    engine = Engine.load("model.safetensors")
    engine.update("ada", "s01e12")  # what the user has just done
    engine.update("ada", "s02e01")
    best = engine.recommend("ada", 5)  # [(item, score), …], best first
    # [/load]
    from recblr.run import load_model

    right = recommend_ids(load_model(Path("model.safetensors")), ["s01e12", "s02e01"], 5)
    assert [item for item, _ in best] == [item for item, _ in right]
    np.testing.assert_allclose([score for _, score in best], [score for _, score in right], atol=1e-5)


def test_many_at_once(shop: Path) -> None:
    engine = Engine.load("model.safetensors")
    # [many]
    engine.rebuild({"ada": ["s01e12", "s02e01"], "bob": ["s01e13"]})  # whole histories, oldest first
    engine.update_many(["ada", "bob", "ada"], ["s01e13", "s01e12", "s02e02"])
    lists = engine.recommend_many(["ada", "bob"], 5)
    guest = engine.recommend_history(["s01e12", "s02e01"], 5)  # of nobody: nothing is kept
    # [/many]
    assert lists == [engine.recommend("ada", 5), engine.recommend("bob", 5)]
    assert len(guest) == 5
    assert engine.num_users == 2


def test_event_ids(engine: Engine) -> None:
    # [once]
    assert engine.update("ada", "s03e01", event_id="order 4711")
    assert not engine.update("ada", "s03e01", event_id="order 4711")  # sent again: it does not count
    # [/once]


def test_filters(engine: Engine) -> None:
    # [filters]
    engine.recommend("ada", 5, exclude=["s01e13"])  # leave these out as well
    engine.recommend("ada", 5, allow=["s02e02", "s02e03", "s03e01"])  # only these
    engine.recommend("ada", 5, mask_seen=False)  # also items that the user has
    # [/filters]
    assert "s01e13" not in dict(engine.recommend("ada", engine.num_items, exclude=["s01e13"]))
    allowed = engine.recommend("ada", 5, allow=["s02e02", "s02e03", "s03e01", "s01e12"])
    assert {item for item, _ in allowed} == {"s02e02", "s02e03", "s03e01"}
    assert {"s01e12", "s02e01"} <= dict(engine.recommend("ada", engine.num_items, mask_seen=False)).keys()


def test_times(shop: Path) -> None:
    # [times]
    visits = Engine.load("visits.safetensors")
    now = 1_800_000_000.0  # seconds since 1970 in UTC: time.time()
    visits.update("ada", "s01e12", time=now)
    visits.update("ada", "s02e01", time=now + 40)
    soon = visits.recommend("ada", 5, time=now + 45)  # five seconds after the last event
    later = visits.recommend("ada", 5, time=now + 86_400)  # the next day, from the same state
    visits.rebuild({"bob": (["s01e12", "s01e13"], [now, now + 60])})
    # [/times]
    assert visits.time_use == "request"
    assert soon != later
    assert visits.recommend("ada", 5, time=now + 45) == soon


def test_items_come_and_go(engine: Engine) -> None:
    # [items]
    engine.add_items(["s09e01"], like=[["s01e12", "s01e13"]])  # the mean of their vectors
    engine.retire_items(["s02e02"])  # never recommended again
    engine.save("next.safetensors")  # the model with these changes, and no users
    # [/items]
    saved = Engine.load("next.safetensors")
    assert saved.item_ids == engine.item_ids
    saved.update_many(["ada"] * 3, ["s02e02", "s01e12", "s09e01"])
    best = dict(saved.recommend("ada", saved.num_items, mask_seen=False))
    assert "s02e02" not in best
    assert "s09e01" in best


def test_states(engine: Engine) -> None:
    # [states]
    kept = engine.state("ada")  # bytes, for a database of yours
    engine.forget("ada")
    engine.set_state("ada", kept)
    # [/states]
    assert engine.state("ada") == kept


def test_explain(shop: Path) -> None:
    # [explain]
    engine = Engine.load("model.safetensors", history=True)
    engine.rebuild({"ada": ["s01e12", "s02e01", "s01e13"]})
    best = engine.recommend("ada", 1)[0][0]
    for position, item, change in engine.explain("ada", best):
        print(f"event {position}, {item}: {change:+.3f}")
    alike = engine.similar(best, 5)  # [(item, cosine), …]
    # [/explain]
    assert len(engine.explain("ada", best)) == 3
    assert len(alike) == 5


def test_an_index(engine: Engine) -> None:
    pytest.importorskip("usearch")
    # [approximate]
    from recblr.serving import ApproximateIndex

    index = ApproximateIndex(engine)
    best = index.recommend("ada", 5, exclude=["s01e13"])  # as engine.recommend
    # [/approximate]
    assert len(best) == 5


def test_a_server_that_forks(shop: Path) -> None:
    app = """
    # [fork]
    from recblr import Engine

    engine = Engine.load("model.safetensors")  # before the fork: all workers share the table of items

    def answer(history):
        return engine.recommend_history(history, 5)
    # [/fork]
    """
    server = """
    import os, signal
    expected = answer(["s01e12", "s02e01"])
    for _ in range(3):
        worker = os.fork()
        if worker == 0:
            signal.alarm(60)
            os._exit(answer(["s01e12", "s02e01"]) != expected)
        assert os.waitpid(worker, 0)[1] == 0
    print("served")
    """
    program = textwrap.dedent(app) + textwrap.dedent(server)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shop, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("served\n", "")
