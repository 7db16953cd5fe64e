"""Requests that are wrong or hostile: each gets a typed error, and the server goes on."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from serving.engines import START
from serving.http.server import Answer, Server, received, serving, wait_until

EVENT = {"user": "u", "item": "i1"}
TOO_LONG = "x" * 401
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _the_server_goes_on(server: Server) -> Iterator[None]:
    yield
    assert server.ask("GET", "/healthz").status == 200
    assert server.process.poll() is None
    assert "Traceback" not in server.errors()


def events(*entries: Any) -> dict[str, Any]:
    return {"events": list(entries)}


@pytest.mark.parametrize(
    ("path", "content", "error"),
    [
        ("/v1/events", b"", (400, "bad_json")),
        ("/v1/events", b"{", (400, "bad_json")),
        ("/v1/events", b"\xff\xfe", (400, "bad_json")),
        ("/v1/events", b'{"events": NaN}', (400, "bad_json")),
        ("/v1/events", b'{"events": ' + b"[" * 100_000, (422, "invalid")),
        ("/v1/events", b'{"events": [{"user": "\\ud800", "item": "i1"}]}', (400, "bad_json")),
        ("/v1/events", [], (422, "invalid")),
        ("/v1/events", {}, (422, "invalid")),
        ("/v1/events", events(), (422, "invalid")),
        ("/v1/events", events(*[EVENT] * 1001), (422, "invalid")),
        ("/v1/events", {**events(EVENT), "more": 1}, (422, "invalid")),
        ("/v1/events", events({"user": "u"}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "items": 1}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": None}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": True}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": 1.5}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": ""}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": "a\0b"}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": TOO_LONG}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": "€" * 200}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "user": 10**4000}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "event_id": TOO_LONG}), (422, "invalid")),
        ("/v1/events", events({**EVENT, "time": "now"}), (422, "invalid")),
        ("/v1/events", b'{"events": [{"user": "u", "item": "i1", "time": 1e999}]}', (422, "invalid")),
        ("/v1/events", events({**EVENT, "item": "nope"}), (422, "unknown_item")),
        ("/v1/recommend", {"history": ["i1"]}, (422, "invalid")),  # the model needs times
        ("/v1/recommend", {"history": ["i1", "i2"], "times": [START]}, (422, "invalid")),
        ("/v1/recommend", {"history": ["i1", "i2"], "times": [START, START - 1]}, (422, "invalid")),
        ("/v1/recommend", {"history": ["i1"], "times": [START], "time": START - 1}, (422, "invalid")),
        ("/v1/recommend", {"history": ["i1"], "times": [START], "k": 0}, (422, "invalid")),
        ("/v1/recommend", {"history": ["i1"], "times": [START], "k": 1001}, (422, "invalid")),
        ("/v1/recommend", {"history": ["i1", "nope"], "times": [START] * 2}, (422, "unknown_item")),
        ("/v1/recommend", {"history": ["i1"] * 10_001, "times": [START] * 10_001}, (422, "invalid")),
        ("/v1/explain", {"history": [], "item": "i1"}, (422, "invalid")),
        ("/v1/explain", {"history": ["i1"], "times": [START], "item": "nope"}, (422, "unknown_item")),
    ],
)  # fmt: skip
def test_a_wrong_body(server: Server, path: str, content: Any, error: tuple[int, str]) -> None:
    assert server.ask("POST", path, content).error == error
    assert server.items("u") == []  # nothing was taken in


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/users/u/recommendations?k=0", (422, "invalid")),
        ("/v1/users/u/recommendations?k=1001", (422, "invalid")),
        ("/v1/users/u/recommendations?k=ten", (422, "invalid")),
        ("/v1/users/u/recommendations?k=", (422, "invalid")),
        ("/v1/users/u/recommendations?k=1&k=2", (422, "invalid")),
        ("/v1/users/u/recommendations?time=soon", (422, "invalid")),
        ("/v1/users/u/recommendations?time=inf", (422, "invalid")),
        ("/v1/users/u/recommendations?time=1e999", (422, "invalid")),
        ("/v1/users/u/recommendations?include_seen=1", (422, "invalid")),
        ("/v1/users/u/recommendations?x=%ff", (422, "invalid")),
        ("/v1/users/u/recommendations?" + "&".join(f"p{n}=" for n in range(50)), (422, "invalid")),
        ("/v1/users/%ff/recommendations", (422, "invalid")),
        ("/v1/users/a%00b/recommendations", (422, "invalid")),
        ("/v1/users//recommendations", (422, "invalid")),
        (f"/v1/users/{TOO_LONG}/recommendations", (422, "invalid")),
        ("/v1/users/" + "x" * 10_240 + "/recommendations", (422, "invalid")),
        ("/v1/users/" + "%2e%2e%2f" * 1000 + "/recommendations", (422, "invalid")),
        ("/v1/items/nope/similar", (422, "unknown_item")),
        ("/v1/users/u/explanation", (422, "invalid")),
        ("/v1/users/nobody/explanation?item=nope", (422, "unknown_item")),
        ("/v1/items?query=" + "x" * 201, (422, "invalid")),
        ("/v1/items?k=101", (422, "invalid")),
        ("/../../etc/passwd", (404, "not_found")),
        ("/..%2f..%2fetc%2fpasswd", (404, "not_found")),
        ("/page/index.html", (404, "not_found")),
        ("/app.js/../api.py", (404, "not_found")),
        ("//app.js", (404, "not_found")),
        ("/v1/users/u/recommendations/", (404, "not_found")),
        ("/v1/users/u/recommendations/more", (404, "not_found")),
        ("/v1/users/{id}", (405, "method_not_allowed")),
        ("/v1/events", (405, "method_not_allowed")),
        ("/v2/users/u/recommendations", (404, "not_found")),
    ],
)  # fmt: skip
def test_a_wrong_path_or_parameter(server: Server, path: str, error: tuple[int, str]) -> None:
    assert server.ask("GET", path).error == error


def test_what_is_wrong_with_the_parameters_is_said(server: Server) -> None:
    many = "&".join(f"p{n}=" for n in range(21))
    for query, problem in (("x=%ff", "are not UTF-8"), (many, "the URL has more than 20 parameters")):
        answer = server.ask("GET", f"/v1/users/u/recommendations?{query}")
        assert problem in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/openapi.json", "/healthz", "/metrics", "/none", "/v1/items"]
)
def test_no_browser_guesses_the_type_of_an_answer(server: Server, path: str) -> None:
    assert server.ask("GET", path).headers["x-content-type-options"] == "nosniff"


def test_the_name_of_an_unknown_item_is_in_the_answer(server: Server) -> None:
    answer = server.ask("POST", "/v1/events", events(EVENT, {**EVENT, "item": "s99"}))
    assert answer.json["error"]["item"] == "s99"
    assert "'s99'" in answer.json["error"]["message"]
    assert server.items("u") == []  # none of the request counts


def test_an_event_before_the_last_one_is_refused(server: Server) -> None:
    assert (
        server.ask("POST", "/v1/events", events({"user": "late", "item": "i1", "time": START})).status == 200
    )
    late = server.ask("POST", "/v1/events", events({"user": "late", "item": "i1", "time": START - 1}))
    assert late.error == (422, "invalid")
    assert server.ask("GET", f"/v1/users/late/recommendations?time={START - 1}").error == (422, "invalid")


def test_an_unknown_item_joins_no_group(model: Path) -> None:
    watch = """
