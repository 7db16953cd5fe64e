"""The page at / in a browser: search, click, keys, explanations, a token, and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.engines import BY_NAME, path_of
from serving.http.browser import PROGRAM, Browser, browser
from serving.http.server import Server, serving

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs a browser: apt-get install chromium")

TAKEN = "#history li > .take"
BEST = "#best .take"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(opened: Browser, server: Server) -> Iterator[Browser]:
    """The page of the shared server.  It must ask for nothing outside, and no script may fail."""
    opened.requested.clear()
    opened.problems.clear()
    opened.open(address(server))
    opened.wait("document.querySelectorAll('#results button').length")
    yield opened
    assert all(url.startswith((address(server), "data:", "about:")) for url in opened.requested)
    assert opened.problems == []


def address(server: Server, history: str = "") -> str:
    return f"http://127.0.0.1:{server.port}/{history}"


def after(server: Server, *items: str) -> list[str]:
    """What the interface recommends after a history, as titles; all events at one time."""
    asked = {"history": items, "times": [1.8e9] * len(items), "titles": True}
    found = server.ask("POST", "/v1/recommend", asked).json["items"]
    return [entry.get("title", entry["item"]) for entry in found]


def title(number: int) -> str:
    return f"The Amélie Story {number}"


@needs_browser
def test_a_search_and_clicks(page: Browser, server: Server) -> None:
    page.run("document.getElementById('query').focus()")
    page.type("amelie story 7")
    page.wait("document.querySelectorAll('#results button').length === 2")
    assert page.texts("#results button") == [title(7), title(17)]
    page.tap("#results button")
    page.wait("document.querySelectorAll('#best .take').length === 10")
    assert page.texts(TAKEN) == [title(7)]
    first = page.texts(BEST)
    assert first == after(server, "i7")

    chosen = page.texts(BEST)[1]
    page.tap("#best li:nth-child(2) .take")
    page.wait(f"document.querySelectorAll({TAKEN!r}).length === 2")
    page.wait("document.getElementById('status').innerText.startsWith('After 2 items')")
    assert page.texts(TAKEN) == [title(7), chosen]
    second = page.texts(BEST)
    assert second != first
    assert chosen not in second
    # Each line says how far it has moved.
    moves = page.texts("#best .moved")
    for rank, (name, move) in enumerate(zip(second, moves, strict=True)):
        up = first.index(name) - rank if name in first else None
        wanted = "new" if up is None else f"{'▲' if up > 0 else '▼'} {abs(up)}" if up else ""
        assert move == wanted

    page.tap("#history li:nth-child(2) button")
    page.wait("document.getElementById('status').innerText.startsWith('After 1 item,')")
    assert page.texts(BEST) == first
    page.tap("#clear")
    page.wait("document.querySelectorAll('#best .take').length === 0")
    assert page.texts(TAKEN) == []


@needs_browser
def test_why(page: Browser, server: Server) -> None:
    page.open(address(server, "#i1,i2,i3"))
    page.wait("document.querySelectorAll('#best .take').length === 10")
    page.tap("#best li button:last-child")
    page.wait("document.querySelectorAll('.why li').length === 3")
    assert (
        page.run("document.querySelector('#best button:last-child').getAttribute('aria-expanded')") == "true"
    )
    reasons = page.texts(".why li span:first-child")
    assert sorted(reasons) == [title(1), title(2), title(3)]
    sizes = [abs(float(text.replace("−", "-"))) for text in page.texts(".why .score")]
    assert sizes == sorted(sizes, reverse=True)
    page.tap("#best li button:last-child")
    page.wait("document.querySelectorAll('.why').length === 0")


@needs_browser
def test_the_keyboard_is_enough(page: Browser) -> None:
    def focused() -> str:
        return str(page.run("document.activeElement.innerText || document.activeElement.id"))

    page.press("Tab")
    assert focused() == "query"
    page.type("story 7")
    page.wait("document.querySelectorAll('#results button').length === 2")
    page.press("ArrowDown")
    page.press("ArrowDown")
    assert focused() == title(17)
    page.press("Enter")
    page.wait(f"document.querySelectorAll({TAKEN!r}).length === 1")
    assert page.texts(TAKEN) == [title(17)]
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert focused() == "query"
    # From there, Tab reaches the recommendations.
    page.wait("document.querySelectorAll('#best .take').length === 10")
    best = page.texts(BEST)
    for _ in range(12):
        if focused() == best[0]:
            break
        page.press("Tab")
    assert focused() == best[0]
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.press("ArrowDown")
    assert focused() == best[1]
    page.press("Enter")
    page.wait("document.getElementById('status').innerText.startsWith('After 2 items')")
    assert page.texts(TAKEN) == [title(17), best[1]]
    assert page.run("document.activeElement.closest('#best') !== null")


@needs_browser
def test_a_phone(page: Browser, server: Server) -> None:
    page.open(address(server, "#i1,i2"), width=360, height=640, phone=True)
    page.wait("document.querySelectorAll('#best .take').length === 10")
    assert page.run("document.documentElement.scrollWidth") <= 360
    columns = page.run("getComputedStyle(document.querySelector('main')).gridTemplateColumns")
    assert len(columns.split()) == 1
    heights = page.run(
        "[...document.querySelectorAll('button')].filter(b => b.offsetHeight).map(b => b.offsetHeight)"
    )
    assert min(heights) >= 40
    page.tap("#best li:nth-child(3) .take")
    page.wait(f"document.querySelectorAll({TAKEN!r}).length === 3")


@needs_browser
def test_a_title_is_never_read_as_html(opened: Browser, model: Path, tmp_path: Path) -> None:
    evil = "<img src=x onerror=document.title='broken'>"
    (tmp_path / "titles.tsv").write_text(f"i1\t{evil}\ni2\t{evil}\n")
    with serving(model, "--titles", tmp_path / "titles.tsv") as server:
        opened.open(address(server, "#i1"))
        opened.wait("document.querySelectorAll('#best .take').length === 10")
        assert opened.texts(TAKEN) == [evil]
        assert opened.run("document.images.length") == 0
        assert opened.run("document.title") == "recblr"


@needs_browser
def test_a_server_with_a_token(opened: Browser, model: Path) -> None:
    with serving(model, environment={"RECBLR_TOKEN": "t0ken"}) as server:
        opened.open(address(server))
        opened.wait("!document.getElementById('token-form').hidden")
        assert opened.run("document.activeElement.id") == "token"
        opened.type("t0ken")
        opened.press("Enter")
        opened.wait("document.querySelectorAll('#results button').length")
        assert opened.run("document.getElementById('token-form').hidden")
        assert opened.run("document.getElementById('problem').hidden")


@needs_browser
def test_a_server_that_has_gone(opened: Browser) -> None:
    with serving(path_of(BY_NAME["whole vectors"])) as server:
        opened.open(address(server, "#i1"))
        opened.wait("document.querySelectorAll('#best .take').length === 10")
        server.stop()
    opened.tap("#best .take")
    opened.wait("document.getElementById('problem').innerText === 'The server does not answer.'")


def test_the_files_of_the_page(server: Server) -> None:
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")):
        answer = server.ask("GET", path)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert b"http" not in answer.body.replace(b"http-equiv", b"")  # nothing from elsewhere
        again = server.ask("GET", path, If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
