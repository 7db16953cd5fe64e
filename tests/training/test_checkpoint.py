"""Checkpoints: restored bit for bit, one at a time, complete or missing, and never those of another run."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training.tiny_runs import checkpoint_names, contents

from recblr.data import Batch
from recblr.errors import InputError
from recblr.nn import RecBLRConfig
from recblr.nn.losses import linear_cross_entropy
from recblr.run.model_file import write_tensors
from recblr.training import TrainingConfig
from recblr.training.checkpoint import latest_progress, load_checkpoint, save_checkpoint
from recblr.training.learner import Learner
from recblr.training.progress import Progress

PROGRESS = Progress(epoch=2, best_epoch=1, best=0.25, seconds=1.5, steps=6)
FILES = ["model.safetensors", "optimizer.safetensors", "average.safetensors"]


BATCH = Batch(np.array([1, 2, 3]), np.array([2, 3, 4]), np.array([0, 3]))


def new_learner(seed: int = 0, d_model: int = 8, items: int = 11) -> Learner:
    model = RecBLRConfig(d_model=d_model, num_layers=1)
    return Learner(
        items, TrainingConfig(seed=seed, ema=0.9, weight_decay=0.1, model=model), linear_cross_entropy
    )


def step(learner: Learner, number: int = 0) -> None:
    learner.step(BATCH, 0.01, number)


def saved(folder: Path, seed: int = 0, fingerprint: str = "ab") -> Learner:
    learner = new_learner(seed)
    for number in range(3):
        step(learner, number)
    save_checkpoint(folder, learner, PROGRESS, fingerprint)
    return learner


def refused(folder: Path) -> str:
    """The error when the checkpoint is loaded.  The learner must be unchanged."""
    learner = new_learner(seed=5)
    before = {name: tensor.clone() for name, tensor in state(learner).items()}
    with pytest.raises(InputError) as raised:
        load_checkpoint(folder, learner, "ab")
    assert_same(state(learner), before)
    assert not learner.optimizer.state
    message = str(raised.value)
    assert "\n" not in message
    assert f"delete {folder / 'epoch-0002'}; --resume then starts from the first epoch" in message
    return message


def state(learner: Learner) -> dict[str, torch.Tensor]:
    """All tensors of the model and of the average."""
    assert learner.average is not None
    return learner.model.state_dict() | learner.average.state_dict()


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_the_next_step_after_loading_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    learner = saved(tmp_path)
    other = new_learner(seed=9)
    load_checkpoint(tmp_path, other, "ab")
    other._config = learner._config  # its seed
    for number in (3, 4):
        step(learner, number)
        step(other, number)
    assert_same(state(other), state(learner))
    before, after = learner.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    for index, entry in before.items():
        for name, value in entry.items():
            assert torch.equal(after[index][name], value), (index, name)


def test_progress_is_read_back(tmp_path: Path) -> None:
    saved(tmp_path)
    assert latest_progress(tmp_path) == PROGRESS


def test_a_folder_without_checkpoints_has_no_progress(tmp_path: Path) -> None:
    assert latest_progress(tmp_path / "nowhere") is None
    assert latest_progress(tmp_path) is None


def test_only_the_one_just_written_is_kept(tmp_path: Path) -> None:
    learner = saved(tmp_path)
    for epoch in (3, 4, 10_000):
        save_checkpoint(tmp_path, learner, Progress(epoch=epoch), "ab")
        assert [path.name for path in tmp_path.iterdir()] == [f"epoch-{epoch:04d}"]
    # The newest is kept and not the one with the highest number, which another run may have left.
    save_checkpoint(tmp_path, learner, Progress(epoch=1), "ab")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001"]


def test_the_newest_is_the_one_with_the_highest_number_not_the_last_in_the_alphabet(tmp_path: Path) -> None:
    saved(tmp_path)
    for epoch in (9_999, 10_000):
        shutil.copytree(tmp_path / "epoch-0002", tmp_path / f"epoch-{epoch}")
        about = {"epoch": epoch, "best_epoch": 1, "best": 0.5, "seconds": 1.0, "steps": 8}
        (tmp_path / f"epoch-{epoch}" / "progress.json").write_text(json.dumps(about))
    progress = latest_progress(tmp_path)
    assert progress is not None
    assert progress.epoch == 10_000


def test_a_half_written_draft_is_ignored_and_replaced(tmp_path: Path) -> None:
    learner = saved(tmp_path)
    draft = tmp_path / ".epoch-0003"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    (draft / ".optimizer.safetensors.1234abcd").write_bytes(b"less")
    assert latest_progress(tmp_path) == PROGRESS
    load_checkpoint(tmp_path, new_learner(seed=1), "ab")
    save_checkpoint(tmp_path, learner, Progress(epoch=3), "ab")
    assert sorted(contents(tmp_path)) == [
        "epoch-0003",
        "epoch-0003/average.safetensors",
        "epoch-0003/model.safetensors",
        "epoch-0003/optimizer.safetensors",
        "epoch-0003/progress.json",
    ]


def test_the_old_checkpoint_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = saved(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recblr.training.checkpoint.json.dump", fail)
    with pytest.raises(InputError, match="No space left on device; make room"):
        save_checkpoint(tmp_path, learner, Progress(epoch=3), "ab")
    assert latest_progress(tmp_path) == PROGRESS
    load_checkpoint(tmp_path, new_learner(seed=1), "ab")


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    learner = saved(tmp_path)
    (tmp_path / "epoch-best").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert latest_progress(tmp_path) == PROGRESS
    save_checkpoint(tmp_path, learner, Progress(epoch=3), "ab")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0003", "epoch-best", "notes.txt"]


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_file_is_refused(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-0002" / file
    whole = path.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert f"{path} is damaged or truncated" in refused(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_random_bytes_are_refused(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-0002" / file
    for seed in range(10):
        path.write_bytes(random.Random(seed).randbytes(1000))
        assert f"{path} is damaged or truncated" in refused(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    (tmp_path / "epoch-0002" / file).unlink()
    assert f"there is no file {tmp_path / 'epoch-0002' / file}" in refused(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_another_programs_file_is_refused(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-0002" / file
    save_file(load_file(path), path, metadata={"format": "pt"})
    assert "was not written by recblr" in refused(tmp_path)


def test_an_optimizer_file_in_place_of_the_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    folder = tmp_path / "epoch-0002"
    shutil.copy(folder / "optimizer.safetensors", folder / "model.safetensors")
    assert "holds a recblr optimizer, not a checkpoint" in refused(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_a_run_on_other_data_is_refused(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    saved(tmp_path / "other", fingerprint="cd")
    shutil.copy(tmp_path / "other" / "epoch-0002" / file, tmp_path / "epoch-0002" / file)
    assert "does not fit this run: it was written on other data" in refused(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_epoch_is_refused(tmp_path: Path, file: str) -> None:
    saved(tmp_path)
    learner = new_learner()
    step(learner)
    save_checkpoint(tmp_path / "other", learner, Progress(epoch=1), "ab")
    shutil.copy(tmp_path / "other" / "epoch-0001" / file, tmp_path / "epoch-0002" / file)
    assert "it was written after epoch 1, step 0" in refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        (FILES[0], "item_embedding.weight"),
        (FILES[1], "0.exp_avg"),
        (FILES[2], "module.item_embedding.weight"),
    ],
)
def test_a_file_of_a_wider_model_is_refused(tmp_path: Path, file: str, tensor: str) -> None:
    saved(tmp_path)
    learner = new_learner(d_model=16)
    step(learner)
    save_checkpoint(tmp_path / "other", learner, PROGRESS, "ab")
    shutil.copy(tmp_path / "other" / "epoch-0002" / file, tmp_path / "epoch-0002" / file)
    assert re.search(rf"{tensor} has the shape \(\d+, .*\), not \(\d+, .*\)", refused(tmp_path))


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("3.exp_avg_sq"), "it has no tensor 3.exp_avg_sq"),
        (lambda tensors: tensors.update({"99.step": torch.tensor(1.0)}), "it has a tensor 99.step"),
        (lambda tensors: tensors.update(momentum=torch.tensor(1.0)), "it has a tensor momentum"),
        (lambda tensors: tensors.update({"0.step": torch.zeros(3)}), "0.step has the shape (3,), not ()"),
    ],
    ids=["missing", "extra", "foreign", "shape"],
)
def test_an_optimizer_of_another_model_is_refused(
    tmp_path: Path, change: Callable[[Tensors], object], says: str
) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-0002" / "optimizer.safetensors"
    tensors = load_file(path)
    change(tensors)
    write_tensors(path, tensors, {"kind": "optimizer", "epoch": 2, "step": 0, "fingerprint": "ab"})
    assert says in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b"3",
        b"{}",
        b'{"epoch": 2}',
        b'{"epoch": "2", "best_epoch": 1, "best": 0.1, "seconds": 1}',
        b'{"epoch": 3, "best_epoch": 1, "best": 0.1, "seconds": 1}',
        b'{"epoch": 2, "best_epoch": 7, "best": 0.1, "seconds": 1}',
        b'{"epoch": 2, "best_epoch": 1, "best": NaN, "seconds": 1}',
        b'{"epoch": 2, "best_epoch": 1, "best": "high", "seconds": 1}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": null}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "colour": 3}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "steps": 3, "step": 1}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "steps": 3, "step": -1}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "steps": 3, "step": 0.5}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "loss": NaN}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1, "loss": "low"}',
        b'{"epoch": 2, "best_epoch": 1, "best": 0.1, "seconds": 1e999}',
        b'{"epoch": true, "best_epoch": 1, "best": 0.1, "seconds": 1}',
        b'{"epoch": 2, "best_epoch": 0, "best": -1, "seconds": 1}',
        b"[" * 100_000,
    ],
    ids=range(23),
)
def test_damaged_progress_is_refused(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path)
    path = tmp_path / "epoch-0002" / "progress.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"progress.json is missing or damaged; restore it .*, or delete"):
        latest_progress(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"progress.json is missing or damaged"):
        latest_progress(tmp_path)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(InputError, match=f"cannot write a checkpoint into {tmp_path / 'checkpoints'}"):
        save_checkpoint(tmp_path / "checkpoints", new_learner(), PROGRESS, "ab")
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_names_are_the_documented_ones(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoints")
    assert checkpoint_names(tmp_path) == ["epoch-0002"]
