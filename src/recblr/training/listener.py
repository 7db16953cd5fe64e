"""Listeners of a training: a display, the curves and TensorBoard are some."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recblr.run.log import EpochRecord


@dataclass(frozen=True)
class Step:
    """What a step of the optimizer was: its number in the run from 1, and its mean loss over its targets."""

    number: int
    targets: int
    loss: float
    learning_rate: float


class Listener(Protocol):
    """Whoever the loop tells of its progress; it calls these in the training's own thread.

    An exception ends the training, and the run can be resumed from its last checkpoint.
    """

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        """An epoch begins, or goes on where `done` of its targets were trained on before the run stopped."""

    def trained(self, step: Step) -> None:
        """A step is done."""

    def validated(self, users: int) -> None:
        """So many users of the epoch's validation are done."""

    def end_epoch(self, record: EpochRecord) -> None:
        """The epoch is done, and saved."""


class SilentListener:
    """A listener that does nothing; to derive from."""

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None: ...
    def trained(self, step: Step) -> None: ...
    def validated(self, users: int) -> None: ...
    def end_epoch(self, record: EpochRecord) -> None: ...


class ListenerGroup:
    """Tells each of several listeners, in order."""

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
