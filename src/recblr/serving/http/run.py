"""Starts the server: the socket, the workers, and what signals do.

One worker runs in this process.  Several are forked, after the model is loaded, so they share its tables.
Each opens the store itself.  All accept from one socket.  The first process then only waits for signals:
  - SIGINT and SIGTERM: every worker finishes its requests and ends;
  - SIGHUP: the model file is loaded again;
  - a worker that died is started again.
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
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

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
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_YOUNG = 5.0  # seconds; a worker that lives shorter has failed to start
_MOST_FAILURES = 3  # in a row
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
    metrics = new_metrics(options.workers)
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
    if options.workers == 1:
        worker = Worker(options, engine, listener, metrics, say, warn)
        del engine  # after a new model is loaded, nothing may keep this one
        worker.run(lambda: say(started))
    else:
        Parent(options, engine, listener, metrics, say, warn).run(started)


def _without_password(address: str) -> str:
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1…@", address)


def load(options: ServeOptions) -> Engine:
    """The engine of the model file; it keeps histories, so it can explain."""
    return Engine.load(options.model, threads=options.threads, history=True)


class Worker:
    """Answers requests in this process.

    ended: a pipe that is closed when the parent ends, however it ends; None without a parent.
    """

    def __init__(
        self,
        options: ServeOptions,
        engine: Engine,
        listener: socket.socket,
        metrics: Metrics,
        say: Say,
        warn: Say,
        ended: int | None = None,
    ) -> None:
        self._options = options
        self._engine = engine
        self._listener = listener
        self._metrics = metrics
        self._say = say
        self._warn = warn
        self._ended = ended
        self._app = App(self._start, metrics, options.token)
        self._loading: asyncio.Task[None] | None = None
        self._load_again = False  # asked for while no event loop runs, or while the model is loaded
        signal.signal(signal.SIGHUP, self._load_later)

    def run(self, on_start: Callable[[], object] = lambda: None) -> None:
        """Serve until a signal comes."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        _log_to(self._warn)
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
            )
        )
        self._server.run(sockets=[self._listener])

    async def _start(self) -> Api:
        loop = asyncio.get_running_loop()
        api = Api(self._service, self._options.titles, self._metrics)

        def stop() -> None:
            self._server.should_exit = api.stopping = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self._load_soon)
        if self._ended is not None:
            loop.add_reader(self._ended, stop)
        loop.call_soon(self._on_start)
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
                engine = await loop.run_in_executor(None, load, self._options)
                await loop.run_in_executor(None, self._service.replace_engine, engine)
            except Exception as error:  # the old model goes on, whatever it is
                self._metrics.model_loaded("refused")
                self._warn(not_replaced(error))
            else:
                self._metrics.model_loaded("loaded")
                if self._ended is None:
                    self._say(loaded(self._options, engine))
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

    def __init__(
        self,
        options: ServeOptions,
        engine: Engine,
        listener: socket.socket,
        metrics: Metrics,
        say: Say,
        warn: Say,
    ) -> None:
        self._options = options
        self._engine = engine
        self._listener = listener
        self._metrics = metrics
        self._say = say
        self._warn = warn
        self._started: dict[int, tuple[int, float]] = {}  # pid -> (number of the worker, when)
        self._failures = 0
        self._pipe = os.pipe()

    def run(self, started: str) -> None:
        """Start the workers, and wait for signals.  Raises InputError if workers cannot start."""
        open_store(self._options.store).close()  # says what is wrong before a worker does
        # Blocked signals wait until they are asked for, so none comes between two lines.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for number in range(self._options.workers):
                self._fork(number, before)
            self._say(started)
            while (number := signal.sigwait(_SIGNALS)) not in (signal.SIGINT, signal.SIGTERM):
                if number == signal.SIGHUP:
                    self._load()
                else:
                    self._start_again(before)
            self._stop()
        finally:
            for pid in self._started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _fork(self, number: int, mask: Iterable[int]) -> None:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._started[pid] = (number, monotonic())
            return
        status = 1
        try:
            os.close(self._pipe[1])
            self._metrics.use_row(number)
            worker = Worker(
                self._options,
                self._engine,
                self._listener,
                self._metrics,
                self._say,
                self._warn,
                self._pipe[0],
            )
            for handled in (signal.SIGINT, signal.SIGTERM):  # until the event loop handles them
                signal.signal(handled, lambda *_: os._exit(0))
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            del self._engine  # this is a copy of the parent, and must not keep the model that is replaced
            worker.run()
            status = 0
        except InputError as error:
            self._warn(str(error))
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _load(self) -> None:
        """Have all workers load the model, if it can be loaded."""
        try:
            self._engine = load(self._options)
        except Exception as error:  # the old model goes on, whatever it is
            self._warn(not_replaced(error))
            return
        self._signal(signal.SIGHUP)
        self._say(loaded(self._options, self._engine))

    def _start_again(self, mask: Iterable[int]) -> None:
        for pid, status in self._reap():
            number, since = self._started.pop(pid)
            self._failures = self._failures + 1 if monotonic() - since < _YOUNG else 0
            if self._failures >= _MOST_FAILURES:
                raise InputError(
                    f"{_MOST_FAILURES} workers in a row ended within {_YOUNG:g} seconds",
                    "see above why, or start with --workers 1",
                )
            how = os.waitstatus_to_exitcode(status)
            self._warn(
                f"worker {number} ended"
                + (f" by signal {-how}" if how < 0 else f" with exit code {how}")
                + "; it is started again"
            )
            self._fork(number, mask)

    def _reap(self) -> list[tuple[int, int]]:
        """The workers that have ended, with their status."""
        ended = [os.waitpid(pid, os.WNOHANG) for pid in self._started]
        return [(pid, status) for pid, status in ended if pid]

    def _signal(self, number: int) -> None:
        for pid in self._started:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self) -> None:
        """End all workers; a second signal, or too long a wait, ends them at once."""
        self._listener.close()
        self._signal(signal.SIGTERM)
        deadline = monotonic() + GRACE_SECONDS + 10
        while self._started and monotonic() < deadline:
            came = signal.sigtimedwait(_SIGNALS, 0.1)
            for pid, _ in self._reap():
                del self._started[pid]
            if (
                came is not None
                and came.si_signo == signal.SIGINT
                and monotonic() > deadline - GRACE_SECONDS - 9
            ):
                return


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
