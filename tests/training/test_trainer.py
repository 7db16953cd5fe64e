"""Training: it learns, stops early and writes a log, and the seed alone determines every bit."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training.tiny_runs import (
    Witness,
    assert_same_run,
    checkpoint_names,
    contents,
    tiny_config,
    tiny_dataset,
)

from recblr.data import Batch, Dataset, Packed, leave_one_out
from recblr.errors import InputError
from recblr.evaluation import popular, rank_targets
from recblr.nn import RecBLRConfig
from recblr.serving.scorer import model_scorer
from recblr.training import EpochRecord, Run, train, trainer
from recblr.training.learner import Learner, learning_rate
from recblr.training.progress import Listener


def of_lengths(*lengths: int) -> Dataset:
    items = np.arange(sum(lengths), dtype=np.int64) % 7
    histories = Packed.from_lengths(items, np.array(lengths))
    return Dataset("shop", histories, [f"u{s}" for s in range(len(lengths))], [f"i{v}" for v in range(7)])


def test_it_learns_more_than_popularity_knows(tmp_path: Path) -> None:
    dataset = tiny_dataset(users=150)
    run = Run(tmp_path / "run")
    train(dataset, run, tiny_config(epochs=10))
    losses = [record.loss for record in run.log()]
    # It starts at the loss of a uniform prediction, and ends well below it.
    assert 0.95 < losses[0] / math.log(dataset.num_items) < 1.03
    assert losses[-1] < losses[0] - 0.8
    assert all(after < before for before, after in pairwise(losses[:7]))

    split = leave_one_out(dataset)
    ours = rank_targets(model_scorer(run.model()), split.test, dataset.num_items).metrics()
    base = rank_targets(popular(split.train, dataset.num_items), split.test, dataset.num_items).metrics()
    for masking in ("unmasked", "masked"):
        assert ours[masking]["ndcg@10"] > 3 * base[masking]["ndcg@10"]


def test_the_log_has_a_line_for_each_epoch(tmp_path: Path) -> None:
    run, witness = Run(tmp_path / "run"), Witness()
    train(tiny_dataset(), run, tiny_config(), listener=witness)
    lines = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert run.log() == witness.records
    for line in lines:
        assert line["train_seconds"] > 0
        assert line["valid_seconds"] > 0
        assert {"unmasked", "masked"} == line["valid"].keys()
        assert 1 <= line["best_epoch"] <= line["epoch"]


def test_every_target_of_an_epoch_is_trained_on_exactly_once(tmp_path: Path) -> None:
    dataset, witness = tiny_dataset(), Witness()
    train(dataset, Run(tmp_path / "run"), tiny_config(epochs=2), listener=witness)
    # The last two events are held out, and the first has no event before it.
    expected = int((dataset.histories.lengths - 3).sum())
    assert witness.promised == [expected, expected]
    for epoch, batches in enumerate(witness.batches):
        assert len(batches) > 1
        assert sum(targets for targets, _ in batches) == expected
        mean = sum(targets * loss for targets, loss in batches) / expected
        assert witness.records[epoch].loss == pytest.approx(mean)
        assert witness.records[epoch].targets == expected


def test_the_held_out_items_are_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny_dataset()
    pairs: list[tuple[int, int]] = []

    def spy(self: Learner, batch: Batch, *others: Any) -> float:
        pairs.extend(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True))
        return step(self, batch, *others)

    step = Learner.step
    monkeypatch.setattr(Learner, "step", spy)
    train(dataset, Run(tmp_path / "run"), tiny_config(epochs=1))
    histories = [dataset.histories.history(s)[:-2].tolist() for s in range(dataset.num_users)]
    expected = [pair for history in histories for pair in pairwise(history)]
    assert sorted(pairs) == sorted(expected)


def test_the_logged_validation_belongs_to_the_saved_model(tmp_path: Path) -> None:
    dataset, run = tiny_dataset(), Run(tmp_path / "run")
    done = train(dataset, run, tiny_config())
    best = run.log()[done.best_epoch - 1]
    found = rank_targets(model_scorer(run.model()), leave_one_out(dataset).valid, dataset.num_items).metrics()
    assert found == best.valid
    assert done.best == best.valid["unmasked"]["ndcg@10"]
    assert done.best == max(record.valid["unmasked"]["ndcg@10"] for record in run.log())


def test_it_stops_when_validation_has_not_improved_for_patience_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.3, 0.2, 0.25, 0.29, 0.9])

    class Ranks:
        def metrics(self) -> dict[str, dict[str, float]]:
            value = next(scores)
            return {"unmasked": {"ndcg@10": value}, "masked": {"ndcg@10": 1 - value}}

    monkeypatch.setattr(trainer, "rank_targets", lambda *_, **__: Ranks())
    run = Run(tmp_path / "run")
    done = train(tiny_dataset(), run, tiny_config(epochs=9, patience=3))
    # An equal score is no improvement.
    assert (done.epoch, done.best_epoch, done.best) == (5, 2, 0.3)
    assert [record.best_epoch for record in run.log()] == [1, 2, 2, 2, 2]
    before = contents(run.folder)
    assert train(tiny_dataset(), run, tiny_config(epochs=9, patience=3), resume=True) == done
    assert contents(run.folder) == before


def test_the_saved_model_is_the_best_and_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.3, 0.1])

    class Ranks:
        def metrics(self) -> dict[str, dict[str, float]]:
            value = next(scores)
            return {"unmasked": {"ndcg@10": value}, "masked": {"ndcg@10": value}}

    monkeypatch.setattr(trainer, "rank_targets", lambda *_, **__: Ranks())
    run = Run(tmp_path / "run")
    after: list[bytes] = []

    class Keep(Listener):
        def end_epoch(self, record: EpochRecord) -> None:
            after.append(run.model_file.read_bytes())

    train(tiny_dataset(), run, tiny_config(epochs=2), listener=Keep())
    assert after[0] == after[1]


def test_the_learning_rate_falls_along_half_a_cosine(tmp_path: Path) -> None:
    rates: list[float] = []

    def spy(optimizer: torch.optim.Optimizer, *_: object) -> None:
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        rates.append(optimizer.param_groups[0]["lr"])

    witness, hook = Witness(), register_optimizer_step_pre_hook(spy)
    try:
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(learning_rate=0.01), listener=witness)
    finally:
        hook.remove()
    steps = len(rates)
    assert steps == sum(len(batches) for batches in witness.batches)
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    # Each epoch starts at its place in the schedule.  All steps of an epoch are equal shares of it.
    for epoch in range(4):
        begin = sum(len(batches) for batches in witness.batches[:epoch])
        falling = (1 + math.cos(math.pi * epoch / 4)) / 2
        assert rates[begin] == pytest.approx(0.01 * (0.01 + 0.99 * falling))
    assert learning_rate(tiny_config(learning_rate=0.01), 1.0, 1.0) == pytest.approx(0.0001)
    assert rates[-1] < 0.05 * rates[0]
    assert witness.records[-1].learning_rate == rates[-1]


def test_the_random_state_of_the_user_is_not_changed(tmp_path: Path) -> None:
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    before, numbers = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=2))
    train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=2), resume=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert pickle.dumps(np.random.get_state()) == numbers  # noqa: NPY002


def test_the_same_seed_gives_the_same_bits_whatever_the_users_random_state(tmp_path: Path) -> None:
    for name, state in (("one", 1), ("two", 2)):
        torch.manual_seed(state)
        train(tiny_dataset(), Run(tmp_path / name), tiny_config(seed=7))
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(tiny_dataset(), Run(tmp_path / str(seed)), tiny_config(epochs=1, seed=seed))
    first, second = (Run(tmp_path / str(seed)).model().item_embedding.weight for seed in (0, 1))
    assert not torch.allclose(first, second)


def test_dropout_differs_from_epoch_to_epoch_and_is_off_in_validation(tmp_path: Path) -> None:
    # With a learning rate near zero, only the dropout can change the loss between epochs.
    run = Run(tmp_path / "run")
    model = RecBLRConfig(d_model=16, num_layers=1, dropout=0.5)
    train(tiny_dataset(), run, tiny_config(epochs=3, learning_rate=1e-30, model=model))
    log = run.log()
    assert len({record.loss for record in log}) == 3
    assert log[0].valid == log[1].valid == log[2].valid


def test_one_checkpoint_is_left(tmp_path: Path) -> None:
    train(tiny_dataset(), Run(tmp_path / "run"), tiny_config())
    assert checkpoint_names(tmp_path / "run") == ["epoch-0004"]


def test_a_user_with_three_events_is_evaluated_but_not_trained_on(tmp_path: Path) -> None:
    run, witness = Run(tmp_path / "run"), Witness()
    train(of_lengths(3, 4, 6), run, tiny_config(epochs=1), listener=witness)
    assert witness.promised == [1 + 3]


def test_data_without_a_single_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no user of shop has the 4 events that training needs; give longer"):
        train(of_lengths(3, 3), Run(tmp_path / "run"), tiny_config())
    assert list(tmp_path.iterdir()) == []


def test_a_user_with_too_few_events_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"user 'u1' of shop has 1 event\(s\).*--min-user-events 3"):
        train(of_lengths(5, 1), Run(tmp_path / "run"), tiny_config())
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_into_memory_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = RecBLRConfig(d_model=10**9, num_layers=3)
    with pytest.raises(
        InputError, match="not enough memory for a model of --d-model 1000000000 and --num-layers 3"
    ):
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(model=model))
    assert list(tmp_path.iterdir()) == []


def test_divergence_is_reported_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1.*lower --learning-rate"):
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(learning_rate=1e30))
