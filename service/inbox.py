"""The inbox of the simulator: the messages that it took, in Redis, so that every replica shows all of them.

They hold codes and whole numbers, so they are sealed as everything else; and they are the latest only, for an hour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from service.errors import Unreadable
from service.provider import Message, Receipt, Status
from service.sealing import KeyRing
from service.store import Store

KEY = "verifyd:inbox"
MOST = 10_000
"""Messages that are kept: older ones go."""
TTL_MS = 3600 * 1000
"""How long they are kept after the latest."""

_BOUND = b"inbox"

Receive = Callable[[str, Sequence[Receipt]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the inbox; `status` is the latest that was reported of it, `reference` the token of its receipts.

    `in_hand` is whether somebody took it in hand, so that its script has ended.
    """

    id: int
    at: datetime
    application: str
    channel: str
    provider: str
    delivery: str
    reference: str = field(repr=False)
    to: str = field(repr=False)
    text: str = field(repr=False)
    status: str
    in_hand: bool


class Inbox:
    """Keeps messages and reports on them; `receive` takes the receipts of a provider."""

    def __init__(self, store: Store, ring: KeyRing, receive: Receive) -> None:
        self._store = store
        self._ring = ring
        self._receive = receive

    async def keep(self, message: Message) -> int:
        """Keep a message; its id, one above that of the message before. Raises Unavailable."""
        said = {
            "application": message.application,
            "channel": message.channel,
            "provider": message.provider,
            "delivery": message.delivery,
            "reference": message.reference,
            "to": message.to,
            "text": message.text,
        }
        sealed = self._ring.writer.seal(orjson.dumps(said), _BOUND)
        return (await self._store.run("inbox_keep", [KEY], [sealed, Status.ACCEPTED, MOST, TTL_MS])).number

    async def report(self, name: int, provider: str, receipt: Receipt) -> None:
        """Report on a message as its script says, unless somebody took it in hand. Raises Unavailable."""
        noted = await self._store.run("inbox_report", [KEY], [name, receipt.status, "script"])
        if noted.outcome != "passed":
            await self._receive(provider, [receipt])

    async def take(self, entry: Entry, status: Status | None, reason: str | None = None) -> Entry:
        """Take a message in hand: its script ends, and this is reported of it now, or nothing. Raises Unavailable."""
        await self._store.run("inbox_report", [KEY], [entry.id, status or "", "hand"])
        if status is not None:
            await self._receive(entry.provider, [Receipt(status, reason, entry.delivery, entry.reference)])
        return await self.find(entry.id) or entry

    async def find(self, name: int) -> Entry | None:
        """A message by its id. Raises Unavailable."""
        found, _ = await self.read(name + 1, 1)
        return found[0] if found and found[0].id == name else None

    async def read(self, before: int, most: int) -> tuple[list[Entry], int | None]:
        """So many messages before an id (0: the latest), the newest first, and before which id there are more.

        Those under a key that has left the ring are left out. Raises Unavailable.
        """
        found = await self._store.rows("inbox_read", [KEY], [before, most])
        entries = [self._entry(*one) for one in zip(found[::3], found[1::3], found[2::3], strict=True)]
        more = len(entries) == most and found[-3] > 1
        return [entry for entry in entries if entry is not None], found[-3] if more else None

    def _entry(self, name: int, state: bytes, sealed: bytes) -> Entry | None:
        at, who, status = state.decode().split(" ")
        try:
            said = orjson.loads(self._ring.open(sealed, _BOUND))
        except Unreadable:
            return None
        when = datetime.fromtimestamp(int(at) / 1000, UTC)
        return Entry(id=name, at=when, status=status, in_hand=who == "hand", **said)
