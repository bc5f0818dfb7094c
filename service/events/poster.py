"""The poster: posts events to the URLs of applications, signed by Standard Webhooks, until they are taken.

https://www.standardwebhooks.com, specification 1.0.0. An event that is not taken is posted again after a growing pause,
for a day; those behind it in the line of its verification wait for it. Any replica posts; one that dies leaves its
leases, so that an event may come twice, under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from standardwebhooks import Webhook

from service.application import Application
from service.door import Door
from service.errors import Unreadable, VerifydError
from service.events.event import Event
from service.events.feed import LINE_MS, key
from service.metrics import Metrics
from service.provider import Request
from service.sealing import KeyRing
from service.store import Store

logger = logging.getLogger(__name__)

LEASE_MS = 15_000
"""Longer than a post may take with its round trips."""
PAUSES = (5, 30, 120, 600, 1800, 3600)
"""Seconds between the tries to post an event; the last counts for all after it."""
DAY = 24 * 3600
"""Seconds after which an event is given up."""
MOST_AT_ONCE = 32
"""Posts that one application may have under way from here."""


class Poster:
    """Posts what is due. `stir` is set when there may be something to post that nobody was told of."""

    def __init__(self, store: Store, ring: KeyRing, door: Door, metrics: Metrics) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._metrics = metrics
        self._under_way: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.stir = asyncio.Event()

    async def begin(self, application: Application) -> int:
        """Begin to post what is due, as much of it as there is room for; how much that is. Raises Unavailable."""
        room = MOST_AT_ONCE - self._under_way[application.name]
        if room <= 0:
            return 0
        keys = [key(application.name, "lines"), key(application.name, "tries")]
        lines, *rows = await self._store.rows("events_take", keys, [LEASE_MS, room])
        self._metrics.events_waiting(application.name).set(lines)
        for line, tries, raw in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            self._under_way[application.name] += 1
            work = self._work(application, line.decode(), tries, raw)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(rows) // 3

    async def finish(self) -> None:
        """Let what is under way end."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _work(self, application: Application, line: str, tries: int, first: bytes) -> None:
        """Post the events of a line, until one is not taken."""
        rows = [first]
        keys = [key(application.name, what) for what in ("lines", "tries", f"line:{line}")]
        try:
            while rows:
                event = Event.unpacked(rows[0])
                pause = await self._post(application, event, tries)
                wait = -1 if pause is None else pause * 1000
                rows = await self._store.rows("events_settle", keys, [line, event.id, wait, LEASE_MS, LINE_MS])
                tries = 0
        except VerifydError as error:
            logger.warning("events are left to their lease", extra={"fields": {"line": line, "error": str(error)}})
        except Exception:  # a defect must not end in silence; the lease brings the line back
            logger.exception("an event is not posted", extra={"fields": {"line": line}})
        finally:
            if self._under_way[application.name] >= MOST_AT_ONCE:
                self.stir.set()
            self._under_way[application.name] -= 1

    async def _post(self, application: Application, event: Event, tries: int) -> int | None:
        """Post an event; the seconds until it is to be tried again, None when it is done with."""
        wants = application.events
        if wants is None or not wants.posts(event.type):
            return None  # it was another configuration that put it in line
        told = self._metrics.event
        try:
            request = self._request(wants.url, wants.secrets, event)
        except Unreadable as error:
            logger.error("an event is lost", extra={"fields": {"event": event.id, "error": str(error)}})
            told(application.name, event.type, "dropped").inc()
            return None
        taken = await self._door.tell(request)
        age = self._store.clock() - event.at / 1000
        told(application.name, event.type, "taken" if taken else "failed").inc()
        if taken:
            self._metrics.event_lag(application.name).observe(max(0.0, age))
            return None
        pause = PAUSES[min(tries, len(PAUSES) - 1)]
        if age + pause <= DAY:
            return pause
        told(application.name, event.type, "dropped").inc()
        fields = {"verification": event.subject, "event": event.id, "type": event.type, "tries": tries + 1}
        logger.warning("an event is given up", extra={"fields": fields})
        return None

    def _request(self, url: str, secrets: tuple[str, ...], event: Event) -> Request:
        """The event, signed with each secret: whoever verifies needs to know one of them."""
        body, now = event.body(self._ring), self._store.now()
        signatures = [Webhook(secret).sign(event.id, now, body.decode()) for secret in secrets]
        headers = {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return Request(url, headers, body)
