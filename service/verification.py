"""The life of a verification, as its caller drives it: start, resend, check, cancel, read, feedback.

    pending --right check--> approved
            --last wrong--> max_attempts_reached
            --cancel--> canceled
            --TTL--> expired
            --every step refused, none left--> undeliverable --resend, or a late receipt--> pending

An undeliverable verification is still alive: a right code approves it, since whoever has the code did get it.

The rules themselves are in the scripts (`lua/`), one atomic act each; here they are given what they need and their
answers are given names. Refusals are values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service import code as codes
from service import ids
from service.application import Application
from service.cascade import Step, written
from service.code import Hasher
from service.errors import Unavailable
from service.guard.limits import from_key
from service.metrics import Metrics
from service.phone import Number, reach
from service.provider import Channel
from service.record import Verification, answer_fields, bound, read
from service.schedule import LEASE_MS
from service.sealing import KeyRing, Place
from service.store import Answer, Field, Store

IDEMPOTENCY_MS = 24 * 3600 * 1000
SETTLE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a code authorizes (PSD2 dynamic linking, Commission Delegated Regulation (EU) 2018/389, article 5)."""

    amount: str
    payee: str

    @property
    def parts(self) -> tuple[str, str]:
        """What a code is bound to."""
        return self.amount, self.payee


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's idempotency key, and the body that came with it."""

    key: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a caller asks for."""

    number: Number
    channel: Channel | None = None
    cascade: Sequence[Channel] | None = None
    locale: str
    purpose: str = "login"
    code: str | None = field(default=None, repr=False)
    transaction: Transaction | None = field(default=None, repr=False)
    app_hash: str | None = None
    webotp_domain: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    idempotency: Idempotency | None = None


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
    """What a caller asked for was not done, and why."""

    code: str
    detail: str
    id: str | None = None
    limit: str | None = None
    retry_after: float | None = None
    status: str | None = None


class Verifications:
    """The acts of a verification. `nudge` tells the schedule of a job that was leased for it."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        hasher: Hasher,
        metrics: Metrics,
        *,
        shards: int,
        nudge: Callable[[str], None],
    ) -> None:
        self._store = store
        self._ring = ring
        self._hasher = hasher
        self._metrics = metrics
        self._shards = shards
        self._nudge = nudge

    async def start(self, application: Application, wanted: Start) -> Started | Refusal:
        """Start a verification, or send again for the one that is alive; raises Unavailable."""
        number = wanted.number
        plan = _plan(application, wanted)
        if isinstance(plan, Refusal):
            return self._refused(application, number.country, plan)
        fingerprint = self._fingerprint(application, "create", wanted.idempotency)
        place = self._ring.writer.place(number.e164, self._shards)
        binding = self._binding(wanted)
        claimed, elder = True, None
        if wanted.idempotency is not None or len(self._ring.keys) > 1:
            claimed, elder = await asyncio.gather(
                self._claim(application, "create", wanted.idempotency, fingerprint),
                self._elder(application, number, binding),
            )
        channel = wanted.channel or ""
        if not claimed:
            return self._refused(application, number.country, _CONFLICT)
        if elder is not None:
            joined = await self._resend(application, elder, channel, fingerprint, wanted.idempotency)
            if not (isinstance(joined, Refusal) and joined.code in {"not_found", "not_pending"}):
                return joined
        tag = ids.tag(place.shard)
        verification = ids.new(place.shard)
        keys = [tag + verification, _pointer(tag, place, application), f"{tag}rates:{place.hash}", f"{tag}due"]
        answer = await self._store.run(
            "verification_start",
            [*keys, *self._memory(tag, application, "create", wanted.idempotency)],
            [
                application.name,
                LEASE_MS,
                application.resend_pauses,
                "" if number.e164 in application.test_numbers else application.rates,
                application.ttl * 1000,
                channel,
                fingerprint,
                IDEMPOTENCY_MS,
                self._store.not_after(keys[0]),
                binding,
                *await self._fields(application, wanted, verification, place, plan),
            ],
        )
        return self._started(application, answer)

    async def resend(self, application: Application, verification: str, channel: Channel | None) -> Started | Refusal:
        """Send the same code again, on `channel` or the next of the cascade; raises Unavailable."""
        return await self._resend(application, verification, channel or "", "", None)

    async def check(self, application: Application, guess: Check) -> Checked | Refusal:
        """Take one guess: spend an attempt, compare, settle; raises Unavailable."""
        fingerprint = self._fingerprint(application, "check", guess.idempotency)
        subjects = self._subjects(application, guess)
        spending = [self._spend(application, *subject, fingerprint, guess.idempotency) for subject in subjects]
        if guess.idempotency is None and len(spending) == 1:
            claimed, spends = True, [await spending[0]]
        else:
            claim = self._claim(application, "check", guess.idempotency, fingerprint)
            claimed, spends = await asyncio.gather(claim, asyncio.gather(*spending))
        # Under a ring of several keys a number is asked for under each; all but one know nothing of it.
        found = [(tag, answer) for tag, answer in spends if answer[0] != b"gone"]
        if not found:
            return self._unchecked(application, "not_found", _NOT_FOUND)
        tag, spent = found[0]
        surplus = found[1:] if claimed else found
        for _, answer in surplus:
            if answer[0] == b"spent":
                await self._undo(application, answer, fingerprint, guess.idempotency)
        if not claimed or spent[0] == b"conflict":
            return self._unchecked(application, "conflict", _CONFLICT)
        if spent[0] == b"locked":
            detail = "too many wrong codes for this number: let it rest until retry_after"
            refusal = Refusal(
                code="rate_limited", detail=detail, limit="wrong_checks", retry_after=max(1, spent[1]) / 1000
            )
            return self._unchecked(application, "locked", refusal)
        if spent[0] != b"spent":
            return self._checked(application, spent)
        fields = answer_fields(spent)
        verification = fields.text("id")
        right = await self._hasher.matches(
            fields.raw("code") or b"",
            verification=verification,
            code=guess.code,
            transaction=guess.transaction.parts if guess.transaction else None,
        )
        settled = await self._store.run(
            "check_settle",
            [tag + verification, f"{tag}due", *self._memory(tag, application, "check", guess.idempotency)],
            ["right" if right else "wrong", fingerprint, IDEMPOTENCY_MS],
        )
        return self._checked(application, settled)

    async def read(self, application: Application, verification: str) -> Verification | Refusal:
        """A verification as it stands; raises Unavailable."""
        return await self._act(application, "verification_read", verification)

    async def cancel(self, application: Application, verification: str) -> Verification | Refusal:
        """End a verification; a new one can start at once. Raises Unavailable."""
        return await self._act(application, "verification_cancel", verification, application.spacing)

    async def feedback(self, application: Application, verification: str, *, converted: bool) -> Verification | Refusal:
        """Note whether a code was used; it approves where the code is the caller's own. Raises Unavailable."""
        word = "converted" if converted else "unconverted"
        return await self._act(application, "verification_feedback", verification, word)

    # What the acts share.

    async def _act(
        self, application: Application, script: str, verification: str, *args: Field
    ) -> Verification | Refusal:
        tag = ids.tag_of(verification)
        if tag is None:
            return _NOT_FOUND
        answer = await self._store.run(script, [tag + verification, f"{tag}due"], [application.name, *args])
        if answer[0] == b"gone":
            return _NOT_FOUND
        found = self._noticed(answer)
        return _not_pending(found) if answer[0] == b"over" else found

    async def _resend(
        self,
        application: Application,
        verification: str,
        channel: str,
        fingerprint: str,
        idempotency: Idempotency | None,
    ) -> Started | Refusal:
        tag = ids.tag_of(verification)
        if tag is None:
            return _NOT_FOUND
        answer = await self._store.run(
            "verification_resend",
            [tag + verification, f"{tag}due", *self._memory(tag, application, "create", idempotency)],
            [
                application.name,
                LEASE_MS,
                application.resend_pauses,
                application.rates,
                channel,
                fingerprint,
                IDEMPOTENCY_MS,
                self._store.not_after(tag + verification),
            ],
        )
        return self._started(application, answer)

    def _started(self, application: Application, answer: Answer) -> Started | Refusal:
        outcome, wait = answer[0].decode(), answer[1] / 1000
        match outcome.split():
            case ["late"]:
                raise Unavailable("late")
            case ["gone"]:
                return _NOT_FOUND
            case ["conflict"]:
                return self._refused(application, "", _CONFLICT)
            case ["limited", key]:
                detail = f"this number has had its {from_key(key)}"
                return self._refused(
                    application,
                    "",
                    Refusal(code="rate_limited", detail=detail, limit=f"number {from_key(key)}", retry_after=wait),
                )
        found = self._noticed(answer)
        match outcome:
            case "started" | "joined" | "test":
                return self._sent(found, answer, joined=outcome != "started")
            case "wait":
                refusal = Refusal(
                    code="rate_limited",
                    detail="a code was sent just now: go on with the pending verification, or wait until resend_at",
                    limit="resend",
                    retry_after=wait,
                    id=found.id,
                )
            case "exhausted":
                refusal = Refusal(
                    code="rate_limited",
                    detail="every send of this verification is used: cancel it, or wait until it expires",
                    limit="sends",
                    retry_after=wait,
                    id=found.id,
                )
            case "channel":
                detail = f"this verification goes over {', '.join(found.cascade)} only"
                refusal = Refusal(code="forbidden", detail=detail, id=found.id)
            case _:
                refusal = _not_pending(found)
        return self._refused(application, found.country, refusal)

    def _sent(self, found: Verification, answer: Answer, *, joined: bool) -> Started:
        if not answer_fields(answer).text("replayed"):
            word = "joined" if joined else "started"
            self._count(found, word)
            if not found.test:
                self._nudge(found.id)
        return Started(found, joined)

    async def _spend(
        self, application: Application, subject: str, tag: str, fingerprint: str, idempotency: Idempotency | None
    ) -> tuple[str, Answer]:
        answer = await self._store.run(
            "check_spend",
            [subject, f"{tag}due", *self._memory(tag, application, "check", idempotency)],
            [application.name, application.wrong_checks_per_day, SETTLE_MS, fingerprint, IDEMPOTENCY_MS],
        )
        return tag, answer

    async def _undo(
        self, application: Application, spent: Answer, fingerprint: str, idempotency: Idempotency | None
    ) -> None:
        verification = answer_fields(spent).text("id")
        tag = ids.tag_of(verification) or ""
        keys = [tag + verification, f"{tag}due", *self._memory(tag, application, "check", idempotency)]
        await self._store.run("check_settle", keys, ["undo", fingerprint, 0])

    def _subjects(self, application: Application, guess: Check) -> list[tuple[str, str]]:
        """The keys under which the verification of a guess may be, each with its tag."""
        if guess.number is None:
            tag = ids.tag_of(guess.id or "")
            return [] if tag is None else [(f"{tag}{guess.id}", tag)]
        places = [key.place(guess.number.e164, self._shards) for key in self._ring.keys]
        return [(_pointer(ids.tag(place.shard), place, application), ids.tag(place.shard)) for place in places]

    def _checked(self, application: Application, answer: Answer) -> Checked | Refusal:
        if answer[0] == b"gone":
            return self._unchecked(application, "not_found", _NOT_FOUND)
        fields = answer_fields(answer)
        verification = self._noticed(answer)
        result = "replayed" if fields.text("replayed") else answer[0].decode()
        if verification.test:
            result = f"test_{result}"
        self._metrics.check(application.name, result).inc()
        if result == "right":
            self._metrics.approve_seconds(application.name).observe(answer[1] / 1000)
        return Checked(verification, valid=answer[0] == b"right")

    def _noticed(self, answer: Answer) -> Verification:
        """The verification in an answer, counting the end that this act brought about."""
        fields = answer_fields(answer)
        found = read(fields, self._ring)
        if (end := fields.text("noticed")) and not fields.text("replayed"):
            self._count(found, end)
        return found

    def _count(self, found: Verification, result: str) -> None:
        name = f"test_{result}" if found.test else result
        self._metrics.verification(found.application, found.country, name).inc()

    def _refused(self, application: Application, country: str, refusal: Refusal) -> Refusal:
        self._metrics.verification(application.name, country, refusal.code).inc()
        return refusal

    def _unchecked(self, application: Application, result: str, refusal: Refusal) -> Refusal:
        self._metrics.check(application.name, result).inc()
        return refusal

    def _binding(self, wanted: Start) -> str:
        """What a pending verification must share with a new one for the new one to join it: own code, transaction."""
        if wanted.code is None and wanted.transaction is None:
            return ""
        parts = (wanted.code or "", *(wanted.transaction.parts if wanted.transaction else ()))
        return self._ring.writer.fingerprint(b"binding", *(part.encode() for part in parts))

    async def _elder(self, application: Application, number: Number, binding: str) -> str | None:
        """The verification that is alive for this number under an older key of the ring."""
        for key in self._ring.keys[1:]:
            place = key.place(number.e164, self._shards)
            tag = ids.tag(place.shard)
            answer = await self._store.run(
                "verification_find", [_pointer(tag, place, application), f"{tag}due"], [binding]
            )
            if answer[0] == b"found":
                return answer_fields(answer).text("id")
        return None

    async def _claim(
        self, application: Application, act: str, idempotency: Idempotency | None, fingerprint: str
    ) -> bool:
        """Whether an idempotency key came with this body from the first."""
        if idempotency is None:
            return True
        name = self._memory_name(application, act, idempotency)
        answer = await self._store.run("idempotency_claim", [f"{{i:{name}}}:claim"], [fingerprint, IDEMPOTENCY_MS])
        return bool(answer[0] == b"ours")

    def _memory(self, tag: str, application: Application, act: str, idempotency: Idempotency | None) -> list[str]:
        return [] if idempotency is None else [f"{tag}idem:{self._memory_name(application, act, idempotency)}"]

    def _memory_name(self, application: Application, act: str, idempotency: Idempotency) -> str:
        parts = (application.name.encode(), act.encode(), idempotency.key.encode())
        return self._ring.writer.fingerprint(b"key", *parts)

    def _fingerprint(self, application: Application, act: str, idempotency: Idempotency | None) -> str:
        if idempotency is None:
            return ""
        parts = (application.name.encode(), act.encode(), idempotency.body)
        return self._ring.writer.fingerprint(b"body", *parts)

    async def _fields(
        self, application: Application, wanted: Start, verification: str, place: Place, plan: Sequence[Step]
    ) -> list[Field]:
        number, key = wanted.number, self._ring.writer
        test_code = application.test_numbers.get(number.e164)
        code = test_code or wanted.code or codes.generate(application.code_length)
        transaction = wanted.transaction.parts if wanted.transaction else None
        fields: dict[str, Field] = {
            "status": "pending",
            "number": place.hash,
            "country": number.country,
            "purpose": wanted.purpose,
            "locale": wanted.locale,
            "plan": written(plan),
            "checks": application.checks,
            "sends": application.sends,
            "sent": 1,
            "to": key.seal(number.masked.encode(), bound(verification, "to")),
            "secret": key.seal(f"{number.e164}:{code}".encode(), bound(verification, "secret")),
            "code": await self._hasher.hash(verification=verification, code=code, transaction=transaction),
        }
        if wanted.code:
            fields["own"] = 1
        if test_code:
            fields["test"] = 1
        extra: dict[str, Any] = {"app_hash": wanted.app_hash, "webotp_domain": wanted.webotp_domain}
        if transaction:
            extra |= {"amount": transaction[0], "payee": transaction[1]}
        if extra := {name: value for name, value in extra.items() if value}:
            fields["extra"] = key.seal(orjson.dumps(extra), bound(verification, "extra"))
        if wanted.metadata:
            fields["meta"] = key.seal(orjson.dumps(dict(wanted.metadata)), bound(verification, "meta"))
        return [part for item in fields.items() for part in item]


