"""What people changed by hand: who, what, why and when, in one stream and in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from service.answer import Fields
from service.store import Store

logger = logging.getLogger(__name__)

KEY = "{changes}:stream"
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """A change by hand. `until`: in RFC 3339, empty for one that holds for good."""

    at: datetime
    application: str
    change: str
    what: str
    reason: str
    author: str
    until: str


class Changes:
    """The record of changes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(
        self, application: str, change: str, what: str, *, reason: str, author: str, until: datetime | None = None
    ) -> None:
        """Record a change that was made (`application`: empty for nobody's); raises Unavailable."""
        fields = {
            "application": application,
            "change": change,
            "what": what,
            "reason": reason,
            "author": author,
            "until": until.isoformat() if until else "",
        }
        logger.info("changed by hand", extra={"fields": fields})
        await self._store.run("changes_note", [KEY], [KEPT, *(part for item in fields.items() for part in item)])

    async def read(self, most: int) -> list[Change]:
        """The latest, the latest first; raises Unavailable."""
        rows = await self._store.rows("changes_read", [KEY], [most])
        return [_change(name.decode(), Fields(flat)) for name, flat in rows]


def _change(name: str, fields: Fields) -> Change:
    at = datetime.fromtimestamp(int(name.partition("-")[0]) / 1000, UTC)
    text = fields.text
    return Change(at, text("application"), text("change"), text("what"), text("reason"), text("author"), text("until"))
