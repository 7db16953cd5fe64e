"""Leave-one-out takes each history apart without losing or repeating an event."""

from __future__ import annotations

import pytest
from data.packing import dataset
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import leave_one_out
from recblr.errors import InputError

DIGITS = [str(digit) for digit in range(10)]


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=8), max_size=6))
def test_train_then_validation_then_test_is_the_history(histories: list[list[int]]) -> None:
    split = leave_one_out(dataset(histories, items=DIGITS))
    assert len(split.train) == len(histories)
    for s, history in enumerate(histories):
        train = split.train.history(s).tolist()
        valid, test = int(split.valid.targets[s]), int(split.test.targets[s])
        assert [*train, valid, test] == history
        assert split.valid.histories.history(s).tolist() == history[:-2]
        assert split.test.histories.history(s).tolist() == history[:-1]


def test_a_user_with_two_events_is_named() -> None:
    with pytest.raises(InputError, match=r"user 'user1' of shop has 2 event\(s\).*--k-core 3"):
        leave_one_out(dataset([[1, 2, 3], [4, 5], [6]], items=DIGITS))
