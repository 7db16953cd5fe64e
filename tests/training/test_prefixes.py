"""Training on prefixes, as in the authors' code.  Each prefix has one target, and resuming is exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from training.tiny_runs import Witness, assert_same_run, tiny_config, tiny_dataset, trained_to

from recblr.data import Packed, packed_batches, prefix_batches
from recblr.nn import RecBLR, RecBLRConfig
from recblr.nn.losses import linear_cross_entropy
from recblr.training import Run, train
from recblr.training.learner import Learner

RELEASED = RecBLRConfig.released(7, d_model=16, num_layers=1, dropout=0.1)
CONFIG = tiny_config(samples="prefixes", batch_sequences=64, model=RELEASED)


def test_it_learns(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, CONFIG)
    losses = [record.loss for record in run.log()]
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < losses[0] - 0.3


def test_every_target_is_trained_on_exactly_once_an_epoch(tmp_path: Path) -> None:
    dataset, witness = tiny_dataset(), Witness()
    train(
        dataset, Run(tmp_path / "run"), tiny_config(samples="prefixes", batch_sequences=50), listener=witness
    )
    expected = int((dataset.histories.lengths - 3).sum())
    assert witness.promised == [expected] * 4
    assert all(sum(targets for targets, _ in batches) == expected for batches in witness.batches)
    assert all(targets == 50 for batches in witness.batches for targets, _ in batches[:-1])


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    train(dataset, Run(tmp_path / "straight"), CONFIG)
    run = trained_to(tmp_path / "stopped", 2, dataset, CONFIG)
    train(dataset, run, CONFIG, resume=True)
    assert_same_run(run.folder, tmp_path / "straight")


def test_prefixes_and_positions_have_the_same_targets_and_without_dropout_the_same_loss() -> None:
    # A causal model sees the same events before a target in both cases.  Only the batches differ.
    learner = Learner(9, tiny_config(), linear_cross_entropy)
    learner.model.eval()
    items = np.random.default_rng(0).integers(9, size=20)
    histories = Packed.from_lengths(items, np.array([1, 8, 0, 2, 9]))
    (whole,) = packed_batches(histories, tokens=100, seed=0, epoch=0)
    (prefixes,) = prefix_batches(histories, sequences=100, seed=0, epoch=0)
    assert sorted(whole.targets) == sorted(prefixes.targets)
    torch.testing.assert_close(learner._loss(whole), learner._loss(prefixes))


@pytest.mark.parametrize("samples", ["positions", "prefixes"])
def test_max_length_applies_in_training_and_in_validation(
    tmp_path: Path, samples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest: list[int] = []
    forward = RecBLR.forward

    def spy(self: RecBLR, items: torch.Tensor, *, offsets: torch.Tensor) -> torch.Tensor:
        longest.append(int(offsets.diff().max()))
        return forward(self, items, offsets=offsets)

    monkeypatch.setattr(RecBLR, "forward", spy)
    model = RecBLRConfig(d_model=16, num_layers=1, dropout=0.2, max_length=5, time="none")
    run = Run(tmp_path / "run")
    config = tiny_config(epochs=1, samples=samples, batch_sequences=64, model=model)
    train(tiny_dataset(), run, config)
    assert max(longest) == 5
    assert run.model().config.max_length == 5
    assert run.config() == config
