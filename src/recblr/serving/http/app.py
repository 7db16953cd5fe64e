"""The ASGI application: finds the handler of a request, and holds what is the same for all of them.

That is the token, the bounds of bodies and of the time to send them, typed errors, and the metrics.  There is
no framework between: for a recommendation, FastAPI takes three times as long as all the rest.
"""

import asyncio
import hashlib
import hmac
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from recblr.serving.http.api import Api, Handler, Request
from recblr.serving.http.messages import (
    ERRORS,
    MAX_BODY,
    Answer,
    ApiError,
    Query,
    error_answer,
    id_text,
    json_answer,
)
from recblr.serving.http.metrics import Metrics
from recblr.serving.http.openapi import document
from recblr.serving.http.page import page_answers
from recblr.serving.stores.store import StoreError

BODY_SECONDS = 10.0  # in which a client must have sent a body

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class Route(NamedTuple):
    """How a path is answered: the name of a method of Api for each HTTP method."""

    methods: Mapping[str, str]
    open: bool = False  # without a token


ROUTES = {
    "/v1/events": Route({"POST": "add_events"}),
    "/v1/users/{id}": Route({"DELETE": "delete_user"}),
    "/v1/users/{id}/recommendations": Route({"GET": "recommend"}),
    "/v1/users/{id}/explanation": Route({"GET": "explain_user"}),
    "/v1/recommend": Route({"POST": "recommend_history"}),
    "/v1/explain": Route({"POST": "explain"}),
    "/v1/items": Route({"GET": "search"}),
    "/v1/items/{id}/similar": Route({"GET": "similar"}),
    "/healthz": Route({"GET": "health"}, open=True),
    "/readyz": Route({"GET": "ready"}, open=True),
    "/metrics": Route({"GET": "metrics"}),
}
_NO_ROUTE = "other"
STATUSES = tuple(sorted({200, 304, *ERRORS.values()}))


def new_metrics(workers: int = 1) -> Metrics:
    """Metrics for all routes.  Several workers need the same object, so it is made before they are forked."""
    # The last row is for the parent of several workers.
    return Metrics((*ROUTES, "page", _NO_ROUTE), STATUSES, workers + (workers > 1))


