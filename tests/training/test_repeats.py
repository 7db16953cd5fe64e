"""Loss and scores use the same earlier items of a user, even if the model sees only the newest events."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from evaluation.histories import pack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from training.tiny_runs import tiny_config

from recblr.data import packed_batches, prefix_batches
from recblr.nn import RecBLRConfig, Repeats
from recblr.serving.scorer import model_scorer
from recblr.training.learner import Learner

ITEMS = 7
Histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12), min_size=1, max_size=5)
TargetsWithRepeats = Counter[tuple[int, frozenset[int]]]
"""A count for each target together with the earlier items of its user."""


def with_repeats(targets: list[int], added: Tensor) -> TargetsWithRepeats:
    """Each target with the items that got a bias.  added: the bias of each item, (targets, ITEMS)."""
    assert added.shape == (len(targets), ITEMS)
    held = [frozenset(row.nonzero().flatten().tolist()) for row in added]
    return Counter(zip(targets, held, strict=True))


class Loss:
    """An objective that records the repeats that it gets."""

    def __init__(self) -> None:
        self.seen: TargetsWithRepeats = Counter()

    def __call__(self, hidden: Tensor, weight: Tensor, targets: Tensor, repeats: Repeats | None) -> Tensor:
        assert repeats is not None
        self.seen += with_repeats(targets.tolist(), repeats.of(torch.arange(ITEMS)))
        return hidden.sum()


@pytest.mark.parametrize("samples", ["positions", "prefixes"])
@given(histories=Histories, max_length=st.integers(1, 13), size=st.integers(1, 20))
def test_loss_and_scorer_use_the_same_repeats(
    samples: str, histories: list[list[int]], max_length: int, size: int
) -> None:
    model = RecBLRConfig(d_model=4, num_layers=1, max_length=max_length)
    loss = Loss()
    learner = Learner(ITEMS, tiny_config(model=model), loss, repeat_bias=-2.0)
    if samples == "positions":
        batches = packed_batches(pack(histories), tokens=size, seed=0, epoch=0, max_length=max_length)
        trained = [len(history) - max_length for history in histories]
    else:
        batches = prefix_batches(pack(histories), sequences=size, seed=0, epoch=0, max_length=max_length)
        trained = [1] * len(histories)
    for batch in batches:
        learner._loss(batch)

    ends = [
        (history[:end], history[end])
        for history, first in zip(histories, trained, strict=True)
        for end in range(max(first, 1), len(history))
    ]
    served = learner.model.eval()
    torch.nn.init.zeros_(served.item_embedding.weight)  # then a score is the bias or zero
    scores = model_scorer(served)(pack([history for history, _ in ends]))
    assert loss.seen == with_repeats([target for _, target in ends], scores)
