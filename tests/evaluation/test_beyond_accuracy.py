"""What is said of lists beside their accuracy, against plain loops and examples to check by reading."""

from math import log2

import numpy as np
import pytest
import torch
from evaluation.histories import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.data.packed import Packed
from recblr.data.splits import Holdout
from recblr.evaluation import Ranks, rank_targets
from recblr.evaluation.beyond_accuracy import Popularity, beyond_accuracy, beyond_simple, intervals

ITEMS = 5
HISTORIES = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=6), min_size=1, max_size=8)
LISTS = st.lists(st.lists(st.integers(-1, ITEMS - 1), min_size=3, max_size=3), min_size=1, max_size=8)


@settings(max_examples=60)
@given(HISTORIES, LISTS)
def test_figures_equal_a_loop(train: list[list[int]], lists: list[list[int]]) -> None:
    found = beyond_accuracy(np.array(lists), Popularity.of(pack(train), ITEMS), k=3)
    shown = [item for items in lists for item in items if item >= 0]
    events = [item for history in train for item in history]
    assert found["coverage@3"] == len(set(shown)) / ITEMS
    if not shown or not events:
        assert found.keys() == {"coverage@3"}
        return
    active = sum(bool(history) for history in train)
    users = [max(1, sum(item in history for history in train)) for item in range(ITEMS)]
    assert found["novelty@3"] == pytest.approx(np.mean([-log2(users[item] / active) for item in shown]))
    mean_chosen = np.mean([events.count(item) for item in events])
    assert found["popularity@3"] == pytest.approx(
        np.mean([events.count(item) for item in shown]) / mean_chosen
    )


def test_lists_of_what_everybody_has_are_neither_novel_nor_more_popular() -> None:
    train = pack([[0, 1], [1, 0]])
    found = beyond_accuracy(np.array([[0, 1], [1, 0]]), Popularity.of(train, 4), k=2)
    assert found == {"coverage@2": 0.5, "novelty@2": 0.0, "popularity@2": 1.0}
    rare = beyond_accuracy(np.array([[2]]), Popularity.of(pack([[0, 0], [0], [0], [2]]), 4), k=1)
    assert rare == {"coverage@1": 0.25, "novelty@1": 2.0, "popularity@1": pytest.approx(1 / (17 / 5))}


def test_without_training_events_there_is_only_a_coverage() -> None:
    nothing = Packed(np.zeros(0, np.int64), np.zeros(3, np.int64))
    assert beyond_accuracy(np.array([[1], [1]]), Popularity.of(nothing, 4), k=1) == {"coverage@1": 0.25}


def test_a_list_is_right_if_the_target_is_in_it() -> None:
    targets = np.array([1, 2, 3, 4])
    ours = np.array([[1, 0], [0, 2], [3, 0], [0, -1]])  # right, right, right, wrong
    simple = [np.array([[1, 0], [0, 1], [0, 1], [0, 1]]), np.array([[0, 2], [0, 1], [-1, -1], [4, 0]])]
    assert beyond_simple(targets, ours, simple) == {"simple@2": 2 / 4, "beyond-simple@2": 2 / 4}


def test_a_list_is_not_right_for_a_target_that_it_leaves_out_because_the_user_has_it() -> None:
    scores = torch.tensor([[9.0, 8, 7, 6]])
    holdout = Holdout(pack([[0, 2]]), np.array([0]))  # the user takes item 0 again
    found = rank_targets(lambda histories: scores, holdout, 4, lists=2)
    assert found.masked.tolist() == [1]
    assert found.lists is not None
    assert found.lists.tolist() == [[1, 3]]
    assert beyond_simple(holdout.targets, found.lists, [np.array([[0, 1]])]) == {
        "simple@2": 1.0, "beyond-simple@2": 0.0
    }  # fmt: skip
    assert beyond_simple(holdout.targets, found.lists, [found.lists])["simple@2"] == 0.0


def test_intervals_hold_the_mean_of_each_masking() -> None:
    generator = np.random.default_rng(0)
    both = Ranks(generator.integers(1, 100, 500), generator.integers(1, 40, 500))
    found = intervals(both)
    for masking, metrics in both.metrics((10,)).items():
        assert found[masking].keys() == {"hr@10", "ndcg@10"}
        for metric, interval in found[masking].items():
            assert interval["low"] < metrics[metric] < interval["high"]
            assert interval["high"] - interval["low"] < 0.1
    assert found["masked"]["hr@10"]["low"] > found["unmasked"]["hr@10"]["high"]
