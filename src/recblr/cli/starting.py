"""Ctrl-C while the program is still loading; without imports of its own that take time."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting() -> Iterator[None]:
    """Let Ctrl-C end the process at once: halfway through `import torch` an exception would abort it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
