"""What is latest in each application: ids of verifications and decisions, so that the console finds them.

No request waits for it, and Redis is asked once a second at most, whatever the load: each replica gathers what it did,
the latest `MOST` of it, and tells it together. What it cannot tell, as it dies or as Redis is away, is not shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import Literal

from service.errors import Unavailable
from service.store import Store

MOST = 100
"""Ids that are kept of an application and a sort: where more come in a second, the rest is not shown."""
EVERY = 1.0
TTL_MS = 7 * 24 * 3600 * 1000

Sort = Literal["verifications", "decisions"]


class Recent:
    """Gathers ids and tells Redis of them. `enabled`: otherwise there is nobody to show them to."""

    def __init__(self, store: Store, *, enabled: bool) -> None:
        self._store = store
        self._enabled = enabled
        self._gathered: dict[tuple[str, Sort], deque[str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    def note(self, application: str, sort: Sort, name: str) -> None:
        """Something of this sort has come to be."""
        if not self._enabled:
            return
        self._gathered.setdefault((application, sort), deque(maxlen=MOST)).append(name)
        if self._timer is None:
            # In a context of its own: it is no part of the request that came first.
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._time_is_up, context=Context())

    async def read(self, applications: Sequence[str], sort: Sort, most: int = MOST) -> list[list[str]]:
        """The latest ids of each application, the latest first; raises Unavailable."""
        await self.tell()
        rows = [self._store.rows("recent_read", [_key(application, sort)], [most]) for application in applications]
        return [[name.decode() for name in names] for names in await asyncio.gather(*rows)]

    async def tell(self) -> None:
        """Tell what was gathered now; raises Unavailable."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, {}
        await asyncio.gather(
            *[
                self._store.run("recent_note", [_key(*place)], [MOST, TTL_MS, *names])
                for place, names in gathered.items()
            ]
        )

    async def stop(self) -> None:
        """Tell what is still to be told."""
        if self._telling is not None:
            await self._telling
        await self._tell_if_possible()

    def _time_is_up(self) -> None:
        self._telling = asyncio.get_running_loop().create_task(self._tell_if_possible())

    async def _tell_if_possible(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.tell()


def _key(application: str, what: str) -> str:
    return f"{{r:{application}}}:{what}"
