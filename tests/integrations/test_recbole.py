"""The plug-in under RecBole's own trainer: it learns, is evaluated, and gives the scores of our own model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "recbole", reason="RecBole is not installed here; `make recbole` tests it in a separate environment"
)

import torch
from integrations.recbole_example import recbole_example
from nn.released import ReleasedRecBLR, with_large_weights
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.trainer import Trainer
from recbole.utils import init_seed

import recblr
from recblr.data import synthesize
from recblr.data.writers import write_inter
from recblr.integrations import recbole as plugin
from recblr.integrations.released import released_name
from recblr.run.model_file import load_model, save_model

LENGTH = 11


@pytest.fixture(autouse=True)
def _in_a_separate_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of the test: RecBole writes logs and checkpoints into the current folder.

    RecBole also reads the command line as settings, so the command line is replaced.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (tmp_path / "synthetic").mkdir()
    data = synthesize(
        users=120, series=4, series_length=25, noise_items=30, threads=2, min_events=12, max_events=20, seed=3
    )
    write_inter(data, tmp_path / "synthetic" / "synthetic.inter")


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "data_path": ".",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "hidden_size": 16,
        "learning_rate": 0.01,
        "epochs": 3,
        "train_batch_size": 128,
        "show_progress": False,
        "use_gpu": False,
        **changes,
    }


def made(**changes: Any) -> tuple[Config, plugin.RecBLR, tuple[Any, Any, Any]]:
    """RecBole's configuration, the plug-in's model, and the three parts of the data."""
    config = Config(model=plugin.RecBLR, dataset="synthetic", config_dict=settings(**changes))
    init_seed(0, True)
    parts = data_preparation(config, create_dataset(config))
    return config, plugin.RecBLR(config, parts[0].dataset), parts


def batch_of(test_data: Any) -> Any:
    return next(iter(test_data))[0]


def test_the_trainer_of_recbole_trains_and_evaluates_it() -> None:
    config, model, (train, valid, test) = made()
    trainer = Trainer(config, model)
    best, best_result = trainer.fit(train, valid, saved=True, show_progress=False)
    losses = list(trainer.train_loss_dict.values())
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]
    assert 0 < best == best_result["mrr@10"] <= 1
    # This is far better than chance, which is 10 in about 130 items.
    assert trainer.evaluate(test, load_best_model=True, show_progress=False)["hit@10"] > 0.2


@pytest.mark.parametrize("released", [False, True])
def test_full_sort_predict_gives_the_scores_of_our_model(released: bool, tmp_path: Path) -> None:
    _, model, (_, _, test) = made(released=released)
    with_large_weights(model).eval()
    interaction = batch_of(test)
    scores = model.full_sort_predict(interaction)
    ours = model.to_recblr()
    assert scores.shape == (len(interaction), ours.num_items + 1)
    items, lengths = interaction["item_id_list"], interaction["item_length"]
    assert len(set(lengths.tolist())) > 1 or int(lengths[0]) == LENGTH
    for row in range(8):
        history = items[row, : lengths[row]] - 1
        alone = ours.scores(ours(history[None])[0, -1])
        torch.testing.assert_close(alone, scores[row, 1:], rtol=1e-4, atol=1e-4)

    interaction.update(type(interaction)({"item_id": torch.arange(len(interaction)) % 50 + 1}))
    wanted = scores[torch.arange(len(interaction)), interaction["item_id"]]
    torch.testing.assert_close(model.predict(interaction), wanted, rtol=1e-4, atol=1e-4)

    ids = [f"i{item}" for item in range(ours.num_items)]
    save_model(ours, tmp_path / "model.safetensors", ids)
    assert load_model(tmp_path / "model.safetensors").model.config.padding_leak == released


def test_with_the_released_options_it_equals_the_released_model() -> None:
    _, model, (_, _, test) = made(released=True, dropout_prob=0.3)
    assert model.recblr.config == recblr.nn.RecBLRConfig.released(LENGTH, d_model=16, dropout=0.3)
    with_large_weights(model).eval()
    theirs = ReleasedRecBLR(model.n_items, 16).eval()
    theirs.load_state_dict(
        {
            released_name(name): tensor.unsqueeze(1) if name.endswith("conv1d.weight") else tensor
            for name, tensor in model.recblr.state_dict().items()
        }
    )
    interaction = batch_of(test)
    expected = theirs.full_sort_predict(interaction["item_id_list"], interaction["item_length"])
    torch.testing.assert_close(model.full_sort_predict(interaction), expected, rtol=1e-4, atol=1e-4)


def test_it_is_found_by_name_once_registered() -> None:
    plugin.register()
    plugin.register()
    try:
        result = run_recbole(model="RecBLR", dataset="synthetic", config_dict=settings(epochs=2))
        assert 0 < result["best_valid_score"] <= 1
        assert result["test_result"]["hit@10"] > 0
        (checkpoint,) = Path("saved").iterdir()
        _, model, *_ = load_data_and_model(str(checkpoint))
        assert isinstance(model, plugin.RecBLR)
        assert model.to_recblr().config.max_length == LENGTH
    finally:
        del sys.modules["recbole.model.sequential_recommender.recblr"]


def test_it_learns_with_the_bpr_loss() -> None:
    negatives = {"distribution": "uniform", "sample_num": 1}
    config, model, (train, valid, _) = made(loss_type="BPR", train_neg_sample_args=negatives)
    trainer = Trainer(config, model)
    trainer.fit(train, valid, saved=False, show_progress=False)
    losses = list(trainer.train_loss_dict.values())
    assert losses[0] > losses[1] > losses[2]


def test_it_learns_in_mixed_precision() -> None:
    config, model, (train, valid, _) = made(enable_amp=True, released=True)
    trainer = Trainer(config, model)
    trainer.fit(train, valid, saved=False, show_progress=False)
    losses = list(trainer.train_loss_dict.values())
    assert losses[0] > losses[1] > losses[2]


def test_each_switch_can_be_set_alone() -> None:
    config, *_ = made(
        padding_leak=True, beta_epsilon=1e-8, lambda_init="linspace", ffn_dropout=0.1, history_average=False
    )
    found = plugin._model_config(config)
    assert found == recblr.nn.RecBLRConfig(
        d_model=16,
        max_length=LENGTH,
        padding_leak=True,
        beta_epsilon=1e-8,
        lambda_init="linspace",
        ffn_dropout=0.1,
        history_average=False,
    )
    config, *_ = made(released=True, padding_leak=False)
    assert not plugin._model_config(config).padding_leak
    assert plugin._model_config(config).beta_epsilon == 1e-8


def test_the_authors_checkpoint_is_read_with_recboles_own_configuration(tmp_path: Path) -> None:
    config, _, (_, _, test) = made(dropout_prob=0.4)
    theirs = with_large_weights(ReleasedRecBLR(test.dataset.item_num, 16)).eval()
    checkpoint = {"config": config, "epoch": 3, "state_dict": theirs.state_dict(), "other_parameter": {}}
    torch.save(checkpoint, tmp_path / "RecBLR.pth", pickle_protocol=4)  # as RecBole's trainer does
    ours = recblr.load_released(tmp_path / "RecBLR.pth")
    assert (ours.config.max_length, ours.config.dropout) == (LENGTH, 0.4)
    interaction = batch_of(test)
    items, lengths = interaction["item_id_list"], interaction["item_length"]
    hidden = ours(items - 1, lengths=lengths)[torch.arange(len(items)), lengths - 1]
    expected = theirs.full_sort_predict(items, lengths)[:, 1:]
    torch.testing.assert_close(ours.scores(hidden), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1, but is 0"),
        ({"dropout_prob": 1.5}, "dropout_prob must lie in"),
        ({"lambda_init": "random"}, "lambda_init must be uniform or linspace"),
        ({"MAX_ITEM_LIST_LENGTH": 0}, "max_length must be at least 1"),
    ],
)
def test_wrong_settings_are_named_with_the_names_of_recbole(wrong: dict[str, Any], says: str) -> None:
    config, *_ = made()
    config.final_config_dict.update(wrong)
    with pytest.raises(recblr.InputError, match=f"RecBole's settings do not describe a RecBLR model: {says}"):
        plugin._model_config(config)


def test_an_unknown_loss_is_named() -> None:
    config, _, (train, *_) = made()
    config.final_config_dict["loss_type"] = "hinge"
    with pytest.raises(recblr.InputError, match="loss_type must be CE or BPR, but is hinge"):
        plugin.RecBLR(config, train.dataset)


def test_the_example_of_the_documentation_runs() -> None:
    # It runs on RecBole's own copy of MovieLens-100k.  The command line keeps only the most active users.
    Path("example.py").write_text(recbole_example(), encoding="utf-8")
    smaller = ["--epochs=1", "--user_inter_num_interval=[500,inf)", "--hidden_size=16", "--use_gpu=False"]
    done = subprocess.run(
        [sys.executable, "example.py", *smaller], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "test result" in done.stdout + done.stderr
