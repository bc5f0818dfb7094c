"""An event: what happened, as its application is told. It is composed once, so that each copy of it is the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson

from service.answer import Fields
from service.record import bound, moment, rfc3339
from service.sealing import KeyRing

Type = Literal[
    "verification.created",
    "verification.delivered",
    "verification.advanced",
    "verification.approved",
    "verification.undeliverable",
    "verification.expired",
    "verification.canceled",
    "verification.max_attempts_reached",
]
TYPES: tuple[Type, ...] = get_args(Type)
"""Every type that there is."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is kept: its body is sealed, for it has a masked number and the caller's metadata.

    `subject` is the verification, whose events keep their order. `at` is in ms of Redis' clock.
    """

    id: str
    type: str
    at: int
    subject: str
    sealed: bytes = field(repr=False)

    @classmethod
    def seal(cls, ring: KeyRing, name: str, fields: Fields) -> Event:
        """The event that an entry of an outbox tells of; raises Unreadable when a key has left the ring."""
        verification, kind, at = fields.text("id"), fields.text("type"), fields.number("at")
        n = fields.number("n")
        _, channel, provider, *_ = (fields.text(f"d{n}") or "- - -").split(" ")
        to, metadata = fields.raw("to"), fields.raw("meta")
        data = {
            "id": verification,
            "application": fields.text("app"),
            "to": ring.open(to, bound(verification, "to")).decode() if to else "",
            "country": fields.text("country"),
            "purpose": fields.text("purpose"),
            "n": n if n >= 0 else None,
            "channel": _word(channel),
            "provider": _word(provider),
            "cause": _word(fields.text("cause")),
            "test": bool(fields.text("test")),
            "metadata": orjson.loads(ring.open(metadata, bound(verification, "meta"))) if metadata else {},
        }
        body = orjson.dumps({"type": kind, "timestamp": rfc3339(moment(at)), "data": data})
        return cls(name, kind, at, verification, ring.writer.seal(body, bound(name, "event")))

    @classmethod
    def unpacked(cls, raw: bytes) -> Event:
        """An event as `packed` wrote it."""
        name, kind, at, subject, sealed = raw.split(b" ", 4)
        return cls(name.decode(), kind.decode(), int(at), subject.decode(), sealed)

    def packed(self) -> bytes:
        """The event in one piece; the scripts know it by what is before the first blank: its id."""
        return f"{self.id} {self.type} {self.at} {self.subject} ".encode() + self.sealed

    def body(self, ring: KeyRing) -> bytes:
        """What its application reads, as JSON; raises Unreadable when a key has left the ring."""
        return ring.open(self.sealed, bound(self.id, "event"))

    def shown(self, ring: KeyRing) -> dict[str, Any]:
        """The same with its id, for the feed; raises Unreadable."""
        return {"id": self.id, **orjson.loads(self.body(ring))}


def _word(word: str) -> str | None:
    return None if word == "-" else word
