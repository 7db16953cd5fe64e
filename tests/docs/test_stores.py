"""The examples of docs/stores.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command import at
from serving.engines import BY_NAME, file_of, model_of
from serving.stores.places import needs_lmdb

from recblr import Engine
from recblr.serving import LMDBStore, Service

ITEMS = ["s01e12", "s01e13", "s02e01", "s02e02", "s03e01"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> Iterator[None]:
    for name, case in (("model", "plain"), ("next", "average")):
        (tmp_path / f"{name}.safetensors").write_bytes(
            file_of(model_of(BY_NAME[case], num_items=5), ITEMS).read_bytes()
        )
    with at(tmp_path):
        yield


@needs_lmdb
def test_durable_updates() -> None:
    # [durable]
    from recblr import Engine
    from recblr.serving import Service, open_store

    with Service(Engine.load("model.safetensors"), open_store("lmdb:events")) as service:
        service.update("ada", "s01e12", event_id="order 4711")  # on the disk when it returns
        service.update_many(["ada", "bob"], ["s02e01", "s01e13"], event_ids=["order 4712", None])
        best = service.recommend("ada", 2)
    # [/durable]
    again = Service(Engine.load("model.safetensors"), open_store("lmdb:events"))
    assert not again.update("ada", "s01e12", event_id="order 4711")
    assert again.recommend("ada", 2) == best
    assert again.history("bob")[0] == ["s01e13"]
    again.close()


@needs_lmdb
def test_a_new_model() -> None:
    service = Service(Engine.load("model.safetensors"), LMDBStore("events"))
    service.update_many(["ada", "ada"], ["s01e12", "s02e01"])
    # [model]
    service.replace_engine(Engine.load("next.safetensors"))  # calls in flight finish on the old one
    best = service.recommend("ada", 2)  # from the history: the state of the old model is of no use
    # [/model]
    engine = Engine.load("next.safetensors")
    engine.update_many(["ada", "ada"], ["s01e12", "s02e01"])
    assert best == engine.recommend("ada", 2)
    # [backup]
    service.store.backup("backup-monday")  # a new folder, which is a store itself
    # [/backup]
    with LMDBStore("backup-monday") as copy:
        assert copy.history("ada").items == ["s01e12", "s02e01"]
    service.close()
