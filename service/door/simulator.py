"""The simulator's phone, as a way out: takes a message, answers, and reports on it later, all as its script says.

The script lives in this process. When the process dies, what it has not reported yet is lost: that is silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson

from service.door import Way
from service.errors import Unavailable, Undelivered
from service.provider import Message, Receipt, Response, Simulation

logger = logging.getLogger(__name__)

_MOST_TURNED_AWAY = 10_000


class Phone(Protocol):
    """Where messages arrive, and what carries their receipts."""

    async def keep(self, message: Message) -> int:
        """Keep a message; its id. Raises Unavailable."""

    async def report(self, name: int, provider: str, receipt: Receipt) -> None:
        """Report on a message, unless somebody took it in hand. Raises Unavailable."""


class Player:
    """The way for `Simulation`. `sleep` lets time pass."""

    def __init__(self, phone: Phone, terminal: Way, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._phone = phone
        self._terminal = terminal
        self._sleep = sleep
        self._turned_away: dict[str, None] = {}
        self._playing: set[asyncio.Task[None]] = set()

    async def exchange(self, request: Simulation) -> Response:
        """Take a message or refuse it; raises Undelivered when the inbox is away."""
        delivery = request.message.delivery
        if request.busy and self._turn_away(delivery):
            return Response(request, 429, {"retry-after": "1"}, b"")
        if request.refused is not None:
            return Response(request, 422, {}, orjson.dumps({"reason": request.refused}))
        try:
            name = await self._phone.keep(request.message)
        except Unavailable as error:
            raise Undelivered(str(error)) from None
        if request.shown:
            await self._terminal.exchange(request.message.line)
        task = asyncio.get_running_loop().create_task(self._play(name, request))
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)
        await self._sleep(request.answered)
        return Response(request, 200, {}, orjson.dumps({"message_id": delivery}))

    async def close(self) -> None:
        """Leave the rest unsaid."""
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)

    def _turn_away(self, delivery: str) -> bool:
        """Whether this is the first time that a delivery comes; those that never come again are forgotten at last."""
        if delivery in self._turned_away:
            del self._turned_away[delivery]
            return False
        self._turned_away[delivery] = None
        if len(self._turned_away) > _MOST_TURNED_AWAY:
            del self._turned_away[next(iter(self._turned_away))]
        return True

    async def _play(self, name: int, request: Simulation) -> None:
        passed = 0.0
        for after, receipt in request.receipts:
            await self._sleep(after - passed)
            passed = after
            try:
                await self._phone.report(name, request.message.provider, receipt)
            except Unavailable:
                logger.warning("a receipt of the simulator is lost: Redis is away")
