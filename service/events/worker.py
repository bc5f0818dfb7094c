"""The worker of events: relays and posts beside the schedule, so that a slow URL delays no delivery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from service.application import Application
from service.errors import VerifydError
from service.events.poster import Poster
from service.events.relay import Relay

logger = logging.getLogger(__name__)

SWEEP = 0.5
"""Seconds between two looks at the outboxes, and at what is to be posted again."""
BACKLOG = 100
"""Events moved in one look after which the next follows at once."""


class Events:
    """Works for those of `applications` that want events; without any it rests."""

    def __init__(self, relay: Relay, poster: Poster, applications: Iterable[Application]) -> None:
        self._relay = relay
        self._poster = poster
        self._wanting = [one for one in applications if one.events is not None]
        self._posting = [one for one in self._wanting if one.events is not None and one.events.url]
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        loop = asyncio.get_running_loop()
        acts: list[Callable[[], Awaitable[None]]] = [self._move] if self._wanting else []
        acts += [self._post] if self._posting else []
        self._tasks = [loop.create_task(self._forever(act)) for act in acts]

    async def stop(self) -> None:
        """Finish what is under way."""
        self._stopping.set()
        self._poster.stir.set()
        await asyncio.gather(*self._tasks)
        await self._poster.finish()

    async def drain(self) -> None:
        """Move and post all that is due, here and now: for a worker that is driven by hand. Raises Unavailable."""
        while self._wanting and await self._relay.move():
            continue
        for application in self._posting:
            while await self._poster.begin(application):
                await self._poster.finish()

    async def _move(self) -> None:
        if moved := await self._relay.move():
            self._poster.stir.set()
        if moved < BACKLOG:
            await _wait(self._stopping)

    async def _post(self) -> None:
        self._poster.stir.clear()
        await asyncio.gather(*[self._poster.begin(application) for application in self._posting])
        await _wait(self._poster.stir)

    async def _forever(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                await act()
            except VerifydError as error:
                logger.warning("events wait: Redis is away", extra={"fields": {"error": str(error)}})
                await _wait(self._stopping)
            except Exception:  # a defect must not end the worker
                logger.exception("events wait")
                await _wait(self._stopping)


async def _wait(event: asyncio.Event) -> None:
    """Wait until an event is set, or for a sweep."""
    try:
        async with asyncio.timeout(SWEEP):
            await event.wait()
    except TimeoutError:
        return
