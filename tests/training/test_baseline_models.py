"""The baselines in the trainer: they are trained, resumed to the same bits, and evaluated like RecBLR."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.tiny_runs import (
    Witness,
    assert_same_run,
    at_question,
    tiny_config,
    tiny_dataset,
    trained_to,
)

from recblr.config import GRU4RecConfig, ModelConfig, SASRecConfig
from recblr.errors import InputError
from recblr.nn.baselines import GRU4Rec, SASRec
from recblr.serving import recommend
from recblr.training import Run, TrainingConfig, TrainingStopped, train
from recblr.training.evaluate import evaluate_run
from recblr.training.learner import fits_memory

CONFIGS = {
    "SASRec": SASRecConfig(d_model=16, num_layers=1, dropout=0.1, max_length=10),
    "GRU4Rec": GRU4RecConfig(d_model=16, num_layers=2, dropout=0.1),
}
CLASSES = {"SASRec": SASRec, "GRU4Rec": GRU4Rec}
of_every_baseline = pytest.mark.parametrize("name", CONFIGS)


def config(name: str) -> TrainingConfig:
    """Options with the largest state: with an average, and with and without weight decay."""
    return tiny_config(epochs=2, ema=0.9, weight_decay=0.01, model=CONFIGS[name])


@of_every_baseline
def test_a_baseline_learns_resumes_exactly_and_is_evaluated(name: str, tmp_path: Path) -> None:
    straight, witness = Run(tmp_path / "straight"), Witness()
    train(tiny_dataset(), straight, config(name), listener=witness)
    assert witness.records[1].loss < witness.records[0].loss

    run = Run(tmp_path / "run")
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), run, config(name), stop=at_question(3))  # in the first epoch
    torch.manual_seed(99)  # the random state of the process does not matter
    train(tiny_dataset(), run, config(name), resume=True)
    assert_same_run(run.folder, straight.folder)

    model = run.model()
    assert type(model) is CLASSES[name]
    assert len(recommend(model, range(15), k=5)) == 5
    report = evaluate_run(run)
    assert report["model"]["name"] == name
    assert report["model"]["model"] == name.lower()
    assert report["model"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_sasrec_trains_on_the_newest_pairs_of_a_history(tmp_path: Path) -> None:
    witness = Witness()
    train(tiny_dataset(), Run(tmp_path / "run"), config("SASRec"), listener=witness)
    lengths = tiny_dataset().histories.lengths - 2  # without the items of validation and test
    assert witness.promised[0] == sum(min(length - 1, 10) for length in lengths.tolist())


def test_a_run_of_another_model_is_not_resumed(tmp_path: Path) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), config("SASRec"))
    with pytest.raises(
        InputError, match="was started with --model sasrec, not gru4rec; resume with the same"
    ):
        train(tiny_dataset(), run, config("GRU4Rec"), resume=True)


@pytest.mark.parametrize("model", [*CONFIGS.values()], ids=CONFIGS)
def test_a_model_fits_if_its_weights_and_moments_fit_the_memory(
    model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recblr.training import learner

    deep = tiny_config(model=type(model)(d_model=16, num_layers=5))
    weights = sum(p.numel() for p in learner.build_model(100, deep.model).parameters())
    for memory, fits in ((16 * weights, True), (16 * weights - 1, False)):
        monkeypatch.setattr(learner, "device_memory", lambda _, memory=memory: memory)
        assert fits_memory(100, deep) is fits
