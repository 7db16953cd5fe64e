"""A run that is asked to stop is saved within the epoch, continues there, and ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.tiny_runs import (
    Witness,
    assert_same_run,
    at_question,
    checkpoint_names,
    contents,
    tiny_config,
    tiny_dataset,
)

from recblr.errors import InputError
from recblr.training import Run, TrainingConfig, TrainingStopped, train

# Options with the largest state: an average, weight decay, and a learning rate that rises and falls.
CONFIG = tiny_config(epochs=2, ema=0.9, weight_decay=0.1, clip_norm=0.5, warmup=0.3)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(tiny_dataset(), Run(folder), CONFIG)
    return folder


def stopped(run: Run, question: int, config: TrainingConfig = CONFIG) -> bool:
    """Continue the run and stop it when it asks for the `question`-th time.  False if it ended before."""
    try:
        train(tiny_dataset(), run, config, resume=True, stop=at_question(question))
    except TrainingStopped:
        return True
    return False


# The run asks before the first step, within the epoch, in its validation, after it, and so on to its end.
@pytest.mark.parametrize("question", range(1, 12))
def test_a_run_stopped_anywhere_ends_with_the_same_bits(
    tmp_path: Path, straight: Path, question: int
) -> None:
    run = Run(tmp_path / "run")
    assert stopped(run, question)
    torch.manual_seed(question)
    train(tiny_dataset(), run, CONFIG, resume=True)
    assert_same_run(run.folder, straight)
    assert contents(run.folder).keys() == contents(straight).keys()


def test_a_run_stopped_at_every_step_ends_with_the_same_bits(tmp_path: Path, straight: Path) -> None:
    run, times = Run(tmp_path / "run"), 0
    while stopped(run, 2):
        times += 1
    assert times > 8
    assert_same_run(run.folder, straight)


def test_saving_at_every_step_changes_nothing(tmp_path: Path, straight: Path) -> None:
    run = Run(tmp_path / "run")
    config = tiny_config(
        epochs=2, ema=0.9, weight_decay=0.1, clip_norm=0.5, warmup=0.3, checkpoint_minutes=1e-9
    )
    names: set[str] = set()

    def look() -> bool:
        if run.checkpoints.exists():
            names.update(checkpoint_names(run.folder))
        return False

    train(tiny_dataset(), run, config, stop=look)
    assert {"epoch-0000-step-000001", "epoch-0000-step-000002", "epoch-0001-step-000001"} <= names
    assert_same_run(run.folder, straight)


def test_zero_minutes_never_save_within_an_epoch(tmp_path: Path) -> None:
    names: set[str] = set()
    run = Run(tmp_path / "run")

    def look() -> bool:
        if run.checkpoints.exists():
            names.update(checkpoint_names(run.folder))
        return False

    train(tiny_dataset(), run, tiny_config(epochs=2, checkpoint_minutes=0.0), stop=look)
    assert names == {"epoch-0001", "epoch-0002"}


def test_the_first_epoch_can_be_stopped_in_its_middle(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert stopped(run, 3)
    assert checkpoint_names(run.folder) == ["epoch-0000-step-000002"]
    assert run.log() == []
    with pytest.raises(InputError, match="holds no trained model yet; finish an epoch with recblr train"):
        run.model()


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert stopped(run, 1)
    assert not run.checkpoints.exists()


def test_the_listener_gets_the_steps_before_and_after_a_stop(tmp_path: Path) -> None:
    class Starts(Witness):
        def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
            super().start_epoch(epoch, epochs, targets, users, done)
            self.done = done

    run, before, after = Run(tmp_path / "run"), Starts(), Starts()
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), run, CONFIG, listener=before, stop=at_question(3))
    train(tiny_dataset(), run, CONFIG, listener=after, resume=True)
    assert before.done == 0
    trained = [*before.batches[0], *after.batches[0]]
    assert sum(targets for targets, _ in trained) == before.promised[0]
    record = after.records[0]
    assert record.loss == pytest.approx(sum(t * loss for t, loss in trained) / record.targets)


def test_checkpoint_minutes_may_change_when_a_run_is_resumed(tmp_path: Path, straight: Path) -> None:
    run = Run(tmp_path / "run")
    assert stopped(run, 3)
    again = tiny_config(
        epochs=2, ema=0.9, weight_decay=0.1, clip_norm=0.5, warmup=0.3, checkpoint_minutes=0.5
    )
    train(tiny_dataset(), run, again, resume=True)
    assert run.config().checkpoint_minutes == 0.5
    assert_same_run(run.folder, straight)


def test_the_average_is_validated_and_saved(tmp_path: Path, straight: Path) -> None:
    plain = Run(tmp_path / "plain")
    train(tiny_dataset(), plain, tiny_config(epochs=2, weight_decay=0.1, clip_norm=0.5, warmup=0.3))
    ours, theirs = Run(straight).log(), plain.log()
    assert [record.loss for record in ours] == [record.loss for record in theirs]
    assert [record.valid for record in ours] != [record.valid for record in theirs]
    assert not torch.equal(Run(straight).model().item_embedding.weight, plain.model().item_embedding.weight)
