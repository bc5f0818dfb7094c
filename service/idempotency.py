"""Idempotent requests: what is remembered of one, and under which names.

The first answer is kept on the shard of the number that it is about, beside the verification, so that act and record
are one. A claim, kept by the key alone, binds the key to its body wherever that body's number has its shard. While the
ring has several keys a record may be under each of their names; it is written under the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.sealing import KeyRing
from service.store import Act

TTL_MS = 24 * 3600 * 1000
"""For how long a first answer is told again."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's idempotency key, and the body that came with it as it was understood."""

    key: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Memory:
    """The names of a request's record, and the fingerprints of its body; none for a request that is not idempotent."""

    names: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()

    @classmethod
    def of(cls, ring: KeyRing, application: str, act: str, idempotency: Idempotency | None) -> Memory:
        """The memory of a request of an application for an act (`create`, `check`)."""
        if idempotency is None:
            return _NONE
        whose = (application.encode(), act.encode())
        return cls(
            tuple(key.fingerprint(b"key", *whose, idempotency.key.encode()) for key in ring.keys),
            tuple(key.fingerprint(b"body", *whose, idempotency.body) for key in ring.keys),
        )

    def records(self, tag: str) -> list[str]:
        """The Redis keys under which the record may be on a shard."""
        return [f"{tag}idem:{name}" for name in self.names]

    @property
    def claims(self) -> list[Act]:
        """The acts that bind the idempotency key to its body: each answers `ours`, or `conflict`."""
        return [
            Act("idempotency_claim", [f"{{i:{name}}}:claim"], [mark, TTL_MS])
            for name, mark in zip(self.names, self.fingerprints, strict=True)
        ]

    @property
    def marks(self) -> str:
        """The fingerprints as the scripts take them."""
        return " ".join(self.fingerprints)


_NONE = Memory()
