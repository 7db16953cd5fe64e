"""Each loss: it trains a model, and a resumed run draws the same negatives as one without a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny_runs import assert_same_run, at_question, tiny_config, tiny_dataset

from recblr.data import leave_one_out
from recblr.errors import InputError
from recblr.evaluation import popular, rank_targets
from recblr.nn.losses import (
    Proposal,
    bpr_loss,
    gbce_beta,
    gbce_bias,
    gbce_loss,
    linear_cross_entropy,
    sampled_softmax_loss,
)
from recblr.serving.scorer import model_scorer
from recblr.training import Run, TrainingConfig, TrainingStopped, train
from recblr.training.learner import objective

LOSSES: list[dict[str, Any]] = [
    {"loss": "bpr"},
    {"loss": "bpr", "negatives_from": "popularity"},
    {"loss": "gbce"},
    {"loss": "sampled-softmax"},
    {"loss": "sampled-softmax", "negatives_from": "uniform"},
]


@pytest.mark.parametrize("changes", LOSSES, ids=lambda changes: " ".join(changes.values()))
def test_it_learns_more_than_popularity(tmp_path: Path, changes: dict[str, Any]) -> None:
    dataset, run = tiny_dataset(users=150), Run(tmp_path / "run")
    train(dataset, run, tiny_config(epochs=8, negatives=64, **changes))
    losses = [record.loss for record in run.log()]
    assert losses[-1] < losses[0]
    split = leave_one_out(dataset)
    ours = rank_targets(model_scorer(run.model()), split.test, dataset.num_items).metrics()
    base = rank_targets(popular(split.train, dataset.num_items), split.test, dataset.num_items).metrics()
    assert ours["unmasked"]["ndcg@10"] > 2 * base["unmasked"]["ndcg@10"]


@pytest.mark.parametrize("changes", LOSSES, ids=lambda changes: " ".join(changes.values()))
def test_a_stopped_run_draws_the_same_negatives(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tiny_config(epochs=1, negatives=16, **changes)
    train(tiny_dataset(), Run(tmp_path / "straight"), config)
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), Run(tmp_path / "run"), config, stop=at_question(3))
    torch.manual_seed(5)
    train(tiny_dataset(), Run(tmp_path / "run"), config, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_each_name_gives_its_loss() -> None:
    histories, items = leave_one_out(tiny_dataset()).train, tiny_dataset().num_items
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(9, 4, generator=generator), torch.randn(items, 4, generator=generator)
    targets = torch.randint(items, (9,), generator=generator)
    proposals = {
        "uniform": Proposal.uniform(items),
        "popularity": Proposal.popularity(torch.from_numpy(histories.items), items),
    }
    beta = gbce_beta(7, items, 0.5)
    for loss, source in (("bpr", "popularity"), ("gbce", "uniform"), ("sampled-softmax", "popularity")):
        config = TrainingConfig(loss=loss, negatives=7, negatives_from=source, gbce_t=0.5)
        torch.manual_seed(3)
        found = objective(config, histories, items)(hidden, weight, targets)
        torch.manual_seed(3)
        negatives = proposals[source].draw(7)
        function, more = {
            "bpr": (bpr_loss, ()),
            "gbce": (gbce_loss, (beta, gbce_bias(beta, 7))),
            "sampled-softmax": (sampled_softmax_loss, (proposals[source].log_q,)),
        }[loss]
        assert torch.equal(found, function(hidden, weight, targets, negatives, *more))
    for smoothing in (0.0, 0.3):
        found = objective(TrainingConfig(label_smoothing=smoothing), histories, items)(
            hidden, weight, targets
        )
        assert torch.equal(found, linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing))


def test_the_sampled_softmax_draws_by_popularity_by_default() -> None:
    assert TrainingConfig(loss="sampled-softmax").proposal == "popularity"
    assert TrainingConfig(loss="sampled-softmax", negatives_from="uniform").proposal == "uniform"
    assert TrainingConfig(loss="gbce").proposal == TrainingConfig(loss="bpr").proposal == "uniform"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"loss": "cross-entropie"}, "--loss must be one of cross-entropy, .*; do you mean cross-entropy?"),
        (
            {"loss": "hinge"},
            "--loss must be one of cross-entropy, bpr, gbce, sampled-softmax, but is 'hinge'",
        ),
        ({"negatives": 0}, "--negatives must be at least 1, but is 0"),
        ({"negatives_from": "batch"}, "--negatives-from must be one of uniform, popularity"),
        ({"gbce_t": 1.5}, r"--gbce-t must lie in \[0, 1\], but is 1.5"),
        ({"loss": "gbce", "negatives_from": "popularity"}, "gbce is calibrated for uniform negatives"),
    ],
)
def test_wrong_loss_options_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainingConfig(**changes)
