"""The engine, torch and the whole catalogue in float64 give the same answers, under all filters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommender.shop import START, of_case, random_dataset, rows
from serving.engines import BY_NAME, Case, assert_near, model_of

from recblr import InputError, Recommender
from recblr.config import GRU4RecConfig, SASRecConfig
from recblr.data import Packed
from recblr.serving import recommend as by_torch
from recblr.serving.scorer import model_scorer

ITEMS = 40
CASES = [BY_NAME[name] for name in ("average", "wide", "past", "request in minutes", "window")]
REQUEST = BY_NAME["request in minutes"]
NAMES = [f"u{number}" for number in range(9)]
LATER = START + 2_000_000.0  # after all events


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@lru_cache
def of(case: Case, folder: Path, backend: str) -> Recommender:
    return of_case(case, folder, backend=backend, num_items=ITEMS)


def right_scores(case: Case, time: float | None) -> np.ndarray:
    """The scores ``(S, V)`` of a full pass in float64, with the bias of repeats."""
    dataset = random_dataset(ITEMS)
    histories, seconds = dataset.histories, dataset.seconds
    assert seconds is not None
    last = seconds[histories.offsets[1:] - 1]
    packed = Packed(
        histories.items, histories.offsets, seconds, last if time is None else np.full(len(last), time)
    )
    model = model_of(case, ITEMS).double()
    return model_scorer(model)(packed).numpy()


def best(scores: np.ndarray, allowed: list[int], k: int) -> list[int]:
    return sorted(allowed, key=lambda item: (-scores[item], item))[:k]


@pytest.mark.parametrize("backend", ["engine", "torch"])
@pytest.mark.parametrize(("case", "time"), [*((case, None) for case in CASES), (REQUEST, LATER)], ids=str)
def test_the_scores_are_those_of_a_full_pass(
    case: Case, backend: str, time: float | None, folder: Path
) -> None:
    recommender, right = of(case, folder, backend), right_scores(case, time)
    everything = recommender.score(None, recommender.item_ids, times=time)
    assert_near(np.array(everything["score"]).reshape(right.shape), right)
    answer = recommender.recommend(k=ITEMS, filter_viewed=False, times=time)
    for user, item, score, _ in rows(answer):
        assert abs(score - right[NAMES.index(user), int(item)]) <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_and_torch_agree(case: Case, folder: Path) -> None:
    engine, torch = (of(case, folder, backend) for backend in ("engine", "torch"))
    largest = np.abs(right_scores(case, None)).max()
    timed = case.config.time_use == "request"
    later = LATER if timed else None
    assert "by the engine" in engine.describe()
    assert "by torch" in torch.describe()
    for ask in (
        lambda r: r.recommend(NAMES, 7),
        lambda r: r.recommend(NAMES, 7, filter_viewed=False, times=later),
        lambda r: r.recommend(NAMES, 7, diversity=0.4),
        lambda r: r.recommend_histories([["3", "5", "3"], ["8"]], 5, times=[[START, START, LATER], [START]]),
        lambda r: r.similar_items(["3", "8"], 6),
        lambda r: r.score(["u1", "u2"], ["3", "8"], times=[LATER, LATER + 9] if timed else None),
    ):  # fmt: skip
        ours, theirs = ask(engine), ask(torch)
        assert ours.drop("score").equals(theirs.drop("score"))
        np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-5 * max(1, largest))
    # Of nearly equal changes, the order may differ.
    ours, theirs = (r.explain("u3", "8", time=later).sort("position") for r in (engine, torch))
    assert ours.drop("change").equals(theirs.drop("change"))
    np.testing.assert_allclose(ours["change"], theirs["change"], atol=3e-5 * max(1, largest))
    vectors = [r.user_vectors(NAMES, times=later) for r in (engine, torch)]
    np.testing.assert_allclose(*vectors, atol=1e-5 * np.abs(vectors[0]).max())


@pytest.mark.parametrize("case", [case for case in CASES if case.config.time_use != "request"], ids=str)
def test_times_that_a_model_does_not_use_are_refused(case: Case, folder: Path) -> None:
    recommender = of(case, folder, "engine")
    said = f"have no effect, because the model was trained with time_use='{case.config.time_use}'; leave"
    for ask in (
        lambda: recommender.recommend(times=LATER),
        lambda: recommender.recommend_histories([["3"]], times=[[START]], request_times=LATER),
        lambda: recommender.score(["u1"], ["3"], times=LATER),
        lambda: recommender.user_vectors(times=START - 1),
        lambda: recommender.explain("u1", "3", time=LATER),
    ):
        with pytest.raises(InputError, match=said):
            ask()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_score_is_the_product_of_vectors_and_the_bias(case: Case, folder: Path) -> None:
    recommender = of(case, folder, "engine")
    products = recommender.user_vectors() @ recommender.item_vectors().T
    seen = np.zeros(products.shape)
    dataset = recommender.dataset
    for user in range(dataset.num_users):
        seen[user, dataset.histories.history(user)] = case.bias or 0
    scores = np.array(recommender.score(None, recommender.item_ids)["score"]).reshape(products.shape)
    assert_near(products + seen, scores.astype(np.float64))


@pytest.mark.parametrize("backend", ["engine", "torch"])
def test_diverse_lists_are_those_of_the_time_of_the_request(backend: str, folder: Path) -> None:
    recommender = of(BY_NAME["request in minutes"], folder, backend)
    scores = {(u, i): s for u, i, s in rows(recommender.score(None, range(ITEMS), times=LATER))}
    answer = rows(recommender.recommend(NAMES, 5, diversity=0.3, times=LATER))
    np.testing.assert_allclose(
        [s for _, _, s, _ in answer], [scores[u, i] for u, i, _, _ in answer], rtol=1e-6
    )
    assert answer != rows(recommender.recommend(NAMES, 5, diversity=0.3))


@pytest.mark.parametrize("backend", ["engine", "torch"])
def test_many_threads_may_ask(backend: str, folder: Path) -> None:
    recommender = of_case(BY_NAME["past"], folder, backend=backend)

    def ask(number: int) -> list[tuple[Any, ...]]:
        guests = recommender.recommend_histories([[str(number)]], 3, times=[[START]])
        return [*rows(recommender.recommend([NAMES[number]], 5)), *rows(guests)]

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(ask, [*range(9)] * 5)]
    assert found == [ask(number) for number in [*range(9)] * 5]


def test_few_users_at_a_time_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine keeps no more users than it has room for."""
    from recblr.recommender import answers

    right = rows(of_case(BY_NAME["past"], folder).recommend(NAMES, 5))
    monkeypatch.setattr(answers.EngineAnswers, "together", (2, 2**19))
    monkeypatch.setattr(answers, "_KEPT", 10_000)
    recommender = of_case(BY_NAME["past"], folder)
    for _ in range(2):
        assert rows(recommender.recommend(NAMES, 5)) == right
        assert rows(recommender.recommend(NAMES[::-1], 5, items_for={"u3": ["3"]}))[0][0] == "u8"
    engine = recommender._now().answers.engine  # type: ignore[attr-defined]
    assert 0 < engine.num_users < len(NAMES)


