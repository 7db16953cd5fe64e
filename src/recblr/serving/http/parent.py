"""The first process of several workers.

It forks them, after the model is loaded, so they share its tables.  Each opens the store itself, and all
accept from one socket.  Then it only waits for signals:
  - SIGINT and SIGTERM: every worker finishes its requests and ends;
  - SIGHUP: the model file is loaded again;
  - SIGCHLD: a worker that died is started again;
  - SIGUSR1: a worker says that it answers.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from recblr.errors import InputError
from recblr.serving import open_store
from recblr.serving.engine import Engine
from recblr.serving.http.worker import GRACE_SECONDS, Shared, Worker, load, loaded, not_replaced

LOAD_SECONDS = 600.0  # in which a new model file must be loaded
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
_YOUNG = 5.0  # seconds; a worker that lives shorter has failed, as has one that ends with an exit code
_MOST_FAILURES = 3  # in a row, if no worker is left or none has ever answered
_LONGEST_PAUSE = 30.0  # seconds before a worker is started again


class Parent:
    """Keeps several workers running."""

    def __init__(self, shared: Shared, engine: Engine) -> None:
        self._options = shared.options
        self._shared = shared
        self._engine: Engine | None = engine  # whose tables new workers share, until another file is loaded
        self._running: dict[int, tuple[int, float]] = {}  # pid -> (number of the worker, when it began)
        self._due: dict[int, float] = {}  # number of a dead worker -> when it is started again
        self._failures = 0  # in a row
        self._answered = False  # whether a worker has ever answered
        self._pid, self._pipe = os.getpid(), os.pipe()
        # Workers load what lies behind this number, not behind the name: the file that was tried.
        self._file = os.open(shared.options.model, os.O_RDONLY)
        self._tried: _Tried | None = None
        self._try_again = False

    def run(self, on_start: Callable[[], object]) -> None:
        """Start the workers, and wait for signals.  Raises InputError if workers cannot start."""
        open_store(self._options.store).close()  # says what is wrong before a worker does
        self._shared.metrics.use_row(self._options.workers)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        # Blocked signals wait until they are asked for, so none comes between two lines.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for number in range(self._options.workers):
                self._start(number)
            on_start()
            while (number := self._signal_or_time()) not in (signal.SIGINT, signal.SIGTERM):
                if number == signal.SIGHUP:
                    self._try_file()
                elif number == signal.SIGCHLD:
                    self._after_ends()
                elif number == signal.SIGUSR1:
                    self._answered = True
                self._do_what_is_due()
            self._stop()
        finally:
            self._send(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _signal_or_time(self) -> int:
        """Wait for a signal, or until something is due, which returns 0."""
        times = [*self._due.values(), *([self._tried.until] if self._tried else [])]
        came = signal.sigtimedwait(_SIGNALS, max(0.0, min(times) - monotonic()) if times else 3600)
        return came.si_signo if came else 0

    def _do_what_is_due(self) -> None:
        now = monotonic()
        for number in [number for number, when in self._due.items() if when <= now]:
            del self._due[number]
            self._start(number)
        if self._tried and self._tried.until <= now:
            self._tried = self._tried._replace(until=now + LOAD_SECONDS, late=True)
            os.kill(self._tried.pid, signal.SIGKILL)

    # --- workers --------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        """Start a worker."""
        try:
            pid = self._fork(lambda: self._work(number))
        except OSError as error:
            self._failures += 1
            self._shared.warn(f"worker {number} cannot be started now: {error.strerror}")
            self._start_later(number)
        else:
            self._running[pid] = (number, monotonic())

    def _start_later(self, number: int) -> float:
        """Have a worker started after a pause that grows with the failures; returns its seconds."""
        pause = min(_LONGEST_PAUSE, 2.0 ** (self._failures - 2)) if self._failures > 1 else 0.0
        self._due[number] = monotonic() + pause
        return pause

    def _work(self, number: int) -> None:
        """Be a worker, in a process of its own."""
        parent = self._pid
        self._shared.metrics.use_row(number)
        engine = self._engine or load(self._options, f"/dev/fd/{self._file}")
        worker = Worker(self._shared, engine, self._pipe[0], f"/proc/{parent}/fd/{self._file}")
        # This is a copy of the parent, and must not keep the model that is replaced, nor its file.
        del engine, self._engine
        os.close(self._file)
        if self._tried:
            os.close(self._tried.file)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        worker.run(lambda: os.kill(parent, signal.SIGUSR1) if os.getppid() == parent else None)

    def _fork(self, work: Callable[[], object]) -> int:
        """Do something in a new process, which then ends.  Returns its number."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        status = 1
        try:
            os.close(self._pipe[1])
            for number in (signal.SIGINT, signal.SIGTERM):  # until the event loop handles them
                signal.signal(number, lambda *_: os._exit(1))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
            work()
            status = 0
        except InputError as error:
            self._shared.warn(str(error))
        except KeyboardInterrupt:  # another Ctrl-C, after the event loop has ended
            pass
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:  # whatever is broken, the new process must not go on as a second parent
                os._exit(status)

    def _after_ends(self) -> None:
        """Look after the processes that have ended."""
        for pid, code in self._reap():
            if self._tried and pid == self._tried.pid:
                self._after_try(self._tried, code)
                continue
            number, since = self._running.pop(pid)
            self._shared.metrics.use_row(number)  # which sets its gauges to 0
            self._shared.metrics.use_row(self._options.workers)
            failed = code > 0 or monotonic() - since < _YOUNG
            self._failures = self._failures + 1 if failed else 0
            if self._failures >= _MOST_FAILURES and not (self._answered and self._running):
                self._stop()
                raise InputError(
                    f"{_MOST_FAILURES} workers in a row failed",
                    "see above why, or start with --workers 1",
                )
            pause = self._start_later(number)
            self._shared.warn(
                f"worker {number} ended"
                + (f" by signal {-code}" if code < 0 else f" with exit code {code}")
                + "; it is started again"
                + (f" in {pause:g} seconds" if pause else "")
            )

    def _pids(self) -> list[int]:
        return [*self._running, *([self._tried.pid] if self._tried else [])]

    def _reap(self) -> list[tuple[int, int]]:
        """The processes that have ended, with their exit codes; below 0, the signal that ended them."""
        ended = [os.waitpid(pid, os.WNOHANG) for pid in self._pids()]
        return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in ended if pid]

    def _send(self, number: int) -> None:
        """Send a signal to all processes."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self) -> None:
        """End all processes; a second signal, or too long a wait, ends them at once.

        A signal within a second is not a second one: Ctrl-C may arrive twice, from the terminal and from a
        program that passes it on.
        """
        self._shared.listener.close()
        self._send(signal.SIGTERM)
        begun = monotonic()
        while self._running and monotonic() < begun + GRACE_SECONDS + 10:
            came = signal.sigtimedwait(_SIGNALS, 0.1)
            for pid, _ in self._reap():
                if self._running.pop(pid, None) is None:
                    self._tried = None
            if came and came.si_signo in (signal.SIGINT, signal.SIGTERM) and monotonic() > begun + 1:
                return

    # --- a new model ----------------------------------------------------------------------------

    def _try_file(self) -> None:
        """Load the model file in a process of its own, so that signals are handled meanwhile."""
        if self._tried:
            self._try_again = True
            return
        try:
            file = os.open(self._options.model, os.O_RDONLY)
            try:
                pid = self._fork(lambda: self._load(f"/dev/fd/{file}"))
            except OSError:
                os.close(file)
                raise
        except OSError as error:
            self._shared.metrics.model_loaded("refused")
            self._shared.warn(not_replaced(f"{self._options.model}: {error.strerror}"))
        else:
            self._tried = _Tried(pid, file, monotonic() + LOAD_SECONDS)

    def _load(self, file: str) -> None:
        try:
            self._shared.say(loaded(self._options, load(self._options, file)))
        except Exception as error:
            raise InputError(not_replaced(error)) from None

    def _after_try(self, tried: "_Tried", code: int) -> None:
        """Have all workers load the file, if it could be loaded."""
        self._tried = None
        if code == 0:
            os.dup2(tried.file, self._file)
            self._engine = None
            self._send(signal.SIGHUP)
        elif tried.late:
            self._shared.warn(not_replaced(f"loading took over {LOAD_SECONDS:g} seconds"))
        elif code < 0:  # else the process has said why
            self._shared.warn(not_replaced(f"the process that loaded it was ended by signal {-code}"))
        os.close(tried.file)
        self._shared.metrics.model_loaded("refused" if code else "loaded")
        if self._try_again:
            self._try_again = False
            self._try_file()


class _Tried(NamedTuple):
    """The process that loads a new model file, the open file, until when it may take, and if it is late."""

    pid: int
    file: int
    until: float
    late: bool = False
