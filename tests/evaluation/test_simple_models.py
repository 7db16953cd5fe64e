"""The simple models compared with counters in plain Python."""

from collections import Counter
from itertools import chain, pairwise

import pytest
import torch
from evaluation.histories import histories, pack
from hypothesis import given
from hypothesis import strategies as st

from recblr.errors import InputError
from recblr.evaluation.simple_models import popular, successor


@st.composite
def training_and_queries(draw: st.DrawFn) -> tuple[int, list[list[int]], list[list[int]]]:
    num_items = draw(st.integers(1, 6))
    return num_items, draw(histories(num_items, max_size=8)), draw(histories(num_items))


@given(training_and_queries())
def test_popular_scores_are_counts(case: tuple[int, list[list[int]], list[list[int]]]) -> None:
    num_items, train, queries = case
    counts = Counter(chain.from_iterable(train))
    scores = popular(pack(train), num_items)(pack(queries))
    assert scores.shape == (len(queries), num_items)
    for row in scores.tolist():
        assert row == [counts[item] for item in range(num_items)]


@given(training_and_queries())
def test_successor_orders_items_by_follows_then_popularity(
    case: tuple[int, list[list[int]], list[list[int]]],
) -> None:
    num_items, train, queries = case
    popularity = Counter(chain.from_iterable(train))
    follows = Counter(chain.from_iterable(pairwise(history) for history in train))
    scores = successor(pack(train), num_items)(pack(queries))
    assert scores.shape == (len(queries), num_items)
    for query, row in zip(queries, scores.tolist(), strict=True):
        keys = [(follows[query[-1], item] if query else 0, popularity[item]) for item in range(num_items)]
        for i in range(num_items):
            assert int(row[i]) == keys[i][0]
            for j in range(num_items):
                assert (row[i] < row[j]) == (keys[i] < keys[j])


def test_the_end_of_one_history_is_not_followed_by_the_start_of_the_next() -> None:
    scores = successor(pack([[0, 1], [2, 3], [], [3, 0]]), 4)(pack([[1], [3]]))
    assert (scores[0] < 1).all()
    assert scores[1].argmax() == 0


def test_large_counts_keep_the_tie_break() -> None:
    train = pack([[0, 1, 0, 2] * 50_000, [2]])
    scores = successor(train, 3)(pack([[0]]))
    assert 50_000 < scores[0, 1] < scores[0, 2] < 50_001


def test_scores_of_one_chunk_do_not_affect_the_next() -> None:
    score = successor(pack([[0, 1, 0, 1]]), 2)
    first = score(pack([[0]])).clone()
    score(pack([[0], [1]]))
    assert torch.equal(score(pack([[0]])), first)


@pytest.mark.parametrize("baseline", [popular, successor])
def test_an_item_outside_the_catalogue_is_named(baseline: object) -> None:
    assert callable(baseline)
    for item in (-1, 2):
        with pytest.raises(InputError, match=rf"train.items\[1\] is item {item}"):
            baseline(pack([[0, item]]), 2)


def test_a_last_item_outside_the_catalogue_is_named() -> None:
    with pytest.raises(InputError, match=r"last items\[0\] is item -1"):
        successor(pack([[0, 1]]), 2)(pack([[], [0, -1]]))
