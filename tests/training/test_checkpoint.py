"""Checkpoints: restored bit for bit, one at a time, whole or not there, and never another run's."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training.tiny_runs import checkpoint_names, contents

from recblr.errors import InputError
from recblr.nn import RecBLR, RecBLRConfig
from recblr.training.checkpoint import Progress, latest_progress, load_checkpoint, save_checkpoint
from recblr.training.tensors import write_tensors

PROGRESS = Progress(epoch=2, best_epoch=1, best=0.25, seconds=1.5)
FILES = ["model.safetensors", "optimizer.safetensors"]


def pair(seed: int = 0, d_model: int = 8, items: int = 11) -> tuple[RecBLR, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = RecBLR(items, RecBLRConfig(d_model=d_model, num_layers=1))
    return model, torch.optim.Adam(model.parameters(), lr=0.01, fused=True)


def step(model: RecBLR, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model.scores(model(torch.tensor([[1, 2, 3, 4]]))).square().sum().backward()
    optimizer.step()


def saved(folder: Path, seed: int = 0, fingerprint: str = "ab") -> tuple[RecBLR, torch.optim.Optimizer]:
    model, optimizer = pair(seed)
    for _ in range(3):
        step(model, optimizer)
    save_checkpoint(folder, model, optimizer, PROGRESS, fingerprint)
    return model, optimizer


def refused(folder: Path) -> str:
    """The sentence with which the checkpoint is refused; model and optimizer must be as they were."""
    model, optimizer = pair(seed=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as raised:
        load_checkpoint(folder, model, optimizer, "ab")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not optimizer.state
    message = str(raised.value)
    assert "\n" not in message
    assert f"delete {folder / 'epoch-0002'}, and --resume starts from the first epoch" in message
    return message


def test_the_next_step_after_loading_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    other, other_optimizer = pair(seed=9)
    load_checkpoint(tmp_path, other, other_optimizer, "ab")
    for _ in range(2):
        torch.manual_seed(7)
        step(model, optimizer)
        torch.manual_seed(7)
        step(other, other_optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    before, after = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    for index, entry in before.items():
        for name, value in entry.items():
            assert torch.equal(after[index][name], value), (index, name)


def test_progress_survives(tmp_path: Path) -> None:
    saved(tmp_path)
    assert latest_progress(tmp_path) == PROGRESS


def test_a_folder_without_checkpoints_has_no_progress(tmp_path: Path) -> None:
    assert latest_progress(tmp_path / "nowhere") is None
    assert latest_progress(tmp_path) is None


def test_only_the_one_just_written_is_kept(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    for epoch in (3, 4, 10_000):
        save_checkpoint(tmp_path, model, optimizer, Progress(epoch=epoch), "ab")
        assert [path.name for path in tmp_path.iterdir()] == [f"epoch-{epoch:04d}"]
    # Not the one with the highest number: what another run left must not outlive this one's.
    save_checkpoint(tmp_path, model, optimizer, Progress(epoch=1), "ab")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001"]


def test_the_newest_is_the_one_with_the_highest_number_not_the_last_in_the_alphabet(tmp_path: Path) -> None:
    saved(tmp_path)
    for epoch in (9_999, 10_000):
        shutil.copytree(tmp_path / "epoch-0002", tmp_path / f"epoch-{epoch}")
        about = {"epoch": epoch, "best_epoch": 1, "best": 0.5, "seconds": 1.0}
        (tmp_path / f"epoch-{epoch}" / "progress.json").write_text(json.dumps(about))
    progress = latest_progress(tmp_path)
    assert progress is not None
    assert progress.epoch == 10_000


def test_a_half_written_draft_is_ignored_and_replaced(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    draft = tmp_path / ".epoch-0003"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    (draft / ".optimizer.safetensors.1234abcd").write_bytes(b"less")
    assert latest_progress(tmp_path) == PROGRESS
    load_checkpoint(tmp_path, *pair(seed=1), "ab")
    save_checkpoint(tmp_path, model, optimizer, Progress(epoch=3), "ab")
    assert sorted(contents(tmp_path)) == [
        "epoch-0003",
        "epoch-0003/model.safetensors",
        "epoch-0003/optimizer.safetensors",
        "epoch-0003/progress.json",
    ]


def test_the_old_checkpoint_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = saved(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recblr.training.checkpoint.json.dump", fail)
    with pytest.raises(InputError, match="No space left on device; make room"):
        save_checkpoint(tmp_path, model, optimizer, Progress(epoch=3), "ab")
    assert latest_progress(tmp_path) == PROGRESS
    load_checkpoint(tmp_path, *pair(seed=1), "ab")


def test_other_things_in_the_folder_do_no_harm(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    (tmp_path / "epoch-best").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert latest_progress(tmp_path) == PROGRESS
    save_checkpoint(tmp_path, model, optimizer, Progress(epoch=3), "ab")
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


def test_model_and_optimizer_cannot_stand_in_for_each_other(tmp_path: Path) -> None:
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
    model, optimizer = pair()
    step(model, optimizer)
    save_checkpoint(tmp_path / "other", model, optimizer, Progress(epoch=1), "ab")
    shutil.copy(tmp_path / "other" / "epoch-0001" / file, tmp_path / "epoch-0002" / file)
    assert "it was written after epoch 1" in refused(tmp_path)


@pytest.mark.parametrize(("file", "tensor"), [(FILES[0], "item_embedding.weight"), (FILES[1], "0.exp_avg")])
def test_a_file_of_a_wider_model_is_refused(tmp_path: Path, file: str, tensor: str) -> None:
    saved(tmp_path)
    model, optimizer = pair(d_model=16)
    step(model, optimizer)
    save_checkpoint(tmp_path / "other", model, optimizer, PROGRESS, "ab")
    shutil.copy(tmp_path / "other" / "epoch-0002" / file, tmp_path / "epoch-0002" / file)
    assert f"{tensor} has the shape (11, 16), not (11, 8)" in refused(tmp_path)


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
    write_tensors(path, tensors, {"kind": "optimizer", "epoch": 2, "fingerprint": "ab"})
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
        b"[" * 100_000,
    ],
    ids=range(15),
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
        save_checkpoint(tmp_path / "checkpoints", *pair(), PROGRESS, "ab")
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_names_are_what_the_documentation_says(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoints")
    assert checkpoint_names(tmp_path) == ["epoch-0002"]