_CONFLICT = Refusal(code="idempotency_conflict", detail="this Idempotency-Key came before with another body")
_NOT_FOUND = Refusal(code="not_found", detail="this application has no such verification, or no longer")


def _not_pending(found: Verification) -> Refusal:
    return Refusal(code="not_pending", detail=f"the verification is {found.status}", id=found.id, status=found.status)


def _plan(application: Application, wanted: Start) -> tuple[Step, ...] | Refusal:
    """The steps for what is wanted, or why there are none."""
    number = wanted.number
    test = number.e164 in application.test_numbers
    cascade = application.cascade_for(number.e164)
    asked = [wanted.channel] if wanted.channel else list(wanted.cascade or ())
    if wanted.code is not None and not application.own_code:
        return Refusal(code="forbidden", detail="`code`: this application may not choose its own codes")
    if application.countries is not None and number.country not in application.countries and not test:
        return Refusal(code="forbidden", detail=f"`to`: {number.country} is not among this application's countries")
    if strange := [channel for channel in asked if channel not in cascade.channels]:
        have = ", ".join(cascade.channels)
        return Refusal(code="forbidden", detail=f"{', '.join(strange)}: this application sends over {have} only")
    plan = cascade.plan(frozenset(Channel) if test else reach(number.kind, application.allow_types), asked or None)
    if not plan:
        kind = number.kind.replace("_", " ")
        return Refusal(code="invalid_number", detail=f"`to`: no step of the cascade reaches a number of type {kind}")
    return plan


def _pointer(tag: str, place: Place, application: Application) -> str:
    return f"{tag}number:{place.hash}:{application.name}"
