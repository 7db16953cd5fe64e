"""Losses are read at once on a CPU, and later but in order on a GPU.  The run is the same in both cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.tiny_runs import Witness, assert_same_run, at_question, tiny_config, tiny_dataset

from recblr.errors import InputError
from recblr.training import Run, Step, TrainingStopped, progress, train
from recblr.training.progress import PendingLosses

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CONFIG = tiny_config(epochs=2, ema=0.9)


def test_on_a_cpu_a_loss_is_due_at_once() -> None:
    assert PendingLosses(CPU).due()


def test_on_a_gpu_losses_are_due_together_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    steps = PendingLosses(GPU)
    for number in range(3):
        steps.add(10 + number, torch.tensor(0.5 * number), 0.1)
        assert not steps.due()
    now += 1.5 * progress.PAUSE
    assert steps.due()
    assert steps.read(before=6) == [Step(7, 10, 0.0, 0.1), Step(8, 11, 0.5, 0.1), Step(9, 12, 1.0, 0.1)]
    assert not steps.due()
    assert steps.read(before=9) == []


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read as late as possible."""
    monkeypatch.setattr(PendingLosses, "due", lambda _: False)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(tiny_dataset(), Run(folder), CONFIG)
    return folder


@pytest.mark.usefixtures("late")
def test_reading_losses_late_changes_neither_the_run_nor_the_listener_calls(
    tmp_path: Path, straight: Path
) -> None:
    told = []
    for name in ("late", "early"):
        with pytest.MonkeyPatch.context() as patch:
            if name == "early":
                patch.setattr(PendingLosses, "due", lambda _: True)
            told.append(Witness())
            train(tiny_dataset(), Run(tmp_path / name), CONFIG, listener=told[-1])
        assert_same_run(tmp_path / name, straight)
    assert told[0].batches == told[1].batches


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("question", [1, 2, 4, 6])
def test_a_stop_between_two_readings_counts_every_finished_step(
    tmp_path: Path, straight: Path, question: int
) -> None:
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), Run(tmp_path / "run"), CONFIG, stop=at_question(question))
    train(tiny_dataset(), Run(tmp_path / "run"), CONFIG, resume=True)
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("late")
def test_a_checkpoint_between_two_readings_counts_every_finished_step(tmp_path: Path, straight: Path) -> None:
    config = tiny_config(epochs=2, ema=0.9, checkpoint_minutes=1e-9)
    train(tiny_dataset(), Run(tmp_path / "run"), config)
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("late")
def test_divergence_is_reported_before_anything_is_saved(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1"):
        train(tiny_dataset(), run, tiny_config(learning_rate=1e30))
    assert not run.checkpoints.exists()
