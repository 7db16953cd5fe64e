"""`fit_more`: new events of users and items, with the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender.shop import NAMES, SMALL, START, columns, of_case, pandas_log, random_dataset, rows
from serving.engines import BY_NAME

from recblr import Dataset, Engine, InputError, Recommender

LATER = START + 10_000_000


def events(*triples: tuple[object, str, int]) -> pd.DataFrame:
    users, items, times = zip(*triples, strict=True)
    return pd.DataFrame({"uid": users, "sku": items, "ts": times})


def test_new_events_are_those_of_an_engine(own: Recommender) -> None:
    first, second = own.item_ids[:2]
    engine = Engine.load(own.run.model_file)
    dataset = own.dataset
    assert dataset.seconds is not None
    history = [dataset.item_ids[item] for item in dataset.histories.history(0)]
    engine.rebuild({3: (history, dataset.seconds[: len(history)])})
    own.recommend([3, 10])  # the states of users are there already
    assert own.fit_more(events((3, first, LATER), (3, second, LATER + 60), (77, first, LATER))) is own
    for item, time in ((first, LATER), (second, LATER + 60)):
        engine.update(3, item, time=time)
    engine.update(77, first, time=LATER)
    for user in (3, 77):
        ours = [(item, score) for _, item, score, _ in rows(own.recommend([user], 5))]
        assert ours == engine.recommend(user, 5)
    assert own.user_ids[-1] == 77
    assert own.item_ids == engine.item_ids
    kept = own._now().answers.engine  # type: ignore[attr-defined]
    assert "10" in kept  # it had no new event


def test_weights_and_other_users_stay(own: Recommender) -> None:
    before, vectors = own.recommend([10, 17], 5), own.item_vectors()
    own.fit_more(events((3, own.item_ids[0], LATER)))
    assert before.equals(own.recommend([10, 17], 5))
    assert np.array_equal(own.item_vectors(), vectors)


def test_a_new_item_is_the_mean_of_its_neighbours(own: Recommender) -> None:
    a, b, c, d = own.item_ids[:4]
    log = [(70, a, 1), (70, "new", 2), (70, "other", 3), (70, b, 4), (71, "new", 1), (71, c, 2), (72, d, 1)]
    own.fit_more(events(*((user, item, LATER + time) for user, item, time in log)))
    mean = own.item_vectors([a, b, c]).mean(0, np.float64)
    np.testing.assert_allclose(own.item_vectors(["new"])[0], mean, rtol=1e-6)
    np.testing.assert_allclose(
        own.item_vectors(["other"])[0], own.item_vectors([a, b]).mean(0, np.float64), rtol=1e-6
    )
    assert own.item_ids[-2:] == ["new", "other"]
    assert "new" in set(own.recommend([72], len(own.item_ids))["item"])
    assert own.recommend([72], 1, items=["new"])["item"].tolist() == ["new"]


def test_what_is_left_out_is_counted(own: Recommender) -> None:
    log = pandas_log()
    new = events((3, own.item_ids[0], LATER), (81, "lonely", LATER), (81, "lonely too", LATER + 1))
    said = (
        f"fit_more left out events: {len(log):,} that the recommender has already and 2 of new items that"
        " stand beside no known item; 0 users and 0 items are new"
    )
    with pytest.warns(UserWarning, match=f"^{said}$"):
        own.fit_more(pd.concat([log, new]))
    assert own.dataset.num_interactions == len(log) + 1
    assert "lonely" not in own.item_ids
    assert 81 not in own.user_ids


def test_late_events_come_in_the_order_of_time(own: Recommender) -> None:
    number = own.dataset.user_index("3")
    before = own.dataset.histories.history(number).tolist()
    own.fit_more(events((3, own.item_ids[0], START - 5), (3, own.item_ids[1], LATER)))
    assert own.dataset.histories.history(number).tolist() == [0, *before, 1]


@settings(max_examples=25)
@given(share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_a_log_in_two_parts_is_the_whole_log(
    share: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All answers are those of a recommender that had the whole log at once."""
    whole = random_dataset(40, seed=1)
    recommender = of_case(BY_NAME["past"], tmp_path_factory.getbasetemp())
    right = rows(recommender.recommend(k=6))
    assert whole.times is not None
    owners = np.repeat(np.arange(whole.num_users), whole.histories.lengths)
    first = np.random.default_rng(seed).random(owners.size) < share
    if not first[whole.histories.offsets[:-1]].all():
        first[whole.histories.offsets[:-1]] = True
    table = pl.DataFrame(
        {
            "user_id": [whole.user_ids[user] for user in owners],
            "item_id": [whole.item_ids[item] for item in whole.histories.items],
            "timestamp": whole.times,
        }
    )
    from recblr.data.joined import with_events

    parts = [
        Dataset.from_frame(table.filter(mask), k_core=0, time_unit="s", name="part")
        for mask in (first, ~first)
    ]
    joined, _ = with_events(*parts) if not first.all() else (parts[0], 0)
    if joined.num_interactions == whole.num_interactions:  # no two events are equal
        for user, name in enumerate(joined.user_ids):
            ours = [joined.item_ids[item] for item in joined.histories.history(user)]
            start, end = whole.histories.offsets[int(name[1:]) : int(name[1:]) + 2]
            theirs = [whole.item_ids[item] for item in whole.histories.items[start:end]]
            assert sorted(ours) == sorted(theirs)
            if len(np.unique(whole.times[start:end])) == end - start:
                assert ours == theirs
    assert right == rows(recommender.recommend(k=6))


