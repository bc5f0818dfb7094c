"""The relay: moves what the scripts put into the outboxes of shards on to the streams of applications."""

from __future__ import annotations

import asyncio
import logging

from service import ids
from service.answer import Fields
from service.events.event import Event
from service.events.feed import Feed
from service.sealing import KeyRing
from service.store import Store

logger = logging.getLogger(__name__)

LEASE_MS = 5_000
"""How long other relays leave an outbox to one of them."""
_AT_ONCE = 100


class Relay:
    """Looks at the outboxes of all shards."""

    def __init__(self, store: Store, ring: KeyRing, feed: Feed, *, shards: int) -> None:
        self._store = store
        self._ring = ring
        self._feed = feed
        self._shards = shards

    async def move(self) -> int:
        """Move what is in the outboxes; how many entries that were. Raises Unavailable, once the others have moved."""
        moved = await asyncio.gather(*[self._move(shard) for shard in range(self._shards)], return_exceptions=True)
        for one in moved:
            if isinstance(one, BaseException):
                raise one
        return sum(one for one in moved if isinstance(one, int))

    async def _move(self, shard: int) -> int:
        keys = [f"{ids.tag(shard)}outbox", f"{ids.tag(shard)}relay"]
        entries = await self._store.rows("outbox_read", keys, [LEASE_MS, _AT_ONCE])
        if not entries:
            return 0
        told: dict[str, list[tuple[str, Event]]] = {}
        for raw, flat in entries:
            entry, fields = raw.decode(), Fields(flat)
            if (event := self._event(f"evt_{shard:03x}-{entry}", fields)) is not None:
                told.setdefault(fields.text("app"), []).append((entry, event))
        await asyncio.gather(*[self._feed.append(name, str(shard), events) for name, events in told.items()])
        await self._store.rows("outbox_trim", keys, [raw for raw, _ in entries])
        return len(entries)

    def _event(self, name: str, fields: Fields) -> Event | None:
        try:
            return Event.told(self._ring, name, fields)
        except Exception:  # one that cannot be read must not hold back its whole shard
            logger.exception("an event is lost", extra={"fields": {"verification": fields.text("id")}})
            return None
