"""Checkpoints: everything that the next epoch depends on, in folders that are whole or not there.

A checkpoint is the folder RUN/checkpoints/epoch-NNNN, written under another name and renamed when it
is complete.  Random numbers need no place in it: each epoch derives its own from the seed.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recblr.errors import InputError
from recblr.nn.model import RecBLR
from recblr.training.tensors import difference, read_tensors, write_tensors

_MODEL, _OPTIMIZER, _PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"
_NAME = re.compile("epoch-([0-9]+)")


@dataclass(frozen=True)
class Progress:
    """How far a run has come: epochs done, and the best validation NDCG@10 with its epoch (0: none)."""

    epoch: int = 0
    best_epoch: int = 0
    best: float = -1.0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path, model: RecBLR, optimizer: torch.optim.Optimizer, progress: Progress, fingerprint: str
) -> None:
    """Write the checkpoint after `progress.epoch`, then remove all others.

    fingerprint: of the dataset, which `load_checkpoint` asks for again.
    """
    name = f"epoch-{progress.epoch:04d}"
    draft = folder / f".{name}"
    about = {"epoch": progress.epoch, "fingerprint": fingerprint}
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
        write_tensors(draft / _MODEL, model.state_dict(), {"kind": "checkpoint", **about})
        write_tensors(draft / _OPTIMIZER, _flatten(optimizer), {"kind": "optimizer", **about})
        with open(draft / _PROGRESS, "w", encoding="utf-8") as file:
            json.dump(asdict(progress), file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        draft.rename(folder / name)
        for other in _checkpoints(folder):
            if other.name != name:
                shutil.rmtree(other)
    except OSError as error:
        raise InputError(
            f"cannot write a checkpoint into {folder}: {error.strerror}; make room and continue with --resume"
        ) from None


def tidy(folder: Path) -> None:
    """Remove what a killed run left beside the newest checkpoint: older ones, and drafts."""
    for path in (*_checkpoints(folder)[:-1], *folder.glob(".epoch-*")):
        shutil.rmtree(path, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint in `folder`, be it damaged."""
    return bool(_checkpoints(folder))


def latest_progress(folder: Path) -> Progress | None:
    """How far the newest checkpoint in `folder` is, or None where there is none.

    Raises InputError where it is damaged.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        progress = Progress(**json.loads((newest / _PROGRESS).read_text(encoding="utf-8")))
        whole = progress.epoch == _epoch(newest) and 0 <= progress.best_epoch <= progress.epoch
        if not whole or not 0 <= progress.best <= 1 or not progress.seconds >= 0:
            raise ValueError
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"{newest / _PROGRESS} is missing or damaged; {_remedy(newest)}") from None
    return progress


def load_checkpoint(folder: Path, model: RecBLR, optimizer: torch.optim.Optimizer, fingerprint: str) -> None:
    """Restore model and optimizer, Adam over the model's parameters, from the newest checkpoint.

    Raises InputError where a file is missing or damaged, or belongs to other data, another model or
    another epoch; model and optimizer are then as they were.
    """
    newest = _checkpoints(folder)[-1]
    remedy = _remedy(newest)
    parts = []
    for file, kind, expected in (
        (_MODEL, "checkpoint", model.state_dict()),
        (_OPTIMIZER, "optimizer", _adam_state(optimizer)),
    ):
        tensors, header = read_tensors(newest / file, kind, remedy=remedy)
        reason = difference(tensors, expected)
        if reason is None and header.get("fingerprint") != fingerprint:
            reason = "it was written on other data"
        if reason is None and header.get("epoch") != _epoch(newest):
            reason = f"it was written after epoch {header.get('epoch')}"
        if reason is not None:
            raise InputError(f"{newest / file} does not fit this run: {reason}; {remedy}")
        parts.append(tensors)
    model.load_state_dict(parts[0])
    _unflatten(optimizer, parts[1])


def _remedy(checkpoint: Path) -> str:
    return f"restore it from a copy, or delete {checkpoint}, and --resume starts from the first epoch"


def _checkpoints(folder: Path) -> list[Path]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((folder / name for name in names if _NAME.fullmatch(name)), key=_epoch)


def _epoch(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("epoch-"))


def _adam_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors of the names, shapes and dtypes that the state has after a step."""
    expected: dict[str, Tensor] = {}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        expected[f"{index}.step"] = torch.zeros((), dtype=torch.float32)
        expected[f"{index}.exp_avg"] = expected[f"{index}.exp_avg_sq"] = parameter
    return expected


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def _unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
