"""What callers ask for, and what they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.guard.ask import Signals
from service.guard.verdict import Reason
from service.idempotency import Idempotency
from service.phone import Number
from service.provider import Channel
from service.record import Verification
from service.sealing import Key


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a code authorizes (PSD2 dynamic linking, Commission Delegated Regulation (EU) 2018/389, article 5)."""

    amount: str
    payee: str

    @property
    def parts(self) -> tuple[str, str]:
        """What a code is bound to."""
        return self.amount, self.payee


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A verification is wanted. `channel` stays on one, `cascade` reorders; without them it is the application's."""

    number: Number
    channel: Channel | None = None
    cascade: Sequence[Channel] | None = None
    locale: str | None = None
    purpose: str = "login"
    email: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    transaction: Transaction | None = field(default=None, repr=False)
    app_hash: str | None = None
    webotp_domain: str | None = None
    signals: Signals = field(default=Signals(), repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    idempotency: Idempotency | None = None

    @property
    def channels(self) -> list[Channel]:
        """The channels that were asked for; none for the application's own."""
        return [self.channel] if self.channel else list(self.cascade or ())

    def binding(self, key: Key) -> str:
        """What a pending verification must share with a new one for the new one to join it: own code, transaction."""
        if self.code is None and self.transaction is None:
            return ""
        parts = (self.number.e164, self.code or "", *(self.transaction.parts if self.transaction else ()))
        return key.fingerprint(b"binding", *(part.encode() for part in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A guess. The verification is named by its id or by its number."""

    id: str | None = None
    number: Number | None = None
    code: str = field(repr=False)
    transaction: Transaction | None = field(default=None, repr=False)
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A verification began, or a send joined the one that was pending."""

    verification: Verification
    joined: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """A guess was taken."""

    verification: Verification
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What was asked for was not done. `code` is one of `service.api.problems.CODES`, `retry_after` in seconds.

    Where it was the guard's verdict there are its `reasons`, and `decision`, the name by which it can be looked up.
    """

    code: str
    detail: str
    id: str | None = None
    limit: str | None = None
    retry_after: float | None = None
    status: str | None = None
    reasons: tuple[Reason, ...] = ()
    decision: str | None = None