def test_without_times_new_events_come_last() -> None:
    log = pd.DataFrame(columns()).drop(columns="ts")
    recommender = Recommender().fit(log, user="uid", item="sku", **SMALL)
    more = pd.DataFrame({"uid": [3, 3], "sku": recommender.item_ids[:2]})
    before = recommender.dataset.histories.history(0).tolist()
    recommender.fit_more(more)
    assert recommender.dataset.histories.history(0).tolist() == [*before, 0, 1]


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_changes_nothing(own: Recommender) -> None:
    new = events((3, own.item_ids[0], LATER), (81, "new", LATER), (81, own.item_ids[0], LATER))
    before, dataset = own.recommend(k=2), own.dataset
    with pytest.raises(UserWarning, match="that the recommender has already; 1 users and 1 items are new"):
        own.fit_more(pd.concat([pandas_log(), new]))
    assert own.dataset is dataset
    assert before.equals(own.recommend(k=2))
    assert own._now().answers.engine.num_items == len(own.item_ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["add_items", "forget"])
def test_ctrl_c_changes_nothing(name: str, own: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    new = events((3, "new", LATER), (3, own.item_ids[0], LATER + 1))
    before, dataset, method = own.recommend(k=2), own.dataset, getattr(Engine, name)

    def interrupted(self: Engine, *args: object, **options: object) -> None:
        method(self, *args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.fit_more(new)
    assert own.dataset is dataset
    assert before.equals(own.recommend(k=2))
    assert "new" in own.fit_more(new).item_ids


@pytest.mark.parametrize("k_core", [0, 5])
def test_the_whole_log_without_times_is_refused(k_core: int) -> None:
    """Nothing tells which events are new, so it would double the log."""
    log = pd.DataFrame(columns()).drop(columns="ts")
    rare = pd.DataFrame({"uid": [3, 900], "sku": ["rare", log["sku"][0]]})  # dropped by k_core=5
    log = pd.concat([log[:5], rare, log[5:]])
    recommender = Recommender().fit(log, user="uid", item="sku", **SMALL, k_core=k_core, keep_short=True)
    before = recommender.dataset
    with pytest.raises(InputError, match="without times nothing tells which are new; give only the new"):
        recommender.fit_more(pd.concat([log, log[:9]]))
    assert recommender.dataset is before
    recommender.fit_more(log[log["uid"] < 100])  # some users may well repeat what they did
    assert recommender.dataset.num_interactions > before.num_interactions


def test_the_options_of_fit_stay(tmp_path: Path) -> None:
    log = pd.DataFrame({**columns(), "stars": 5})
    recommender = Recommender().fit(log, **NAMES, **SMALL, rating="stars", min_rating=4)
    more = pd.DataFrame({"uid": [3, 3], "sku": recommender.item_ids[:2], "ts": [LATER, LATER + 1]})
    said = "^fit_more left out events: 1 rated below 4; 0 users and 0 items are new$"
    with pytest.warns(UserWarning, match=said):
        recommender.fit_more(more.assign(stars=[5, 1]))
    assert recommender.dataset.histories.history(0).tolist()[-1] == 0
    later = more.assign(ts=LATER + 9, marks=5)[1:]
    assert recommender.fit_more(later, rating="marks").dataset.histories.history(0).tolist()[-1] == 1


@pytest.mark.parametrize("form", [pd.DataFrame, pl.DataFrame, pl.LazyFrame])
def test_guests_who_lose_all_events_get_no_items(form: type) -> None:
    log = pd.DataFrame({**columns(), "stars": 5})
    recommender = Recommender().fit(
        log, **NAMES, **SMALL, rating="stars", min_rating=4, k_core=0, drop_incomplete=True
    )
    first, second = recommender.item_ids[:2]
    guests = {
        "uid": ["bad", "good", "half", None],
        "sku": [first, first, None, first],
        "ts": [START] * 4,
        "stars": [1, 5, 5, 5],
    }
    said = "^events of histories were left out: 2 without a user, an item or a time and 1 rated below 4$"
    with pytest.warns(UserWarning, match=said):
        best = recommender.recommend_histories(form(guests), 2, items_for={"bad": [second]})
    assert set(best["user"]) == {"good"}


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        (events((3, "s01e12", LATER)).drop(columns="ts"), {}, "has no column 'ts'"),
        (events((3, "s01e12", LATER)), {"epochs": 3}, "fit_more trains no weights, so epochs= has no effect"),
        (events((3, "s01e12", LATER)), {"out": "x"}, "fit_more trains no weights, so out= has no effect"),
        (events((3, "s01e12", LATER)), {"valid": 0.5}, "fit_more trains no weights, so valid= has no effect"),
        (events((3, "s01e12", LATER))[:0], {}, "the frame has no rows"),
    ],
)
def test_mistakes_change_nothing(
    data: pd.DataFrame, options: dict[str, object], sentence: str, own: Recommender
) -> None:
    before = own.recommend(k=2)
    with pytest.raises(InputError, match=sentence):
        own.fit_more(data, **options)
    assert before.equals(own.recommend(k=2))


