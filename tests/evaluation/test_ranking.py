"""Ranks compared with a simple loop over users and items, and the limits of the chunks."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.histories import histories, pack, unpack
from hypothesis import given
from hypothesis import strategies as st

from recblr.data.packed import Packed
from recblr.data.splits import Holdout
from recblr.errors import InputError
from recblr.evaluation.ranking import Scorer, rank_targets

SCORES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 0.5, 1.0, math.inf, math.nan])


def rank_by_hand(scores: list[float], target: int, left_out: set[int]) -> int:
    rank = 1
    for item, score in enumerate(scores):
        if item != target and item not in left_out and not score < scores[target]:
            rank += 1
    return rank


def scorer_from(table: Mapping[Any, list[float]], num_items: int) -> Scorer:
    def score(chunk: Packed) -> torch.Tensor:
        return torch.tensor([table[history] for history in unpack(chunk)]).reshape(len(chunk), num_items)

    return score


def constant(value: float, num_items: int) -> Scorer:
    return lambda chunk: torch.full((len(chunk), num_items), value)


def holdout(users: list[list[int]], targets: list[int]) -> Holdout:
    return Holdout(pack(users), np.array(targets, dtype=np.int64))


@given(st.data())
def test_ranks_equal_a_loop_over_users_and_items(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 7))
    users = data.draw(histories(num_items))
    targets = [data.draw(st.integers(0, num_items - 1)) for _ in users]
    one_row = st.lists(SCORES, min_size=num_items, max_size=num_items)
    table = {history: data.draw(one_row) for history in sorted({tuple(user) for user in users})}
    max_scores = data.draw(st.integers(1, 30))
    tokens = data.draw(st.integers(1, 20))

    ranks = rank_targets(
        scorer_from(table, num_items),
        holdout(users, targets),
        num_items,
        max_scores=max_scores,
        tokens=tokens,
    )

    rows = [table[tuple(user)] for user in users]
    assert ranks.unmasked.tolist() == [
        rank_by_hand(row, target, set()) for row, target in zip(rows, targets, strict=True)
    ]
    assert ranks.masked.tolist() == [
        rank_by_hand(row, target, set(user)) for row, target, user in zip(rows, targets, users, strict=True)
    ]
    assert ranks.unmasked.dtype == ranks.masked.dtype == np.int64


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf])
def test_a_model_with_constant_scores_gets_the_worst_rank(value: float) -> None:
    ranks = rank_targets(constant(value, 9), holdout([[1, 2, 2]], [4]), 9)
    assert ranks.unmasked.tolist() == [9]
    assert ranks.masked.tolist() == [7]


def test_a_target_in_the_history_stays_a_candidate() -> None:
    scores = {(3, 1): [0.0, 3.0, 1.0, 2.0]}
    ranks = rank_targets(scorer_from(scores, 4), holdout([[3, 1]], [3]), 4)
    assert ranks.unmasked.tolist() == [2]
    assert ranks.masked.tolist() == [1]


def test_a_seen_item_is_masked_only_for_its_own_user() -> None:
    scores = {(0,): [9.0, 1.0, 0.0], (2,): [9.0, 1.0, 0.0]}
    ranks = rank_targets(scorer_from(scores, 3), holdout([[0], [2]], [1, 1]), 3)
    assert ranks.masked.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_a_scorer_may_return_any_real_dtype(dtype: torch.dtype) -> None:
    row = torch.arange(5).to(dtype)
    ranks = rank_targets(lambda chunk: row.expand(len(chunk), 5), holdout([[0]], [3]), 5)
    assert ranks.unmasked.tolist() == [2]


def test_chunks_are_within_their_limits() -> None:
    users = [[1] * length for length in (0, 5, 1, 3, 2, 2, 0, 1, 4, 30)]
    seen: list[Packed] = []

    def score(chunk: Packed) -> torch.Tensor:
        seen.append(chunk)
        return torch.zeros(len(chunk), 10)

    rank_targets(score, holdout(users, [0] * 10), 10, max_scores=35, tokens=8)
    assert sum(len(chunk) for chunk in seen) == 10
    assert max(len(chunk) for chunk in seen) == 3
    assert all(len(chunk.items) <= 8 or len(chunk) == 1 for chunk in seen)


def test_ranks_do_not_depend_on_the_chunks() -> None:
    rng = np.random.default_rng(0)
    users = [rng.integers(0, 50, size).tolist() for size in rng.integers(1, 12, 40)]
    weights = torch.randn(50, 50, generator=torch.Generator().manual_seed(0))
    held = holdout(users, rng.integers(0, 50, 40).tolist())

    def score(chunk: Packed) -> torch.Tensor:
        return weights[torch.tensor(chunk.items[chunk.offsets[1:] - 1])]

    whole = rank_targets(score, held, 50)
    pieces = rank_targets(score, held, 50, max_scores=150, tokens=20)
    assert np.array_equal(whole.unmasked, pieces.unmasked)
    assert np.array_equal(whole.masked, pieces.masked)


def test_progress_counts_the_users_done() -> None:
    calls: list[int] = []
    users = [[0]] * 7
    rank_targets(constant(0.0, 2), holdout(users, [1] * 7), 2, max_scores=6, progress=calls.append)
    assert calls == [3, 6, 7]


def test_the_scorer_runs_without_autograd() -> None:
    enabled: list[bool] = []

    def score(chunk: Packed) -> torch.Tensor:
        enabled.append(torch.is_grad_enabled())
        return torch.zeros(len(chunk), 2)

    rank_targets(score, holdout([[0]], [1]), 2)
    assert enabled == [False]


def test_without_users_there_are_no_ranks_and_metrics_are_refused() -> None:
    ranks = rank_targets(constant(0.0, 2), holdout([], []), 2)
    assert len(ranks.unmasked) == len(ranks.masked) == 0
    with pytest.raises(InputError, match="no users"):
        ranks.metrics()


def test_both_maskings_have_metrics() -> None:
    scores = {(0,): [2.0, 1.0]}
    metrics = rank_targets(scorer_from(scores, 2), holdout([[0]], [1]), 2).metrics(ks=(1,))
    assert metrics["unmasked"]["hr@1"] == 0.0
    assert metrics["masked"]["hr@1"] == 1.0


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_outside_the_catalogue_is_named(target: int) -> None:
    with pytest.raises(InputError, match=rf"targets\[1\] is item {target}, outside the catalogue of 3 items"):
        rank_targets(constant(0.0, 3), holdout([[0], [0]], [1, target]), 3)


@pytest.mark.parametrize("item", [-1, 3])
def test_a_history_item_outside_the_catalogue_is_named(item: int) -> None:
    with pytest.raises(InputError, match=rf"histories.items\[2\] is item {item}"):
        rank_targets(constant(0.0, 3), holdout([[0], [0, item]], [1, 1]), 3)


def test_a_catalogue_without_items_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to rank"):
        rank_targets(constant(0.0, 0), holdout([], []), 0)


def test_each_history_needs_a_target() -> None:
    with pytest.raises(ValueError, match="one target per history"):
        rank_targets(constant(0.0, 3), holdout([[0], [1]], [2]), 3)


@pytest.mark.parametrize("bounds", [{"max_scores": 0}, {"tokens": 0}])
def test_bounds_must_be_positive(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        rank_targets(constant(0.0, 3), holdout([[0]], [2]), 3, **bounds)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.zeros(2, 4), ValueError, r"shape \(2, 3\), but returned shape \(2, 4\)"),
        (torch.zeros(1, 3), ValueError, r"shape \(2, 3\), but returned shape \(1, 3\)"),
        (torch.zeros(2, 1, 3), ValueError, r"returned shape \(2, 1, 3\)"),
        (torch.zeros(2, 3, dtype=torch.bool), ValueError, "real scores"),
        (np.zeros((2, 3)), TypeError, "returned ndarray"),
    ],
)
def test_a_scorer_that_does_not_return_scores_is_refused(
    returned: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rank_targets(lambda _: returned, holdout([[0], [1]], [2, 2]), 3)


@given(st.data())
def test_lists_are_the_best_items_that_the_user_has_not(data: st.DataObject) -> None:
    num_items, k = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    users = data.draw(histories(num_items))
    one_row = st.permutations([item - 1.0 for item in range(num_items)])
    table = {history: list(data.draw(one_row)) for history in sorted({tuple(user) for user in users})}
    held_out = holdout(users, [0] * len(users))
    kept: list[torch.Tensor] = []

    def scorer(chunk: Packed) -> torch.Tensor:
        kept.append(scorer_from(table, num_items)(chunk).to(data.draw(st.sampled_from(DTYPES))))
        kept.append(kept[-1].clone())
        return kept[-2]

    ranks = rank_targets(scorer, held_out, num_items, tokens=data.draw(st.integers(1, 20)), lists=k)
    assert ranks.lists is not None
    assert (ranks.lists.shape, ranks.lists.dtype) == ((len(users), k), np.int64)
    for user, items in zip(users, ranks.lists.tolist(), strict=True):
        scores = table[tuple(user)]
        unseen = sorted(set(range(num_items)) - set(user), key=lambda item: -scores[item])[:k]
        assert items == unseen + [-1] * (k - len(unseen))
    for scores_now, before in zip(kept[::2], kept[1::2], strict=True):
        assert torch.equal(scores_now, before)  # the scorer's own tensor is as it was
    assert rank_targets(scorer, held_out, num_items).lists is None


DTYPES = (torch.float32, torch.float64, torch.int64)


def test_rows_that_share_their_memory_have_lists_too() -> None:
    row = torch.tensor([0.0, 3.0, 2.0, 1.0])
    for users in ([[1], [2, 1], [0]], [[1]]):
        ranks = rank_targets(
            lambda chunk: row.expand(len(chunk), 4), holdout(users, [0] * len(users)), 4, lists=2
        )
        assert ranks.lists is not None
        assert ranks.lists.tolist() == [[2, 3], [3, 0], [1, 2]][: len(users)]
    assert row.tolist() == [0.0, 3.0, 2.0, 1.0]
