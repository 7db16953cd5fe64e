"""Each mistake gives one sentence that names the thing and the remedy, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from recommender.shop import NAMES, SMALL, START, columns, pandas_log

from recblr import Dataset, InputError, Recommender

LATER = START + 10_000_000

FIT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no column": (
        pandas_log().drop(columns="sku"),
        NAMES,
        "the frame has no column 'sku': it has 'uid', 'ts';",
    ),
    "no default column": (pandas_log(), {}, "the frame has no column 'user_id': it has 'uid', 'sku', 'ts';"),
    "empty": (pandas_log()[:0], NAMES, "the frame has no rows; give one with an interaction in each row"),
    "empty polars": (pl.DataFrame(columns())[:0], NAMES, "the frame has no rows"),
    "no frame": (columns(), NAMES, "data are a frame, a path or a Dataset, and not a dict;"),
    "none": (None, NAMES, "data are a frame, a path or a Dataset, and not a NoneType;"),
    "no file": ("nowhere.csv", NAMES, "nowhere.csv"),
    "a missing value": (
        pandas_log().assign(sku=None),
        NAMES,
        r"the frame, row 0 \(from 0\) has no value in column 'sku'",
    ),
    "unknown option": (
        pandas_log(),
        {**NAMES, "epoch": 3},
        "fit has no option 'epoch'; do you mean epochs=?",
    ),
    "a flag's name": (
        pandas_log(),
        {**NAMES, "user_column": "a"},
        "fit has no option 'user_column'; give user=",
    ),
    "nothing near": (
        pandas_log(),
        {**NAMES, "zzzz": 3},
        "fit has no option 'zzzz'; docs/options.md lists all",
    ),
    "a wrong type": (pandas_log(), {**NAMES, "epochs": "3"}, "epochs must be a whole number, but is '3'"),
    "a wrong bool": (pandas_log(), {**NAMES, "keep_short": 1}, "keep_short must be True or False, but is 1"),
    "out of range": (pandas_log(), {**NAMES, "epochs": 0}, "--epochs must be at least 1, but is 0"),
    "a wrong share": (pandas_log(), {**NAMES, "valid": 2.0}, r"--valid-share \(valid_share= in Python\)"),
    "a wrong model": (pandas_log(), {**NAMES, "model": "sasrek"}, "sasrek"),
    "a wrong time use": (
        pandas_log(),
        {**NAMES, "time_use": "never"},
        "--time must be one of none, past, request",
    ),
    "an option of files": (pandas_log(), {**NAMES, "separator": ";"}, "separator= has no effect on a frame;"),
    "an option of data": (
        Dataset.from_frame(pandas_log(), **NAMES),
        {"user": "uid"},
        "user= has no effect on a dataset",
    ),
    "times in the index": (
        pandas_log().set_index("ts"),
        NAMES,
        r"the frame has 'ts' in its index, not in a column; give frame.reset_index\(\)",
    ),
    "too rare": (pandas_log(), {**NAMES, "k_core": 99}, "nothing is left of the frame"),
    "no folder to resume": (
        pandas_log(),
        {**NAMES, "resume": True},
        "resume=True continues the run in a folder;",
    ),
}


@pytest.mark.parametrize(("data", "options", "sentence"), FIT.values(), ids=FIT)
def test_fit(data: Any, options: dict[str, Any], sentence: str, own: Recommender) -> None:
    before = own.recommend(k=1)
    with pytest.raises(InputError, match=sentence) as raised:
        own.fit(data, **{**SMALL, **options})
    assert "\n" not in str(raised.value)
    assert before.equals(own.recommend(k=1))


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    Recommender().fit(pandas_log(), **NAMES, **SMALL, out=tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run"):
        Recommender().fit(pandas_log(), **NAMES, **SMALL, out=tmp_path / "run")


BEFORE: dict[str, Callable[[Recommender], Any]] = {
    "recommend": lambda r: r.recommend([3]),
    "recommend_histories": lambda r: r.recommend_histories([["a"]]),
    "fit_more": lambda r: r.fit_more(pandas_log()),
    "similar_items": lambda r: r.similar_items(["a"]),
    "explain": lambda r: r.explain(3, "a"),
    "score": lambda r: r.score([3], ["a"]),
    "evaluate": lambda r: r.evaluate(),
    "item_vectors": lambda r: r.item_vectors(),
    "user_vectors": lambda r: r.user_vectors(),
    "save": lambda r: r.save("x"),
    "item_ids": lambda r: r.item_ids,
    "dataset": lambda r: r.dataset,
    "run": lambda r: r.run,
}


@pytest.mark.parametrize("ask", BEFORE.values(), ids=BEFORE)
def test_before_fit(ask: Callable[[Recommender], Any]) -> None:
    with pytest.raises(InputError) as raised:
        ask(Recommender())
    assert str(raised.value) == (
        "the recommender has learned nothing yet; call fit(data), or Recommender.load(path)"
    )
    assert Recommender().describe() == "not fitted yet"


ASKED: dict[str, tuple[Callable[[Recommender], Any], str]] = {
    "an unknown user": (lambda r: r.recommend([3, 31415]), "has no user '31415' among its 60 users"),
    "a nearly known item": (lambda r: r.recommend([3], items=["s01e1"]), "did you mean"),
    "an unknown item of a frame to score": (
        lambda r: r.score([3], pd.DataFrame({"sku": ["s01e12", "x"]})),
        "has no item 'x'",
    ),
    "vectors of unknown items": (
        lambda r: r.item_vectors(pl.DataFrame({"sku": ["s01e12", "x"]})),
        "has no item 'x'",
    ),
    "a column of other items": (
        lambda r: r.recommend([3], items=pd.Series(["x", "y"])),
        "the model knows none of the 2 items in the frame of items",
    ),
    "users in the index": (
        lambda r: r.recommend(pd.DataFrame({"uid": [3], "x": 1}).set_index("uid")),
        r"the frame of the users has 'uid' in its index, not in a column; give frame.reset_index\(\)",
    ),
    "two columns of items": (
        lambda r: r.recommend([3], items=pd.DataFrame([["s01e12", "s01e13"]], columns=["sku", "sku"])),
        "the frame of items has 2 columns called 'sku'; rename",
    ),
    "a user without a list": (
        lambda r: r.recommend([3], exclude_for={"typo": ["s01e12"]}),
        "exclude_for has a list for 'typo', who is no user of the data or of this call; correct the id",
    ),
    "a guest without a list": (
        lambda r: r.recommend_histories({"a": ["s01e12"]}, times={"a": [1]}, items_for={"b": ["s01e12"]}),
        "items_for has a list for 'b', who is no user of the data or of this call",
    ),
    "times of other users": (
        lambda r: r.recommend([3, 10], times={3: LATER}),
        "the times have none for user '10'; give one for each user",
    ),
    "request times of other guests": (
        lambda r: r.recommend_histories({"a": ["s01e12"]}, times={"a": [1]}, request_times={"b": LATER}),
        "the request times have none for user 'a'",
    ),
    "a set of times": (lambda r: r.recommend([3], times={LATER}), "the times have the type set; give a list"),
    "a bool as a time": (lambda r: r.recommend([3], times=True), "the times hold values that are no times"),
    "bools as times": (
        lambda r: r.recommend_histories([["s01e12"]], times=[np.array([True])]),
        "the times of '0' hold values that are no times",
    ),
    "a frame of guests without times": (
        lambda r: r.recommend_histories(pd.DataFrame({"uid": [1], "sku": ["s01e12"], "ts": [5]})),
        "the frame of histories has times of an unknown unit, and the model knows time; give seconds",
    ),
    "a frame of other items": (
        lambda r: r.recommend([3], items=pd.DataFrame({"sku": ["x", "y"]})),
        "the model knows none of the 2 items in the frame of items; give ids like 's0",
    ),
    "a frame of other columns": (
        lambda r: r.recommend([3], items=pd.DataFrame({"price": [1]})),
        "the frame of items has no column 'sku': it has 'price';",
    ),
    "one user": (
        lambda r: r.recommend(3),
        "the users must be a list of ids, but are 3; put the ids into a list",
    ),
    "one user as text": (lambda r: r.recommend("3"), "the users must be a list of ids, but are '3'"),
    "fractions": (lambda r: r.recommend(np.array([3.0])), "an id of the users is neither a text nor a whole"),
    "a bool": (
        lambda r: r.recommend([True]),
        "an id of the users is neither a text nor a whole number, but True",
    ),
    "k": (lambda r: r.recommend([3], 0), "k, the number of items to recommend, is 0;"),
    "a fraction as k": (lambda r: r.recommend([3], 2.5), "k, the number of items to recommend, is 2.5;"),
    "filter_viewed": (
        lambda r: r.recommend([3], filter_viewed="no"),
        "filter_viewed is 'no'; give True or False",
    ),
    "no item left": (
        lambda r: r.recommend([3], items=["s01e12"], exclude=["s01e12"]),
        "the filters leave no item",
    ),
    "all items excluded": (lambda r: r.recommend([3], exclude=r.item_ids), "the filters leave no item"),
    "no items": (lambda r: r.recommend([3], items=[]), "the filters leave no item"),
    "items_for": (lambda r: r.recommend([3], items_for=["s01e12"]), "items_for has the type list;"),
    "an unknown item of a user": (lambda r: r.recommend([3], items_for={3: ["x?"]}), "has no item 'x\\?'"),
    "a cap": (
        lambda r: r.recommend([3], popularity_cap=5),
        "popularity_cap is the largest share of all users",
    ),
    "diversity": (lambda r: r.recommend([3], diversity=1), "diversity is 1; give a number from 0"),
    "unknown": (
        lambda r: r.recommend([3], unknown="ignore"),
        "unknown is 'ignore'; give one of raise, skip, pop",
    ),
    "an early request": (
        lambda r: r.recommend([3], times=START - 10**6),
        "the last event of user '3' is later",
    ),
    "milliseconds": (
        lambda r: r.recommend([3], times=LATER * 1000),
        "the times must be in seconds, but seem to",
    ),
    "a wrong time": (lambda r: r.recommend([3], times="soon"), "the times hold 'soon', which is no time"),
    "an object as a time": (
        lambda r: r.recommend([3], times=[object()]),
        "the times hold values that are no",
    ),
    "a missing time": (lambda r: r.recommend([3, 10], times=[LATER, None]), "the times lack a value"),
    "NaN": (lambda r: r.recommend([3], times=[float("nan")]), "the times hold nan, which is no time"),
    "too few times": (
        lambda r: r.recommend([3, 10], times=[LATER]),
        "the times must be 2, but are 1; give one",
    ),
    "a guest without times": (
        lambda r: r.recommend_histories([["s01e12"]]),
        "needs the times of the histories",
    ),
    "an empty history": (
        lambda r: r.recommend_histories([[]], times=[[]]),
        "the history of '0' is empty; give one item or more",
    ),
    "an unknown item of a guest": (
        lambda r: r.recommend_histories([["s01e12", "?"]], times=[[1, 2]]),
        "has no item '\\?'",
    ),
    "falling times": (
        lambda r: r.recommend_histories([["s01e12", "s01e13"]], times=[[2, 1]]),
        "the times of the history of '0' de",
    ),
    "times of another form": (
        lambda r: r.recommend_histories({"a": ["s01e12"]}, times=[[1]]),
        "times have another form than histories;",
    ),
    "times of another guest": (
        lambda r: r.recommend_histories({"a": ["s01e12"]}, times={"b": [1]}),
        "times do not have an entry for each",
    ),
    "two guests of one name": (
        lambda r: r.recommend_histories({1: ["s01e12"], "1": ["s01e13"]}),
        "two histories have the name '1'; give each a name of its own",
    ),
    "one history": (lambda r: r.recommend_histories("abc"), "histories have the type str; give"),
    "a list that is one history": (
        lambda r: r.recommend_histories(["s01e12"], times=[[1]]),
        "a history must be a list of ids, but are 's01e12'",
    ),
    "nothing to score": (lambda r: r.score([3]), "there are no items to score; give items=, or a frame"),
    "an unknown user to explain": (lambda r: r.explain(4, "s01e12"), "has no user '4'"),
    "a split": (lambda r: r.evaluate("train"), "there is no split 'train' to evaluate; give test or valid"),
    "an unknown similar item": (lambda r: r.similar_items(["?"]), "has no item '\\?'"),
    "an unknown similar item of a column": (
        lambda r: r.similar_items(pd.Series(["s01e12", "?"])),
        "has no item '\\?'",
    ),
    "one similar item": (
        lambda r: r.similar_items("s01e12"),
        "the items must be a list of ids, but are 's01e12'",
    ),
}


@pytest.mark.parametrize("backend", ["engine", "torch"])
@pytest.mark.parametrize(("ask", "sentence"), ASKED.values(), ids=ASKED)
def test_asking(
    ask: Callable[[Recommender], Any],
    sentence: str,
    backend: Any,
    shop: Recommender,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if "s01e12" not in shop.item_ids:
        raise AssertionError("the examples name this item")
    recommender = shop if backend == "engine" else in_torch(shop, tmp_path_factory)
    with pytest.raises(InputError, match=sentence) as raised:
        ask(recommender)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy
    assert len(recommender.recommend([3, 10], 2)) == 4  # it still answers


_torch: dict[int, Recommender] = {}


def in_torch(shop: Recommender, folders: pytest.TempPathFactory) -> Recommender:
    if id(shop) not in _torch:
        folder = folders.mktemp("torch") / "saved"
        shop.save(folder)
        _torch[id(shop)] = Recommender.load(folder, backend="torch")
    return _torch[id(shop)]


def test_unknown_users_may_be_skipped_or_get_popular_items(shop: Recommender) -> None:
    with pytest.warns(UserWarning, match="2 of the 3 users are not in the data, and were skipped"):
        found = shop.recommend([3, 5, 4, 5], 2, unknown="skip")
    assert found["user"].tolist() == [3, 3]
    popular = shop.recommend([5, 3], 3, unknown="popular")
    assert popular["user"].tolist() == [5, 5, 5, 3, 3, 3]
    dataset = shop.dataset
    share = np.zeros(dataset.num_items)
    for user in range(dataset.num_users):
        share[np.unique(dataset.histories.history(user))] += 1 / dataset.num_users
    best = np.argsort(-share.round(9), kind="stable")[:3]
    assert popular["item"].tolist()[:3] == [shop.item_ids[item] for item in best]
    np.testing.assert_allclose(popular["score"][:3], share[best], rtol=1e-6)
    first = popular["item"][0]
    assert first not in shop.recommend([5], 3, unknown="popular", exclude=[first])["item"].tolist()
    assert first not in shop.recommend([5], 3, unknown="popular", exclude_for={5: [first]})["item"].tolist()


def test_unknown_items_of_guests_may_be_skipped(shop: Recommender) -> None:
    with pytest.warns(UserWarning, match="2 events of 2 histories are of unknown items, and were skipped"):
        found = shop.recommend_histories(
            [["s01e12", "?"], ["?"]], 2, times=[[LATER, LATER], [LATER]], unknown="skip"
        )
    alone = shop.recommend_histories([["s01e12"]], 2, times=[[LATER]])
    assert found.equals(alone)


def test_wrong_arguments_of_the_class() -> None:
    with pytest.raises(InputError, match=r"Recommender\(\) has no option 'epochs'; give epochs= to fit"):
        Recommender(epochs=3)
    for threads in (0, 1.5, True, 2000):
        with pytest.raises(InputError, match=f"threads is {threads!r}; give a whole number from 1 to 1024"):
            Recommender(threads=threads)  # type: ignore[arg-type]


def test_a_backend_that_cannot_serve() -> None:
    with pytest.raises(InputError, match="backend is 'gpu'; give one of auto, engine, torch"):
        Recommender(backend="gpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds the baseline gru4rec, which cannot be served event by event"):
        Recommender(backend="engine").fit(pandas_log(), **NAMES, **SMALL, model="gru4rec")
