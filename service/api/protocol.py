"""HTTP/1.1 as uvicorn speaks it, with an end to what a stranger may ask for before a request has even begun.

uvicorn waits for headers for ever and takes any amount of them. Here a request's headers have ten seconds and 32 KiB,
an address has so many connections, and what is no HTTP is told so in the words of all other problems.
"""

from __future__ import annotations

import asyncio
import secrets

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.problems import Problem

HEADER_SECONDS = 10.0
MAX_HEADERS = 32 * 1024
MAX_CONNECTIONS = 2_000
"""Connections that one address has at a time; one more is closed at once."""
MAX_PIPELINED = 16
"""Requests that may wait on one connection behind the one that is answered."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.close()
            return
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._done_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes until the headers are complete."""
        # After an answer whatever comes is of the next request, be it an empty line; uvicorn's own timer ends with it.
        self._in_headers |= self.timeout_keep_alive_task is not None
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if not self._in_headers or self.transport.is_closing():
            return
        if self._header_bytes > MAX_HEADERS:
            self._refuse(Problem("headers_too_large", f"send at most {MAX_HEADERS} bytes of headers"))
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def on_message_begin(self) -> None:
        """Another request on the same connection."""
        super().on_message_begin()
        self._in_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes behind a chunked body is let go (RFC 9110, 6.5.1)."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request has begun."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait")  # which ends the parsing, and comes back to `send_400_response`
        self._done_waiting()
        self._in_headers, self._header_bytes = False, 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words; ours name the fix
        """Say that this is no HTTP."""
        self._refuse(Problem("invalid_http", "send a request in HTTP/1.1"))

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(Problem("request_timeout", f"send the headers within {HEADER_SECONDS:g} seconds"))

    def _done_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, problem: Problem) -> None:
        response: Response = problem.response()
        response.headers["x-request-id"] = secrets.token_hex(8)
        response.headers["connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        self.transport.write(f"HTTP/1.1 {problem.status} \r\n{head}\r\n".encode("latin-1") + bytes(response.body))
        self.transport.close()