def test_events_may_come_in_any_form(own: Recommender, tmp_path: Path) -> None:
    new = events((3, own.item_ids[0], LATER), (3, own.item_ids[1], LATER + 1))
    own.save(tmp_path / "before")
    right = rows(own.fit_more(new).recommend([3], 4))
    new.to_csv(tmp_path / "new.csv", index=False)
    for data in (
        pl.DataFrame(new.to_dict("list")),
        tmp_path / "new.csv",
        Dataset.from_frame(new, **NAMES, k_core=0),
    ):
        again = Recommender.load(tmp_path / "before").fit_more(data)
        assert rows(again.recommend([3], 4)) == right


def test_frames_may_come_after_files(tmp_path: Path) -> None:
    log = pandas_log()
    log.to_csv(tmp_path / "log.csv", sep=";", index=False)
    recommender = Recommender().fit(tmp_path / "log.csv", **NAMES, **SMALL, separator=";")
    recommender.fit_more(events((3, recommender.item_ids[0], LATER)))
    assert recommender.dataset.histories.history(recommender.dataset.user_index("3"))[-1] == 0
    assert recommender.recommend(pl.DataFrame({"uid": [3]}), 1, items=log).rows()[0][0] == "3"


def test_a_saved_recommender_knows_the_new_events(own: Recommender, tmp_path: Path) -> None:
    own.fit_more(events((3, "new", LATER), (3, own.item_ids[0], LATER + 1)))
    own.save(tmp_path / "more")
    again = Recommender.load(tmp_path / "more")
    assert own.recommend(k=3).equals(again.recommend(k=3))
    again.fit_more(events((3, "newer", LATER + 2)))
    again.save(tmp_path / "still more")
    last = Recommender.load(tmp_path / "still more")
    assert last.item_ids[-2:] == ["new", "newer"]
    assert last.evaluate()["ours"] == own.evaluate()["ours"]  # those of the training
