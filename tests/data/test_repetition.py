"""How often users take what they have taken before, against a count with sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Packed
from recblr.data.repetition import repeat_log_odds


def packed(histories: list[list[int]]) -> Packed:
    lengths = np.array([len(h) for h in histories], dtype=np.int64)
    return Packed.from_lengths(np.array([item for h in histories for item in h], dtype=np.int64), lengths)


def counted(histories: list[list[int]], num_items: int) -> float:
    targets = repeats = held = 0
    for history in histories:
        for t in range(1, len(history)):
            targets += 1
            repeats += history[t] in history[:t]
            held += len(set(history[:t]))
    if not targets:
        return 0.0
    share, by_chance = (repeats + 1) / (targets + 2), min(held / targets / num_items, 0.5)
    return math.log(share / (1 - share)) - math.log(by_chance / (1 - by_chance))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.lists(st.integers(0, n - 1))))))
def test_it_is_what_counting_with_sets_gives(problem: tuple[int, list[list[int]]]) -> None:
    num_items, histories = problem
    assert repeat_log_odds(packed(histories), num_items) == pytest.approx(counted(histories, num_items))


def test_it_is_negative_where_nothing_recurs_and_positive_where_all_does() -> None:
    never, always = [list(range(20))] * 99, [[3] * 20] * 9
    assert repeat_log_odds(packed(never), 1000) < -2
    assert repeat_log_odds(packed(always), 1000) > 10
