"""The interface: what each request answers, compared with an engine that got the same events."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from serving.engines import BY_NAME, IDS, START, fresh, path_of
from serving.http.server import Server, serving

from recblr import Engine


def send(server: Server, *events: dict[str, Any]) -> dict[str, int]:
    answer = server.ask("POST", "/v1/events", {"events": list(events)})
    assert answer.status == 200, answer
    return answer.json


def event(user: str | int, item: str, at: float, **more: Any) -> dict[str, Any]:
    return {"user": user, "item": item, "time": START + at, **more}


def listed(best: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"item": item, "score": score} for item, score in best]


def title_of(item: str) -> dict[str, str]:
    return {} if item == IDS[-1] else {"title": f"The Amélie Story {item[1:]}"}


@pytest.fixture
def engine() -> Engine:
    return fresh("request", history=True)


def test_events_change_the_answers_as_those_of_the_engine(server: Server, engine: Engine) -> None:
    for at, item in enumerate(["i3", "i9", "i3", "i20"]):
        assert send(server, event("ada", item, at)) == {"accepted": 1, "duplicates": 0}
        engine.update("ada", item, time=START + at)
        answer = server.ask("GET", "/v1/users/ada/recommendations")
        assert answer.json == {"user": "ada", "items": listed(engine.recommend("ada", 10))}
    later = START + 86_400
    answer = server.ask("GET", f"/v1/users/ada/recommendations?k=3&time={later}")
    assert answer.json["items"] == listed(engine.recommend("ada", 3, time=later))
    assert answer.json["items"] != listed(engine.recommend("ada", 3))


def test_seen_items_are_left_out_unless_asked_for(server: Server, engine: Engine) -> None:
    send(server, event("seen", "i1", 0), event("seen", "i2", 1))
    engine.update_many(["seen"] * 2, ["i1", "i2"], times=[START, START + 1])
    assert {"i1", "i2"}.isdisjoint(server.items("seen", k=len(IDS)))
    every = server.items("seen", k=len(IDS), include_seen="true")
    assert every == [item for item, _ in engine.recommend("seen", len(IDS), mask_seen=False)]


def test_an_event_id_counts_once(server: Server) -> None:
    assert send(server, event("once", "i1", 0, event_id="e1")) == {"accepted": 1, "duplicates": 0}
    both = send(server, event("once", "i1", 0, event_id="e1"), event("once", "i2", 1, event_id=2))
    assert both == {"accepted": 1, "duplicates": 1}
    assert send(server, event("once", "i2", 1, event_id="2")) == {"accepted": 0, "duplicates": 1}
    assert send(server, event("other", "i1", 0, event_id="e1")) == {"accepted": 1, "duplicates": 0}


def test_an_event_without_a_time_gets_that_of_the_clock(server: Server, engine: Engine) -> None:
    assert send(server, {"user": "now", "item": "i4"}) == {"accepted": 1, "duplicates": 0}
    engine.update("now", "i4", time=time.time())
    soon = time.time() + 3600
    ours = server.ask("GET", f"/v1/users/now/recommendations?time={soon}").json["items"]
    right = engine.recommend("now", 10, time=soon)
    assert [entry["item"] for entry in ours] == [item for item, _ in right]


def test_an_integer_is_the_id_that_it_spells(server: Server) -> None:
    assert send(server, event(7, "i1", 0), event("7", "i2", 1))["accepted"] == 2
    assert {"i1", "i2"}.isdisjoint(server.items("7", k=len(IDS)))


def test_an_unknown_user_has_an_empty_history(server: Server) -> None:
    answer = server.ask("GET", "/v1/users/nobody/recommendations")
    assert (answer.status, answer.json) == (200, {"user": "nobody", "items": [], "known": False})
    assert server.ask("GET", "/v1/users/nobody/explanation?item=i1").json == {"item": "i1", "events": []}


def test_a_history_of_nobody(server: Server, engine: Engine) -> None:
    items, times = ["i1", "i2"], [START, START + 5]
    asked = {"history": items, "times": times, "time": START + 9, "k": 4}
    answer = server.ask("POST", "/v1/recommend", asked)
    assert answer.json == {"items": listed(engine.recommend_history(items, 4, times=times, time=START + 9))}
    every = server.ask("POST", "/v1/recommend", {**asked, "k": 100, "include_seen": True}).json["items"]
    assert {entry["item"] for entry in every} == set(IDS)
    assert server.ask("POST", "/v1/recommend", {"history": []}).json == {"items": []}
    assert server.items("i1") == []  # nothing was kept


def test_a_long_history_is_answered_as_a_short_one(server: Server, engine: Engine) -> None:
    items, times = [IDS[at % 23] for at in range(500)], [START + at for at in range(500)]
    answer = server.ask("POST", "/v1/recommend", {"history": items, "times": times, "include_seen": True})
    assert answer.json == {"items": listed(engine.recommend_history(items, 10, times=times, mask_seen=False))}


def test_a_model_without_time_needs_none() -> None:
    with serving(path_of(BY_NAME["whole vectors"])) as server:
        engine = fresh("whole vectors")
        engine.update_many(["u"] * 2, ["i1", "i2"])
        assert server.post(("u", "i1"), ("u", "i2")).json["accepted"] == 2
        assert server.ask("GET", "/v1/users/u/recommendations").json["items"] == listed(engine.recommend("u"))
        answer = server.ask(
            "POST", "/v1/recommend", {"history": ["i1", "i2"], "times": None, "time": None, "k": 10}
        )
        assert answer.json["items"] == listed(engine.recommend("u"))


def test_similar_items(server: Server, engine: Engine) -> None:
    answer = server.ask("GET", "/v1/items/i5/similar?k=3&titles=true")
    assert answer.json["items"] == [
        {"item": item, "score": score, **title_of(item)} for item, score in engine.similar("i5", 3)
    ]
    assert len(server.ask("GET", "/v1/items/i5/similar?k=1000").json["items"]) == len(IDS) - 1


def test_explanations(server: Server, engine: Engine) -> None:
    items, times = ["i1", "i2", "i3"], [START, START + 5, START + 6]
    engine.rebuild({"why": (items, times)})
    right = [{"position": p, "item": i, "change": c} for p, i, c in engine.explain("why", "i9")]
    asked = {"history": items, "times": times, "item": "i9"}
    assert server.ask("POST", "/v1/explain", asked).json == {"item": "i9", "events": right}
    send(server, *(event("why", item, at - START) for item, at in zip(items, times, strict=True)))
    assert server.ask("GET", "/v1/users/why/explanation?item=i9").json == {"item": "i9", "events": right}
    titled = server.ask("POST", "/v1/explain", {**asked, "titles": True}).json["events"]
    assert titled == [{**entry, **title_of(entry["item"])} for entry in right]


def test_a_deleted_user_begins_anew(server: Server) -> None:
    send(server, event("gone", "i1", 0, event_id="e"))
    assert server.ask("DELETE", "/v1/users/gone").json == {"user": "gone", "deleted": True}
    assert server.ask("DELETE", "/v1/users/gone").json == {"user": "gone", "deleted": False}
    assert server.items("gone") == []
    assert send(server, event("gone", "i2", 0, event_id="e")) == {"accepted": 1, "duplicates": 0}


def test_the_search(server: Server) -> None:
    def found(query: str, **more: object) -> list[str]:
        answer = server.ask("GET", f"/v1/items?query={query}" + "".join(f"&{k}={v}" for k, v in more.items()))
        return [entry["item"] for entry in answer.json["items"]]

    assert found("amelie%2019") == ["i19"]
    assert found("STORY%20am%C3%A9lie", k=3) == ["i0", "i1", "i2"]
    assert set(found("story%202")) == {"i2", "i12", "i20", "i21"}
    assert found("i22") == ["i22"]  # without a title
    assert found("nothing") == []
    assert len(found("", k=5)) == 5
    assert server.ask("GET", "/v1/items?query=i22").json == {"items": [{"item": "i22"}]}


def test_ids_may_hold_any_letter(server: Server) -> None:
    for user, path in {
        "a/b": "a%2Fb",
        "..": "..",
        "../../etc/passwd": "..%2F..%2Fetc%2Fpasswd",
        "ä €": "%C3%A4%20%E2%82%AC",
        "a+b": "a+b",
        "a?b#c": "a%3Fb%23c",
        "%41": "%2541",
        "\n\t\x01": "%0A%09%01",
        "'; DROP TABLE users; --": "'%3B%20DROP%20TABLE%20users%3B%20--",
        "x" * 400: "x" * 400,
    }.items():
        assert send(server, {"user": user, "item": "i1"})["accepted"] == 1
        answer = server.ask("GET", f"/v1/users/{path}/recommendations")
        assert answer.json["user"] == user
        assert len(answer.json["items"]) == 10
        assert server.ask("DELETE", f"/v1/users/{path}").json == {"user": user, "deleted": True}


def test_health_and_metrics(server: Server) -> None:
    assert server.ask("GET", "/healthz").json == {"status": "ok"}
    assert server.ask("GET", "/readyz").json == {"status": "ready"}
    route = "/v1/users/{id}/recommendations"
    asked = f'recblr_requests_total{{route="{route}",status="200"}}'
    measured = f'recblr_request_seconds_count{{route="{route}"}}'
    before = server.metric(asked), server.metric(measured)
    accepted = server.metric('recblr_events_total{result="accepted"}')
    server.post(("m", "i1"), ("m", "i2"))
    server.items("m")
    assert server.metric(asked) == before[0] + 1
    assert server.metric(measured) == before[1] + 1
    assert server.metric('recblr_events_total{result="accepted"}') == accepted + 2
    assert server.metric("recblr_users_in_memory") >= 1
    assert server.metric("recblr_requests_in_progress") == 1  # this one
    page = server.ask("GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_head_answers_without_a_body(server: Server) -> None:
    for path in ("/", "/healthz", "/v1/users/u/recommendations"):
        answer = server.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


def test_the_server_needs_neither_torch_nor_polars(model: Path, titles: Path) -> None:
    hide = "sys.modules.update(torch=None, polars=None)"
    with serving(model, "--titles", titles, prelude=hide) as server:
        assert server.post(("u", "i1")).status == 200
        assert len(server.items("u")) == 10
