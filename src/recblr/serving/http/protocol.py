"""uvicorn's HTTP protocol, with bounds on what a client may send, and on how slowly it sends and reads.

Otherwise a client that sends a letter now and then, or a header without end, could hold connections and
memory.  So could one that does not read.  The bounds of a body are in app.py, which reads it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from recblr.serving.http.messages import ApiError, error_answer

HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0
READ_SECONDS = 30.0  # in which a client must make room for more, or read the rest before the end


def _answer(kind: str, sentence: str) -> bytes:
    """An answer that the application does not give, because there is no request that it could see."""
    answer = error_answer(ApiError(kind, sentence, headers={"connection": "close"}))
    head = b"".join(b"%s: %s\r\n" % header for header in answer.headers)
    return b"%s%s\r\n%s" % (STATUS_LINE[answer.status], head, answer.body)


_TOO_LARGE = _answer("head_too_large", f"the head of the request is larger than {HEAD_BYTES:,} bytes")
_TOO_SLOW = _answer("timeout", f"no request arrived within {HEAD_SECONDS:g} seconds")
_NO_HTTP = _answer("bad_request", "this is not HTTP/1.1")


class BoundedProtocol(HttpToolsProtocol):
    """A connection."""

    _head_bytes = 0  # of the lines of a head that are complete
    _chunk_bytes = 0  # of the chunks after the one in which it began
    _in_head = False
    _timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer(HEAD_SECONDS, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_read_timer()
        self._forget_answer()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        began_before = self._in_head
        super().data_received(data)
        if not self._in_head:
            if self._timer is None and self.cycle is not None and self.cycle.response_complete:
                self._wait_for_next()
            return
        # The chunk in which a head begins may hold other requests, so only its complete lines count.
        self._chunk_bytes = self._chunk_bytes + len(data) if began_before else 0
        if self._chunk_bytes > HEAD_BYTES:
            self._end(_TOO_LARGE)
        elif self._timer is None:
            self._start_timer(HEAD_SECONDS, _TOO_SLOW)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._end(_TOO_LARGE)
            raise ValueError("the head is too large")  # the parser stops

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _wait_for_next(self) -> None:
        """Start uvicorn's timer of idle connections, which it has stopped because there is data.

        That was an empty line, or the end of a body whose answer has been given before.
        """
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        self._end(b"")

    def shutdown(self) -> None:
        super().shutdown()
        self._after_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_read_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_read_timer()
        self._after_close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._after_close()
        if self.cycle.response_complete and self.cycle.more_body:
            # The body is not wanted any more.  A client that still sends it must get the answer, so the
            # connection is not closed at once, which would reset it.
            self._start_timer(LINGER_SECONDS, b"")

    def on_message_complete(self) -> None:
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._end(_NO_HTTP)

    def _start_timer(self, seconds: float, answer: bytes) -> None:
        """Send an answer and close the connection, unless the timer is stopped before."""
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end, answer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_read_timer(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self._cut)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _end(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
        self._after_close()

    def _cut(self) -> None:
        self._forget_answer()
        self.transport.abort()

    def _forget_answer(self) -> None:
        """Tell the request that is answered that its client has gone.

        uvicorn tells the newest request, which may be another.
        """
        if self._answering is not None:
            self._answering.disconnected = True

    def _after_close(self) -> None:
        """Cut the connection if the client does not read the rest, for which a closed connection waits."""
        if self.transport.is_closing():
            self._start_read_timer()
