"""A verification as callers see it, read back from what the scripts answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from service.answer import Fields
from service.errors import Unreadable
from service.sealing import Key, KeyRing


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message, over one channel, by one provider (which is chosen when it is sent)."""

    n: int
    channel: str
    provider: str | None
    status: str
    reason: str | None
    queued_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline."""

    at: datetime
    event: str
    n: int | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """A verification as it stood when Redis answered. `to` is masked."""

    id: str
    application: str
    status: str
    to: str
    country: str
    purpose: str
    locale: str
    cascade: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    resend_at: datetime
    checks_remaining: int
    sends_remaining: int
    deliveries: tuple[Delivery, ...]
    timeline: tuple[Event, ...]
    metadata: Mapping[str, str] = field(repr=False)
    test: bool

    @property
    def channel(self) -> str:
        """The channel of the latest delivery."""
        return self.deliveries[-1].channel


def bound(verification: str, what: str) -> bytes:
    """What an envelope is bound to: the verification and the field."""
    return f"{verification}:{what}".encode()


def sealed(key: Key, verification: str, what: str, plaintext: bytes) -> bytes:
    """A field of a verification as it is kept."""
    return key.seal(plaintext, bound(verification, what))


def opened(ring: KeyRing, fields: Fields, what: str) -> bytes | None:
    """What was sealed in a field, None when it is not there; raises Unreadable when a key has left the ring."""
    kept = fields.raw(what)
    return None if kept is None else ring.open(kept, bound(fields.text("id"), what))


def read(fields: Fields, ring: KeyRing) -> Verification:
    """Read a verification out of a script's answer; raises Unreadable when a key has left the ring."""
    created = fields.number("created")
    return Verification(
        id=fields.text("id"),
        application=fields.text("app"),
        status=fields.text("status"),
        to=masked(fields, ring),
        country=fields.text("country"),
        purpose=fields.text("purpose"),
        locale=fields.text("locale"),
        cascade=tuple(step.partition(":")[0] for step in fields.text("plan").split()),
        created_at=moment(created),
        expires_at=moment(fields.number("expires")),
        resend_at=moment(fields.number("resend")),
        checks_remaining=max(0, fields.number("checks") - fields.number("spent")),
        sends_remaining=max(0, fields.number("sends") - fields.number("sent")),
        deliveries=tuple(_delivery(n, fields, created) for n in range(fields.number("n") + 1)),
        timeline=tuple(_event(k, fields, created) for k in range(fields.number("notes"))),
        metadata=metadata(fields, ring),
        test=bool(fields.text("test")),
    )


def secret(ring: KeyRing, fields: Fields) -> tuple[str, str]:
    """Number and code; raises Unreadable once they are forgotten, or when a key has left the ring."""
    number, _, code = ring.open(fields.raw("secret") or b"", bound(fields.text("id"), "secret")).decode().partition(":")
    return number, code


def metadata(fields: Fields, ring: KeyRing) -> dict[str, str]:
    """What the caller noted; raises Unreadable when a key has left the ring."""
    found: dict[str, str] = orjson.loads(opened(ring, fields, "meta") or b"{}")
    return found


def masked(fields: Fields, ring: KeyRing) -> str:
    """The number as it may be seen; raises Unreadable when a key has left the ring."""
    return _to(fields, ring)[0]


def prefix(fields: Fields, ring: KeyRing) -> str:
    """The range of the number (`service.guard.credit.Prefixes`); `-` when its key has left the ring."""
    try:
        return _to(fields, ring)[1]
    except Unreadable:  # a count must not stand in the way of what is counted
        return "-"


def moment(milliseconds: float) -> datetime:
    """A time of Redis' clock."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def rfc3339(at: datetime | None) -> str | None:
    """A time in UTC as RFC 3339, with milliseconds."""
    return None if at is None else at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _to(fields: Fields, ring: KeyRing) -> tuple[str, str]:
    """The masked number and its range, which are sealed together."""
    veiled, _, widest = (opened(ring, fields, "to") or b"").decode().partition(" ")
    return veiled, widest


def _delivery(n: int, fields: Fields, created: int) -> Delivery:
    _, channel, provider, status, reason, queued, sent, delivered = fields.text(f"d{n}").split(" ")
    return Delivery(
        n=n,
        channel=channel,
        provider=_word(provider),
        status=status,
        reason=_word(reason),
        queued_at=moment(created + int(queued)),
        sent_at=_offset(sent, created),
        delivered_at=_offset(delivered, created),
    )


def _event(k: int, fields: Fields, created: int) -> Event:
    offset, event, n, cause = fields.text(f"t{k}").split(" ")
    return Event(moment(created + int(offset)), event, None if n == "-" else int(n), _word(cause))


def _word(word: str) -> str | None:
    return None if word == "-" else word


def _offset(word: str, created: int) -> datetime | None:
    return None if word == "-" else moment(created + int(word))
