"""An event: what happened, as its application is told. It is composed once, so that each copy of it is the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson

from service.answer import Fields
from service.record import bound, masked, metadata, moment, rfc3339
from service.requests import Refusal, Start
from service.sealing import KeyRing

Type = Literal[
    "verification.blocked",
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

    `subject` is the verification, whose events keep their order, or the event itself where there is none. `at` is in ms
    of Redis' clock.
    """

    id: str
    type: str
    at: int
    subject: str
    sealed: bytes = field(repr=False)

    @classmethod
    def compose(
        cls, ring: KeyRing, name: str, kind: str, at: int, data: Mapping[str, object], subject: str = ""
    ) -> Event:
        """An event of this type; `subject` is the event itself unless it is given."""
        body = orjson.dumps({"type": kind, "timestamp": rfc3339(moment(at)), "data": data})
        return cls(name, kind, at, subject or name, ring.writer.seal(body, bound(name, "event")))

    @classmethod
    def told(cls, ring: KeyRing, name: str, fields: Fields) -> Event:
        """The event that an entry of an outbox tells of; raises Unreadable when a key has left the ring."""
        verification = fields.text("id")
        n = fields.number("n")
        _, channel, provider, *_ = (fields.text(f"d{n}") or "- - -").split(" ")
        data = {
            "id": verification,
            "application": fields.text("app"),
            "to": masked(fields, ring),
            "country": fields.text("country"),
            "purpose": fields.text("purpose"),
            "n": n if n >= 0 else None,
            "channel": _word(channel),
            "provider": _word(provider),
            "cause": _word(fields.text("cause")),
            "test": bool(fields.text("test")),
            "metadata": metadata(fields, ring),
        }
        return cls.compose(ring, name, fields.text("type"), fields.number("at"), data, verification)

    @classmethod
    def refused(cls, ring: KeyRing, at: int, application: str, wanted: Start, refusal: Refusal) -> Event:
        """The event of a verification that the guard did not let begin."""
        data = {
            "id": None,
            "application": application,
            "to": wanted.number.masked,
            "country": wanted.number.country,
            "purpose": wanted.purpose,
            "n": None,
            "channel": wanted.channel,
            "provider": None,
            "cause": refusal.reasons[0].rule,
            "decision_id": refusal.decision,
            "test": False,
            "metadata": dict(wanted.metadata),
        }
        return cls.compose(ring, f"evt_{os.urandom(10).hex()}", "verification.blocked", at, data)

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
