"""The filters without a model: popularity, and lists whose items differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Packed
from recblr.errors import InputError
from recblr.serving.filters import (
    Filters,
    check_diversity,
    diversified,
    most_popular,
    too_popular,
    unit_rows,
    users_of_items,
)


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
    assert too_popular(np.array(counts), len(lists), cap).tolist() == [
        i for i in range(7) if counts[i] > cap * len(lists)
    ]


def test_what_most_users_have_comes_first_and_nothing_that_is_retired() -> None:
    assert most_popular(np.array([1, 3, 0, 3])).tolist() == [1, 3, 0, 2]
    assert most_popular(np.array([1, 3, 0, 3]), [1, 2]).tolist() == [3, 0]


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_rows_of_any_size_have_length_1(scale: float) -> None:
    rows = np.array([[3, 4], [0, 0], [-1, 0]], np.float32) * np.float32(scale)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)


@pytest.mark.parametrize("cap", [0, -0.1, 1.5, True, "0.5", float("nan"), None])
def test_a_wrong_cap_gives_one_sentence(cap: object) -> None:
    with pytest.raises(InputError, match="popularity_cap is the largest share of all users"):
        too_popular(np.ones(1, np.int64), 1, cap)  # type: ignore[arg-type]


@pytest.mark.parametrize("diversity", [1, -0.1, True, "0.5", float("nan"), None])
def test_a_wrong_diversity_gives_one_sentence(diversity: object) -> None:
    with pytest.raises(
        InputError, match=r"diversity is .*; give a number from 0, which ranks by score alone"
    ):
        check_diversity(diversity)  # type: ignore[arg-type]


def test_a_likeness_counts_against_an_item() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0, 1]])
    assert diversified([2.0, 1.9, 0.5], vectors, 3, 0.5) == [0, 2, 1]
    assert diversified([2.0, 1.9, 0.5], vectors, 3, 0.0) == [0, 1, 2]
    assert diversified([2.0, 1.9, 0.5], np.zeros((3, 2)), 2, 0.9) == [0, 1]
    assert diversified([2.0, 1.0, 1.0], [[1, 0], [-1, 0], [0, 1]], 3, 0.5) == [0, 1, 2]  # type: ignore[arg-type]
    assert diversified([], np.zeros((0, 2)), 2, 0.9) == []


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30), k=st.integers(1, 12))
def test_more_diversity_makes_lists_whose_items_are_less_alike(seed: int, count: int, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors, scores = random.normal(size=(count, 3)), np.sort(random.normal(size=count))[::-1].tolist()
    lists = [diversified(scores, vectors, k, share) for share in (0, 0.5, 0.99)]
    assert lists[0] == [*range(min(k, count))]
    for one in lists:
        assert len(set(one)) == min(k, count)
        assert one[0] == 0
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if k > 1 and count > 1:
        # The second item is the least alike if nothing else counts.
        assert units[lists[2][1]] @ units[0] <= max(0, (units[1:] @ units[0]).min()) + 0.02
