"""The k-core: the largest part of the data in which every user and every item has k interactions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data.events import k_core
from recblr.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


def kept(pairs: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    users, items = np.array(pairs, dtype=np.int64).T
    return [pair for pair, keep in zip(pairs, k_core(users, items, k), strict=True) if keep]


def one_by_one(pairs: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    """The definition: drop pairs of a user and an item as long as one of the two has too few interactions."""
    left = list(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        rare = next((pair for pair in left if users[pair[0]] < k or items[pair[1]] < k), None)
        if rare is None:
            return left
        left = [pair for pair in left if pair != rare]


@given(PAIRS, st.integers(2, 5))
def test_the_k_core_equals_dropping_one_by_one(pairs: list[tuple[int, int]], k: int) -> None:
    expected = one_by_one(pairs, k)
    if expected:
        assert kept(pairs, k) == expected
    else:
        with pytest.raises(InputError, match="nothing is left"):
            kept(pairs, k)


@given(PAIRS, st.integers(2, 3))
def test_filtering_again_changes_nothing(pairs: list[tuple[int, int]], k: int) -> None:
    once = one_by_one(pairs, k)
    if once:
        assert kept(once, k) == once


@given(PAIRS, st.integers(-1, 1))
def test_k_of_one_or_less_keeps_everything(pairs: list[tuple[int, int]], k: int) -> None:
    assert kept(pairs, k) == pairs


def test_dropping_is_repeated_until_nothing_changes() -> None:
    # User 2 and item 2 are dropped first. Item 1 then has one user less and is dropped, and so is user 1.
    core = [(u, i) for u in (0, 3) for i in (0, 3)]
    chain = [(1, 0), (1, 1), (2, 1), (2, 2)]
    assert kept(core + chain, 2) == core


def test_the_error_for_an_empty_core_has_the_size_of_the_data() -> None:
    with pytest.raises(
        InputError,
        match=r"nothing is left of shop\.csv .* it had 3 interactions, 2 users and 3 items; lower --k-core",
    ):
        k_core(np.array([0, 0, 7]), np.array([1, 2, 5]), 5, source="shop.csv")