def test_what_users_take_in_the_engine_is_counted(folder: Path) -> None:
    recommender = of_case(BY_NAME["past"], folder)
    recommender.recommend(NAMES, 1)
    answers: Any = recommender._now().answers
    dataset = recommender.dataset
    for number, name in enumerate(NAMES):
        # Of each event, an item of 4 bytes and a time of 8, and about a byte in the set of items.
        least = len(answers.engine.state(name)) + 12 * len(dataset.histories.history(number))
        assert answers._bytes_of(dataset.histories.select(np.array([number]))) >= least
    assert answers._kept == answers._bytes_of(dataset.histories)
    event = pl.DataFrame({"user_id": ["u3", "new"], "item_id": ["1", "2"], "timestamp": [LATER, LATER]})
    recommender.fit_more(event, time_unit="s")
    assert answers._kept == answers._bytes_of(dataset.histories.select(np.arange(9) != 3))
    recommender.recommend(None, 1)
    assert answers._kept == answers._bytes_of(recommender.dataset.histories)


@pytest.mark.parametrize("diversity", [0, 0.3])
def test_torch_scores_few_users_at_a_time(
    diversity: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a pass does not depend on the number of users."""
    from recblr.recommender import answers

    right = of(BY_NAME["past"], folder, "torch").recommend(NAMES, 5, diversity=diversity)
    monkeypatch.setattr(answers, "_SCORES", 2 * ITEMS)
    recommender = of_case(BY_NAME["past"], folder, backend="torch")
    torch: Any = recommender._now().answers
    score, sizes = torch._score, []

    def counted(histories: Packed) -> Any:
        sizes.append(len(histories))
        return score(histories)

    monkeypatch.setattr(torch, "_score", counted)
    few = recommender.recommend(NAMES, 5, diversity=diversity)
    assert few.drop("score").equals(right.drop("score"))
    np.testing.assert_allclose(few["score"], right["score"], atol=1e-5)
    assert sizes == [2, 2, 2, 2, 1]


BASELINES = [
    Case("sasrec", SASRecConfig(d_model=8, num_layers=1, max_length=5)),  # type: ignore[arg-type]
    Case("gru4rec", GRU4RecConfig(d_model=8, num_layers=1), 0.7),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("case", BASELINES, ids=str)
def test_torch_answers_for_the_models_that_the_engine_cannot_serve(case: Case, folder: Path) -> None:
    recommender, dataset = of(case, folder, "auto"), random_dataset(ITEMS)
    assert "by torch" in recommender.describe()
    answer = recommender.recommend(NAMES, 5)
    for number, name in enumerate(NAMES):
        right = by_torch(model_of(case, ITEMS), dataset.histories.history(number).tolist(), 5)
        ours = [(int(item), score) for user, item, score, _ in rows(answer) if user == name]
        assert [item for item, _ in ours] == [item for item, _ in right]
        np.testing.assert_allclose([s for _, s in ours], [s for _, s in right], atol=1e-5)


ids = st.lists(st.integers(0, ITEMS - 1), min_size=1, unique=True)
per_user = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.integers(0, ITEMS - 1), unique=True), max_size=4
)


@given(
    case=st.sampled_from(CASES),
    backend=st.sampled_from(["engine", "torch"]),
    k=st.integers(1, ITEMS),
    seen=st.booleans(),
    items=st.none() | ids,
    exclude=st.none() | ids,
    items_for=per_user,
    exclude_for=per_user,
    cap=st.none() | st.floats(0.4, 1),
    diversity=st.sampled_from([0.0, 0.0, 0.3, 0.9]),
)
def test_every_filter_is_exact(
    folder: Path,
    case: Case,
    backend: str,
    k: int,
    seen: bool,
    items: list[int] | None,
    exclude: list[int] | None,
    items_for: dict[str, list[int]],
    exclude_for: dict[str, list[int]],
    cap: float | None,
    diversity: float,
) -> None:
    recommender, dataset = of(case, folder, backend), random_dataset(ITEMS)
    histories = [set(dataset.histories.history(user).tolist()) for user in range(dataset.num_users)]
    for_all = set(range(ITEMS) if items is None else items) - set(exclude or ())
    if cap is not None:
        users = [Fraction(sum(i in h for h in histories), len(histories)) for i in range(ITEMS)]
        for_all -= {item for item, share in enumerate(users) if share > Fraction(str(cap))}
    arguments: dict[str, Any] = {
        "filter_viewed": not seen,
        "items": items,
        "exclude": exclude,
        "items_for": items_for,
        "exclude_for": exclude_for,
        "popularity_cap": cap,
        "diversity": diversity,
    }
    if not for_all:
        with pytest.raises(ValueError, match="the filters leave no item"):
            recommender.recommend(NAMES, k, **arguments)
        return
    answer = recommender.recommend(NAMES, k, **arguments)
    scores = np.array(recommender.score(None, range(ITEMS))["score"], np.float64).reshape(-1, ITEMS)
    vectors = recommender.item_vectors().astype(np.float64)
    for number, (name, history) in enumerate(zip(NAMES, histories, strict=True)):
        allowed = for_all & set(items_for.get(name, range(ITEMS))) - set(exclude_for.get(name, ()))
        left = sorted(allowed - (set() if seen else history))
        right = (
            best(scores[number], left, k)
            if not diversity
            else diverse(scores[number], vectors, left, k, diversity)
        )
        got = [(int(i), s, r) for user, i, s, r in rows(answer) if user == name]
        assert [item for item, _, _ in got] == right
        assert [rank for _, _, rank in got] == [*range(1, len(right) + 1)]
        np.testing.assert_allclose([s for _, s, _ in got], scores[number, right], rtol=1e-6)


def diverse(scores: np.ndarray, vectors: np.ndarray, allowed: list[int], k: int, share: float) -> list[int]:
    """Maximal marginal relevance among the best 10 k of the allowed items, as the documentation says it."""
    units = vectors / np.sqrt((vectors * vectors).sum(1, keepdims=True))
    pool = best(scores, allowed, 10 * k)
    chosen: list[int] = []
    while len(chosen) < min(k, len(pool)):

        def value(item: int) -> float:
            likeness = max([0.0, *(units[item] @ units[other] for other in chosen)])
            return float((1 - share) * np.exp(scores[item] - scores[pool[0]]) - share * likeness)

        chosen.append(max((item for item in pool if item not in chosen), key=value))
    return chosen
