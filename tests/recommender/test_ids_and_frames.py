"""Answers are frames of the caller's kind, with the ids of the caller's type."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from recommender.shop import NAMES, SMALL, START, columns, pandas_log, polars_log, random_dataset, rows

from recblr import Dataset, Engine, InputError, Recommender
from recblr.data.read.times import as_moment
from recblr.recommender.frames import seconds_of

TYPED: dict[str, tuple[Any, Any, Any]] = {
    "polars integers": (polars_log(), pl.Int64, pl.String),
    "polars small integers": (polars_log().cast({"uid": pl.UInt16}), pl.UInt16, pl.String),
    "polars categories": (polars_log().cast({"sku": pl.Categorical}), pl.Int64, pl.String),
    "polars texts": (polars_log().cast({"uid": pl.String}), pl.String, pl.String),
    "pandas integers": (pandas_log(), "int64", pandas_log()["sku"].dtype),
    "pandas small integers": (pandas_log().astype({"uid": "int32"}), "int32", pandas_log()["sku"].dtype),
    "pandas nullable": (pandas_log().astype({"uid": "Int64", "sku": "string"}), "Int64", "string"),
    "pandas objects": (pandas_log().astype({"uid": object, "sku": object}), object, object),
    "pandas categories": (pandas_log().astype({"uid": "category"}), "int64", pandas_log()["sku"].dtype),
}


@pytest.mark.parametrize(("frame", "users", "items"), TYPED.values(), ids=TYPED)
def test_ids_keep_their_type(frame: Any, users: Any, items: Any, shop: Recommender) -> None:
    recommender = Recommender().fit(frame, **NAMES, **SMALL, k_core=0)
    answer = recommender.recommend(k=3)
    assert type(answer) is type(frame)
    assert list(answer.columns) == ["user", "item", "score", "rank"]
    found = answer.schema if isinstance(answer, pl.DataFrame) else answer.dtypes
    assert (found["user"], found["item"]) == (users, items)
    assert str(found["score"]).lower() == "float32"
    assert str(found["rank"]).lower() == "int64"
    expected = [(str(user), *rest) for user, *rest in rows(shop.recommend(k=3))]
    assert [(str(user), *rest) for user, *rest in rows(answer)] == expected
    # Ids and columns of the answer can be asked for again, and merge with the log.
    again = recommender.recommend(answer["user"], 3)
    assert len(again) == 3 * len(answer)
    if isinstance(answer, pl.DataFrame):
        log = frame.rename({"uid": "user"}).drop("sku")
        assert len(answer.join(log, on="user", how="inner")) > len(answer)
    else:
        assert len(answer.merge(frame.drop(columns="sku"), left_on="user", right_on="uid")) > len(answer)


def test_users_may_be_given_in_any_form(shop: Recommender) -> None:
    right = rows(shop.recommend([3, 10], 4))
    for users in (
        ["3", "10"],
        (3, "10"),
        np.array([3, 10]),
        np.array([3, 10], np.uint8),
        np.array(["3", "10"]),
        pd.Series([3, 10]),
        pl.Series([3, 10]),
        pd.DataFrame({"uid": [3, 10]}),
        pl.DataFrame({"user": [3, 10]}),
        pl.LazyFrame({"uid": [3, 10], "x": [1, 2]}),
        iter([3, 10]),
        {3: 1, 10: 2}.keys(),
    ):
        assert rows(shop.recommend(users, 4)) == right, users
    assert len(shop.recommend()) == 10 * len(shop.user_ids)
    nobody = shop.recommend([], 4)
    assert nobody.empty
    assert nobody.dtypes.equals(shop.recommend([3]).dtypes)


def test_the_query_of_a_lazy_frame_runs_once(shop: Recommender) -> None:
    """Two runs may give the rows in another order, and so other pairs."""
    pairs, asked = pl.DataFrame(columns()).select("uid", "sku").head(4), []

    def turned(frame: pl.DataFrame) -> pl.DataFrame:
        asked.append(1)
        return frame.reverse() if len(asked) % 2 else frame

    lazy = pairs.lazy().map_batches(turned, schema=pairs.schema)
    assert rows(shop.score(lazy)) == rows(shop.score(pairs.reverse()))
    with pytest.raises(InputError, match="the model knows none of the 4 items"):
        shop.recommend([3], items=lazy.with_columns(sku=pl.lit("?")))
    assert len(asked) == 2


def test_items_may_be_given_in_any_form(shop: Recommender) -> None:
    chosen = shop.item_ids[5:9]
    right = rows(shop.recommend([3], 4, items=chosen))
    assert {item for _, item, _, _ in right} <= set(chosen)
    catalogue = pl.DataFrame({"sku": [*shop.item_ids, "never seen"], "price": range(len(shop.item_ids) + 1)})
    for items in (
        np.array(chosen),
        pd.Series(chosen),
        set(chosen),
        catalogue.filter(pl.col("price").is_between(5, 8)),
        pd.DataFrame({"item": [*chosen, "never seen"]}),
    ):
        assert rows(shop.recommend([3], 4, items=items)) == right
    assert not {i for _, i, _, _ in rows(shop.recommend([3], 90, exclude=catalogue[5:9]))} & set(chosen)


def test_unknown_items_to_leave_out_are_harmless(shop: Recommender) -> None:
    """A list of what must not be shown names also items that are rare or new."""
    first, second, *_ = shop.recommend([3], 2)["item"]
    right = rows(shop.recommend([3], 4, exclude=[first]))
    for exclude in ([first, "new"], pd.Series([first, "new"]), pl.DataFrame({"sku": [first, "new"]})):
        assert rows(shop.recommend([3], 4, exclude=exclude)) == right
        assert rows(shop.recommend([3], 4, exclude_for={3: exclude})) == right
    assert rows(shop.recommend([3], 4, exclude=pd.DataFrame({"sku": ["new"]}))) == rows(
        shop.recommend([3], 4)
    )
    assert rows(shop.recommend([3], 1, items=pl.Series([second, "new"])))[0][1] == second


def test_lists_of_3_and_of_its_text_are_both_kept(shop: Recommender) -> None:
    first, second, *_ = shop.recommend([3], 2)["item"]
    for two in ({3: [first], "3": [second]}, {"3": [first], 3: [second]}):
        assert not {first, second} & set(shop.recommend([3], 9, exclude_for=two)["item"])
        assert set(shop.recommend([3], 9, items_for=two)["item"]) == {first, second}
    everyone = {user: [first] for user in shop.user_ids}  # also of users who are not asked for
    assert first not in set(shop.recommend([3], 9, exclude_for=everyone)["item"])


def test_a_user_of_many_rows_gets_one_list(shop: Recommender) -> None:
    log = pandas_log()
    events = log[log["uid"].isin([3, 10])]
    right = shop.recommend([3, 10], 4)
    assert right.equals(shop.recommend(events, 4))
    assert shop.recommend([3, 10], 4, times=LATER).equals(shop.recommend(events, 4, times=LATER))
    assert len(shop.recommend(events[:3], 4, times=[LATER, LATER + 1, LATER + 2])) == 12
    assert len(shop.recommend(events["uid"][:3], 4)) == 12
    assert len(shop.score(events, shop.item_ids[:2])) == 4
    assert shop.user_vectors(events).shape[0] == len(events)  # the rows can be put beside those of the frame


def test_vectors_and_scores_have_the_rows_that_were_given(shop: Recommender) -> None:
    items = pd.DataFrame({"sku": [shop.item_ids[place] for place in (4, 2, 4)]})
    assert np.array_equal(shop.item_vectors(items), shop.item_vectors()[[4, 2, 4]])
    assert shop.score([3], items)["item"].tolist() == items["sku"].tolist()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_spaces_around_ids_do_not_count(frame: Any) -> None:
    log = {name: list(values) for name, values in columns().items()}
    log["uid"] = [f"{user}  " for user in log["uid"]]
    log["sku"] = [f" {item} " for item in log["sku"]]
    recommender = Recommender().fit(frame(log), **NAMES, **SMALL, k_core=0)
    users, items = log["uid"][:1], log["sku"][-5:]
    assert recommender.recommend(users, 1).equals(recommender.recommend([3], 1))
    right = recommender.recommend([3], 5, items=[item.strip() for item in items])
    assert len(right)
    assert right.equals(recommender.recommend(users, 5, items=frame({"sku": items}), exclude_for={"3 ": []}))
    timed = recommender.recommend([3], 5, items=items, times=LATER)
    assert timed.equals(recommender.recommend(users, 5, items=items, times={" 3": LATER}))
    assert len(recommender.explain("3 ", items[0]))


def test_a_dataset_may_have_ids_with_spaces() -> None:
    dataset = random_dataset(40)
    spaced = replace(dataset, user_ids=[f" {user}" for user in dataset.user_ids])
    recommender = Recommender().fit(spaced, **SMALL, keep_short=True)
    assert recommender.recommend(recommender.user_ids, 1)["user"].to_list() == spaced.user_ids


@pytest.mark.parametrize(("user", "dtype"), [(2**63, pl.UInt64), (2**64, pl.Int128), (-(2**64), pl.Int128)])
def test_large_integers_stay_integers(user: int, dtype: Any, tmp_path: Any) -> None:
    log = pl.DataFrame(columns())
    large = pl.Series([user] * len(log), dtype=dtype) + log["uid"].cast(dtype)
    recommender = Recommender().fit(log.with_columns(uid=large), **NAMES, **SMALL)
    assert recommender.recommend([user + 3], 1).schema["user"] == dtype
    recommender.save(tmp_path / "saved")
    assert Recommender.load(tmp_path / "saved").user_ids == recommender.user_ids
    guests = recommender.recommend_histories({user: recommender.item_ids[:1]}, 1, times={user: [LATER]})
    assert guests["user"].to_list() == [user]


def test_the_kind_of_frames_can_be_chosen(shop: Recommender, tmp_path: Any) -> None:
    shop.save(tmp_path / "saved")
    ours = Recommender.load(tmp_path / "saved", frames="polars").recommend([3], 3)
    assert isinstance(ours, pl.DataFrame)
    assert ours.schema["user"] == pl.Int64
    assert ours.rows() == rows(shop.recommend([3], 3))
    with pytest.raises(InputError, match="frames is 'spark'; give one of polars, pandas"):
        Recommender(frames="spark")  # type: ignore[arg-type]


def test_pandas_is_needed_only_for_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    recommender = Recommender(frames="pandas").fit(polars_log(), **NAMES, **SMALL)
    with pytest.raises(InputError, match="frames of pandas, which is not installed; install it with pip"):
        recommender.recommend([3], 3)


LATER = START + 10_000_000
TIMES: dict[str, Any] = {
    "seconds": LATER,
    "a float": float(LATER),
    "NumPy's": np.int64(LATER),
    "a datetime": datetime.fromtimestamp(LATER, UTC),
    "another zone": datetime.fromtimestamp(LATER, timezone(timedelta(hours=9))),
    "naive, in UTC": datetime.fromtimestamp(LATER, UTC).replace(tzinfo=None),
    "datetime64": np.datetime64(LATER, "s"),
    "a text": datetime.fromtimestamp(LATER, UTC).isoformat(),
    "Timestamp": pd.Timestamp(LATER, unit="s"),
    "Timestamp with a zone": pd.Timestamp(LATER, unit="s", tz="UTC").tz_convert("Asia/Tokyo"),
}


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
def test_a_time_may_be_given_in_any_form(time: Any, shop: Recommender) -> None:
    right = rows(shop.recommend([3, 10], 4, times=LATER))
    assert right != rows(shop.recommend([3, 10], 4))
    for times in (time, [time, time], np.array([time, time]), pd.Series([time, time])):
        assert rows(shop.recommend([3, 10], 4, times=times)) == right
    if not isinstance(time, pd.Timestamp | np.datetime64):  # polars has no column of these
        assert rows(shop.recommend([3, 10], 4, times=pl.Series([time, time]))) == right


def test_nanoseconds_become_the_seconds_of_the_data() -> None:
    """So a request at the time of the last event is no earlier than the event."""
    moments = np.arange(253) * 1_000_007 + START * 10**9
    times = moments.astype("datetime64[ns]")
    right = [float(Fraction(moment, 10**9)) for moment in moments.tolist()]
    assert seconds_of(times, len(times), "the times").tolist() == right
    assert [as_moment(str(time), "it") for time in times] == right
    frame = pl.DataFrame({"user": 1, "item": 1, "time": pl.Series(moments).cast(pl.Datetime("ns"))})
    seconds = Dataset.from_frame(frame, k_core=0).seconds
    assert seconds is not None
    assert seconds.tolist() == right


def test_times_belong_to_their_users(shop: Recommender) -> None:
    apart = [
        rows(shop.recommend([user], 3, times=LATER + more)) for user, more in ((3, 0), (10, 10**7), (17, 50))
    ]
    times = [LATER, LATER + 10**7, LATER + 50]
    assert rows(shop.recommend([3, 10, 17], 3, times=times)) == [row for part in apart for row in part]
    by_name = {17: times[2], 3: times[0], "10": times[1]}
    assert rows(shop.recommend([3, 10, 17], 3, times=by_name)) == [row for part in apart for row in part]
    with pytest.warns(UserWarning, match="1 of the 3 users are not in the data, and were skipped"):
        found = shop.recommend([3, 4, 10], 3, times=[LATER, LATER + 1, LATER + 10**7], unknown="skip")
    assert rows(found) == [*apart[0], *apart[1]]


def test_guests_have_names_of_their_own(shop: Recommender) -> None:
    items = shop.item_ids[:3]
    times = [LATER, LATER + 1, LATER + 2]
    of_list = shop.recommend_histories([items, items], 2, times=[times, times])
    assert of_list["user"].tolist() == [0, 0, 1, 1]
    named = shop.recommend_histories({"ada": items}, 2, times={"ada": times})
    assert named["user"].tolist() == ["ada", "ada"]
    log = pd.DataFrame({"uid": [5, 5, 5], "sku": items, "ts": times})
    of_frame = shop.recommend_histories(log, 2)
    assert of_frame["user"].tolist() == [5, 5]
    assert of_list["item"].tolist()[:2] == named["item"].tolist() == of_frame["item"].tolist()
    known = shop.recommend(k=1)
    shop.recommend_histories(
        dict.fromkeys(shop.user_ids, items), 2, times=dict.fromkeys(shop.user_ids, times)
    )
    assert known.equals(shop.recommend(k=1))  # a guest of the same name changes nothing


def test_the_scores_of_rows(shop: Recommender) -> None:
    pairs = pd.DataFrame({"sku": shop.item_ids[:4], "uid": [10, 3, 10, 10]})
    of_rows = shop.score(pairs)
    assert of_rows["user"].tolist() == [10, 3, 10, 10]
    assert of_rows["item"].tolist() == shop.item_ids[:4]
    everything = {(u, i): s for u, i, s in rows(shop.score([3, 10], shop.item_ids))}
    assert [everything[user, item] for user, item, _ in rows(of_rows)] == of_rows["score"].tolist()
    timed = shop.score(pairs, times=[LATER, LATER, LATER, LATER + 10**7])
    assert timed["score"].tolist()[:3] == shop.score(pairs, times=LATER)["score"].tolist()[:3]
    assert timed["score"].tolist()[3] == shop.score([10], pairs[3:], times=LATER + 10**7)["score"][0]


def test_fit_has_taken_in_all_users(shop: Recommender) -> None:
    log = columns()
    recommender = Recommender().fit(pl.DataFrame(log), **NAMES, **SMALL)
    engine = recommender._now().answers.engine  # type: ignore[attr-defined]
    assert engine.num_users == len(recommender.user_ids)


def test_columns_are_those_of_the_log() -> None:
    log = columns()
    frame = pl.DataFrame({"userId": log["uid"], "movieId": log["sku"], "timestamp": log["ts"]})
    recommender = Recommender().fit(frame, **SMALL)
    assert recommender.recommend([3], 1, items=frame[:5]).schema["user"] == pl.Int64


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_user_beyond_the_integer_type_of_the_log_is_no_other_user(frame: Any) -> None:
    events = columns()
    small = np.array(events["uid"]) < 250
    log = {name: np.array(values)[small] for name, values in events.items()}
    log["uid"] = log["uid"].astype(np.uint8)
    recommender = Recommender().fit(frame(log), **NAMES, **SMALL)
    found = recommender.recommend([300], 2, unknown="popular")
    assert list(found["user"]) == [300, 300]


def test_text_beside_integers_is_refused_before_anything_changes() -> None:
    recommender = Recommender().fit(pl.DataFrame(columns()), **NAMES, **SMALL)
    for user in ("guest", "007"):
        with pytest.raises(InputError, match=f"the id '{user}' is no integer"):
            recommender.recommend([user], 2, unknown="popular")
    more = pl.DataFrame({"uid": ["eve"], "sku": [columns()["sku"][0]], "ts": [START + 10**7]})
    with pytest.raises(InputError, match="the id 'eve' is no integer"):
        recommender.fit_more(more)
    assert 3 in recommender.recommend(k=1)["user"].to_list()


def test_what_the_engine_keeps_is_counted_once(own: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Any = own._now().answers
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "rebuild", lambda self, histories: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            own.recommend([3], 2)
    assert (answers._kept, answers.engine.num_users) == (0, 0)
    own.recommend([3, 3, 3], 2)
    assert answers._kept == answers._bytes_of(own._now().people(["3"]).histories)


def test_guests_of_an_interrupted_call_are_no_other_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come right after the engine has taken the guests in."""
    recommender = Recommender().fit(pl.DataFrame(columns()), **NAMES, **SMALL)
    items, times = recommender.item_ids, [START, START + 1]
    right = recommender.recommend_histories([items[2:4]], 3, times=[times])
    engine = recommender._now().answers.engine
    before, taken = engine.num_users, Engine.rebuild

    def interrupted(self: Engine, histories: Any) -> None:
        taken(self, histories)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "rebuild", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recommender.recommend_histories([items[:2]], 3, times=[times])
    assert engine.num_users == before
    assert right.equals(recommender.recommend_histories([items[2:4]], 3, times=[times]))
