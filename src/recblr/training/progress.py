"""The progress of a run: the epochs and steps that are done, and the listeners that follow them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recblr.run.log import EpochRecord, is_count, is_duration

SELECT_BY = "ndcg@10"
"""The metric that chooses the best epoch, as in the paper: on validation items, over the whole catalogue."""

PAUSE = 0.1
"""Seconds between two readings of the losses on a GPU.  A reading waits, but the display needs the losses."""


class TrainingStopped(Exception):
    """Training was asked to stop, and everything that is needed to continue is saved."""


@dataclass(frozen=True)
class Progress:
    """The state of a run: its complete epochs, the best of them, and the steps of the next epoch.

    epoch: the number of complete epochs. seconds: the time that they took.
    best_epoch, best: the epoch with the best validation NDCG@10 (0 before the first), and its value.
    steps: the number of optimizer steps in the whole run.
    step, targets, loss, step_seconds: in the next epoch, the number of steps that are done, the number of
    their targets, the sum of the losses of these targets, and the time.
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
        """Whether a run can have these values."""
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
    """A step of the optimizer: its number in the run, from 1, its targets, and the mean of their losses."""

    number: int
    targets: int
    loss: float
    learning_rate: float


class Listener:
    """Receives the progress of a training.  The methods of this class do nothing; override those you need.

    The loop calls them in the thread of the training.  An exception ends the training, and the run can be
    resumed from its last checkpoint.
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
    """Steps whose losses are still on the device.  Reading a loss waits until the device has done the step.

    On a CPU, each loss is read at once.  A GPU must always have more work in its queue, so all losses are
    read together every PAUSE seconds.  The order is kept, so sums do not depend on the time of reading.
    """

    def __init__(self, device: torch.device) -> None:
        self._pause = 0.0 if device.type == "cpu" else PAUSE
        self._losses: list[Tensor] = []
        self._others: list[tuple[int, float]] = []
        self._read = time.monotonic()

    def add(self, targets: int, loss: Tensor, learning_rate: float) -> None:
        """Add a step.  loss: a scalar on the device."""
        self._losses.append(loss)
        self._others.append((targets, learning_rate))

    def due(self) -> bool:
        """Whether it is time to read the losses."""
        return time.monotonic() - self._read >= self._pause

    def read(self, before: int) -> list[Step]:
        """The steps that were added since the last call, in order.  Waits until the device has done them.

        before: the number of steps that the run has done before these.
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
