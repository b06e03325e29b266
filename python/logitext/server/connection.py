"""A connection under uvicorn that does not wait for ever, and says goodbye before it ends."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from logitext.server.pages import SECURITY
from logitext.server.replies import encoded
from logitext.server.settings import MOST_HEADER

LINGER = 0.5
"""Seconds an idle connection stays when the server ends: a request may be on its way to it."""
GLANCE = 0.02
"""And these, after a look at what has come: a loop that was held up runs its timers before it reads."""


class Connection(HttpToolsProtocol):
    """HTTP/1.1 by httptools; `since` is when the request that is arriving began, 0 if none is."""

    since = 0.0
    draining = False
    heading = False
    """Whether a request has begun whose headers are not all there."""
    ahead = named = 0
    """Bytes of what precedes its body: as they came, and as the parser told them."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        more = self.heading
        super().data_received(data)
        # A header that does not end is held by the parser, which tells of it when it ends.
        if more and self.heading and not self.transport.is_closing():
            self.ahead += len(data)
            if self.ahead > MOST_HEADER:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.since = self.loop.time()
        self.heading, self.ahead, self.named = True, 0, 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self.named += size
        if self.named > MOST_HEADER:
            raise ValueError("the headers are too large")  # The parser makes it its own error.

    def on_headers_complete(self) -> None:
        self.heading = False
        super().on_headers_complete()
        if self.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.since = 0.0

    def give_up(self, before: float, seconds: float) -> None:
        """End the connection if its request began to arrive before a time, and is not there yet."""
        if self.since and self.since < before and not self.transport.is_closing():
            sentence = f"the request took longer than {seconds:g} s to arrive"
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                self.transport.write(_message(b"408 Request Timeout", sentence))
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it."""
        if self.transport.is_closing():
            return
        if max(self.ahead, self.named) > MOST_HEADER:
            sentence = f"the headers are too large: at most {MOST_HEADER:,} bytes are read"
            self.transport.write(_message(b"431 Request Header Fields Too Large", sentence))
        else:
            self.transport.write(_message(b"400 Bad Request", "this is no request of HTTP/1.1"))
        self.transport.close()

    def shutdown(self) -> None:
        """End after the next answer, or soon if nothing is asked."""
        self.draining = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER, self._leave, True)
        else:
            self.cycle.keep_alive = False

    def _leave(self, look: bool) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            if look:
                self.loop.call_later(GLANCE, self._leave, False)
            else:
                self.transport.close()


def _message(status: bytes, sentence: str) -> bytes:
    body = encoded({"error": sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines = [name + b": " + value for name, value in (*headers, (b"connection", b"close"), *SECURITY)]
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", body])
