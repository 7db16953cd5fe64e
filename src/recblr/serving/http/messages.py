"""What goes over the wire: the bodies of requests and of answers, and typed errors.

msgspec reads, checks and writes them, in a few microseconds.  openapi.py makes their schemas from the same
classes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

MAX_BODY = 1 << 20  # bytes
MAX_EVENTS = 1_000  # of a request
MAX_HISTORY = 10_000  # events
MAX_K = 1_000
MAX_PARAMETERS = 20
MAX_ID = 400  # bytes of UTF-8: a store on LMDB has keys of at most 511 bytes

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | int
Time = Annotated[float, Meta(description="Seconds since 1970 in UTC.")]
Count = Annotated[int, Meta(ge=1, le=MAX_K)]
_History = Annotated[list[Id], Meta(max_length=MAX_HISTORY, description="Items, the oldest event first.")]
_Times = Annotated[list[Time], Meta(max_length=MAX_HISTORY, description="Of the events of the history.")]


class Event(Struct, forbid_unknown_fields=True):
    """An event: a user has done something with an item."""

    user: Id
    item: Id
    time: Annotated[Time | None, Meta(description="Without it, the server takes its clock.")] = None
    event_id: Annotated[
        Id | None, Meta(description="An event that is sent again with the same id does not count again.")
    ] = None


class Events(Struct, forbid_unknown_fields=True):
    """Events, those of a user in the order of time."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS)]


class HistoryRequest(Struct, forbid_unknown_fields=True):
    """Asks for recommendations after a history, without a user."""

    history: _History
    times: _Times | None = None
    time: Annotated[Time | None, Meta(description="Of the request; null means after the last event.")] = None
    k: Count = 10
    include_seen: bool = False
    titles: Annotated[bool, Meta(description="Give the titles of items too.")] = False


class ExplainRequest(Struct, forbid_unknown_fields=True):
    """Asks why an item has its score after a history."""

    history: Annotated[_History, Meta(min_length=1)]
    item: Id
    times: _Times | None = None
    time: Time | None = None
    titles: bool = False


class Accepted(Struct):
    """How many events are durable now, and how many had come before."""

    accepted: int
    duplicates: int


class ScoredItem(Struct, omit_defaults=True):
    """An item with its score.  The title is there if it was asked for and is known."""

    item: str
    score: float
    title: str | None = None


class UserRecommendations(Struct, omit_defaults=True):
    """Recommendations, best first.  `known` is there, and false, if the user has no event."""

    user: str
    items: list[ScoredItem]
    known: bool = True


class Recommendations(Struct):
    """Items, best first."""

    items: list[ScoredItem]


class Change(Struct, omit_defaults=True):
    """How much an event changes the score of an item: its score less the score without the event."""

    position: Annotated[int, Meta(description="Of the event in the history, from 0.")]
    item: str
    change: float
    title: str | None = None


class Explanation(Struct):
    """The effect of each of the newest 100 events on the score of an item, the largest first."""

    item: str
    events: list[Change]


class Deleted(Struct):
    """Whether there was anything to delete."""

    user: str
    deleted: bool


class KnownItem(Struct, omit_defaults=True):
    """An item of the catalogue."""

    item: str
    title: str | None = None


class FoundItems(Struct):
    """Items that were searched for."""

    items: list[KnownItem]


class Health(Struct):
    """How the server is."""

    status: str


class ErrorContent(Struct, omit_defaults=True):
    """What went wrong: a type for programs, a sentence for people, and the item if one is at fault."""

    type: str
    message: str
    item: str | None = None


class ErrorBody(Struct):
    """An error."""

    error: ErrorContent


class ApiError(Exception):
    """A request that is answered with an error.

    kind: the `type` of the answer, one of ERRORS, which has its status.
    """

    def __init__(
        self, kind: str, message: str, *, item: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = ERRORS[kind]
        self.content = ErrorContent(kind, message, item)
        self.headers = dict(headers or {})


ERRORS: Final = {
    "bad_request": 400,
    "bad_json": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "too_large": 413,
    "not_json": 415,
    "misdirected": 421,
    "invalid": 422,
    "unknown_item": 422,
    "head_too_large": 431,
    "internal": 500,
    "unavailable": 503,
}
"""The type of each error, and its status."""


class Answer(NamedTuple):
    """What a handler answers with."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]]


encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    body = encode(content)
    more = [(name.encode(), value.encode()) for name, value in headers.items()] if headers else ()
    return Answer(status, body, [_JSON, (b"content-length", b"%d" % len(body)), *more])


def error_answer(error: ApiError) -> Answer:
    """The answer to a request that failed."""
    return json_answer(ErrorBody(error.content), error.status, error.headers)


Body = TypeVar("Body")


def decoded(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """The body of a request, checked.  ApiError if it is no JSON or has another content."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ApiError("invalid", _sentence(str(error))) from None
    except msgspec.DecodeError as error:
        raise ApiError("bad_json", f"the body is not JSON: {error}; send one JSON object") from None
    except RecursionError:
        raise ApiError("bad_json", "the body is nested too deeply; send one JSON object") from None


def _sentence(problem: str) -> str:
    """msgspec's message about a field, as one sentence with a small letter."""
    return f"the body is not as the interface says: {problem[:1].lower()}{problem[1:]}"


def id_text(value: str | int, what: str) -> str:
    """An id as text.  ApiError if it is longer than a store can keep."""
    text = value if type(value) is str else str(value)
    if not text or len(text) > MAX_ID or (not text.isascii() and len(text.encode()) > MAX_ID):
        raise ApiError("invalid", f"the id of {what} has {len(text):,} letters; give 1 to {MAX_ID} bytes")
    if "\0" in text:
        raise ApiError("invalid", f"the id of {what} holds a NUL; give an id without one")
    return text


_WHOLE = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?")


class Query:
    """The parameters of a URL.  ApiError if one is given twice, or has another type than it must have."""

    def __init__(self, query: bytes) -> None:
        self._values: dict[str, str] = {}
        if not query:
            return
        try:
            pairs = parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
            )
        except UnicodeError:
            raise ApiError("invalid", "the parameters of the URL are not UTF-8; encode them as %XX") from None
        except ValueError:
            raise ApiError("invalid", f"the URL has more than {MAX_PARAMETERS} parameters") from None
        for name, value in pairs:
            if name in self._values:
                raise ApiError("invalid", f"{name[:60]} is given twice; give it once")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def count(self, name: str, default: int, most: int = MAX_K) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        number = int(value) if _WHOLE.fullmatch(value) else 0
        if not 1 <= number <= most:
            raise ApiError("invalid", f"{name} is {value[:60]!r}; give a whole number from 1 to {most:,}")
        return number

    def time(self, name: str) -> float | None:
        """Seconds since 1970, or None if it is not given."""
        value = self._values.get(name)
        if value is None:
            return None
        number = float(value) if _NUMBER.fullmatch(value) else float("inf")
        if not -1e300 < number < 1e300:
            raise ApiError("invalid", f"{name} is {value[:60]!r}; give seconds since 1970")
        return number

    def flag(self, name: str) -> bool:
        value = self._values.get(name, "false")
        if value not in ("true", "false"):
            raise ApiError("invalid", f"{name} is {value[:60]!r}; give true or false")
        return value == "true"
