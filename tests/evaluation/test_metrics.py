"""Metrics compared with values computed by hand and with their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.errors import InputError
from recblr.evaluation.ranking import KS, metrics_from_ranks


def test_values_worked_out_by_hand() -> None:
    metrics = metrics_from_ranks(np.array([1, 2, 3, 10, 11]))
    assert metrics["hr@1"] == pytest.approx(1 / 5)
    assert metrics["ndcg@1"] == metrics["mrr@1"] == pytest.approx(1 / 5)
    assert metrics["hr@5"] == pytest.approx(3 / 5)
    assert metrics["ndcg@5"] == pytest.approx((1 + 0.6309297535714574 + 0.5) / 5)
    assert metrics["mrr@5"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 5)
    assert metrics["hr@10"] == pytest.approx(4 / 5)
    assert metrics["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 10) / 5)
    assert metrics["ndcg@10"] == pytest.approx((1 + 0.6309297535714574 + 0.5 + 0.2890648263178879) / 5)
    assert metrics["hr@20"] == metrics["hr@50"] == 1.0


def test_a_rank_of_k_counts_and_a_rank_of_k_plus_one_does_not() -> None:
    for k in KS:
        assert metrics_from_ranks(np.array([k]))[f"hr@{k}"] == 1.0
        assert metrics_from_ranks(np.array([k + 1]))[f"hr@{k}"] == 0.0
        assert metrics_from_ranks(np.array([k + 1]))[f"ndcg@{k}"] == 0.0
        assert metrics_from_ranks(np.array([k + 1]))[f"mrr@{k}"] == 0.0


def test_keys_are_every_metric_at_every_k() -> None:
    expected = [f"{metric}@{k}" for k in (1, 5, 10, 20, 50) for metric in ("hr", "ndcg", "mrr")]
    assert list(metrics_from_ranks(np.array([1]))) == expected
    assert list(metrics_from_ranks(np.array([1]), ks=(3,))) == ["hr@3", "ndcg@3", "mrr@3"]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(1, 100))
def test_metrics_are_the_means_of_their_definitions(ranks: list[int], k: int) -> None:
    metrics = metrics_from_ranks(np.array(ranks), ks=(k,))
    inside = [rank for rank in ranks if rank <= k]
    assert metrics[f"hr@{k}"] == pytest.approx(len(inside) / len(ranks))
    assert metrics[f"ndcg@{k}"] == pytest.approx(sum(1 / math.log2(r + 1) for r in inside) / len(ranks))
    assert metrics[f"mrr@{k}"] == pytest.approx(sum(1 / r for r in inside) / len(ranks))


def test_no_ranks_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no users"):
        metrics_from_ranks(np.array([], dtype=np.int64))


@pytest.mark.parametrize(
    ("ranks", "ks", "message"),
    [
        (np.array([0, 1]), KS, "1-based, but the smallest is 0"),
        (np.array([1.0]), KS, "integers"),
        (np.array([[1]]), KS, "one axis"),
        (np.array([1]), (0,), "at least 1"),
    ],
)
def test_wrong_ranks_are_refused(ranks: np.ndarray, ks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics_from_ranks(ranks, ks)
