"""Connections that cost the server no more than they should: uvicorn itself bounds neither headers nor slowness."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES = 64 * 1024
"""Of all headers of a request."""

HEADER_SECONDS = 15
"""Until a connection's first request has come, and then from the first byte of a request to the end of its headers."""

BODY_SECONDS = 20
"""Between two parts of a body."""


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed when its caller sends too much ahead of a body, or too slowly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is there: a request has to come soon."""
        super().connection_made(transport)
        self._wait(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something was sent."""
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MOST_HEADER_BYTES:
                self._refuse("431 Request Header Fields Too Large", "headers_too_large", "The headers are too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_headers, self._header_bytes = True, 0
        self._wait(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """Its body follows, if it has one."""
        self._in_headers = False
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body has come."""
        super().on_body(body)
        self._wait(BODY_SECONDS)

    def on_message_complete(self) -> None:
        """All of it has come. How long the answer takes is not the caller's fault."""
        self._stop_waiting()
        super().on_message_complete()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._give_up, seconds)

    def _stop_waiting(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self, seconds: float) -> None:
        if self.flow.read_paused:  # what was sent is not read yet
            self._wait(seconds)
        elif self._in_headers and not self._header_bytes:  # nothing was asked, so nothing is answered
            self.transport.close()
        else:
            self._refuse("408 Request Timeout", "request_timeout", "The request was not sent in time.")

    def _refuse(self, status: str, code: str, message: str) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self._in_headers or not self.cycle.response_started:
            error = {"message": message, "type": "invalid_request_error", "code": code, "param": None}
            content = json.dumps({"error": error}).encode()
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
            self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode() + content)
        self.transport.close()
