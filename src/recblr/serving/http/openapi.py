"""The OpenAPI document of the server.  Its schemas come from the classes that read and write the bodies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from recblr import __version__
from recblr.serving.http import messages
from recblr.serving.http.messages import ERRORS, MAX_ID, MAX_K


class _Route(Protocol):
    @property
    def methods(self) -> Mapping[str, str]: ...
    @property
    def open(self) -> bool: ...


@dataclass(frozen=True)
class _Operation:
    """What the document says of a handler.  errors: beside those that every request may get."""

    about: str
    answer: type | None
    body: type | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


_K = {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": 10}
_FLAG = {"type": "boolean", "default": False}
_TIME = {
    "type": "number",
    "description": "Of the request, in seconds since 1970; by default right after the last event.",
}
_ITEM = {"type": "string", "minLength": 1, "maxLength": MAX_ID}
_REFUSED = ("invalid", "unknown_item")

OPERATIONS = {
    "add_events": _Operation(
        "Take in events. The answer comes when they are durable.",
        messages.Accepted, messages.Events, errors=_REFUSED,
    ),
    "delete_user": _Operation("Delete all of a user.", messages.Deleted, errors=("invalid",)),
    "recommend": _Operation(
        "The best items for a user, best first. An unknown user gets none.",
        messages.UserRecommendations,
        query={"k": _K, "time": _TIME, "include_seen": _FLAG, "titles": _FLAG}, errors=("invalid",),
    ),
    "explain_user": _Operation(
        "How much each event of a user changes the score of an item.",
        messages.Explanation, query={"item": _ITEM, "time": _TIME, "titles": _FLAG}, errors=_REFUSED,
    ),
    "recommend_history": _Operation(
        "The best items after a history. Nothing is kept.",
        messages.Recommendations, messages.HistoryRequest, errors=_REFUSED,
    ),
    "explain": _Operation(
        "How much each event of a history changes the score of an item.",
        messages.Explanation, messages.ExplainRequest, errors=_REFUSED,
    ),
    "search": _Operation(
        "Items whose title or id holds all words of the query.",
        messages.FoundItems,
        query={
            "query": {"type": "string", "maxLength": 200, "default": ""},
            "k": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        },
        errors=("invalid",),
    ),
    "similar": _Operation(
        "The items whose vectors are most like that of an item, with the cosine.",
        messages.Recommendations, query={"k": _K, "titles": _FLAG}, errors=_REFUSED,
    ),
    "health": _Operation("The process runs.", messages.Health),
    "ready": _Operation("The model and the store can answer.", messages.Health),
    "metrics": _Operation("Figures for Prometheus.", None),
}  # fmt: skip


def document(routes: Mapping[str, _Route], needs_token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    types = {kind for operation in OPERATIONS.values() for kind in (operation.answer, operation.body) if kind}
    schemas = msgspec.json.schema_components(
        [*types, messages.ErrorBody], ref_template="#/components/schemas/{name}"
    )[1]
    components: dict[str, Any] = {"schemas": schemas}
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recblr",
            "version": __version__,
            "description": "Sequential recommendation: events in, recommendations out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            path: {
                method.lower(): _operation(name, path, route.open, needs_token and not route.open)
                for method, name in route.methods.items()
            }
            for path, route in routes.items()
        },
        "components": components,
    }


def _operation(name: str, path: str, is_open: bool, needs_token: bool) -> dict[str, Any]:
    operation = OPERATIONS[name]
    described: dict[str, Any] = {"operationId": name, "summary": operation.about}
    id_ = [{"name": "id", "in": "path", "required": True, "schema": _ITEM}] if "{id}" in path else []
    parameters = [
        {"name": key, "in": "query", "required": key == "item", "schema": schema}
        for key, schema in operation.query.items()
    ]
    if id_ or parameters:
        described["parameters"] = id_ + parameters
    kinds = {*operation.errors, "unavailable", "internal"}
    if id_ or parameters:
        kinds.add("invalid")
    if operation.body:
        described["requestBody"] = {"required": True, "content": _json(operation.body)}
        kinds |= {"bad_json", "timeout", "too_large", "not_json"}
    if needs_token:
        described["security"] = [{"token": []}]
        kinds.add("unauthorized")
    elif not is_open:
        kinds |= {"forbidden", "misdirected"}
    text = {"text/plain": {"schema": {"type": "string"}}}
    answers: dict[str, Any] = {
        "200": {
            "description": "Done.",
            "content": text if operation.answer is None else _json(operation.answer),
        }
    }
    for status in sorted({ERRORS[kind] for kind in kinds}):
        of_status = [kind for kind in ERRORS if ERRORS[kind] == status and kind in kinds]
        answers[str(status)] = {
            "description": f"Error: {', '.join(of_status)}.",
            "content": _json(messages.ErrorBody),
        }
    return described | {"responses": answers}


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
