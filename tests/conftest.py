"""Settings of all tests: Hypothesis without deadlines, rare searches for garbage, signals that arrive."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings

settings.register_profile("recblr", deadline=None)  # the machine may be busy
settings.load_profile("recblr")

# A shell's job in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup, programs that a test starts would ignore SIGHUP.  This handler ignores it here only.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# torch's modules and the tests are a million objects, which live until the end.  To search them for garbage
# takes a third of a second.  So this is done rarely, and not at all once the tests are collected.
gc.set_threshold(10_000, 20, 20)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
