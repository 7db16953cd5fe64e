"""What remains if every user and every item must have enough interactions; the k-core is one case."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data.events import MinimumCounts, frequent
from recblr.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


COUNTS = st.builds(MinimumCounts, st.just(0), st.integers(0, 5), st.integers(0, 5))


def kept(pairs: list[tuple[int, int]], minimum: MinimumCounts) -> list[tuple[int, int]]:
    users, items = np.array(pairs, dtype=np.int64).T
    keep, of_users, of_items = frequent(users, items, minimum)
    assert of_users + of_items == len(pairs) - np.count_nonzero(keep)  # each is counted once
    assert minimum.users > 1 or of_users == 0
    assert minimum.items > 1 or of_items == 0
    return [pair for pair, one in zip(pairs, keep, strict=True) if one]


def one_by_one(pairs: list[tuple[int, int]], minimum: MinimumCounts) -> list[tuple[int, int]]:
    """The definition: drop pairs of a user and an item as long as one of the two has too few interactions."""
    left = list(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        rare = next((p for p in left if users[p[0]] < minimum.users or items[p[1]] < minimum.items), None)
        if rare is None:
            return left
        left = [pair for pair in left if pair != rare]


@given(PAIRS, COUNTS | st.builds(MinimumCounts, st.integers(2, 5)))
def test_filtering_equals_dropping_one_by_one(pairs: list[tuple[int, int]], minimum: MinimumCounts) -> None:
    expected = one_by_one(pairs, minimum)
    if expected:
        assert kept(pairs, minimum) == expected
        assert kept(expected, minimum) == expected
    else:
        with pytest.raises(InputError, match="nothing is left"):
            kept(pairs, minimum)


@given(PAIRS, st.integers(0, 1))
def test_k_of_one_or_less_keeps_everything(pairs: list[tuple[int, int]], k: int) -> None:
    assert kept(pairs, MinimumCounts(k)) == pairs


def test_dropping_is_repeated_until_nothing_changes() -> None:
    # User 2 and item 2 are dropped first. Item 1 then has one user less and is dropped, and so is user 1.
    core = [(u, i) for u in (0, 3) for i in (0, 3)]
    chain = [(1, 0), (1, 1), (2, 1), (2, 2)]
    assert kept(core + chain, MinimumCounts(2)) == core


def test_a_side_has_its_own_number_or_that_of_the_k_core() -> None:
    assert (MinimumCounts().users, MinimumCounts().items) == (5, 5)
    minimum = MinimumCounts(3, min_item_events=0)
    assert (minimum.users, minimum.items) == (3, 0)
    assert MinimumCounts(np.int64(2)).users == 2  # type: ignore[arg-type]
    # User 0 has 2 events, and both items have 1 or 2.
    pairs = [(0, 0), (0, 1), (1, 0)]
    assert kept(pairs, MinimumCounts(0, min_user_events=2)) == [(0, 0), (0, 1)]
    assert kept(pairs, MinimumCounts(0, min_item_events=2)) == [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("minimum", "rare", "remedy"),
    [
        (MinimumCounts(5), "users and items with fewer than 5 interactions", "--k-core (k_core="),
        (
            MinimumCounts(5, 4, 6),
            "users with fewer than 4 interactions and items with fewer than 6 interactions",
            "--min-user-events or --min-item-events (min_user_events=, min_item_events=",
        ),
        (
            MinimumCounts(5, min_user_events=1),
            "items with fewer than 5 interactions",
            "--k-core (k_core=",
        ),
        (
            MinimumCounts(5, min_item_events=50),
            "users with fewer than 5 interactions and items with fewer than 50 interactions",
            "--k-core or --min-item-events (k_core=, min_item_events=",
        ),
        (
            MinimumCounts(0, 9),
            "users with fewer than 9 interactions",
            "--min-user-events (min_user_events=",
        ),
    ],
)
def test_the_error_if_nothing_is_left_names_the_size_and_the_options(
    minimum: MinimumCounts, rare: str, remedy: str
) -> None:
    with pytest.raises(InputError) as raised:
        frequent(np.array([0, 0, 7]), np.array([1, 2, 5]), minimum, source="shop.csv")
    assert raised.value.problem == (
        f"nothing is left of shop.csv after dropping {rare}: it had 3 interactions, 2 users and 3 items"
    )
    assert raised.value.remedy == f"lower {remedy} in Python; 0 keeps everything)"
