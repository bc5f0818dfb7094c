"""The stream of an application's events: what a relay has moved there, and what `GET /events` reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.application import Application
from service.errors import Unreadable
from service.events.event import Event
from service.metrics import Metrics
from service.requests import Refusal, Start
from service.sealing import KeyRing
from service.store import Store

logger = logging.getLogger(__name__)

KEPT_MS = 3 * 24 * 3600 * 1000
"""How long an event can be read."""
LINE_MS = 2 * 24 * 3600 * 1000
"""How long a line lives after its last event: longer than any event waits in it."""
MOST_LINES = 50_000
"""Verifications whose events wait to be posted to one application: what Redis may fill with while its URL is dead."""
MOST_REFUSALS = 60
"""Verifications of an application whose refusal is told of in a minute, by each replica."""
_KEEP = 1_000
"""Events that a stream keeps of an application that has no subscription here."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order in which they came, and the cursor behind the last of them."""

    events: list[dict[str, Any]]
    next: str


class Feed:
    """The streams of `applications`."""

    def __init__(
        self, store: Store, ring: KeyRing, metrics: Metrics, *, applications: Mapping[str, Application]
    ) -> None:
        self._store = store
        self._ring = ring
        self._metrics = metrics
        self._applications = applications
        self._refusals: dict[str, tuple[float, int]] = {}

    async def append(self, application: str, shard: str, moved: Sequence[tuple[str, Event]]) -> None:
        """Append events, each with its id in the outbox of the shard, but those that were moved before.

        Where an event comes from no outbox, its id there and the shard are empty. Raises Unavailable.
        """
        known = self._applications.get(application)
        # Without a subscription here another replica may know of one: what nobody posts ends with its line.
        wants = known.events if known is not None else None
        args: list[str | bytes | int] = [shard, wants.keep if wants else _KEEP, KEPT_MS, MOST_LINES, LINE_MS]
        for entry, event in moved:
            args += [entry, event.subject if wants is None or wants.posts(event.type) else "", event.packed()]
        keys = [key(application, "events"), key(application, "moved"), key(application, "lines")]
        for (_, event), outcome in zip(moved, await self._store.rows("events_append", keys, args), strict=True):
            if outcome != b"known":
                self._metrics.event(application, event.type, outcome.decode()).inc()

    async def blocked(self, application: Application, wanted: Start, refusal: Refusal) -> None:
        """Tell that the guard refused to start a verification; raises Unavailable.

        An attack is told of by some of its refusals: all of them would push everything else out of the stream.
        """
        if application.events is None:
            return
        now = self._store.clock()
        event = Event.refused(self._ring, round(now * 1000), application.name, wanted, refusal)
        minute, count = self._refusals.get(application.name, (0.0, 0))
        self._refusals[application.name] = minute, count = now // 60, count + 1 if minute == now // 60 else 1
        if count > MOST_REFUSALS:
            self._metrics.event(application.name, event.type, "full").inc()
        else:
            await self.append(application.name, "", [("", event)])

    async def read(self, application: str, after: str, limit: int) -> Page:
        """So many events at most behind a cursor; raises Unavailable.

        What was sealed under a key that has left the ring is passed over.
        """
        ms, _, n = after.partition("-")
        rows = await self._store.rows("events_read", [key(application, "events")], [f"{ms}-{int(n) + 1}", limit])
        events = []
        for raw in rows[1::2]:
            event = Event.unpacked(raw)
            try:
                events.append(event.shown(self._ring))
            except Unreadable as error:
                logger.warning("an event cannot be read", extra={"fields": {"event": event.id, "error": str(error)}})
        return Page(events, rows[-2].decode() if rows else after)


def key(application: str, what: str) -> str:
    """A key of an application's events: all of them have its hash tag."""
    return f"{{e:{application}}}:{what}"
