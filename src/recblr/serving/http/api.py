"""The handlers: what each request asks of the service."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from recblr.errors import InputError
from recblr.serving.http.catalogue import Catalogue
from recblr.serving.http.messages import (
    Accepted,
    Answer,
    ApiError,
    Change,
    Deleted,
    Events,
    ExplainRequest,
    Explanation,
    FoundItems,
    Health,
    HistoryRequest,
    Query,
    Recommendations,
    ScoredItem,
    UserRecommendations,
    decoded,
    id_text,
    json_answer,
)
from recblr.serving.http.metrics import CONTENT_TYPE, Metrics
from recblr.serving.http.writer import Writer
from recblr.serving.stores.store import StoreError

if TYPE_CHECKING:
    from recblr.serving.engine import Engine
    from recblr.serving.service import Service

_QUICK_HISTORY = 64  # events; a longer history is worked on in a thread, so that other requests go on
_SEARCH_RESULTS = 100
_MOST_WAITING = 1_000  # calls for which there is no thread yet, or that run
_MOST_SLOW = 64  # beyond that, no explanation and no search may join them
_log = logging.getLogger("recblr.serving")

_events = msgspec.json.Decoder(Events)
_history = msgspec.json.Decoder(HistoryRequest)
_explain = msgspec.json.Decoder(ExplainRequest)

Result = TypeVar("Result")


class Request(NamedTuple):
    """A request: the id in its path, its parameters and its body."""

    id: str
    query: Query
    body: bytes


Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Api:
    """Answers requests with a service.  It lives as long as the event loop in which it is made."""

    def __init__(self, service: "Service", titles: Mapping[str, str], metrics: Metrics) -> None:
        self.service = service
        self._titles = titles
        self._metrics = metrics
        self._writer = Writer(service, metrics)
        self._catalogue: tuple[weakref.ref[Engine], int, Catalogue] | None = None
        # Not those of the event loop, which readiness, the load of a model and the end must not wait for.
        self._threads = ThreadPoolExecutor(thread_name_prefix="recblr-request")
        self._waiting = 0  # calls in these threads
        self._look: asyncio.Future[bool] | None = None
        self.stopping = False

    def close(self) -> None:
        """Make durable what waits, and close the service."""
        self._writer.close()
        try:
            self.service.close()
        except StoreError as error:  # no event is lost: they are durable before they are answered
            _log.warning("the last states are not written: %s", error)

    # --- events ---------------------------------------------------------------------------------

    async def add_events(self, request: Request) -> Answer:
        events = decoded(request.body, _events).events
        users = [id_text(event.user, "a user") for event in events]
        items = [id_text(event.item, "an item") for event in events]
        self._check(items)  # before they join others, who would be refused with them
        times = [event.time for event in events]
        ids = [None if event.event_id is None else id_text(event.event_id, "an event") for event in events]
        try:
            accepted = await self._writer.add(users, items, times, ids)
        except InputError as error:
            raise self._refusal(error, items) from None
        return json_answer(Accepted(accepted, len(events) - accepted))

    async def delete_user(self, request: Request) -> Answer:
        deleted = await self._in_thread(self.service.forget, request.id)
        return json_answer(Deleted(request.id, deleted))

    # --- answers --------------------------------------------------------------------------------

    async def recommend(self, request: Request) -> Answer:
        user, query = request.id, request.query
        count, time, mask_seen = self._count(query), query.time("time"), not query.flag("include_seen")
        titles = query.flag("titles")
        best = None
        if self.service.local:  # an answer from memory is faster than a thread, and waits for nobody
            best = self.service.recommend_at_once(user, count, time=time, mask_seen=mask_seen)
        try:
            if best is None:
                ask = partial(self.service.recommend, user, count, time=time, mask_seen=mask_seen)
                best = await self._in_thread(ask)
            known = bool(best) or await self._quick(partial(self.service.knows, user))
        except InputError as error:
            raise self._refusal(error) from None
        return json_answer(UserRecommendations(user, self._scored(best, titles), known))

    async def recommend_history(self, request: Request) -> Answer:
        asked = decoded(request.body, _history)
        history = [id_text(item, "an item") for item in asked.history]
        if not history:
            return json_answer(Recommendations([]))
        ask = partial(
            self.service.recommend_history,
            history,
            min(asked.k, self.service.engine.num_items),
            times=asked.times,
            time=asked.time,
            mask_seen=not asked.include_seen,
        )
        try:
            best = ask() if len(history) <= _QUICK_HISTORY else await self._in_thread(ask)
        except InputError as error:
            raise self._refusal(error, history) from None
        return json_answer(Recommendations(self._scored(best, asked.titles)))

    async def similar(self, request: Request) -> Answer:
        most = self.service.engine.num_items - 1
        count, titles = min(self._count(request.query), most), request.query.flag("titles")
        try:
            best = await self._in_thread(self.service.similar, request.id, max(1, count), most=_MOST_SLOW)
        except InputError as error:
            raise self._refusal(error, [request.id]) from None
        return json_answer(Recommendations(self._scored(best, titles)))

    async def explain(self, request: Request) -> Answer:
        asked = decoded(request.body, _explain)
        history, item = [id_text(one, "an item") for one in asked.history], id_text(asked.item, "an item")
        ask = partial(self.service.explain_history, history, item, times=asked.times, time=asked.time)
        try:
            changes = await self._in_thread(ask, most=_MOST_SLOW)
        except InputError as error:
            raise self._refusal(error, [*history, item]) from None
        return json_answer(self._explanation(item, changes, asked.titles))

    async def explain_user(self, request: Request) -> Answer:
        item, query = id_text(request.query.text("item") or "", "the item"), request.query
        time, titles = query.time("time"), query.flag("titles")
        self._check([item])  # an unknown user has no event to say so
        ask = partial(self.service.explain, request.id, item, time=time)
        try:
            changes = await self._in_thread(ask, most=_MOST_SLOW)
        except InputError as error:
            raise self._refusal(error, [item]) from None
        return json_answer(self._explanation(item, changes, titles))

    async def search(self, request: Request) -> Answer:
        words, count = request.query.text("query") or "", request.query.count("k", 20, _SEARCH_RESULTS)
        if len(words) > 200:
            raise ApiError("invalid", f"query has {len(words):,} letters; give at most 200")
        found = await self._in_thread(self.catalogue.search, words, count, most=_MOST_SLOW)
        return json_answer(FoundItems(found))

    # --- the server -----------------------------------------------------------------------------

    async def health(self, request: Request) -> Answer:
        return json_answer(Health("ok"))

    async def ready(self, request: Request) -> Answer:
        if self.stopping:
            raise ApiError("unavailable", "the server stops")
        look = partial(self.service.knows, "recblr")  # asks the store, who may be gone
        if self.service.local:
            look()
        else:  # one look answers all who ask meanwhile, so they cannot take all threads
            if self._look is None or self._look.done():
                self._look = asyncio.get_running_loop().run_in_executor(None, look)
            await asyncio.shield(self._look)
        return json_answer(Health("ready"))

    async def metrics(self, request: Request) -> Answer:
        self.count_users()
        body = self._metrics.page()
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(body))]
        return Answer(200, body, headers)

    def count_users(self) -> None:
        """Tell the metrics what this worker holds."""
        self._metrics.set("recblr_users_in_memory", self.service.engine.num_users)
        self._metrics.set("recblr_events_left_out", self.service.left_out)

    # --- parts ----------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The items of the present model."""
        engine = self.service.engine
        held = self._catalogue
        if held is None or held[0]() is not engine or held[1] != engine.num_items:
            catalogue = Catalogue(engine.item_ids, self._titles)
            held = self._catalogue = (weakref.ref(engine), engine.num_items, catalogue)
        return held[2]

    def _count(self, query: Query) -> int:
        return min(query.count("k", 10), self.service.engine.num_items)

    async def _quick(self, call: Callable[[], Result]) -> Result:
        """The result of a call that takes microseconds, unless the store is on another machine."""
        return call() if self.service.local else await self._in_thread(call)

    async def _in_thread(
        self, call: Callable[..., Result], *arguments: Any, most: int = _MOST_WAITING
    ) -> Result:
        if self._waiting >= most:
            raise ApiError(
                "unavailable", "too many requests wait; ask again later", headers={"retry-after": "1"}
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        finally:
            self._waiting -= 1

    def _check(self, items: list[str]) -> None:
        """Raise ApiError if the model does not have one of these items."""
        unknown = self.service.unknown_item(items)
        if unknown is not None:
            raise ApiError(
                "unknown_item",
                f"the model has no item {unknown!r}; give items that it knows",
                item=unknown,
            )

    def _refusal(self, error: InputError, items: list[str] | None = None) -> Exception:
        """The answer to a request that the engine refuses, with the name of an item that it does not know."""
        if isinstance(error, StoreError):  # not the client's mistake
            return error
        self._check(items or [])
        return ApiError("invalid", str(error))

    def _scored(self, best: Sequence[tuple[str, float]], titles: bool) -> list[ScoredItem]:
        if titles:
            return [ScoredItem(item, score, self._titles.get(item)) for item, score in best]
        return [ScoredItem(item, score) for item, score in best]

    def _explanation(self, item: str, changes: Iterable[tuple[int, str, float]], titles: bool) -> Explanation:
        names = self._titles if titles else {}
        return Explanation(item, [Change(*change, names.get(change[1])) for change in changes])
