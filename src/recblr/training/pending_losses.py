"""Losses of steps that the device may still be working on."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

PAUSE = (
    0.1  # seconds from one reading to the next on a GPU: a wait in a hundred steps, and a display in motion
)


@dataclass(frozen=True)
class FinishedStep:
    """A step of the optimizer: its targets, their mean loss, and its learning rate."""

    targets: int
    loss: float
    learning_rate: float


class PendingLosses:
    """Steps whose loss nobody has read, since to read it is to wait until the device has done the step.

    On a CPU each is due at once.  On a GPU, which must always have work ahead of it, they are read together
    every PAUSE seconds, in order, so that sums over them do not depend on when they are read.
    """

    def __init__(self, device: torch.device) -> None:
        self._pause = 0.0 if device.type == "cpu" else PAUSE
        self._losses: list[Tensor] = []
        self._others: list[tuple[int, float]] = []
        self._read = time.monotonic()

    def add(self, targets: int, loss: Tensor, learning_rate: float) -> None:
        """A step; loss: a scalar on the device."""
        self._losses.append(loss)
        self._others.append((targets, learning_rate))

    def due(self) -> bool:
        """Whether it is time to read."""
        return time.monotonic() - self._read >= self._pause

    def read(self) -> list[FinishedStep]:
        """The steps added since the last reading, in order; waits for the device where there are any."""
        values = torch.stack(self._losses).tolist() if self._losses else []
        steps = [
            FinishedStep(targets, loss, rate)
            for loss, (targets, rate) in zip(values, self._others, strict=True)
        ]
        self._losses, self._others, self._read = [], [], time.monotonic()
        return steps
