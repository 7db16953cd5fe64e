"""Starts the server: the socket, and one worker in this process or several in processes of their own."""

import re
import resource
import socket
from contextlib import suppress
from ipaddress import ip_address

from recblr.errors import InputError
from recblr.serving.http.app import new_metrics
from recblr.serving.http.parent import Parent
from recblr.serving.http.worker import Say, ServeOptions, Shared, Worker, load


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
    shared = Shared(options, listener, new_metrics(options.workers), say, warn)
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


def _more_files() -> None:
    """Allow as many open connections as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
