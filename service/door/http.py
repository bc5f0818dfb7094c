"""HTTP out: warm connections, bounded answers, no redirects, no cookies, no proxies.

It is httpx's transport interface over aiohttp's connections. What httpx puts on top of a transport is not needed here,
and its own connections cost eight times the processor time of these; their HTTP/2 is the price.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from service.door import SECONDS
from service.errors import Undelivered
from service.provider import Request, Response

MAX_ANSWER = 64 * 1024


class Http:
    """The way for `Request`. `transport` replaces the network in tests."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport or AiohttpTransport(client=_session)

    async def exchange(self, request: Request) -> Response:
        """Send a request and read the answer, as much of it as there may be; raises Undelivered."""
        try:
            outgoing = httpx.Request(
                request.method, _parsed(request.url), headers={**_HEADERS, **request.headers}, content=request.body
            )
            outgoing.extensions["timeout"] = {"connect": 3.0, "read": SECONDS, "pool": SECONDS}
            answer = await self._transport.handle_async_request(outgoing)
            stream = cast("httpx.AsyncByteStream", answer.stream)
            try:
                body = b""
                async for chunk in stream:
                    body += chunk
                    if len(body) >= MAX_ANSWER:
                        break
            finally:
                await stream.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from None
        return Response(request, answer.status_code, answer.headers, body[:MAX_ANSWER])

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


_HEADERS = {"user-agent": "verifyd", "accept-encoding": "identity"}


@lru_cache(maxsize=128)
def _parsed(url: str) -> httpx.URL:
    """Most providers have one address for all messages: it need not be taken apart for each."""
    return httpx.URL(url)


def _session() -> aiohttp.ClientSession:
    connections = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connections, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
