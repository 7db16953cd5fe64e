"""The handlers: what each request asks of the service."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
    from recblr.serving.service import Service

_QUICK_HISTORY = 64  # events; a longer history is worked on in a thread, so that other requests go on
_SEARCH_RESULTS = 100

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
        self._catalogue: tuple[object, int, Catalogue] | None = None
        self.stopping = False

    def close(self) -> None:
        """Make durable what waits, and close the service."""
        self._writer.close()
        self.service.close()

    # --- events ---------------------------------------------------------------------------------

    async def add_events(self, request: Request) -> Answer:
        events = decoded(request.body, _events).events
        users = [id_text(event.user, "a user") for event in events]
        items = [id_text(event.item, "an item") for event in events]
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
        ask = partial(
            self.service.recommend,
            user,
            self._count(query),
            time=query.time("time"),
            mask_seen=not query.flag("include_seen"),
        )
        titles = query.flag("titles")
        try:
            best = await self._quick(ask)
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
            best = await self._in_thread(self.service.similar, request.id, max(1, count))
        except InputError as error:
            raise self._refusal(error, [request.id]) from None
        return json_answer(Recommendations(self._scored(best, titles)))

    async def explain(self, request: Request) -> Answer:
        asked = decoded(request.body, _explain)
        history, item = [id_text(one, "an item") for one in asked.history], id_text(asked.item, "an item")
        ask = partial(self.service.explain_history, history, item, times=asked.times, time=asked.time)
        try:
            changes = await self._in_thread(ask)
        except InputError as error:
            raise self._refusal(error, [*history, item]) from None
        return json_answer(self._explanation(item, changes, asked.titles))

    async def explain_user(self, request: Request) -> Answer:
        item, query = id_text(request.query.text("item") or "", "the item"), request.query
        time, titles = query.time("time"), query.flag("titles")
        if item not in self.catalogue:  # an unknown user has no event to say so
            raise unknown_item(item)
        try:
            changes = await self._in_thread(partial(self.service.explain, request.id, item, time=time))
        except InputError as error:
            raise self._refusal(error, [item]) from None
        return json_answer(self._explanation(item, changes, titles))

    async def search(self, request: Request) -> Answer:
        words, count = request.query.text("query") or "", request.query.count("k", 20, _SEARCH_RESULTS)
        if len(words) > 200:
            raise ApiError("invalid", f"query has {len(words):,} letters; give at most 200")
        found = await self._in_thread(self.catalogue.search, words, count)
        return json_answer(FoundItems(found))

    # --- the server -----------------------------------------------------------------------------

    async def health(self, request: Request) -> Answer:
        return json_answer(Health("ok"))

    async def ready(self, request: Request) -> Answer:
        if self.stopping:
            raise ApiError("unavailable", "the server stops")
        await self._quick(partial(self.service.knows, "recblr"))  # asks the store, who may be gone
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
        if held is None or held[0] is not engine or held[1] != engine.num_items:
            held = self._catalogue = (engine, engine.num_items, Catalogue(engine.item_ids, self._titles))
        return held[2]

    def _count(self, query: Query) -> int:
        return min(query.count("k", 10), self.service.engine.num_items)

    async def _quick(self, call: Callable[[], Result]) -> Result:
        """The result of a call that takes microseconds, unless the store is on another machine."""
        return call() if self.service.local else await self._in_thread(call)

    async def _in_thread(self, call: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)

    def _refusal(self, error: InputError, items: Iterable[str] = ()) -> Exception:
        """The answer to a request that the engine refuses, with the name of an item that it does not know."""
        if isinstance(error, StoreError):  # not the client's mistake
            return error
        catalogue = self.catalogue
        unknown = next((item for item in items if item not in catalogue), None)
        if unknown is None:
            return ApiError("invalid", str(error))
        return unknown_item(unknown)

    def _scored(self, best: Sequence[tuple[str, float]], titles: bool) -> list[ScoredItem]:
        if titles:
            return [ScoredItem(item, score, self._titles.get(item)) for item, score in best]
        return [ScoredItem(item, score) for item, score in best]

    def _explanation(self, item: str, changes: Iterable[tuple[int, str, float]], titles: bool) -> Explanation:
        names = self._titles if titles else {}
        return Explanation(item, [Change(*change, names.get(change[1])) for change in changes])


def unknown_item(item: str) -> ApiError:
    return ApiError("unknown_item", f"the model has no item {item!r}; give items that it knows", item=item)