from recblr.serving.service import Service
first = Service.update_each
def watched(self, users, items, **more):
    if "nope" in items:
        raise RuntimeError
    return first(self, users, items, **more)
Service.update_each = watched
"""
    with serving(model, prelude=watch) as server:
        assert server.post(("u", "i1"), ("u", "nope")).error == (422, "unknown_item")


def test_a_wrong_request_spoils_no_other_of_its_group(server: Server) -> None:
    # Sent at once, so that they are committed together.
    def request(user: str, times: list[float]) -> bytes:
        content = events(*({"user": user, "item": "i3", "time": at} for at in times))
        body = json.dumps(content).encode()
        return POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    # Times that fall are wrong.
    wanted = [(f"group {n}", [START, START - 1] if n % 5 == 2 else [START]) for n in range(20)]
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in wanted]
    for connection, (user, times) in zip(connections, wanted, strict=True):
        connection.sendall(request(user, times))
    for connection, (_, times) in zip(connections, wanted, strict=True):
        assert connection.recv(65536).split(b" ")[1] == (b"422" if len(times) == 2 else b"200")
        connection.close()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_must_say_that_it_is_json(server: Server, kind: str) -> None:
    answer = server.ask("POST", "/v1/events", events(EVENT), Content_Type=kind)
    assert answer.error == (415, "not_json")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "GET", "TRACE", "DELETE"])
def test_another_method_is_refused_with_those_that_are_right(server: Server, method: str) -> None:
    answer = server.ask(method, "/v1/events")
    assert answer.error == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert server.ask("POST", "/", {}).error == (405, "method_not_allowed")


def test_a_body_that_is_too_large(server: Server) -> None:
    large = b'{"events": [' + b" " * (1 << 20) + b"]}"
    assert server.ask("POST", "/v1/events", large).error == (413, "too_large")
    head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for length, status in (("1048577", b"413"), ("9999999999", b"413"), ("9" * 99, b"400")):
        answer = server.raw(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert answer.split(b" ")[1] == status
    # Without a length, in chunks.
    chunks = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = server.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks * 17 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"POST /v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_or_nothing(server: Server, data: bytes) -> None:
    answer = server.raw(data)
    if answer:
        assert answer.split(b" ")[1][:1] == b"4"
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"]
    assert server.errors() == ""


def test_a_head_without_end_is_cut(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            for _ in range(400):
                connection.sendall(b"x" * 65536)
                time.sleep(0.001)


def test_a_large_head_that_comes_at_once(server: Server) -> None:
    def head(size: int, start: bytes = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n") -> bytes:
        return start + b"X: " + b"x" * size + b"\r\n"

    for large in (head(33 << 10), b"GET /?" + b"x" * (33 << 10) + b" HTTP/1.1\r\n"):
        assert server.raw(large + b"\r\n").startswith(b"HTTP/1.1 431 ")
    # Each head of a chunk counts alone, and a body does not count.
    body = json.dumps(events(EVENT)).encode() + b" " * (40 << 10)
    with_body = head(20 << 10, POST + b"Content-Length: %d\r\n" % len(body)) + b"\r\n" + body
    answers = server.raw(head(31 << 10) + b"\r\n" + with_body + head(20 << 10) + b"\r\n")
    assert answers.count(b"HTTP/1.1 200 ") == 3


def test_a_client_that_leaves_in_the_middle(server: Server) -> None:
    head = POST + b"Content-Length: 100\r\n\r\n"
    for data in (b"GET", head, head + b'{"events"'):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(data)
    for _ in range(20):  # its answer is read by nobody
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"GET /v1/users/u/recommendations HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)


SHORT_TIMES = """
import recblr.serving.http.app, recblr.serving.http.protocol
recblr.serving.http.app.BODY_SECONDS = recblr.serving.http.protocol.HEAD_SECONDS = 0.4
"""


def test_slow_clients_are_cut_and_hinder_nobody(model: Path) -> None:
    body = POST + b"Content-Length: 30\r\n\r\n{"
    with serving(model, prelude=SHORT_TIMES) as server:
        slow = []
        for data in (b"", b"G", b"GET / HTTP/1.1\r\nX-A: ", body, body[:-1]) * 20:
            slow.append((data, socket.create_connection(("127.0.0.1", server.port), timeout=30)))
            slow[-1][1].sendall(data)
        started = time.perf_counter()
        assert server.post(("u", "i1")).status == 200
        assert time.perf_counter() - started < 0.3
        for data, connection in slow:
            assert received(connection, silence=5).startswith(b"HTTP/1.1 408 "), data
            connection.close()
        # One letter at a time does not help.
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            started = time.perf_counter()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
                while time.perf_counter() - started < 5:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            assert time.perf_counter() - started < 3


IDLE = (
    SHORT_TIMES
    + """
