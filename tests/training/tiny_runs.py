"""Runs that are small enough to train in a moment, and a comparison of two runs that must be equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recblr.data import Dataset, synthesize
from recblr.nn import RecBLRConfig
from recblr.training import EpochRecord, Run, TrainingConfig, train
from recblr.training.progress import Listener, Step

CONFIG = TrainingConfig(
    epochs=4,
    batch_tokens=256,
    learning_rate=0.01,
    ema=0.0,
    device="cpu",
    model=RecBLRConfig(d_model=16, num_layers=1, dropout=0.1, time="none"),
)


def tiny_dataset(users: int = 60, seed: int = 3) -> Dataset:
    return synthesize(
        users=users,
        series=4,
        series_length=25,
        noise_items=30,
        threads=2,
        min_events=12,
        max_events=20,
        seed=seed,
    )


def tiny_config(**changes: Any) -> TrainingConfig:
    return replace(CONFIG, **changes)


def at_question(number: int) -> Callable[[], bool]:
    """A `stop` function that returns True from its `number`-th call on."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= number

    return stop


class Stopped(Exception):
    """A listener raises this to end a run early."""


class StopAfter(Listener):
    """Stops the run at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def end_epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.epoch:
            raise Stopped


class Witness(Listener):
    """Records all calls."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, float]]] = []  # for each epoch, (targets, loss) of each batch
        self.promised: list[int] = []
        self.records: list[EpochRecord] = []

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        self.promised.append(targets)
        self.batches.append([])

    def trained(self, step: Step) -> None:
        self.batches[-1].append((step.targets, step.loss))

    def end_epoch(self, record: EpochRecord) -> None:
        self.records.append(record)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread.  For such small work, several threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def log_without_seconds(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.endswith("_seconds")}
        for line in lines
    ]


def checkpoint_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """{"checkpoint/file/name": tensor} of all tensors of all checkpoints."""
    return {
        f"{file.parent.name}/{file.name}/{name}": tensor
        for file in sorted((folder / "checkpoints").rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """{path: bytes} of all files and folders in a folder, including hidden ones.  A folder has no bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def assert_same_run(ours: Path, straight: Path) -> None:
    """Both runs must have the same model file, the same tensors in their checkpoints, and the same log."""
    assert (ours / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    assert checkpoint_names(ours) == checkpoint_names(straight)
    found, expected = checkpoint_tensors(ours), checkpoint_tensors(straight)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), f"{name} differs"
    assert log_without_seconds(ours) == log_without_seconds(straight)


def trained_to(folder: Path, epoch: int, dataset: Dataset, config: TrainingConfig) -> Run:
    """A run that was stopped at the end of an epoch."""
    run = Run(folder)
    try:
        train(dataset, run, config, listener=StopAfter(epoch))
    except Stopped:
        return run
    raise AssertionError(f"the run ended before epoch {epoch}")
