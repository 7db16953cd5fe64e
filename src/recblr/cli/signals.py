"""Ctrl-C, and the signal with which clusters end a job: the first asks politely, the second does not wait.

Without imports that take time: while the program is still loading, Ctrl-C ends it at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self, TypeAlias

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None  # as signal.getsignal has it

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """Within it, the first SIGINT or SIGTERM makes a call of it true, the second raises KeyboardInterrupt.

    A signal that the process ignores, as in the background of a shell, stays ignored.

    told: called at the first, in whatever the main thread is doing just then.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._signal: int | None = None
        self._before: dict[int, _Handler] = {}

    def __call__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that the signal ended."""
        return 128 + (self._signal or signal.SIGINT)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        self._told()


@contextmanager
def interrupt_ends_process() -> Iterator[None]:
    """Let Ctrl-C end the process at once: halfway through `import torch` an exception would abort it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
