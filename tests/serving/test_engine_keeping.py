"""What the engine keeps: events that count once, states that travel, items that come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.engines import (
    BY_NAME,
    CASES,
    IDS,
    NUM_ITEMS,
    START,
    Case,
    assert_near,
    case,
    everything,
    file_of,
    fresh,
    model_of,
    path_of,
    scores_of,
)

from recblr.errors import InputError
from recblr.run.model_file import load_model
from recblr.serving.engine import Engine

OF_EACH_KIND = [BY_NAME[name] for name in ("plain", "past", "request in minutes", "window")]


# --- event ids --------------------------------------------------------------------------------------


def test_an_event_id_counts_once_for_each_user() -> None:
    engine = fresh("request")
    assert engine.update("u", "i1", time=START, event_id="a") is True
    before = everything(engine)
    assert engine.update("u", "i2", time=START + 1, event_id="a") is False
    assert engine.update("u", "i2", time=START - 1, event_id="a") is False  # not even its time is looked at
    assert everything(engine) == before
    assert engine.update("v", "i1", time=START, event_id="a") is True
    counted = engine.update_many(
        ["u", "u", "v", "u", "w", "w", "w"],
        IDS[:7],
        times=[START + 2] * 7,
        event_ids=["a", "b", "b", "b", 5, "5", "c"],
    )
    assert counted == 4
    assert engine.seen("u") == ["i1"]
    assert engine.seen("v") == ["i1", "i2"]
    assert engine.seen("w") == ["i4", "i6"]


def test_event_ids_and_users_with_nul_do_not_mix() -> None:
    engine = fresh("plain")
    assert engine.update_many(["a", "a\0b", "a\0", "a"], IDS[:4], event_ids=["b\0c", "c", "bc", "\0bc"]) == 4


def test_the_newest_event_ids_are_remembered() -> None:
    engine = fresh("plain")
    count = 16384
    users = ["u"] * count
    assert engine.update_many(users, ["i1"] * count, event_ids=range(count)) == count
    assert engine.update_many(users, ["i1"] * count, event_ids=range(count)) == 0
    assert engine.update("u", "i1", event_id="one more")
    assert engine.update("u", "i1", event_id=0)  # it had to go
    assert not engine.update("u", "i1", event_id=2)
    assert not engine.update("u", "i1", event_id="one more")


def test_forget_drops_the_ids_of_events_of_this_user_only() -> None:
    engine = fresh("plain")
    users = [f"u{n}" for n in range(300)]  # several of each shard
    assert engine.update_many(users, ["i1"] * 300, event_ids=[7] * 300) == 300
    for user in users[::2]:
        assert engine.forget(user)
    assert engine.update_many(users, ["i2"] * 300, event_ids=[7] * 300) == 150
    assert all(engine.seen(user) == (["i1"] if n % 2 else ["i2"]) for n, user in enumerate(users))
    assert engine.update_many(users, ["i2"] * 300, event_ids=[7] * 300) == 0


# --- states, forgetting -----------------------------------------------------------------------------


@pytest.mark.parametrize("states", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_state_goes_on_in_another_engine(case: Case, states: Any) -> None:
    first, second = (fresh(case, states=states, history=True) for _ in range(2))
    random = np.random.default_rng(0)
    for count in (1, 2, 7):
        times = START + 1e5 * count + np.sort(random.uniform(0, 1e5, count))
        first.update_many(["u"] * count, random.choice(IDS, count), times=times)
        second.update("x", "i9", time=START + 9e5)  # what was there goes
        second.set_state("x", first.state("u"))
        assert second.state("x") == first.state("u")
        assert second.seen("x") == first.seen("u")
        for engine, user in ((first, "u"), (second, "x")):
            engine.update(user, "i4", time=START + 1e5 * count + 1e5)
        assert second.state("x") == first.state("u")
        later = START + 1e6
        assert second.recommend("x", time=later) == first.recommend("u", time=later)
        assert second.explain("x", "i4", time=later) == first.explain("u", "i4", time=later)
    assert second.num_users == 1
    assert second.seen_bytes == first.seen_bytes


@pytest.mark.parametrize("case", OF_EACH_KIND, ids=str)
@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["update", "forget", "state"]), st.integers(0, 5), st.integers(0, 22)),
        max_size=60,
    )
)
def test_forgotten_users_leave_nothing_behind(case: Case, steps: list[tuple[str, int, int]]) -> None:
    engine, kept = fresh(case, history=True), {}
    histories: dict[str, list[int]] = {}
    now = START
    for action, number, item in steps:
        user, now = f"u{number}", now + 10
        if action == "forget":
            assert engine.forget(user) is (user in histories)
            histories.pop(user, None)
        elif action == "state" and user in histories:
            kept[user] = (engine.state(user), list(histories[user]))
        elif action == "state" and user in kept:
            engine.set_state(user, kept[user][0])
            histories[user] = list(kept[user][1])
        else:
            engine.update(user, IDS[item], time=START)
            histories.setdefault(user, []).append(item)
    assert sorted(engine.user_ids) == sorted(histories)
    assert engine.num_users == len(histories)
    right = fresh(case, history=True)
    if histories:
        right.rebuild({user: ([IDS[i] for i in h], [START] * len(h)) for user, h in histories.items()})
    assert everything(right) == everything(engine)


def test_many_users_come_and_go() -> None:
    engine, right = fresh("plain"), fresh("plain")
    users = [f"user {n}" * (1 + n % 3) for n in range(6000)]
    engine.update_many(users, ["i1"] * 6000)
    for user in users[:5500]:
        engine.forget(user)
    engine.update_many(users[::2], ["i2"] * 3000)
    assert engine.num_users == len(set(users[5500:] + users[::2])) == len(set(engine.user_ids))
    right.update("a", "i2")
    right.update("b", "i1")
    for place in (0, 2, 5000, 5501, 5999):
        same = {0: "a", 2: "a", 5000: "a"}.get(place, "b")
        assert engine.state(users[place]) == right.state(same)
    right.update("b", "i2")
    assert engine.state(users[5998]) == right.state("b")


def test_rebuild_takes_the_place_of_what_was_kept() -> None:
    engine = fresh("request", history=True)
    engine.update_many(["u", "v"], ["i1", "i2"], times=[START + 1000] * 2)
    engine.rebuild({"u": (np.array(["i5", "i6"]), np.array([10, 20])), "w": (("i7",), (START,))})
    assert (engine.seen("u"), engine.seen("v"), engine.seen("w")) == (["i5", "i6"], ["i2"], ["i7"])
    assert engine.update("u", "i7", time=21)
    engine.rebuild({})


@pytest.mark.parametrize(
    "pair", [("i1", "i2"), ["i1", "i2"], (["i1", "i2"], None), (("i1", "i2"), [1, 2])], ids=repr
)
def test_a_pair_of_ids_is_a_history_of_a_model_without_times(pair: Any) -> None:
    engine = fresh("plain")
    engine.rebuild({"u": pair})
    assert engine.seen("u") == ["i1", "i2"]
    with pytest.raises(InputError):
        fresh("past").rebuild({"u": ("i1", "i2")})


# --- the budget of seen items -----------------------------------------------------------------------


def test_seen_items_keep_to_their_budget() -> None:
    engine = fresh("plain", seen_bytes=12)
    state = fresh("plain")
    state.rebuild({"u": IDS[:13]})
    assert engine.update_many(["u", "v"], ["i1", "i2"]) == 2
    assert engine.seen_bytes == 2
    engine.rebuild({"u": IDS[:9]})  # exactly counted
    assert engine.seen_bytes == 10
    before = everything(engine)
    for call in (
        lambda: engine.update("v", "i3"),
        lambda: engine.update_many(["v", "u"], ["i3", "i1"]),
        lambda: engine.rebuild({"w": IDS[:3]}),
        lambda: engine.rebuild({"u": IDS[:12]}),
        lambda: engine.set_state("u", state.state("u")),
    ):
        with pytest.raises(InputError, match="seen_bytes"):
            call()
        assert everything(engine) == before
    assert engine.update_many(["u", "v"] * 20, ["i1", "i2"] * 20) == 40  # these are in the sets already
    engine.rebuild({"u": IDS[:11]})
    assert engine.seen_bytes == 12
    engine.forget("v")
    state.rebuild({"u": IDS[:12]})
    engine.set_state("u", state.state("u"))
    assert engine.seen_bytes == 12
    engine.forget("u")
    assert engine.seen_bytes == 0
    with pytest.raises(InputError, match="seen_bytes"):
        fresh("plain", seen_bytes=0).update("u", "i1")


# --- items that come and go -------------------------------------------------------------------------


@pytest.mark.parametrize("case", [BY_NAME[name] for name in ("wide", "past", "request", "window")], ids=str)
def test_added_items_are_items_like_all_others(case: Case, tmp_path: Path) -> None:
    engine = fresh(case, history=True)
    times = [START, START + 60, START + 3600, START + 1e5]
    engine.update_many(["u"] * 2, ["i1", "i2"], times=times[:2])
    old = engine.state("u")
    random = np.random.default_rng(0)
    vectors = random.normal(size=(2, case.config.d_model))
    engine.add_items(["n0", 77], vectors=vectors)
    engine.add_items(["n1", "n2"], like=[["i3"], ["i4", "i4", "n0", 77]])
    assert engine.num_items == NUM_ITEMS + 4
    assert engine.item_ids == [*IDS, "n0", "77", "n1", "n2"]
    engine.set_state("u", old)  # written before the items came
    engine.update_many(["u"] * 2, ["n2", 77], times=times[2:])
    engine.retire_items(["i5", "n1"])

    table = load_model(path_of(case)).model.item_embedding.weight.detach().numpy()
    rows = np.concatenate([table, vectors.astype(np.float32), table[3:4]])
    mean = rows[[4, 4, NUM_ITEMS, NUM_ITEMS + 1]].mean(0, dtype=np.float64)
    rows = np.concatenate([rows, mean[None].astype(np.float32)])

    engine.save(tmp_path / "m.safetensors")
    saved = load_model(tmp_path / "m.safetensors")
    assert (saved.item_ids, saved.retired) == (engine.item_ids, (5, NUM_ITEMS + 2))
    assert (saved.fingerprint, saved.metrics) == (engine.fingerprint, engine.metrics)
    np.testing.assert_allclose(saved.model.item_embedding.weight.detach().numpy(), rows, rtol=1e-6)
    history = [1, 2, NUM_ITEMS + 3, NUM_ITEMS + 1]
    right = scores_of(case, [(history, times, times[-1] + 5)], saved.model.double())[0]
    assert_near(engine.score("u", engine.item_ids, time=times[-1] + 5), right)
    best = engine.recommend("u", NUM_ITEMS + 4, time=times[-1] + 5)
    without = {"i5", "n1", "i1", "i2", "n2", "77"}
    assert {item for item, _ in best} == set(engine.item_ids) - without
    assert "i5" not in dict(engine.recommend("u", 9, allow=["i5", "i6"], mask_seen=False))
    assert "i5" not in dict(engine.similar("i6", NUM_ITEMS))

    again = Engine.load(tmp_path / "m.safetensors", history=True)
    again.set_state("u", engine.state("u"))
    assert again.recommend("u", NUM_ITEMS + 4, time=times[-1] + 5) == best
    again.rebuild({"v": ([again.item_ids[i] for i in history], times)})
    assert again.state("v") == engine.state("u")
    # Once more: what was saved can be saved.
    again.add_items(["n3"], like=[["n2"]])
    again.retire_items(["i6", "i5"])
    again.save(tmp_path / "m.safetensors")
    third = Engine.load(tmp_path / "m.safetensors", history=True)
    third.set_state("u", old)
    assert third.item_ids == [*engine.item_ids, "n3"]
    assert {"i5", "i6", "n1"}.isdisjoint(dict(third.recommend("u", NUM_ITEMS)))


def test_a_state_with_an_item_that_the_engine_lacks_is_refused() -> None:
    engine, other = fresh("plain"), fresh("plain")
    engine.add_items(["new"], like=[["i1"]])
    engine.update("u", "new")
    with pytest.raises(InputError, match="item"):
        other.set_state("u", engine.state("u"))
    assert other.num_users == 0


def test_retired_items_stay_legal_in_histories() -> None:
    engine, other = fresh("wide"), fresh("wide")
    engine.retire_items([IDS[1], IDS[1]])
    for one in (engine, other):
        one.update_many(["u"] * 2, ["i1", "i2"])
    assert engine.state("u") == other.state("u")
    assert engine.score("u", IDS).tolist() == other.score("u", IDS).tolist()
    rest = [pair for pair in other.recommend("u", NUM_ITEMS, mask_seen=False) if pair[0] != "i1"]
    assert engine.recommend("u", NUM_ITEMS, mask_seen=False) == rest


def test_the_facts_of_the_file_are_at_hand() -> None:
    engine = fresh("past", threads=1)
    assert (engine.fingerprint, engine.metrics) == ("f", {"full": {"ndcg@10": 0.5}})
    assert (engine.config, engine.time_use) == (BY_NAME["past"].config, "past")
    assert (engine.threads, engine.num_users, engine.user_ids) == (1, 0, [])
    assert (engine.item_ids, engine.num_items) == (IDS, NUM_ITEMS)
    assert repr(engine) == "<recblr.Engine of 23 items and 0 users, time=past>"


def test_an_engine_outlives_its_file(tmp_path: Path) -> None:
    path = file_of(model_of(case("file", time="none")), IDS)
    engine = Engine.load(path)
    engine.save(path)  # over the file that is mapped
    path.unlink()
    engine.update("u", "i1")
    assert len(engine.recommend("u")) == 10
