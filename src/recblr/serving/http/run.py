"""Starts the server: the socket, the workers, and what signals do.

One worker runs in this process.  Several are forked, after the model is loaded, so they share its tables.
Each opens the store itself.  All accept from one socket.  The first process then only waits for signals:
  - SIGINT and SIGTERM: every worker finishes its requests and ends;
  - SIGHUP: the model file is loaded again;
  - SIGCHLD: a worker that died is started again;
  - SIGUSR1: a worker says that it answers.
"""

import asyncio
import logging
import os
import re
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import uvicorn

from recblr.errors import InputError
from recblr.serving import open_store
from recblr.serving.engine import Engine
from recblr.serving.http.api import Api
from recblr.serving.http.app import App, new_metrics
from recblr.serving.http.metrics import Metrics
from recblr.serving.http.protocol import BoundedProtocol
from recblr.serving.service import Service

GRACE_SECONDS = 20  # for requests that run when the server is stopped
IDLE_SECONDS = 75  # until an idle connection is closed; proxies close theirs before
LOAD_SECONDS = 600.0  # in which a new model file must be loaded
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
_YOUNG = 5.0  # seconds; a worker that lives shorter has failed
_MOST_FAILURES = 3  # in a row, if no worker is left or none has ever answered
_LONGEST_PAUSE = 30.0  # seconds before a worker is started again
_SWITCH_SECONDS = 0.0005  # how long the thread that commits may keep the event loop from Python


@dataclass(frozen=True)
class ServeOptions:
    """What to serve, and where.

    model: the file.  store: the address of a store.  token: that requests must carry.
    titles: {item: title} for the page.  threads: of each worker for one call of the engine.
    max_users: whose state a worker keeps in memory; None for no limit.
    """

    model: Path
    store: str
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    max_users: int | None = None


Say = Callable[[str], object]


@dataclass(frozen=True)
class _Shared:
    """What the first process and the workers have in common."""

    options: ServeOptions
    listener: socket.socket
    metrics: Metrics
    say: Say
    warn: Say


def serve(options: ServeOptions, say: Say, warn: Say) -> None:
    """Serve until SIGINT or SIGTERM.

    say: gets a sentence when the server runs, and for each load of a model.
    warn: gets a sentence for what goes wrong.

    Raises InputError if the model, the store or the address cannot be used, before anything is answered.
    """
    if options.store == "memory" and options.workers > 1:
        raise InputError(
            f"the store `memory` belongs to one process, and there are {options.workers} workers",
            "take --workers 1, or a store that workers share: --store lmdb:PATH",
        )
    engine = load(options)
    listener = listening(options.host, options.port)
    _more_files()
    shared = _Shared(options, listener, new_metrics(options.workers), say, warn)
    if options.token is None and not is_loopback(listener):
        warn(
            f"anyone who can reach {options.host} can read and change everything: the server has no token;"
            " give one with --token-file or RECBLR_TOKEN"
        )
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    many = f"{options.workers} workers" if options.workers > 1 else "1 worker"
    store = _without_password(options.store)
    started = (
        f"serving {options.model} ({engine.num_items:,} items) at {address}, store {store}, {many};"
        " Ctrl-C stops, SIGHUP loads the model again"
    )
    first = Worker(shared, engine) if options.workers == 1 else Parent(shared, engine)
    del engine  # after a new model is loaded, nothing may keep this one
    first.run(lambda: say(started))


def _without_password(address: str) -> str:
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1…@", address)


def load(options: ServeOptions, file: str | None = None) -> Engine:
    """The engine of the model file; it keeps histories, so it can explain.

    file: another name of the file that is read.
    """
    return Engine.load(file or options.model, threads=options.threads, history=True)


