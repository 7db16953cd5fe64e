"""Checkpoints: everything that the next epoch depends on, in folders that are whole or not there.

A checkpoint is the folder RUN/checkpoints/epoch-NNNN, written under another name and renamed when it
is complete.  Random numbers need no place in it: each epoch derives its own from the seed.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recblr.errors import InputError
from recblr.nn.model import RecBLR
from recblr.training.tensors import read_tensors, write_tensors

_MODEL, _OPTIMIZER, _PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: epochs done, and the best validation NDCG@10 with its epoch (0: none)."""

    epoch: int = 0
    best_epoch: int = 0
    best: float = -1.0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path, model: RecBLR, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the checkpoint after `progress.epoch`, then remove the older ones."""
    name = f"epoch-{progress.epoch:04d}"
    draft = folder / f".{name}"
    if draft.exists():
        shutil.rmtree(draft)  # what a killed run left
    try:
        draft.mkdir(parents=True)
        write_tensors(draft / _MODEL, model.state_dict(), {"kind": "checkpoint"})
        write_tensors(draft / _OPTIMIZER, _flatten(optimizer), {"kind": "optimizer"})
        with open(draft / _PROGRESS, "w", encoding="utf-8") as file:
            json.dump(asdict(progress), file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        draft.rename(folder / name)
    except OSError as error:
        raise InputError(f"cannot write a checkpoint into {folder}: {error.strerror}") from None
    for old in _checkpoints(folder)[:-1]:
        shutil.rmtree(old)


def latest_progress(folder: Path) -> Progress | None:
    """How far the newest checkpoint in `folder` is, or None where there is none."""
    found = _checkpoints(folder)
    if not found:
        return None
    path = found[-1] / _PROGRESS
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path} is missing or damaged; delete {found[-1]} and train again") from None


def load_checkpoint(folder: Path, model: RecBLR, optimizer: torch.optim.Optimizer) -> None:
    """Restore model and optimizer from the newest checkpoint in `folder`."""
    newest = _checkpoints(folder)[-1]
    tensors, _ = read_tensors(newest / _MODEL, "checkpoint")
    moments, _ = read_tensors(newest / _OPTIMIZER, "optimizer")
    try:
        model.load_state_dict(tensors)
        _unflatten(optimizer, moments)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{newest} does not fit this run ({reason}); delete it and train again") from None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), key=lambda path: int(path.name.removeprefix("epoch-")))


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def _unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
