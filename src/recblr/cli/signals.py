"""Ctrl-C, and SIGTERM, with which clusters end a job: whichever comes, a command ends with a sentence.

A training saves the run first, unless a second signal comes.  Every other command stops where it is.  Nothing
here takes long to import, because signals count from the start of the program.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Self, TypeAlias

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None  # as signal.getsignal has it

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whatever handles Ctrl-C handles this too."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell reports for a process that the signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within it, Ctrl-C raises KeyboardInterrupt, and SIGTERM raises Terminated."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    with _handlers({signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}):
        yield


class StopOnSignal:
    """Within it, the first SIGINT or SIGTERM makes a call of it true, the second raises KeyboardInterrupt.

    A signal that the process ignores, as in the background of a shell, stays ignored.

    told: called at the first, in whatever the main thread is doing just then.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._signal: int | None = None
        self._handling = ExitStack()

    def __call__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that the signal ended."""
        return 128 + (self._signal or signal.SIGINT)

    def __enter__(self) -> Self:
        self._handling.enter_context(_handlers(dict.fromkeys(_SIGNALS, self._handle)))
        return self

    def __exit__(self, *exception: object) -> None:
        self._handling.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        self._told()


@contextmanager
def signals_end_process() -> Iterator[None]:
    """Let a signal end the process at once: halfway through `import torch` an exception would abort it."""

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, b"recblr: stopped\n")
        os._exit(128 + number)

    with _handlers({signal.SIGINT: signal.SIG_DFL, signal.SIGTERM: end}):
        yield


@contextmanager
def _handlers(handlers: Mapping[int, _Handler]) -> Iterator[None]:
    """Handle signals so, but for those that the process ignores, as in the background of a shell."""
    before = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
