"""Hypothesis runs without deadlines, as the machine may be busy; and signals work in what tests start."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("recblr", deadline=None)
settings.load_profile("recblr")

# A shell's job in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup, programs that a test starts would ignore SIGHUP.  This handler ignores it here only.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