class App:
    """The application of one worker.

    start: makes the Api in the event loop, once it runs.
    token: that requests must carry, except those for the page and the health; None for no token.
    host: the name by which the server is called.  Without a token, other names are refused.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[Api]],
        metrics: Metrics,
        token: str | None = None,
        host: str = "localhost",
    ) -> None:
        self._start = start
        self._metrics = metrics
        self._token = None if token is None else _digest(f"Bearer {token}".encode())
        self._host = host.lower().encode()
        self._handlers: dict[str, dict[str, Handler]] = {}
        self._page = {**page_answers(), "/openapi.json": json_answer(document(ROUTES, token is not None))}
        self.api: Api

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        started = perf_counter()
        self._metrics.add("recblr_requests_in_progress", 1)
        route = _NO_ROUTE
        try:
            route, answer = await self._answer(scope, receive)
        except _ClientLeft:
            return
        finally:
            self._metrics.add("recblr_requests_in_progress", -1)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._metrics.answered(route, answer.status, perf_counter() - started)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and end with the server."""
        await receive()
        self.api = await self._start()
        self._handlers = {
            path: {method: getattr(self.api, name) for method, name in route.methods.items()}
            for path, route in ROUTES.items()
        }
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.get_running_loop().run_in_executor(None, self.api.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[str, Answer]:
        """The route of a request, for the metrics, and its answer."""
        template = _NO_ROUTE
        try:
            template, quoted = _template(scope["raw_path"].decode("ascii"))
            handlers = self._handlers.get(template)
            method: str = scope["method"]
            if handlers is None:
                still = self._page.get(template)
                template = _NO_ROUTE if still is None else "page"
                if still is not None:
                    return template, _still_answer(still, method, scope)
                raise ApiError("not_found", "there is no such path; /openapi.json has all")
            handler = handlers.get("GET" if method == "HEAD" else method)
            if handler is None:
                raise _wrong_method(handlers)
            if not ROUTES[template].open:
                if self._token is not None:
                    self._check_token(scope)
                else:
                    self._check_site(scope)
            id_ = "" if quoted is None else _unquoted(quoted)
            body = await _body(scope, receive) if method == "POST" else b""
            return template, await handler(Request(id_, Query(scope["query_string"]), body))
        except ApiError as error:
            return template, error_answer(error)
        except StoreError as error:
            return template, error_answer(ApiError("unavailable", str(error), headers={"retry-after": "1"}))
        except _ClientLeft:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return template, error_answer(
                ApiError("internal", "the server has made a mistake; its log says more")
            )

    def _check_token(self, scope: Message) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        # Digests have one length, so not even the time of the comparison tells anything of the token.
        if not hmac.compare_digest(_digest(given), self._token or b""):
            raise ApiError(
                "unauthorized",
                "the token is wrong; send the header Authorization: Bearer TOKEN"
                if given
                else "this server needs a token; send the header Authorization: Bearer TOKEN",
                headers={"www-authenticate": "Bearer"},
            )

    def _check_site(self, scope: Message) -> None:
        """Refuse what a page of another site has its visitor's browser ask.

        Such a page may have a name that leads to this machine, so its requests are not those of another site
        for the browser.
        """
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.lower()
                if not _is_address(host) and _name(host) != self._host:
                    raise ApiError(
                        "misdirected",
                        "without a token, this server answers only to localhost, an IP address or its --host;"
                        " ask it by one of these, or start it with a token",
                    )
            elif name == b"origin":
                origin = value.lower()
        if origin is not None and origin.partition(b"://")[2] != host:
            raise ApiError(
                "forbidden", "without a token, this server answers no page of another site; start it with one"
            )


class _ClientLeft(Exception):
    """The client has closed the connection before its request was complete."""


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _name(host: bytes) -> bytes:
    """The header Host without the port."""
    return host[1:].partition(b"]")[0] if host.startswith(b"[") else host.partition(b":")[0]


@lru_cache(256)
def _is_address(host: bytes) -> bool:
    """Whether no other site can have this as its name."""
    name = _name(host).decode("latin-1")
    if name == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _template(path: str) -> tuple[str, str | None]:
    """The path with {id} in the place of an id, and that id, still quoted.

    The path is split before it is unquoted, so an id may hold a slash: a%2Fb.
    """
    parts = path.split("/", 5)
    if len(parts) in (4, 5) and parts[1] == "v1" and parts[2] in ("users", "items"):
        quoted, parts[3] = parts[3], "{id}"
        return "/".join(parts), quoted
    return path, None


def _unquoted(quoted: str) -> str:
    try:
        return id_text(unquote_to_bytes(quoted).decode() if "%" in quoted else quoted, "the path")
    except UnicodeDecodeError:
        raise ApiError("invalid", "the id in the path is not UTF-8; encode it as %XX") from None


def _wrong_method(allowed: Mapping[str, object]) -> ApiError:
    names = ", ".join([*allowed, *(["HEAD"] if "GET" in allowed else [])])
    return ApiError("method_not_allowed", f"this path answers {names}", headers={"allow": names})


def _still_answer(answer: Answer, method: str, scope: Message) -> Answer:
    """A file of the page, unless the browser has it."""
    if method not in ("GET", "HEAD"):
        raise _wrong_method({"GET": None})
    tag = next((value for name, value in answer.headers if name == b"etag"), None)
    if tag is not None and (b"if-none-match", tag) in scope["headers"]:
        return Answer(304, b"", answer.headers[2:])
    return answer


async def _body(scope: Message, receive: Receive) -> bytes:
    """The body of a request.  ApiError if it is no JSON, too large, or takes too long to arrive."""
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    # A form of another site can send a body of the other types without asking.
    if kind != b"application/json":
        raise ApiError("not_json", "the body must be JSON; send the header Content-Type: application/json")
    length = headers.get(b"content-length", b"0")
    if len(length) > 9 or int(length) > MAX_BODY:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            parts, size, more = [], 0, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientLeft
                parts.append(message["body"])
                size += len(message["body"])
                if size > MAX_BODY:
                    raise _too_large()
                more = message.get("more_body", False)
            return b"".join(parts)
    except TimeoutError:
        raise ApiError("timeout", f"the body did not arrive within {BODY_SECONDS:g} seconds") from None


def _too_large() -> ApiError:
    return ApiError("too_large", f"the body is larger than {MAX_BODY:,} bytes; send fewer events at once")
