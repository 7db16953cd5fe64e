"""Which checkpoints a run's folder holds, by their names.

A checkpoint is the folder RUN/checkpoints/epoch-NNNN after an epoch, or epoch-NNNN-step-MMMMMM that many
steps into the next one, written under another name and renamed when it is complete.
"""

import os
import re
import shutil
from pathlib import Path

_NAME = re.compile("epoch-([0-9]+)(?:-step-([0-9]+))?")


def checkpoint_name(epoch: int, step: int) -> str:
    """The folder's name after so many complete epochs, and steps of the next."""
    return f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "")


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, be they damaged, the newest last."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((folder / name for name in names if _NAME.fullmatch(name)), key=position)


def position(checkpoint: Path) -> tuple[int, int]:
    """Complete epochs, and steps of the next, by the folder's name."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def tidy_checkpoints(folder: Path) -> None:
    """Remove what a killed run left beside the newest checkpoint: older ones, and drafts."""
    for path in (*checkpoints_in(folder)[:-1], *folder.glob(".epoch-*")):
        shutil.rmtree(path, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint, damaged or not."""
    return bool(checkpoints_in(folder))


def finished_epochs(folder: Path) -> int:
    """How many epochs were complete at the newest checkpoint, damaged or not; 0 where there is none."""
    found = checkpoints_in(folder)
    return position(found[-1])[0] if found else 0
