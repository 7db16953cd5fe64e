"""The progress of a run: how far it is, the steps that it takes, and the listeners that are told of them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recblr.run.log import EpochRecord, is_count, is_duration

SELECT_BY = "ndcg@10"
"""The metric by which the best epoch is chosen, on the validation items over the whole catalogue: the paper's
protocol."""

PAUSE = 0.1
"""Seconds between two readings of losses on a GPU: about a hundred steps, and still a display that moves."""


class TrainingStopped(Exception):
    """Training was asked to stop, and everything that it takes to go on is saved."""


@dataclass(frozen=True)
class Progress:
    """Epochs done, the best of them, and how far the next one is.

    epoch: complete epochs. best_epoch, best: the best validation NDCG@10 and its epoch (0: none).
    seconds: of the complete epochs. steps: of the optimizer, in all.
    step, targets, loss, step_seconds: in the next epoch, the steps done, their targets, the sum of these
    targets' losses, and the seconds.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: float = -1.0
    seconds: float = 0.0
    steps: int = 0
    step: int = 0
    targets: int = 0
    loss: float = 0.0
    step_seconds: float = 0.0

    def is_sound(self) -> bool:
        """Whether the values can be a run's."""
        whole = (self.epoch, self.best_epoch, self.steps, self.step, self.targets)
        return (
            all(map(is_count, whole))
            and self.best_epoch <= self.epoch
            and (0 <= self.best <= 1 if self.best_epoch else self.best == -1 and self.epoch == 0)
            and self.step <= self.steps
            and abs(self.loss) < math.inf
            and is_duration(self.seconds)
            and is_duration(self.step_seconds)
        )


@dataclass(frozen=True)
class Step:
    """What a step of the optimizer was: its number in the run from 1, and its mean loss over its targets."""

    number: int
    targets: int
    loss: float
    learning_rate: float


class Listener:
    """The training loop calls these methods, which do nothing.  Derive a class, and override what you need.

    They are called in the thread of the training.  An exception ends the training, and the run can be resumed
    from its last checkpoint.
    """

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        """An epoch starts or continues.  `done` of its targets were trained on before the run was stopped."""

    def trained(self, step: Step) -> None:
        """A step of the optimizer is done."""

    def validated(self, users: int) -> None:
        """The validation of the epoch has ranked this many users so far."""

    def end_epoch(self, record: EpochRecord) -> None:
        """The epoch is done and saved."""


class ListenerGroup(Listener):
    """Calls several listeners, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        for listener in self._listeners:
            listener.start_epoch(epoch, epochs, targets, users, done)

    def trained(self, step: Step) -> None:
        for listener in self._listeners:
            listener.trained(step)

    def validated(self, users: int) -> None:
        for listener in self._listeners:
            listener.validated(users)

    def end_epoch(self, record: EpochRecord) -> None:
        for listener in self._listeners:
            listener.end_epoch(record)


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

    def read(self, before: int) -> list[Step]:
        """The steps that were added since the last call, in order.  It waits until the device has done them.

        before: the number of steps of the run before these.
        """
        values = torch.stack(self._losses).tolist() if self._losses else []
        steps = [
            Step(number, targets, loss, rate)
            for number, (loss, (targets, rate)) in enumerate(
                zip(values, self._others, strict=True), before + 1
            )
        ]
        self._losses, self._others, self._read = [], [], time.monotonic()
        return steps