import recblr.serving.http.worker
recblr.serving.http.worker.IDLE_SECONDS = 0.6
recblr.serving.http.protocol.LINGER_SECONDS = recblr.serving.http.protocol.READ_SECONDS = 0.4
"""
)
BODY = b'{"events": []}'


def test_every_connection_is_closed_in_time(model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    length = f"Content-Length: {len(BODY)}\r\n\r\n".encode()
    get = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    with serving(model, "--token-file", tmp_path / "token", prelude=IDLE) as server:
        opened = []
        for parts, status in (
            ([get], b"200"),
            ([get, b"\r\n"], b"200"),
            ([POST + length], b"401"),  # its body never comes
            ([POST + length, BODY], b"401"),
            ([POST + length, BODY[:5], BODY[5:]], b"401"),
            ([POST + length, BODY, b"\r\n"], b"401"),
            ([POST.replace(b"/v1/events", b"/none") + length, BODY], b"404"),
            ([POST.replace(b"/json", b"/none") + b"Authorization: Bearer t\r\n" + length, BODY], b"415"),
        ):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
            opened.append((parts, status, connection))
        for parts, status, connection in opened:
            connection.settimeout(3)
            answer = b""
            while more := connection.recv(65536):  # a TimeoutError means that it is still open
                answer += more
            assert answer.split(b" ")[1] == status, parts
            connection.close()


def test_clients_that_do_not_read_are_cut(model: Path) -> None:
    long = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
    with serving(model, prelude=IDLE) as server:

        def sockets() -> int:
            links = Path(f"/proc/{server.process.pid}/fd").iterdir()
            return sum(os.readlink(link).startswith("socket:") for link in links)

        before = sockets()
        connections = []
        # Some answers fit into the buffers of the system, some also into that of the server, and some do not.
        for requests in [*range(1, 200, 4), 3_000]:
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.settimeout(0.05)
            with suppress(TimeoutError, ConnectionError):
                connection.sendall(long * requests)
            connections.append(connection)
        wait_until(lambda: sockets() > before)
        wait_until(lambda: sockets() == before, 10)
        for connection in connections:
            connection.close()


def test_a_page_of_another_site_gets_nothing(model: Path) -> None:
    path = "/v1/users/u/recommendations"
    with serving(model, "--host", "localhost") as server:
        own = f"127.0.0.1:{server.port}"
        for host in (own, "127.0.0.1", "[::1]:80", "[::1]", "10.0.0.7", "localhost:9", "LocalHost"):
            assert server.ask("GET", path, Host=host).status == 200, host
        for host in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "[",
        ):
            assert server.ask("GET", path, Host=host).error == (421, "misdirected"), host
            assert server.post(("u", "i1"), Host=host).error == (421, "misdirected")
            assert server.ask("DELETE", "/v1/users/u", Host=host).error == (421, "misdirected")
        assert server.post(("u", "i1"), Origin=f"http://{own}").status == 200
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", f"{own}"):
            assert server.post(("u", "i1"), Origin=origin).error == (403, "forbidden"), origin
        assert server.ask("GET", "/healthz", Host="evil.example").status == 200
        assert server.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode()).split(b" ")[1] == b"200"
    with serving(model, environment={"RECBLR_TOKEN": "t"}) as server:
        given = {"Host": "shop.example", "Origin": "https://shop.example", "Authorization": "Bearer t"}
        assert server.ask("GET", path, **given).status == 200


def test_too_many_slow_requests(model: Path) -> None:
    slow = """
