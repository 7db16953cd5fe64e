"""A worker of the server: it answers the requests, and loads a new model when it is told to."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from recblr.errors import InputError
from recblr.serving import open_store
from recblr.serving.engine import Engine
from recblr.serving.http.api import Api
from recblr.serving.http.app import App
from recblr.serving.http.metrics import Metrics
from recblr.serving.http.protocol import BoundedProtocol
from recblr.serving.service import Service

GRACE_SECONDS = 20  # for requests that run when the server is stopped
IDLE_SECONDS = 75  # until an idle connection is closed; proxies close theirs before
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
class Shared:
    """What the first process and the workers have in common."""

    options: ServeOptions
    listener: socket.socket
    metrics: Metrics
    say: Say
    warn: Say


def load(options: ServeOptions, file: str | None = None) -> Engine:
    """The engine of the model file; it keeps histories, so it can explain.

    file: another name of the file that is read.  An InputError has the name of the model all the same.
    """
    name = file or str(options.model)
    try:
        return Engine.load(name, threads=options.threads, history=True)
    except InputError as error:
        parts = (part.replace(name, str(options.model)) for part in (error.problem, error.remedy))
        raise InputError(*parts) from None


class Worker:
    """Answers requests in this process.

    ended: a pipe that is closed when the parent ends, however it ends; None without a parent.
    file: another name of the file that is loaded at SIGHUP.
    """

    def __init__(
        self, shared: Shared, engine: Engine, ended: int | None = None, file: str | None = None
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


def not_replaced(why: Exception | str) -> str:
    """The sentence about a file that could not be loaded."""
    return f"the model was not replaced: {why if isinstance(why, InputError | str) else repr(why)}"


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


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
