"""The repeat bias: the items that a user already has, and the effect of the bias on scores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recblr.nn import RecBLR, RecBLRConfig, Repeats, seen_items

ITEMS = 7
Histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=5)


def packed(histories: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    items = torch.tensor([item for history in histories for item in history], dtype=torch.long)
    return items, torch.tensor([0, *(len(history) for history in histories)]).cumsum(0)


def model() -> RecBLR:
    torch.manual_seed(0)
    return RecBLR(ITEMS, RecBLRConfig(d_model=4, num_layers=1)).eval()


@given(Histories)
def test_whole_histories_hold_their_items(histories: list[list[int]]) -> None:
    held = seen_items(*packed(histories), ITEMS)
    assert held.tolist() == [[item in history for item in range(ITEMS)] for history in histories]


@given(Histories)
def test_at_each_event_a_user_has_its_item_and_earlier_items(histories: list[list[int]]) -> None:
    items, offsets = packed(histories)
    added = Repeats(torch.tensor(-2.0), items, offsets).of(torch.arange(ITEMS))
    expected = [
        [-2.0 * (item in history[: t + 1]) for item in range(ITEMS)]
        for history in histories
        for t in range(len(history))
    ]
    assert added.tolist() == expected


def test_without_a_bias_scores_do_not_need_the_seen_items() -> None:
    ours, hidden = model(), torch.randn(2, 4)
    assert ours.repeat_bias is None
    assert "repeat_bias" not in ours.state_dict()
    torch.testing.assert_close(ours.scores(hidden), hidden @ ours.item_embedding.weight.T)


def test_the_bias_is_added_to_the_scores_of_seen_items() -> None:
    ours, hidden = model(), torch.randn(2, 4)
    plain = ours.scores(hidden)
    ours.learn_repeat_bias(-3.0)
    seen = seen_items(*packed([[1, 1, 5], []]), ITEMS)
    expected = plain.clone()
    expected[0, [1, 5]] -= 3
    torch.testing.assert_close(ours.scores(hidden, seen), expected)
    assert dict(ours.named_parameters())["repeat_bias"].item() == -3


def test_with_a_bias_scores_need_the_seen_items() -> None:
    ours = model()
    ours.learn_repeat_bias()
    with pytest.raises(ValueError, match="give seen="):
        ours.scores(torch.randn(2, 4))
