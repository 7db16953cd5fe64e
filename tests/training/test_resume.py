"""A run that was stopped at any point ends with the same bits as a run without a stop."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.tiny_runs import (
    StopAfter,
    Stopped,
    assert_same_run,
    at_question,
    contents,
    tiny_config,
    tiny_dataset,
    trained_to,
)

from recblr.data import Dataset
from recblr.errors import InputError
from recblr.nn import RecBLRConfig
from recblr.training import Run, TrainingConfig, checkpoint, train, trainer
from recblr.training.evaluate import evaluate_run
from recblr.training.progress import TrainingStopped


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs without a stop."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(tiny_dataset(), Run(folder), tiny_config())
    return folder


def resume(folder: Path, dataset: Dataset | None = None, **changes: Any) -> None:
    train(dataset or tiny_dataset(), Run(folder), tiny_config(**changes), resume=True)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_resumed_after_an_epoch_equals_one_without_a_stop(
    tmp_path: Path, straight: Path, epoch: int
) -> None:
    run = trained_to(tmp_path / "run", epoch, tiny_dataset(), tiny_config())
    assert len(run.log()) == epoch
    torch.manual_seed(epoch)  # the random state of the process does not matter
    resume(run.folder)
    assert_same_run(run.folder, straight)
    ours, expected = (evaluate_run(Run(folder)) for folder in (run.folder, straight))
    assert ours["ours"] == expected["ours"]
    assert ours["baselines"] == expected["baselines"]


def test_a_run_stopped_after_every_epoch_equals_one_without_a_stop(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config())
    for epoch in (2, 3, 4):
        with pytest.raises(Stopped):
            train(tiny_dataset(), run, tiny_config(), resume=True, listener=StopAfter(epoch))
    resume(run.folder)
    assert_same_run(run.folder, straight)


def test_a_run_with_users_too_short_to_be_tested_equals_one_without_a_stop(tmp_path: Path) -> None:
    long = tiny_dataset()
    lengths = long.histories.lengths.copy()
    lengths[::3], lengths[1::3] = 2, 1
    dataset = replace(long, histories=long.histories.heads(lengths), times=None)
    config = tiny_config(keep_short=True, checkpoint_minutes=1e-9)
    train(dataset, Run(tmp_path / "straight"), config)
    run = Run(tmp_path / "run")
    with pytest.raises(TrainingStopped):
        train(dataset, run, config, stop=at_question(4))
    train(dataset, run, config, resume=True)
    assert_same_run(run.folder, tmp_path / "straight")
    assert evaluate_run(run)["protocol"]["test_users"] == int((lengths >= 3).sum()) == 20


# Functions that are called at the end of an epoch.  A crash may come just before or just after each of them.
STEPS: dict[str, tuple[Any, str]] = {
    "the model": (trainer, "save_model"),
    "the checkpoint": (trainer, "save_checkpoint"),
    "the checkpoint's tensors": (checkpoint, "write_tensors"),
    "the progress": (json, "dump"),
    "the old checkpoint": (shutil, "rmtree"),
    "any file": (os, "fsync"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [1, 3])
def test_a_crash_at_the_end_of_an_epoch_loses_nothing(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: int, when: str
) -> None:
    crash(monkeypatch, *STEPS[step], call, when)
    run = Run(tmp_path / "run")
    with pytest.raises(Stopped):
        train(tiny_dataset(), run, tiny_config())
    monkeypatch.undo()
    resume(run.folder)
    assert_same_run(run.folder, straight)
    assert contents(run.folder).keys() == contents(straight).keys()


def crash(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, when: str) -> None:
    """Let the given call of a function raise Stopped, before or after its work."""
    original, calls = getattr(owner, name), 0

    def instead(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if (calls, when) == (call, "before"):
            raise Stopped
        result = original(*arguments, **options)
        if calls == call:
            raise Stopped
        return result

    monkeypatch.setattr(owner, name, instead)


def test_resuming_without_a_run_starts_one(tmp_path: Path, straight: Path) -> None:
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


def test_resuming_a_run_without_a_finished_epoch_starts_over(tmp_path: Path, straight: Path) -> None:
    Run(tmp_path / "run").create(tiny_dataset(), tiny_config())
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


def test_deleting_the_checkpoint_starts_over(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    shutil.rmtree(run.checkpoints / "epoch-0002")
    resume(run.folder)
    assert_same_run(run.folder, straight)


def test_an_incomplete_line_of_the_log_is_dropped(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    with run.log_file.open("ab") as log:
        log.write(b'{"epoch": 3, "loss": 4.\xff')
    resume(run.folder)
    assert_same_run(run.folder, straight)


@pytest.mark.parametrize("end", ["\n", ""], ids=["with an end", "without an end"])
@pytest.mark.parametrize("deleted", [1, 2])
def test_after_deleting_a_line_a_resumed_log_has_every_other_epoch_once(
    tmp_path: Path, straight: Path, deleted: int, end: str
) -> None:
    # As after a kill between the third line of the log and its checkpoint: the third epoch is repeated.
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    lines = (straight / "log.jsonl").read_text().splitlines()[:3]
    run.log_file.write_text("\n".join(lines[: deleted - 1] + lines[deleted:]) + end)
    resume(run.folder)
    assert [record.epoch for record in run.log()] == [epoch for epoch in (1, 2, 3, 4) if epoch != deleted]


def test_a_last_line_without_a_line_break_is_not_joined_with_the_next(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    run.log_file.write_text(run.log_file.read_text().rstrip())  # as an editor may leave it
    resume(run.folder)
    assert_same_run(run.folder, straight)


def test_incomplete_files_of_a_killed_process_are_removed(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    (run.checkpoints / ".epoch-0003").mkdir()
    (run.checkpoints / ".epoch-0003" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(run.checkpoints / "epoch-0002", run.checkpoints / "epoch-0001")
    for name in (".model.safetensors.0123abcd", ".log.jsonl.0123abcd", ".report.json.0123abcd.tmp"):
        (run.folder / name).write_bytes(b"half")
    (run.folder / ".notes").write_text("mine")
    resume(run.folder)
    assert sorted(contents(run.folder)) == sorted([*contents(straight), ".notes"])


def test_resuming_a_finished_run_does_nothing(tmp_path: Path, straight: Path) -> None:
    shutil.copytree(straight, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    done = train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(), resume=True)
    assert done.epoch == 4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 5}, "--epochs 4, not 5"),
        ({"batch_tokens": 512}, "--batch-tokens 256, not 512"),
        ({"learning_rate": 0.02}, "--learning-rate 0.01, not 0.02"),
        ({"patience": 3}, "--patience 10, not 3"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"model": RecBLRConfig(d_model=8, num_layers=1, dropout=0.1)}, "--d-model 16, not 8"),
        ({"model": RecBLRConfig(d_model=16, num_layers=2, dropout=0.1)}, "--num-layers 1, not 2"),
        ({"model": RecBLRConfig(d_model=16, num_layers=1, dropout=0.5)}, "--dropout 0.1, not 0.5"),
    ],
)
def test_resuming_with_another_option_names_it(straight: Path, changes: dict[str, Any], says: str) -> None:
    before = contents(straight)
    with pytest.raises(InputError) as raised:
        resume(straight, **changes)
    assert f"{straight} was started with {says}; resume with the same options" in str(raised.value)
    assert contents(straight) == before


def test_resuming_on_other_data_is_refused(straight: Path) -> None:
    before = contents(straight)
    with pytest.raises(InputError, match=r"was started on other data than .*; resume with the same data"):
        resume(straight, dataset=tiny_dataset(seed=4))
    assert contents(straight) == before


def test_the_name_of_the_dataset_does_not_matter(tmp_path: Path, straight: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    data = tiny_dataset()
    resume(run.folder, dataset=Dataset("renamed", data.histories, data.user_ids, data.item_ids))
    assert_same_run(run.folder, straight)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "progress.json"])
def test_a_damaged_checkpoint_is_refused_and_the_run_is_not_changed(tmp_path: Path, file: str) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    path = run.checkpoints / "epoch-0002" / file
    path.write_bytes(path.read_bytes()[:-10])
    before = contents(run.folder)
    with pytest.raises(
        InputError, match=rf"{file} is .*damaged.*; restore it from a copy, or delete .*epoch-0002"
    ):
        resume(run.folder)
    assert contents(run.folder) == before


@pytest.mark.parametrize("lost", ["missing", "truncated"])
def test_a_lost_model_is_reported_before_the_training_continues(tmp_path: Path, lost: str) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    if lost == "missing":
        run.model_file.unlink()
    else:
        run.model_file.write_bytes(run.model_file.read_bytes()[:-10])
    before = contents(run.folder)
    with pytest.raises(InputError, match=r"model.safetensors.*; restore it from a copy, or train again"):
        resume(run.folder)
    assert contents(run.folder) == before


def test_the_checkpoint_of_a_run_on_other_data_is_refused(tmp_path: Path) -> None:
    run = trained_to(tmp_path / "run", 2, tiny_dataset(), tiny_config())
    data = tiny_dataset()
    backwards = np.arange(data.num_users)[::-1]
    users = [data.user_ids[s] for s in backwards]
    others = Dataset("others", data.histories.select(backwards), users, data.item_ids)
    other = trained_to(tmp_path / "other", 2, others, tiny_config())
    shutil.rmtree(run.checkpoints)
    shutil.copytree(other.checkpoints, run.checkpoints)
    with pytest.raises(InputError, match="does not fit this run: it was written on other data"):
        resume(run.folder)


def test_options_and_data_are_found_in_the_folder(straight: Path) -> None:
    run = Run(straight)
    assert isinstance(run.config(), TrainingConfig)
    assert run.config() == tiny_config()
    assert run.dataset().fingerprint == tiny_dataset().fingerprint
