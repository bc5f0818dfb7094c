"""Adaptive waits: how long a step waits for receipts, learned from how long they took.

A step with `wait = "auto"` waits for as long as 95 in 100 receipts of its provider took for that country in the last
hours, within its bounds. All replicas share what they learn; each reads it anew once a minute, and knows at once what
it learned itself. A receipt that comes after the step has moved on counts too, so that a wait can grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from service.answer import Answer
from service.cascade import Step
from service.errors import VerifydError
from service.provider import Channel
from service.store import Store

logger = logging.getLogger(__name__)

LEAST_COUNT = 20
"""Receipts (those of two hours ago count half) from which on they are believed."""
FRESH = 60.0
TTL_MS = 24 * 3600 * 1000

Pair = tuple[str, Channel]


class Waits:
    """What is known of the providers and channels (`pairs`) of steps that wait adaptively."""

    def __init__(self, store: Store, pairs: Iterable[Pair]) -> None:
        self._store = store
        self._pairs = frozenset(pairs)
        self._known: dict[tuple[str, Channel, str], tuple[float, float]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def seconds(self, step: Step, number: str, country: str) -> float:
        """How long a step waits for a number of this country: the longest that any of its providers needs."""
        if step.bounds is None:
            return step.wait
        least, most = step.bounds
        learned = [
            self._learned(route.provider, step.channel, country) or step.wait
            for route in step.routes
            if route.serves(number, country)
        ]
        return min(max(least, *learned), most)

    async def note(self, provider: str, channel: Channel, country: str, milliseconds: int) -> None:
        """Count how long a receipt that says `delivered` took; raises Unavailable."""
        if (provider, channel) in self._pairs:
            keys = [_key(provider, channel, country)]
            answer = await self._store.run("waits_note", keys, [milliseconds, TTL_MS])
            self._learn(provider, channel, country, answer)

    async def stop(self) -> None:
        """Let what is being read be read."""
        await asyncio.gather(*self._reading)

    def _learned(self, provider: str, channel: Channel, country: str) -> float:
        """The seconds as far as they are known, 0 when they are not; what is old is read anew behind the scenes."""
        seconds, at = self._known.get((provider, channel, country), (0.0, 0.0))
        if self._store.clock() - at > FRESH:
            self._known[provider, channel, country] = seconds, self._store.clock()
            task = asyncio.get_running_loop().create_task(self._read(provider, channel, country))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        return seconds

    async def _read(self, provider: str, channel: Channel, country: str) -> None:
        try:
            answer = await self._store.run("waits_read", [_key(provider, channel, country)])
        except VerifydError as error:
            logger.warning("waits are not learned", extra={"fields": {"error": str(error)}})
        else:
            self._learn(provider, channel, country, answer)

    def _learn(self, provider: str, channel: Channel, country: str, answer: Answer) -> None:
        known = answer.fields.number("count") >= LEAST_COUNT
        self._known[provider, channel, country] = answer.number / 1000 if known else 0.0, self._store.clock()


def _key(provider: str, channel: Channel, country: str) -> str:
    return f"{{w:{provider}:{channel}:{country}}}:waits"