import time, recblr.serving.http.api as api
api._MOST_SLOW = 3
api.Catalogue.search = lambda *a: time.sleep(1) or []
"""
    with serving(model, prelude=slow) as server:
        answers: list[Answer] = []
        clients = [
            threading.Thread(target=lambda: answers.append(server.ask("GET", "/v1/items"))) for _ in range(8)
        ]
        for client in clients:
            client.start()
        time.sleep(0.3)
        assert server.post(("u", "i1")).status == 200
        assert len(server.items("u")) == 10
        for client in clients:
            client.join()
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 5
        busy = next(answer for answer in answers if answer.status == 503)
        assert busy.error == (503, "unavailable")
        assert busy.headers["retry-after"] == "1"
        assert server.ask("GET", "/v1/items").status == 200


def test_the_token(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with serving(model, "--token-file", file) as server:
        for path in ("/v1/users/u/recommendations", "/metrics", "/v1/items"):
            for wrong in (None, "", "s3cret", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret"):
                given = {} if wrong is None else {"Authorization": wrong}
                answer = server.ask("GET", path, **given)
                assert answer.error == (401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
            assert server.ask("GET", path, Authorization="Bearer s3cret").status == 200
        assert server.post(("u", "i1")).error == (401, "unauthorized")
        assert server.ask("DELETE", "/v1/users/u").error == (401, "unauthorized")
        for path in ("/", "/app.js", "/healthz", "/readyz", "/openapi.json"):
            assert server.ask("GET", path).status == 200
        assert "s3cret" not in server.said + server.errors()


def test_the_token_of_the_environment(model: Path) -> None:
    with serving(model, environment={"RECBLR_TOKEN": "t"}) as server:
        assert server.ask("GET", "/v1/items").status == 401
        assert server.ask("GET", "/v1/items", Authorization="Bearer t").status == 200


def test_a_server_that_others_can_reach_without_a_token_warns(model: Path, tmp_path: Path) -> None:
    with serving(model, "--host", "0.0.0.0") as server:
        assert server.ask("GET", "/healthz").status == 200
        warning = server.errors()
    assert warning.count("\n") == 1
    assert "anyone who can reach 0.0.0.0" in warning
    assert "--token-file" in warning
    with serving(model, "--host", "0.0.0.0", environment={"RECBLR_TOKEN": "t"}) as server:
        assert server.ask("GET", "/healthz").status == 200
        assert server.errors() == ""
