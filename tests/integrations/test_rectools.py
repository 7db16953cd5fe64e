"""RecBLR as a model of RecTools.  `make rectools` runs these tests."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rectools")

import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.exceptions import NotFittedError
from rectools.metrics import HitRate
from rectools.models import load_model, model_from_config
from training.tiny_runs import tiny_dataset

from recblr.errors import InputError
from recblr.integrations.rectools import RecBLRModel

SMALL: dict[str, Any] = {"epochs": 1, "d_model": 16, "num_layers": 1, "dropout": 0.1, "device": "cpu"}


def interactions() -> pd.DataFrame:
    source = tiny_dataset(users=40)
    owners = np.repeat(np.arange(source.num_users), source.histories.lengths)
    return pd.DataFrame(
        {
            Columns.User: 10 * owners,
            Columns.Item: [source.item_ids[item] for item in source.histories.items],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(owners.size), "h"),
        }
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.construct(interactions())


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> RecBLRModel:
    return RecBLRModel(**SMALL).fit(dataset)


def assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-5)


def test_the_recommendations_are_those_of_the_recommender(model: RecBLRModel, dataset: Dataset) -> None:
    users = [0, 30, 10]
    ours = model.recommend(users, dataset, k=5, filter_viewed=True)
    assert list(ours.columns) == [Columns.User, Columns.Item, Columns.Score, Columns.Rank]
    theirs = model.recommender.recommend(users, 5)
    assert ours[Columns.User].tolist() == theirs["user"].tolist()
    assert ours[Columns.Item].tolist() == theirs["item"].tolist()
    np.testing.assert_allclose(ours[Columns.Score], theirs["score"], atol=1e-5)
    assert ours[Columns.Rank].tolist() == [1, 2, 3, 4, 5] * 3
    seen = model.recommend(users, dataset, k=200, filter_viewed=False)
    assert len(seen) == 3 * len(dataset.item_id_map.external_ids)
    assert Columns.Rank not in model.recommend(users, dataset, k=2, filter_viewed=True, add_rank_col=False)


def test_viewed_items_and_others_are_left_out(model: RecBLRModel, dataset: Dataset) -> None:
    users, log = dataset.user_id_map.external_ids, interactions()
    found = model.recommend(users, dataset, k=200, filter_viewed=True)
    pairs = set(zip(log[Columns.User], log[Columns.Item], strict=True))
    assert not pairs & set(zip(found[Columns.User], found[Columns.Item], strict=True))
    few = ["s01e01", "s02e02", "s03e03"]
    found = model.recommend(users, dataset, k=2, filter_viewed=False, items_to_recommend=np.array(few))
    assert set(found[Columns.Item]) <= set(few)
    assert len(found) == 2 * len(users)


@pytest.mark.parametrize("cosines", [1, 2**22])
def test_similar_items(
    cosines: int, model: RecBLRModel, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recblr.integrations.rectools._COSINES", cosines)  # of a part
    items = ["s01e02", "s02e03"]
    found = model.recommend_to_items(items, dataset, k=4)
    theirs = model.recommender.similar_items(items, 4)
    assert found[Columns.TargetItem].tolist() == theirs["item"].tolist()
    assert found[Columns.Item].tolist() == theirs["similar"].tolist()
    with_itself = model.recommend_to_items(items, dataset, k=1, filter_itself=False)
    assert with_itself[Columns.Item].tolist() == items
    some = model.recommend_to_items(items, dataset, k=3, items_to_recommend=["s01e01", "s02e02"])
    assert set(some[Columns.Item]) == {"s01e01", "s02e02"}


def test_a_second_fit_starts_again(dataset: Dataset) -> None:
    users = dataset.user_id_map.external_ids
    once, twice = RecBLRModel(**SMALL).fit(dataset), RecBLRModel(**SMALL).fit(dataset).fit(dataset)
    assert_same(once.recommend(users, dataset, 9, False), twice.recommend(users, dataset, 9, False))


def test_it_can_be_saved_copied_and_made_from_its_config(
    model: RecBLRModel, dataset: Dataset, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    right = model.recommend([0, 10], dataset, k=2, filter_viewed=False)
    copies = [
        RecBLRModel.load(tmp_path / "model"),
        load_model(tmp_path / "model"),
        RecBLRModel.loads(model.dumps()),
        copy.deepcopy(model),
        RecBLRModel.from_config(model.get_config()).fit(dataset),
        RecBLRModel.from_params(model.get_params()).fit(dataset),
        model_from_config(model.get_config(simple_types=True)).fit(dataset),
    ]
    for other in copies:
        assert other.get_config() == model.get_config()
        assert_same(right, other.recommend([0, 10], dataset, k=2, filter_viewed=False))
    assert RecBLRModel.from_config({"options": {}}).get_config() == RecBLRModel().get_config()


def test_mistakes(model: RecBLRModel, dataset: Dataset) -> None:
    with pytest.raises(NotFittedError):
        RecBLRModel().recommend([0], dataset, 2, True)
    for k in (0, -4):
        with pytest.raises(ValueError, match="`k` must be positive integer"):
            model.recommend([0], dataset, k, True)
    with pytest.raises(ValueError, match="cold"):
        model.recommend([0, 31], dataset, 2, True)
    with pytest.warns(UserWarning, match="cold"):
        found = model.recommend([0, 31], dataset, 2, True, on_unsupported_targets="warn")
    assert set(found[Columns.User]) == {0}
    assert len(model.recommend([31], dataset, 2, True, on_unsupported_targets="ignore")) == 0


def test_users_and_items_that_the_model_does_not_know(model: RecBLRModel) -> None:
    log = interactions()
    start = pd.Timestamp("2025-01-01")
    rows = [(7, "s01e01", start), (7, "new", start), (8, "new", start), (9, "s02e01", start)]
    more = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Datetime]).assign(weight=1.0)
    dataset = Dataset.construct(pd.concat([log, more]))
    found = model.recommend([7, 9], dataset, 3, True)  # the model was not trained on them
    assert found[Columns.User].tolist() == [7, 7, 7, 9, 9, 9]
    with pytest.raises(ValueError, match="1 of the given users have no item that the model knows"):
        model.recommend([7, 8], dataset, 3, True)
    with pytest.warns(UserWarning, match="1 of the given users have no item that the model knows"):
        model.recommend([7, 8], dataset, 3, True, on_unsupported_targets="warn")
    assert set(model.recommend([7, 8], dataset, 3, True, on_unsupported_targets="ignore")[Columns.User]) == {
        7
    }
    with pytest.raises(ValueError, match="1 of the given items have no item that the model knows"):
        model.recommend_to_items(["new", "s01e01"], dataset, 3)


def test_the_context_has_the_times_of_requests(dataset: Dataset) -> None:
    model = RecBLRModel(**SMALL, time_use="request").fit(dataset)
    users, later = [0, 30], pd.to_datetime(["2025-01-01", "2026-06-01"])
    context = pd.DataFrame({Columns.User: users[::-1], Columns.Datetime: later[::-1]})
    ours = model.recommend(users, dataset, 5, True, context=context)
    theirs = model.recommender.recommend(users, 5, times=later)
    np.testing.assert_allclose(ours[Columns.Score], theirs["score"], atol=1e-5)
    assert ours[Columns.Item].tolist() == theirs["item"].tolist()
    soon = model.recommend(users, dataset, 5, True)
    assert not np.allclose(soon[Columns.Score], ours[Columns.Score])
    for wrong, sentence in (
        (context[:1], "the context has no row for user 0"),
        (context.drop(columns=Columns.Datetime), "the context has no column 'datetime'"),
        (pd.concat([context, context]), "the context has two rows for one user"),
    ):
        with pytest.raises(InputError, match=sentence):
            model.recommend(users, dataset, 5, True, context=wrong)


def test_a_context_without_use_is_refused(model: RecBLRModel, dataset: Dataset) -> None:
    context = pd.DataFrame({Columns.User: [0], Columns.Datetime: [pd.Timestamp("2026-01-01")]})
    with pytest.raises(InputError, match="the request times have no effect"):
        model.recommend([0], dataset, 5, True, context=context)


def test_threads_have_their_own_contexts(dataset: Dataset) -> None:
    model = RecBLRModel(**SMALL, time_use="request").fit(dataset)
    contexts = [
        pd.DataFrame({Columns.User: [0], Columns.Datetime: [pd.Timestamp(f"{year}-01-01")]})
        for year in range(2025, 2033)
    ]

    def ask(context: pd.DataFrame) -> list[float]:
        return model.recommend([0], dataset, 5, True, context=context)[Columns.Score].tolist()

    right = [ask(context) for context in contexts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, contexts * 5)) == right * 5


def test_spaces_around_ids() -> None:
    log = interactions()
    log[Columns.Item] = " " + log[Columns.Item] + " "
    dataset = Dataset.construct(log)
    model = RecBLRModel(**SMALL).fit(dataset)
    found = model.recommend([0, 30], dataset, 5, True)
    assert set(found[Columns.Item]) <= set(log[Columns.Item])
    assert len(found) == 10
    assert len(model.recommend_to_items([log[Columns.Item][0]], dataset, 4)) == 4


def test_equal_times_and_their_metrics_work() -> None:
    log = interactions().assign(datetime=pd.Timestamp("2024-01-01"))
    dataset = Dataset.construct(log)
    model = RecBLRModel(**SMALL).fit(dataset)
    assert model.recommender.run.config().model.time_use == "none"
    found = model.recommend(dataset.user_id_map.external_ids, dataset, 10, False)
    assert 0 <= HitRate(10).calc(found, log) <= 1
