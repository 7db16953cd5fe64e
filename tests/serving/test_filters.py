"""The filters without a model: popularity, and lists whose items differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Packed
from recblr.errors import InputError
from recblr.serving.filters import Filters, check_diversity, diversified, too_popular, users_of_items


def test_lists_of_a_user_add_to_those_of_all() -> None:
    filters = Filters(
        allow=frozenset("abc"),
        exclude=frozenset("c"),
        allow_for={"ada": frozenset("bcd")},
        exclude_for={"ada": frozenset("b"), "bob": frozenset("a")},
    )
    assert filters.of("ada") == (frozenset("bc"), frozenset("bc"))
    assert filters.of("bob") == (frozenset("abc"), frozenset("ac"))
    assert filters.of("eve") == (frozenset("abc"), frozenset("c"))
    assert [filters.has_own(name) for name in ("ada", "bob", "eve")] == [True, True, False]
    assert Filters(allow_for={"ada": frozenset("a")}).of("ada") == (frozenset("a"), frozenset())


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=1, max_size=9), st.floats(0.01, 1))
def test_each_user_counts_once(lists: list[list[int]], cap: float) -> None:
    histories = Packed.from_lengths(
        np.array([item for one in lists for item in one], np.int64), np.array([len(one) for one in lists])
    )
    counts = [sum(item in one for one in lists) for item in range(7)]
    assert users_of_items(histories, 7).tolist() == counts
    assert too_popular(histories, 7, cap).tolist() == [i for i in range(7) if counts[i] > cap * len(lists)]


@pytest.mark.parametrize("cap", [0, -0.1, 1.5, True, "0.5", float("nan"), None])
def test_a_wrong_cap_gives_one_sentence(cap: object) -> None:
    with pytest.raises(InputError, match="popularity_cap is the largest share of all users"):
        too_popular(Packed.from_lengths(np.zeros(1, np.int64), np.array([1])), 1, cap)  # type: ignore[arg-type]


@pytest.mark.parametrize("diversity", [1, -0.1, True, "0.5", float("nan"), None])
def test_a_wrong_diversity_gives_one_sentence(diversity: object) -> None:
    with pytest.raises(
        InputError, match=r"diversity is .*; give a number from 0, which ranks by score alone"
    ):
        check_diversity(diversity)  # type: ignore[arg-type]


def test_an_equal_item_comes_last() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0, 1]])
    assert diversified([2.0, 1.9, 0.5], vectors, 3, 0.5, complete=True) == [0, 2, 1]
    assert diversified([2.0, 1.9, 0.5], vectors, 3, 0.0, complete=True) == [0, 1, 2]
    assert diversified([2.0, 1.9, 0.5], np.zeros((3, 2)), 2, 0.9, complete=True) == [0, 1]
    assert diversified([], np.zeros((0, 2)), 2, 0.9, complete=True) == []


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 60),
    share=st.sampled_from([0.1, 0.5, 0.95]),
    k=st.integers(1, 12),
)
def test_few_candidates_give_the_same_or_ask_for_more(seed: int, count: int, share: float, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors, scores = random.normal(size=(count, 3)), np.sort(random.normal(size=count) * 2)[::-1].tolist()
    whole = diversified(scores, vectors, k, share, complete=True)
    assert whole is not None
    assert len(set(whole)) == min(k, count)
    for pool in range(1, count):
        some = diversified(scores[:pool], vectors[:pool], k, share, complete=False)
        assert some is None or some == whole
    assert diversified(scores, vectors, k, share, complete=False) in (None, whole)


def test_a_small_pool_is_often_enough() -> None:
    random = np.random.default_rng(0)
    vectors, scores = random.normal(size=(500, 32)), np.sort(random.normal(size=500) * 3)[::-1].tolist()
    assert diversified(scores[:100], vectors[:100], 5, 0.3, complete=False) is not None
