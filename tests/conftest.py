"""Hypothesis runs without deadlines, as the machine may be busy; signals work in what tests start; garbage is cheap."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings

settings.register_profile("recblr", deadline=None)
settings.load_profile("recblr")

# A shell's job in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup, programs that a test starts would ignore SIGHUP.  This handler ignores it here only.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# torch's modules and the tests are some million objects, which live until the end.  To search them for garbage takes a
# third of a second, so this is done rarely, and never once all tests are collected.
gc.set_threshold(10_000, 20, 20)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
