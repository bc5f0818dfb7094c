"""The one place that sends: a door with a way out for each kind of request that providers make.

A way takes a request and gives the answer. Whatever goes wrong on it is `Undelivered`: the other side could not be
reached, or did not answer in a way that can be read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from service.errors import Undelivered
from service.provider import Accepted, Message, Outgoing, Provider, Rejected, Request, Response
from service.tracing import OFF, Tracing

SECONDS = 10.0
"""The whole of a send: a provider that streams for ever ends like one that is silent."""
LEAST = 2.0
"""What a send may take however little is left: a provider that is well mostly needs less, so that none is blamed."""


class Way(Protocol):
    """A way out for one kind of request."""

    async def exchange(self, request: Any) -> Response:
        """Send a request and wait for the answer; raises Undelivered."""

    async def close(self) -> None:
        """Close the connections."""


class Door:
    """Sends for every provider; `ways` has the way for each type of request."""

    def __init__(self, ways: Mapping[type, Way], tracing: Tracing = OFF) -> None:
        self._ways = ways
        self._tracing = tracing

    async def send(
        self, provider: Provider, message: Message, now: datetime, left: float = math.inf
    ) -> Accepted | Rejected:
        """Hand a message to a provider, within the seconds that are `left` for it.

        Whatever goes wrong on the way is a transient `provider_error`. After a timeout the message may still go out:
        the person then gets the same code twice.
        """
        outcome = provider.request(message, now)
        try:
            async with asyncio.timeout(min(SECONDS, max(left, LEAST))):
                while True:
                    answer = provider.read(await self._exchange(outcome))
                    if isinstance(answer, (Accepted, Rejected)):
                        return answer
                    outcome = answer
        except (Undelivered, TimeoutError):
            return Rejected("provider_error")

    async def tell(self, request: Request) -> bool:
        """Tell a provider or an application something; whether it took it."""
        try:
            async with asyncio.timeout(SECONDS):
                return (await self._exchange(request)).accepted
        except (Undelivered, TimeoutError):
            return False

    async def _exchange(self, request: Outgoing) -> Response:
        way = self._ways[type(request)]
        if not isinstance(request, Request):
            with self._tracing.exchange(type(request).__name__):
                return await way.exchange(request)
        with self._tracing.exchange(request.method, request.url) as span:
            answer = await way.exchange(request)
            span.answered(answer.status, {})
        return answer

    async def close(self) -> None:
        """Close the connections of every way."""
        for way in self._ways.values():
            await way.close()
