"""What happens before a request has begun: on a real socket, with real bytes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from service.api.protocol import MAX_HEADERS, BoundedProtocol
from tests.world import world

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The ops listener of a service on a free port."""
    async with world() as one:
        listener = one.service.listeners["127.0.0.1:9090"]
        config = uvicorn.Config(listener, http=BoundedProtocol, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the test's are not its business
        running = asyncio.create_task(server._serve([listening]))  # noqa: SLF001 - `serve` would take the signals
        yield listening.getsockname()[1]
        server.should_exit = True
        await running


async def exchange(port: int, *parts: bytes) -> bytes:
    """Send these bytes, and read until the service hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of a problem, which names its request like all others."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnot-a-size\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(sent: bytes) -> None:
    """In the words of all others, and the connection ends."""
    async with served() as port:
        assert problem(await exchange(port, sent)) == (400, "invalid_http")


async def test_headers_have_a_size() -> None:
    """However they come."""
    async with served() as port:
        many = [b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(1 + MAX_HEADERS // 1000)]
        assert problem(await exchange(port, b"GET /healthz HTTP/1.1\r\n", *many)) == (431, "headers_too_large")
        large = b"x: " + b"y" * 1000 + b"\r\nconnection: close\r\n\r\n"
        assert b" 200 OK" in await exchange(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n", large)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nhost:"])
async def test_headers_have_a_time(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Who says nothing, or not all, is let go; who takes his time between two requests is not."""
    monkeypatch.setattr("service.api.protocol.HEADER_SECONDS", 0.3)
    async with served() as port:
        assert problem(await exchange(port, sent)) == (408, "request_timeout")
        whole = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(whole + b"\r\n")
        assert b" 200 OK" in await reader.readuntil(b'{"status":"ok"}')
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await reader.read()
        writer.write(whole + b"connection: close\r\n\r\n")
        assert b" 200 OK" in await reader.read()
        writer.close()


async def test_an_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is closed at once; when one goes, there is room again."""
    monkeypatch.setattr("service.api.protocol.MAX_CONNECTIONS", 2)
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with served() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await exchange(port) == b""
        held[0][1].close()
        await held[0][1].wait_closed()
        answer = b""
        async with asyncio.timeout(30):
            while not answer:
                answer = await exchange(port, request)
        assert b" 200 OK" in answer
        held[1][1].close()


async def test_requests_that_wait_on_a_connection_have_a_number() -> None:
    """Who sends more and more without reading is cut off; a few in a row are answered in a row."""
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    async with served() as port:
        last = one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        assert (await exchange(port, one * 5 + last)).count(b" 200 OK") == 6
        assert b"invalid_http" in await exchange(port, one * 500)


async def test_what_comes_behind_a_chunked_body_is_not_kept() -> None:
    """Trailers are let go one by one, however many there are."""
    async with served() as port:
        head = b"POST /readyz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n"
        answer = await exchange(port, head, *[b"a: b\r\n" * 1000 for _ in range(20)], b"\r\n")
        assert problem(answer) == (405, "method_not_allowed")


async def test_no_connection_is_held_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by an empty line after an answer, nor by a body that nobody reads."""
    monkeypatch.setattr("service.api.protocol.HEADER_SECONDS", 0.3)
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"\r\n")
        async with asyncio.timeout(30):
            assert problem(await reader.read()) == (408, "request_timeout")
        writer.close()
        unread = b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nx"
        assert problem(await exchange(port, unread)) == (404, "not_found")