class Worker:
    """Answers requests in this process.

    ended: a pipe that is closed when the parent ends, however it ends; None without a parent.
    file: another name of the file that is loaded at SIGHUP.
    """

    def __init__(
        self, shared: _Shared, engine: Engine, ended: int | None = None, file: str | None = None
    ) -> None:
        self._options = shared.options
        self._shared = shared
        self._engine = engine
        self._ended = ended
        self._file = file
        self._app = App(self._start, shared.metrics, shared.options.token, shared.options.host)
        self._loading: asyncio.Task[None] | None = None
        self._load_again = False  # asked for while no event loop runs, or while the model is loaded
        signal.signal(signal.SIGHUP, self._load_later)

    def run(self, on_start: Callable[[], object] = lambda: None) -> None:
        """Serve until a signal comes."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        _log_to(self._shared.warn)
        self._on_start = on_start
        # The store is opened before the server starts, so that a mistake is raised here.
        store = open_store(self._options.store)
        self._service = Service(self._engine, store, max_users=self._options.max_users)
        del self._engine  # the service has it, until it has another
        self._server = _Server(
            uvicorn.Config(
                self._app,
                loop="uvloop",
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_keep_alive=IDLE_SECONDS,
                headers=[("x-content-type-options", "nosniff")],
            )
        )
        self._server.run(sockets=[self._shared.listener])

    async def _start(self) -> Api:
        loop = asyncio.get_running_loop()
        api = Api(self._service, self._options.titles, self._shared.metrics)

        def stop() -> None:
            self._server.should_exit = api.stopping = True
            if self._ended is not None:
                loop.remove_reader(self._ended)

        def count() -> None:
            api.count_users()
            loop.call_later(1.0, count)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self._load_soon)
        if self._ended is not None:
            loop.add_reader(self._ended, stop)
        loop.call_soon(self._on_start)
        count()
        if self._load_again:
            self._load_soon()
        return api

    def _load_later(self, *_: object) -> None:
        self._load_again = True

    def _load_soon(self) -> None:
        """Load the model again, and once more if it is asked for meanwhile."""
        if self._loading is not None and not self._loading.done():
            self._load_again = True
        else:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._load_again = False
            try:
                engine = await loop.run_in_executor(None, load, self._options, self._file)
                await loop.run_in_executor(None, self._service.replace_engine, engine)
            except Exception as error:  # the old model goes on, whatever it is
                self._shared.metrics.model_loaded("refused")
                self._shared.warn(not_replaced(error))
            else:
                if self._ended is None:  # else the parent counts and says it, once for all workers
                    self._shared.metrics.model_loaded("loaded")
                    self._shared.say(loaded(self._options, engine))
            if not self._load_again:
                return


def loaded(options: ServeOptions, engine: Engine) -> str:
    return f"loaded {options.model} again: {engine.num_items:,} items"


def not_replaced(error: Exception) -> str:
    """The sentence about a file that could not be loaded."""
    reason = str(error) if isinstance(error, InputError) else repr(error)
    return f"the model was not replaced: {reason}"


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


class Parent:
    """Keeps several workers running."""

    def __init__(self, shared: _Shared, engine: Engine) -> None:
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
            self._tried = self._tried._replace(until=now + LOAD_SECONDS)
            self._shared.warn(f"the model was not replaced: loading took over {LOAD_SECONDS:g} seconds")
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
        # This is a copy of the parent, and must not keep the model that is replaced.
        del engine, self._engine
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
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _after_ends(self) -> None:
        """Look after the processes that have ended."""
        for pid, code in self._reap():
            if self._tried and pid == self._tried.pid:
                self._after_try(self._tried.file, code)
                continue
            number, since = self._running.pop(pid)
            self._shared.metrics.use_row(number)  # which sets its gauges to 0
            self._shared.metrics.use_row(self._options.workers)
            self._failures = self._failures + 1 if monotonic() - since < _YOUNG else 0
            if self._failures >= _MOST_FAILURES and not (self._answered and self._running):
                self._stop()
                raise InputError(
                    f"{_MOST_FAILURES} workers in a row ended within {_YOUNG:g} seconds",
                    "see above why, or start with --workers 1",
                )
            pause = self._start_later(number)
            self._shared.warn(
                f"worker {number} ended"
                + (f" by signal {-code}" if code < 0 else f" with exit code {code}")
                + "; it is started again"
                + (f" in {pause:g} seconds" if pause else "")
            )

    def _reap(self) -> list[tuple[int, int]]:
        """The processes that have ended, with their exit codes; below 0, the signal that ended them."""
        pids = [*self._running, *([self._tried.pid] if self._tried else [])]
        ended = [os.waitpid(pid, os.WNOHANG) for pid in pids]
        return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in ended if pid]

    def _send(self, number: int) -> None:
        """Send a signal to all processes."""
        for pid in [*self._running, *([self._tried.pid] if self._tried else [])]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self) -> None:
        """End all processes; a second signal, or too long a wait, ends them at once."""
        self._shared.listener.close()
        self._send(signal.SIGTERM)
        deadline = monotonic() + GRACE_SECONDS + 10
        while self._running and monotonic() < deadline:
            came = signal.sigtimedwait(_SIGNALS, 0.1)
            for pid, _ in self._reap():
                if self._running.pop(pid, None) is None:
                    self._tried = None
            if (
                came is not None
                and came.si_signo == signal.SIGINT
                and monotonic() > deadline - GRACE_SECONDS - 9
            ):
                return

    # --- a new model ----------------------------------------------------------------------------

    def _try_file(self) -> None:
        """Load the model file in a process of its own, so that signals are handled meanwhile."""
        if self._tried:
            self._try_again = True
            return
        try:
            file = os.open(self._options.model, os.O_RDONLY)
            pid = self._fork(lambda: self._load(f"/dev/fd/{file}"))
        except OSError as error:
            self._shared.metrics.model_loaded("refused")
            self._shared.warn(f"the model was not replaced: {self._options.model}: {error.strerror}")
        else:
            self._tried = _Tried(pid, file, monotonic() + LOAD_SECONDS)

    def _load(self, file: str) -> None:
        try:
            self._shared.say(loaded(self._options, load(self._options, file)))
        except Exception as error:
            raise InputError(not_replaced(error).replace(file, str(self._options.model))) from None

    def _after_try(self, file: int, code: int) -> None:
        """Have all workers load the file, if it could be loaded."""
        self._tried = None
        if code == 0:
            os.dup2(file, self._file)
            self._engine = None
            self._send(signal.SIGHUP)
        os.close(file)
        self._shared.metrics.model_loaded("refused" if code else "loaded")
        if self._try_again:
            self._try_again = False
            self._try_file()


class _Tried(NamedTuple):
    """The process that loads a new model file, the open file, and until when it may take."""

    pid: int
    file: int
    until: float


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.  InputError if it cannot."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"cannot listen on {host} port {port}: {reason}", "give another --host or --port"
        ) from None
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


class _Sentences(logging.Handler):
    """Gives each warning of the package as one sentence."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def _log_to(warn: Say) -> None:
    logging.getLogger("recblr").handlers = [_Sentences(warn)]
    # uvicorn would say something for each request that is no HTTP.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


def _more_files() -> None:
    """Allow as many open connections as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
