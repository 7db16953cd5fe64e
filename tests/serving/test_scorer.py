"""A model as a scorer: packing changes no score, and after an empty history all scores are zero."""

from __future__ import annotations

from dataclasses import replace

import torch
from evaluation.histories import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.nn import RecBLR, RecBLRConfig
from recblr.serving.scorer import model_scorer

NUM_ITEMS = 9


def model() -> RecBLR:
    torch.manual_seed(0)
    made = RecBLR(NUM_ITEMS, RecBLRConfig(d_model=8, num_layers=2)).eval()
    with torch.no_grad():  # larger than the initial weights, so that the scores of histories differ
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
    return made


Histories = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=12), max_size=6)


@settings(max_examples=40, deadline=None)
@given(Histories)
def test_packed_histories_have_the_scores_of_single_histories(histories: list[list[int]]) -> None:
    ours = model()
    scores = model_scorer(ours)(pack(histories))
    assert scores.shape == (len(histories), NUM_ITEMS)
    assert not scores.requires_grad
    for row, history in zip(scores, histories, strict=True):
        expected = torch.zeros(NUM_ITEMS)
        if history:
            with torch.no_grad():
                expected = ours.scores(ours(torch.tensor([history]))[0, -1])
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(Histories, st.integers(1, 5))
def test_with_max_length_only_the_newest_events_count(histories: list[list[int]], max_length: int) -> None:
    ours = model()
    expected = model_scorer(ours)(pack([history[-max_length:] for history in histories]))
    ours.config = replace(ours.config, max_length=max_length)
    torch.testing.assert_close(model_scorer(ours)(pack(histories)), expected, rtol=1e-4, atol=1e-5)


def test_an_empty_history_scores_all_items_zero() -> None:
    scores = model_scorer(model())(pack([[], [1, 2], []]))
    assert not scores[0].any()
    assert scores[1].any()
    assert not scores[2].any()


def test_the_order_of_a_history_matters() -> None:
    scores = model_scorer(model())(pack([[1, 2, 3], [3, 2, 1]]))
    assert not torch.allclose(scores[0], scores[1])


@settings(max_examples=20, deadline=None)
@given(Histories, st.integers(1, 5))
def test_the_repeat_bias_counts_old_items_beyond_max_length(
    histories: list[list[int]], max_length: int
) -> None:
    ours = model()
    ours.config = replace(ours.config, max_length=max_length)
    plain = model_scorer(ours)(pack(histories))
    ours.learn_repeat_bias(-5.0)
    held = torch.tensor([[item in history for item in range(NUM_ITEMS)] for history in histories])
    torch.testing.assert_close(model_scorer(ours)(pack(histories)), plain - 5 * held.reshape(-1, NUM_ITEMS))
