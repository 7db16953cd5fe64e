"""A Redis that is not durable, does not answer, or refuses: one sentence, and nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest
from serving.engines import BY_NAME, IDS, START, fresh
from serving.stores.places import DURABLE, missing, needs_redis, server

from recblr.errors import InputError
from recblr.serving import RedisStore, Service, StoreError
from recblr.serving.stores.store import Batch

pytest.importorskip("redis", reason=missing("redis") or "it is there")
pytestmark = needs_redis
BATCH = Batch(["a", "b", "a"], ["i1", "i2", "i3"], [1.0, 2.0, 3.0], ["x", "", "y"])


def add(store: RedisStore) -> int:
    with store.transaction(["a", "b"]) as transaction:
        return transaction.append(BATCH)


NOT_DURABLE = {
    ("--appendonly", "no"): "has the settings appendonly no",
    ("--appendonly", "yes", "--appendfsync", "everysec"): "has the settings appendfsync everysec",
    (*DURABLE, "--no-appendfsync-on-rewrite", "yes"): "has the settings no-appendfsync-on-rewrite yes",
    (*DURABLE, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"): (
        "drops keys when its memory is full (maxmemory-policy allkeys-lru)"
    ),
    ("--appendonly", "yes", "--rename-command", "CONFIG", ""): "does not tell its settings",
}


@pytest.mark.parametrize(("options", "said"), NOT_DURABLE.items(), ids=NOT_DURABLE.values())
def test_a_redis_that_may_lose_events_is_refused_but_for_consent(options: tuple[str, ...], said: str) -> None:
    with server(*options) as redis:
        with pytest.raises(InputError) as refused:
            RedisStore(redis.address)
        assert said in str(refused.value)
        assert "durability=relaxed" in refused.value.remedy
        with RedisStore(f"{redis.address}?durability=relaxed") as store:
            add(store)
            assert store.history("a").items == ["i1", "i3"]


def test_a_redis_that_is_gone_and_comes_back() -> None:
    with server() as redis:
        store = RedisStore(f"{redis.address}?socket_timeout=2")
        serving = Service(fresh("request", threads=1), store, write_behind=3600)
        serving.update_many(["a", "a"], IDS[:2], times=[START] * 2, event_ids=["x", "y"])
        redis.kill()
        began = time.monotonic()
        for call in (
            lambda: serving.update("a", IDS[2], time=START, event_id="z"),
            lambda: serving.recommend("a", 3),
            lambda: serving.forget("a"),
            serving.load,
        ):
            with pytest.raises(StoreError) as refused:
                call()
            assert "does not answer" in str(refused.value)
            assert "\n" not in str(refused.value)
        assert time.monotonic() - began < 30
        redis.start()
        assert serving.update("a", IDS[2], time=START, event_id="z")
        assert not serving.update("a", IDS[1], time=START, event_id="y")
        assert serving.history("a") == (IDS[:3], [START] * 3)
        engine = fresh("request", threads=1)
        engine.rebuild({"a": (IDS[:3], [START] * 3)})
        assert serving.recommend("a", 5) == engine.recommend("a", 5)
        assert BY_NAME["request"].timed
        serving.close()


def test_a_redis_that_comes_back_without_durability_is_refused() -> None:
    with server() as redis, RedisStore(redis.address) as store:
        add(store)
        redis.kill()
        redis.settings = ("--appendonly", "yes", "--appendfsync", "no")
        redis.start()
        for _ in range(2):  # a connection that was refused once is not used
            with pytest.raises(StoreError, match="has the settings appendfsync no"):
                add(store)
        redis.kill()
        redis.settings = DURABLE
        redis.start()
        add(store)
        assert store.history("a").items == ["i1", "i3"] * 2


def test_a_redis_that_hangs_is_noticed_soon() -> None:
    with server() as redis, RedisStore(f"{redis.address}?socket_timeout=0.5") as store:
        add(store)
        assert redis.process
        redis.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            store.version("a")
        assert time.monotonic() - began < 2
        redis.process.send_signal(signal.SIGCONT)
        assert store.history("a").items == ["i1", "i3"]


def test_a_repeated_group_is_known_for_longer_than_it_may_be_repeated() -> None:
    with server() as redis, RedisStore(f"{redis.address}?socket_timeout=30") as store:
        add(store)
        (key,) = store._client.keys("recblr:done:*")
        assert store._client.ttl(key) > 5 * 30


def test_a_short_restart_is_not_noticed() -> None:
    with server() as redis, RedisStore(redis.address) as store:
        add(store)
        redis.kill()
        soon = threading.Timer(0.1, redis.start)
        soon.start()
        try:
            assert store.history("a").items == ["i1", "i3"]
        finally:
            soon.join()


def test_a_full_redis_refuses() -> None:
    with server(*DURABLE, "--maxmemory", "2mb") as redis, RedisStore(redis.address) as store:
        add(store)
        version, refused = store.version("a"), None
        for _ in range(100):
            try:
                with store.transaction(["f"]) as transaction:
                    transaction.append(Batch(["f"] * 99, ["x" * 390] * 99, [1.0] * 99))
            except StoreError as error:
                refused = error
                break
        assert "refuses" in str(refused)
        assert (store.version("a"), store.history("a").items) == (version, ["i1", "i3"])


def test_no_redis_is_one_sentence() -> None:
    with pytest.raises(StoreError) as refused:
        RedisStore("redis://:secret@127.0.0.1:1/0?socket_connect_timeout=1")
    assert "the Redis at redis://127.0.0.1:1/0 does not answer" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["redis://h:port", "redis://h?durability=some", "redis://h?socket_timeout=x", "redis://h?nothing=1"],
)
def test_a_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"durability|address"):
        RedisStore(address)


def test_another_layout_is_refused() -> None:
    with server() as redis:
        with RedisStore(redis.address) as store:
            store._client.set("recblr:layout", "2")
        with pytest.raises(InputError, match="knows 1; install a later recblr"):
            RedisStore(redis.address)


def test_a_loss_of_redis_is_seen() -> None:
    """With relaxed durability, versions do not come again, so no server keeps events that Redis has lost."""
    with server("--appendonly", "no") as redis:
        store = RedisStore(f"{redis.address}?durability=relaxed")
        serving = Service(fresh("request", threads=1), store, write_behind=3600)
        serving.update_many(["a"] * 3, IDS[:3], times=[START] * 3)
        redis.kill()
        redis.start()
        assert serving.recommend("a", 3) == []
        assert serving.update("a", IDS[5], time=START)
        assert serving.history("a")[0] == [IDS[5]]
        other = fresh("request", threads=1)
        other.update("a", IDS[5], time=START)
        assert serving.recommend("a", 3) == other.recommend("a", 3)


def test_a_long_history_is_read_in_parts() -> None:
    with server() as redis, RedisStore(redis.address) as store:
        versions = []
        for number in range(150):
            with store.transaction(["a"]) as transaction:
                versions.append(transaction.append(Batch(["a"], [f"i{number}"], [float(number)])))
        for behind in (0, 1, 62, 63, 64, 65, 149, 150):
            history = store.history("a", versions[-1 - behind] if behind < 150 else 0)
            assert history.items == [f"i{n}" for n in range(150 - behind, 150)]
            assert history.whole == (behind == 150)
        assert store.history("a", versions[-1] + 1).whole


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InputError, match="needs the package redis"):
        RedisStore("redis://127.0.0.1")
