"""Checkpoints: everything that the next step depends on.  The folder of a checkpoint is complete or missing.

Checkpoints hold no random state, because each step derives its random numbers from the seed.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recblr.errors import InputError
from recblr.io.reading import check_ends
from recblr.run.folder import checkpoint_name, checkpoints_in, position
from recblr.run.model_file import read_tensors, write_tensors
from recblr.run.model_tensors import difference
from recblr.training.learner import Learner
from recblr.training.progress import Progress

_MODEL, _OPTIMIZER, _AVERAGE = "model.safetensors", "optimizer.safetensors", "average.safetensors"
_PROGRESS = "progress.json"


def save_checkpoint(folder: Path, learner: Learner, progress: Progress, fingerprint: str) -> None:
    """Write a checkpoint of the state at `progress`, then remove all others.

    fingerprint: that of the dataset.  `load_checkpoint` checks it.
    """
    name = checkpoint_name(progress.epoch, progress.step)
    draft = folder / f".{name}"
    about = {"epoch": progress.epoch, "step": progress.step, "fingerprint": fingerprint}
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
        for part, kind, tensors in _parts(learner):
            write_tensors(draft / part, tensors, {"kind": kind, **about})
        with open(draft / _PROGRESS, "w", encoding="utf-8") as file:
            json.dump(asdict(progress), file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        draft.rename(folder / name)
        for other in checkpoints_in(folder):
            if other.name != name:
                shutil.rmtree(other)
    except OSError as error:
        raise InputError(
            f"cannot write a checkpoint into {folder}: {error.strerror}",
            "make room and continue with --resume",
        ) from None


def latest_progress(folder: Path) -> Progress | None:
    """The progress of the newest checkpoint in `folder`, or None if there is no checkpoint.

    Raises InputError if it is damaged.
    """
    found = checkpoints_in(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        check_ends(newest / _PROGRESS)
        progress = Progress(**json.loads((newest / _PROGRESS).read_text(encoding="utf-8")))
        if not progress.is_sound() or (progress.epoch, progress.step) != position(newest):
            raise ValueError
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"{newest / _PROGRESS} is missing or damaged", _remedy(newest)) from None
    return progress


def load_checkpoint(folder: Path, learner: Learner, fingerprint: str) -> None:
    """Restore the learner from the newest checkpoint.

    Raises InputError if a file is missing or damaged, or was written for other data, another model or another
    epoch or step.  The learner is then unchanged.
    """
    newest = checkpoints_in(folder)[-1]
    remedy = _remedy(newest)
    found = []
    for part, kind, expected in _parts(learner, after_a_step=True):
        tensors, header = read_tensors(newest / part, kind, remedy=remedy)
        reason = difference(tensors, expected)
        if reason is None and header.get("fingerprint") != fingerprint:
            reason = "it was written on other data"
        if reason is None and (header.get("epoch"), header.get("step")) != position(newest):
            reason = f"it was written after epoch {header.get('epoch')}, step {header.get('step')}"
        if reason is not None:
            raise InputError(f"{newest / part} does not fit this run: {reason}", remedy)
        found.append(tensors)
    learner.model.load_state_dict(found[0])
    _unflatten(learner.optimizer, found[1])
    if learner.average is not None:
        learner.average.load_state_dict(found[2])


def _parts(learner: Learner, *, after_a_step: bool = False) -> list[tuple[str, str, dict[str, Tensor]]]:
    """The file name, the kind and the tensors of each part of a checkpoint.

    after_a_step: for the optimizer, give tensors of the names, shapes and dtypes that it has after a step.
    """
    optimizer = (_adam_state if after_a_step else _flatten)(learner.optimizer)
    parts = [
        (_MODEL, "checkpoint", learner.model.state_dict()),
        (_OPTIMIZER, "optimizer", optimizer),
    ]
    if learner.average is not None:
        parts.append((_AVERAGE, "average", learner.average.state_dict()))
    return parts


def _remedy(checkpoint: Path) -> str:
    return f"restore it from a copy, or delete {checkpoint}; --resume then starts from the first epoch"


def _adam_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors of the names, shapes and dtypes that the optimizer's state has after a step."""
    expected: dict[str, Tensor] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
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
