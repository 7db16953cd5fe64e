"""Training on every device of this machine: it learns, stops, and continues on the same or another device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.histories import pack
from training.tiny_runs import (
    StopAfter,
    Stopped,
    Witness,
    assert_same_run,
    at_question,
    checkpoint_tensors,
    tiny_config,
    tiny_dataset,
    trained_to,
)

from recblr.config.model import TimeUse
from recblr.data import Batch
from recblr.data.packed import TimeRange
from recblr.nn import RecBLRConfig
from recblr.nn.losses import linear_cross_entropy
from recblr.run import model_file
from recblr.serving import recommend
from recblr.serving.scorer import model_scorer
from recblr.system.device import device_for, device_name
from recblr.training import Run, TrainingStopped, train
from recblr.training.checkpoint import load_checkpoint, save_checkpoint
from recblr.training.evaluate import evaluate_run
from recblr.training.learner import Learner
from recblr.training.progress import Progress

BATCH = Batch(np.array([1, 2, 3, 5, 7]), np.array([2, 3, 4, 7, 9]), np.array([0, 3, 5]))
EVERYTHING: dict[str, Any] = {"ema": 0.9, "weight_decay": 0.1, "clip_norm": 0.5}


def new_learner(device: str, **changes: Any) -> Learner:
    return Learner(11, tiny_config(**changes), linear_cross_entropy, torch.device(device))


def held(learner: Learner) -> list[torch.Tensor]:
    """All tensors that a step depends on, except the step count of the average, which is on the CPU."""
    assert learner.average is not None
    weights, state = list(learner.model.parameters()), learner.optimizer.state
    moments = [state[weight][name] for weight in weights for name in ("step", "exp_avg", "exp_avg_sq")]
    return [*weights, *learner.kept.parameters(), *moments]


def test_the_first_weights_are_the_same_everywhere(device: str) -> None:
    ours, expected = (new_learner(where, seed=4).model.state_dict() for where in (device, "cpu"))
    for name, tensor in expected.items():
        assert torch.equal(ours[name].cpu(), tensor), name


def test_the_first_loss_is_the_same_up_to_rounding(device: str) -> None:
    model = RecBLRConfig(d_model=16, num_layers=1, dropout=0.0)
    ours, expected = (
        new_learner(where, model=model).step(BATCH, 0.01, 0).item() for where in (device, "cpu")
    )
    assert ours == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("use", ["past", "request"])
def test_the_first_losses_with_times_are_the_same_up_to_rounding(device: str, use: TimeUse) -> None:
    model = RecBLRConfig(d_model=16, num_layers=1, dropout=0.0, time=use)
    batch = replace(
        BATCH, times=1.7e9 + np.array([0.0, 1.5, 1.5, 0, 9e6]), request_times=1.7e9 + np.array([60, 1e9])
    )

    def losses(where: str) -> list[float]:
        config, found = tiny_config(model=model), TimeRange(10**7)
        learner = Learner(11, config, linear_cross_entropy, torch.device(where), time_range=found)
        return [learner.step(batch, 0.01, number).item() for number in range(3)]

    assert losses(device) == pytest.approx(losses("cpu"), rel=1e-4)


def test_all_that_a_step_depends_on_is_on_the_device(device: str) -> None:
    learner = new_learner(device, **EVERYTHING)
    loss = learner.step(BATCH, 0.01, 0)
    assert {x.device for x in (loss, *held(learner))} == {torch.device(device)}


def test_random_numbers_depend_on_the_step_alone(device: str) -> None:
    one, two = new_learner(device), new_learner(device)
    first = one.step(BATCH, 1e-30, 1, 7).item()
    torch.rand(5, device=device)
    assert two.step(BATCH, 1e-30, 1, 7).item() == first
    assert two.step(BATCH, 1e-30, 1, 8).item() != first


def test_a_checkpoint_is_of_cpu_tensors_and_comes_back_to_the_device(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[torch.Tensor] = []
    save = model_file.save_file

    def spy(named: dict[str, torch.Tensor], *others: Any, **more: Any) -> None:
        written.extend(named.values())
        save(named, *others, **more)

    monkeypatch.setattr(model_file, "save_file", spy)
    learner, other = new_learner(device, **EVERYTHING), new_learner(device, **EVERYTHING, seed=9)
    for number in range(2):
        learner.step(BATCH, 0.01, number)
    save_checkpoint(tmp_path, learner, Progress(epoch=1, best_epoch=1, best=0.5, steps=2), "ab")
    assert written
    assert {tensor.device.type for tensor in written} == {"cpu"}
    load_checkpoint(tmp_path, other, "ab")
    for ours, theirs in zip(held(other), held(learner), strict=True):
        assert ours.device == torch.device(device)
        assert torch.equal(ours, theirs)


def test_the_average_counts_its_steps_on_the_cpu(device: str) -> None:
    learner = new_learner(device, ema=0.9)
    learner.step(BATCH, 0.01, 0)
    assert learner.average is not None
    assert learner.average.n_averaged.device.type == "cpu"


LOSSES: list[dict[str, Any]] = [
    {"loss": "cross-entropy"},
    {"loss": "bpr", "negatives": 16},
    {"loss": "gbce", "negatives": 16},
    {"loss": "sampled-softmax", "negatives": 16},
    {"samples": "prefixes"},
    {"precision": "bfloat16"},
    EVERYTHING,
]


@pytest.mark.parametrize("changes", LOSSES, ids=str)
def test_it_learns(tmp_path: Path, device: str, changes: dict[str, Any]) -> None:
    witness = Witness()
    train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(device=device, **changes), listener=witness)
    losses = [record.loss for record in witness.records]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("changes", [EVERYTHING, {"loss": "sampled-softmax", "negatives": 16}], ids=str)
def test_a_run_stopped_within_an_epoch_ends_with_the_same_bits(
    tmp_path: Path, device: str, changes: dict[str, Any]
) -> None:
    config = tiny_config(epochs=2, device=device, **changes)
    train(tiny_dataset(), Run(tmp_path / "straight"), config)
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), Run(tmp_path / "run"), config, stop=at_question(3))
    train(tiny_dataset(), Run(tmp_path / "run"), config, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_the_random_state_of_the_user_is_not_changed(tmp_path: Path, device: str) -> None:
    torch.manual_seed(5)
    expected = [torch.rand(3).tolist(), torch.rand(3, device=device).tolist()]
    torch.manual_seed(5)
    train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=1, device=device))
    assert [torch.rand(3).tolist(), torch.rand(3, device=device).tolist()] == expected


def test_a_run_may_continue_on_another_device(tmp_path: Path, device: str) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config(device=device))
    before = checkpoint_tensors(run.folder)
    assert {x.device.type for x in before.values()} == {"cpu"}
    with pytest.raises(Stopped):
        train(tiny_dataset(), run, tiny_config(device="cpu"), resume=True, listener=StopAfter(2))
    assert run.config().device == "cpu"
    train(tiny_dataset(), run, tiny_config(device=device), resume=True)
    where, log = device_name(device_for(device)), run.log()
    assert [record.device for record in log] == [where, "cpu", where, where]
    assert log[-1].loss < log[0].loss
    assert evaluate_run(run, device=device)["training"]["device"] == ", ".join(dict.fromkeys([where, "cpu"]))


def test_the_report_names_the_device(tmp_path: Path, device: str) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config(epochs=1, device=device))
    report = evaluate_run(run, device=device)
    name = device_name(device_for(device))
    assert report["training"]["device"] == report["machine"]["device"] == name


def test_an_old_log_without_a_device_was_written_on_the_cpu(tmp_path: Path) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config())
    line = json.loads(run.log_file.read_text(encoding="utf-8"))
    del line["device"]
    run.log_file.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert run.log()[0].device == "cpu"


def test_scores_equal_those_of_the_cpu_up_to_rounding(tmp_path: Path, device: str) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config())
    histories = pack([[1, 2, 3], [], [5]])
    ours = model_scorer(run.model().to(device))(histories)
    assert ours.device == torch.device(device)
    torch.testing.assert_close(ours.cpu(), model_scorer(run.model())(histories), rtol=1e-4, atol=1e-5)
    best, expected = (recommend(run.model().to(where), [1, 2, 3], 5) for where in (device, "cpu"))
    assert [item for item, _ in best] == [item for item, _ in expected]
