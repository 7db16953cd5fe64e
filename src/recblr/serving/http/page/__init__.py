"""The page at /: plain HTML, CSS and JavaScript, which ask for nothing outside this server."""

import hashlib
from importlib.resources import files

from recblr.serving.http.messages import Answer

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_SAFE = [
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
]


def page_answers() -> dict[str, Answer]:
    """The answer to each path of the page.  No other file can be asked for."""
    answers = {}
    for path, (name, kind) in _FILES.items():
        body = files(__name__).joinpath(name).read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"etag", tag.encode()),
            *_SAFE,
        ]
        answers[path] = Answer(200, body, headers)
    return answers
