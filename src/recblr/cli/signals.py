"""Ctrl-C, SIGTERM and SIGHUP.  After each of these signals, a command ends with one sentence.

Clusters send SIGTERM to jobs.  SIGHUP comes if the terminal is closed or its connection is lost.  A training
saves the run first, unless a second signal comes.  Every other command stops at once.  This module imports
quickly, because signals must be handled from the start of the program.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Self, TypeAlias

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None  # the type of signal.getsignal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The signal with this number came, SIGTERM or SIGHUP.  Code that handles Ctrl-C handles this too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code that a shell reports: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside the `with` block, Ctrl-C raises KeyboardInterrupt, and SIGTERM and SIGHUP raise Terminated."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    with _handlers(dict.fromkeys(_SIGNALS, terminate) | {signal.SIGINT: signal.default_int_handler}):
        yield


class StopOnSignal:
    """Whether a training should stop, as the `stop` of `recblr.training.train`.

    Inside the `with` block, the object returns True when called after the first SIGINT, SIGTERM or SIGHUP.  A
    second SIGINT or SIGTERM raises KeyboardInterrupt.  A signal that the process ignores stays ignored: a
    shell makes its background processes ignore SIGINT, and nohup makes its command ignore SIGHUP.

    on_signal: called at the first signal, in the main thread, between any two instructions.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._signal: int | None = None
        self._handling = ExitStack()

    def __call__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports for a process that the signal ended."""
        return 128 + (self._signal or signal.SIGINT)

    def __enter__(self) -> Self:
        self._handling.enter_context(_handlers(dict.fromkeys(_SIGNALS, self._handle)))
        return self

    def __exit__(self, *exception: object) -> None:
        self._handling.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            if number == signal.SIGHUP:  # the shell and the system each send one when a terminal is closed
                return
            raise KeyboardInterrupt
        self._signal = number
        self._on_signal()


@contextmanager
def signals_end_process() -> Iterator[None]:
    """Inside the `with` block, a signal ends the process at once.

    An exception in the middle of `import torch` would abort the process instead.
    """

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):  # the terminal is gone
            os.write(2, b"recblr: stopped\n")
        os._exit(128 + number)

    with _handlers(dict.fromkeys(_SIGNALS, end) | {signal.SIGINT: signal.SIG_DFL}):
        yield


@contextmanager
def _handlers(handlers: Mapping[int, _Handler]) -> Iterator[None]:
    """Inside the `with` block, use these handlers, except for signals that the process ignores."""
    before = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
