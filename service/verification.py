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
from collections.abc import Awaitable, Callable, Coroutine

import orjson

from service import code as codes
from service import idempotency, ids
from service.answer import Answer, Fields
from service.application import Application
from service.cascade import Step, written
from service.code import Hasher
from service.errors import Unavailable
from service.guard.ask import Ask
from service.guard.credit import Prefixes
from service.guard.limits import from_key
from service.guard.live import Charge, Guard, Heard
from service.idempotency import Memory
from service.metrics import Metrics
from service.optout import OptOuts
from service.phone import reach
from service.provider import Channel
from service.recent import Recent
from service.record import Verification, bound, read
from service.requests import Check, Checked, Refusal, Start, Started
from service.schedule import LEASE_MS
from service.sealing import Key, KeyRing, Place
from service.store import Act, Field, Store
from service.tally import Tally
from service.waits import Waits

SETTLE_MS = 10_000
"""After this an attempt that was taken and never settled counts as wrong: its process is gone."""


class Verifications:
    """The acts of a verification.

    `nudge` tells the schedule of a job that was leased for it, `used` the deliveries whether a code was used.
    """

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        hasher: Hasher,
        optouts: OptOuts,
        metrics: Metrics,
        tally: Tally,
        waits: Waits,
        recent: Recent,
        *,
        shards: int,
        nudge: Callable[[str], None],
        used: Callable[[Fields, bool], None],
        blocked: Callable[[Application, Start, Refusal], Awaitable[None]],
        guard: Guard,
    ) -> None:
        self._store = store
        self._ring = ring
        self._hasher = hasher
        self._optouts = optouts
        self._metrics = metrics
        self._tally = tally
        self._waits = waits
        self._recent = recent
        self._shards = shards
        self._nudge = nudge
        self._used = used
        self._blocked = blocked
        self._guard = guard

    async def start(self, application: Application, wanted: Start) -> Started | Refusal:
        """Start a verification, or send again for the one that is alive; raises Unavailable."""
        number = wanted.number
        steps = _plan(application, wanted)
        if isinstance(steps, Refusal):
            return self._refused(application, number.country, steps)
        plan = written(steps, lambda step: self._waits.seconds(step, number.e164, number.country))
        memory = Memory.of(self._ring, application.name, "create", wanted.idempotency)
        hearing = self._hear(application, wanted, steps[0])
        if memory.names or len(self._ring.keys) > 1:
            heard, elder, claims, _ = await asyncio.gather(
                hearing,
                self._elder(application, wanted, memory),
                asyncio.gather(*self._claims(memory)),
                self._optouts.carry(number.e164),
            )
        else:
            heard, elder, claims = await hearing, _GONE, []
        if any(claim.outcome == "conflict" for claim in claims):
            self._guard.drop(heard)
            return self._refused(application, number.country, _CONFLICT)
        if heard.refused:
            # What was answered before is answered again, whatever is thought of it now.
            past = elder if elder.replayed else await self._past(application, wanted, memory)
            if past.outcome == "gone":
                return await self._turned_away(application, wanted, _blocked(heard))
            return self._started(application, number.country, past)
        answer = await self._begin(application, wanted, plan, memory, elder, heard)
        if answer.outcome not in {"started", "joined"} or answer.replayed:
            self._guard.give_back(heard)
        return self._started(application, number.country, answer)

    async def resend(self, application: Application, verification: str, channel: Channel | None) -> Started | Refusal:
        """Send the same code again, on `channel` or the next of the cascade; raises Unavailable."""
        if ids.tag_of(verification) is None:
            return _NOT_FOUND
        heard = (
            Heard() if application.policy.mode == "off" else await self._hear_again(application, verification, channel)
        )
        if heard.refused:
            return self._refused(application, heard.decision.country, _blocked(heard))
        self._guard.commit(heard)
        answer = await self._resend(application, verification, channel or "", "", Memory())
        if answer.outcome != "joined":
            self._guard.give_back(heard)
        return self._started(application, "", answer)

    async def check(self, application: Application, guess: Check) -> Checked | Refusal:
        """Take one guess: spend an attempt, compare, settle; raises Unavailable."""
        memory = Memory.of(self._ring, application.name, "check", guess.idempotency)
        spending = [self._spend(application, *subject, memory) for subject in self._subjects(application, guess)]
        if not memory.names and len(spending) == 1:
            answers = [await spending[0]]
        else:
            answers = await asyncio.gather(*spending, *self._claims(memory))
        spends, claims = answers[: len(spending)], answers[len(spending) :]
        claimed = all(claim.outcome == "ours" for claim in claims)
        # Under a ring of several keys a number is asked for under each; all but one know nothing of it.
        found = sorted((a for a in spends if a.outcome != "gone"), key=lambda answer: answer.outcome == "over")
        for surplus in found[1:] if claimed else found:
            if surplus.outcome == "spent":
                await self._settle(surplus, "undo", memory)
        if not found:
            return self._unchecked(application, "not_found", _NOT_FOUND)
        spent = found[0]
        if not claimed or spent.outcome == "conflict":
            return self._unchecked(application, "conflict", _CONFLICT)
        if spent.outcome == "locked":
            detail = "too many wrong codes for this number: let it rest until retry_after"
            return self._unchecked(application, "locked", _limited("wrong_checks", detail, spent.number))
        if spent.outcome != "spent":
            return self._checked(application, spent)
        charge = self._charge(spent.fields)
        right = await self._hasher.matches(
            spent.fields.raw("code") or b"",
            verification=spent.fields.text("id"),
            code=guess.code,
            transaction=guess.transaction.parts if guess.transaction else None,
        )
        if not right or charge is None:
            return self._checked(application, await self._settle(spent, "right" if right else "wrong", memory))
        # Credit is paid back on the way, and taken again where another check was faster.
        settle = _settling(spent, "right", memory, self._guard.number_rules(application.policy))
        settled, *paid = await self._store.together([settle, *self._guard.paying(charge, _channels(spent.fields))])
        if settled.outcome != "right" or settled.replayed:
            self._guard.unpay(paid)
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
        rules = self._guard.number_rules(application.policy)
        answer = await self._ask(application, "verification_feedback", verification, word, rules)
        self._used(answer.fields, converted)
        if (charge := self._charge(answer.fields)) is not None:
            await self._store.together(self._guard.paying(charge, _channels(answer.fields)))
        return self._acted(answer)

    # The steps that acts are made of.

    async def _act(
        self, application: Application, script: str, verification: str, *args: Field
    ) -> Verification | Refusal:
        return self._acted(await self._ask(application, script, verification, *args))

    async def _ask(self, application: Application, script: str, verification: str, *args: Field) -> Answer:
        tag = ids.tag_of(verification)
        if tag is None:
            return Answer([b"gone", 0])
        return await self._store.run(script, [tag + verification, f"{tag}due"], [application.name, *args])

    def _acted(self, answer: Answer) -> Verification | Refusal:
        if answer.outcome == "gone":
            return _NOT_FOUND
        found = self._noticed(answer)
        return _not_pending(found) if answer.outcome == "over" else found

    async def _resend(
        self, application: Application, verification: str, channel: str, plan: str, memory: Memory
    ) -> Answer:
        tag = ids.tag_of(verification) or ""
        key = tag + verification
        return await self._store.run(
            "verification_resend",
            [key, f"{tag}due", *memory.records(tag)],
            [
                application.name,
                LEASE_MS,
                application.resend_pauses,
                application.rates,
                channel,
                plan,
                memory.marks,
                idempotency.TTL_MS,
                self._store.not_after(key),
                self._guard.number_rules(application.policy),
            ],
        )

    def _claims(self, memory: Memory) -> list[Coroutine[None, None, Answer]]:
        """Whether an idempotency key came with this body from the first: answers `ours` or `conflict`."""
        return [self._store.run("idempotency_claim", [key], [mark, idempotency.TTL_MS]) for key, mark in memory.claims]

    async def _elder(self, application: Application, wanted: Start, memory: Memory) -> Answer:
        """What the older keys of the ring know of a create: its first answer, or the number's verification."""
        answer = _GONE
        for key in self._ring.keys[1:]:
            place = key.place(wanted.number.e164, self._shards)
            tag = ids.tag(place.shard)
            keys = [_pointer(tag, place, application), f"{tag}due", *memory.records(tag)]
            answer = await self._store.run("verification_find", keys, [_binding(key, wanted), memory.marks])
            if answer.outcome != "gone":
                break
        return answer

    def _subjects(self, application: Application, guess: Check) -> list[tuple[str, str]]:
        """The keys under which the verification of a guess may be, each with its tag."""
        if guess.number is None:
            tag = ids.tag_of(guess.id or "")
            return [] if tag is None else [(f"{tag}{guess.id}", tag)]
        places = [key.place(guess.number.e164, self._shards) for key in self._ring.keys]
        return [(_pointer(ids.tag(place.shard), place, application), ids.tag(place.shard)) for place in places]

    async def _spend(self, application: Application, subject: str, tag: str, memory: Memory) -> Answer:
        return await self._store.run(
            "check_spend",
            [subject, f"{tag}due", *memory.records(tag)],
            [application.name, application.wrong_checks_per_day, SETTLE_MS, memory.marks, idempotency.TTL_MS],
        )

    async def _settle(self, spent: Answer, verdict: str, memory: Memory) -> Answer:
        return await self._store.run(*_settling(spent, verdict, memory))

    async def _hear(self, application: Application, wanted: Start, step: Step) -> Heard:
        """What the guard says of the first send of a verification, or of one more by the same request."""
        number = wanted.number
        if number.e164 in application.test_numbers:
            return Heard()
        provider = next(route.provider for route in step.routes if route.serves(number.e164, number.country))
        return await self._guard.hear(
            Ask.of(application.policy, number, step.channel, wanted.signals, self._guard.prices, provider)
        )

    async def _hear_again(self, application: Application, verification: str, channel: Channel | None) -> Heard:
        """What the guard says of sending once more, over this channel or that of the next step."""
        tag = ids.tag_of(verification) or ""
        found = await self._store.run("verification_read", [tag + verification, f"{tag}due"], [application.name])
        charge = self._charge(found.fields)
        if charge is None:
            return Heard()
        steps = [step.partition(":")[0] for step in found.fields.text("plan").split()]
        at = found.fields.number("n")
        following = steps[(int(found.fields.text(f"d{at}").split(" ")[0]) + 1) % len(steps)]
        return await self._guard.hear_again(application.policy, charge, channel or following)

    async def _past(self, application: Application, wanted: Start, memory: Memory) -> Answer:
        """The first answer to the same request, if it came before."""
        if not memory.names:
            return _GONE
        place = self._ring.writer.place(wanted.number.e164, self._shards)
        tag = ids.tag(place.shard)
        keys = [_pointer(tag, place, application), f"{tag}due", *memory.records(tag)]
        found = await self._store.run("verification_find", keys, [_binding(self._ring.writer, wanted), memory.marks])
        return found if found.replayed or found.outcome == "conflict" else _GONE

    def _charge(self, fields: Fields) -> Charge | None:
        """What the guard charged for a verification, None where it was off."""
        sealed = fields.raw("guard")
        if sealed is None:
            return None
        return Charge.unpacked(self._ring.open(sealed, bound(fields.text("id"), "guard")), fields.text("country"))

    async def _begin(
        self,
        application: Application,
        wanted: Start,
        plan: str,
        memory: Memory,
        elder: Answer,
        heard: Heard,
    ) -> Answer:
        """Start a verification, or send for the one that is alive, where what is older did not answer already."""
        joining = plan if wanted.channels else ""
        if elder.outcome == "found":
            self._guard.commit(heard)
            elder = await self._resend(application, elder.fields.text("id"), "", joining, memory)
        if elder.outcome not in {"gone", "over", "other"}:
            return elder
        place = self._ring.writer.place(wanted.number.e164, self._shards)
        tag = ids.tag(place.shard)
        verification = ids.new(place.shard)
        keys = [tag + verification, _pointer(tag, place, application), f"{tag}rates:{place.hash}", f"{tag}due"]
        test = wanted.number.e164 in application.test_numbers
        counted = heard.decision.verdict == "allow" and not test
        fields = await self._fields(application, wanted, verification, place, plan, heard.charge)
        self._guard.commit(heard)
        answer = await self._store.run(
            "verification_start",
            [*keys, *memory.records(tag)],
            [
                application.name,
                LEASE_MS,
                application.resend_pauses,
                "" if test else application.rates,
                application.ttl * 1000,
                joining,
                memory.marks,
                idempotency.TTL_MS,
                self._store.not_after(keys[0]),
                _binding(self._ring.writer, wanted),
                self._guard.number_rules(application.policy) if counted else "",
                *fields,
            ],
        )
        if elder.outcome == "other" and answer.outcome == "started":
            await self._act(application, "verification_cancel", elder.fields.text("id"), "")
        return answer

    async def _fields(
        self,
        application: Application,
        wanted: Start,
        verification: str,
        place: Place,
        plan: str,
        charge: Charge | None,
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
            "locale": application.texts.locale(wanted.locale, number.country, application.locale),
            "plan": plan,
            "checks": application.checks,
            "sends": application.sends,
            "sent": 1,
            "to": key.seal(
                f"{number.masked} +{Prefixes.of(number.e164[1:]).range}".encode(), bound(verification, "to")
            ),
            "secret": key.seal(f"{number.e164}:{code}".encode(), bound(verification, "secret")),
            "code": await self._hasher.hash(verification=verification, code=code, transaction=transaction),
        }
        if wanted.code:
            fields["own"] = 1
        if test_code:
            fields["test"] = 1
        if application.events:
            fields["events"] = 1
        extra = {"app_hash": wanted.app_hash, "webotp_domain": wanted.webotp_domain, "email": wanted.email}
        if wanted.transaction:
            extra |= {"amount": wanted.transaction.amount, "payee": wanted.transaction.payee}
        if extra := {name: value for name, value in extra.items() if value}:
            fields["extra"] = key.seal(orjson.dumps(extra), bound(verification, "extra"))
        if charge is not None:
            fields["guard"] = key.seal(charge.packed(), bound(verification, "guard"))
        if wanted.metadata:
            fields["meta"] = key.seal(orjson.dumps(dict(wanted.metadata)), bound(verification, "meta"))
        return [part for item in fields.items() for part in item]

    # What answers mean to callers, and to those who count.

    def _started(self, application: Application, country: str, answer: Answer) -> Started | Refusal:
        if answer.outcome == "late":
            raise Unavailable("late")
        if answer.outcome not in {"started", "joined", "test"}:
            return self._refused(application, answer.fields.text("country") or country, self._not_started(answer))
        found = self._noticed(answer)
        if not answer.replayed:
            self._count(found, "started" if answer.outcome == "started" else "joined")
            if answer.outcome == "started":
                self._recent.note(found.application, "verifications", found.id)
            if not found.test:
                self._nudge(found.id)
        return Started(found, joined=answer.outcome != "started")

    def _not_started(self, answer: Answer) -> Refusal:
        name = answer.fields.text("id")
        match answer.outcome:
            case "gone":
                return _NOT_FOUND
            case "conflict":
                return _CONFLICT
            case "limited":
                if answer.detail == "guard":
                    return _limited("number", "this number has had its sends for now", answer.number, name)
                rate = from_key(answer.detail)
                return _limited(f"number {rate}", f"this number has had its {rate}", answer.number, name)
            case "wait":
                detail = "a code was sent just now: go on with the pending verification, or wait until resend_at"
                return _limited("resend", detail, answer.number, name)
            case "exhausted":
                detail = "every send of this verification is used: cancel it, or wait until it expires"
                return _limited("sends", detail, answer.number, name)
        found = self._noticed(answer)
        if answer.outcome == "channel":
            detail = f"this verification goes over {', '.join(found.cascade)} only"
            return Refusal(code="forbidden", detail=detail, id=found.id)
        return _not_pending(found)

    def _checked(self, application: Application, answer: Answer) -> Checked | Refusal:
        if answer.outcome == "gone":
            return self._unchecked(application, "not_found", _NOT_FOUND)
        found = self._noticed(answer)
        result = "replayed" if answer.replayed else answer.outcome
        self._metrics.check(application.name, f"test_{result}" if found.test else result).inc()
        if result == "right" and not found.test:
            self._metrics.approve_seconds(application.name).observe(answer.number / 1000)
            self._used(answer.fields, True)
        return Checked(found, valid=answer.outcome == "right")

    def _noticed(self, answer: Answer) -> Verification:
        """The verification in an answer, counting what this act brought about."""
        if not answer.replayed:
            self._tally.count(answer.fields)
        return read(answer.fields, self._ring)

    def _count(self, found: Verification, result: str) -> None:
        name = f"test_{result}" if found.test else result
        self._metrics.verification(found.application, found.country, name).inc()

    async def _turned_away(self, application: Application, wanted: Start, refusal: Refusal) -> Refusal:
        """What the guard refused, which has no verification that could tell of it."""
        if refusal.code == "blocked":
            await self._blocked(application, wanted, refusal)
        return self._refused(application, wanted.number.country, refusal)

    def _refused(self, application: Application, country: str, refusal: Refusal) -> Refusal:
        self._metrics.verification(application.name, country, refusal.code).inc()
        return refusal

    def _unchecked(self, application: Application, result: str, refusal: Refusal) -> Refusal:
        self._metrics.check(application.name, result).inc()
        return refusal


_GONE = Answer([b"gone", 0])
_CONFLICT = Refusal(code="idempotency_conflict", detail="this Idempotency-Key came before with another body")
_NOT_FOUND = Refusal(code="not_found", detail="this application has no such verification, or no longer")


def _not_pending(found: Verification) -> Refusal:
    return Refusal(code="not_pending", detail=f"the verification is {found.status}", id=found.id, status=found.status)


def _limited(limit: str, detail: str, wait_ms: int, pending: str = "") -> Refusal:
    wait = max(1, wait_ms) / 1000
    return Refusal(code="rate_limited", detail=detail, limit=limit, retry_after=wait, id=pending or None)


def _blocked(heard: Heard) -> Refusal:
    """What the guard's refusal is to the caller."""
    decision = heard.decision
    if decision.limited is not None:
        limit = decision.limited
        return _limited(limit.what, limit.detail, limit.wait or 0)
    return Refusal(
        code="challenge_required" if decision.verdict == "challenge" else "blocked",
        detail=decision.reasons[0].detail,
        retry_after=decision.retry_after,
        reasons=decision.reasons,
        decision=heard.name,
    )


def _settling(spent: Answer, verdict: str, memory: Memory, rules: bytes = b"") -> Act:
    """The act that settles an attempt; `rules` are the guard's for numbers, empty where it is off."""
    verification = spent.fields.text("id")
    tag = ids.tag_of(verification) or ""
    keys = [tag + verification, f"{tag}due", *memory.records(tag)]
    return Act("check_settle", keys, [verdict, memory.marks, idempotency.TTL_MS, rules])


def _channels(fields: Fields) -> list[str]:
    """The channels that a verification was sent over, one for each send."""
    return [fields.channel(n) for n in range(fields.number("n") + 1)]


def _plan(application: Application, wanted: Start) -> tuple[Step, ...] | Refusal:
    """The steps for what is wanted, or why there are none."""
    number = wanted.number
    test = number.e164 in application.test_numbers
    cascade = application.cascade_for(number.e164)
    asked = wanted.channels
    if wanted.code is not None and not application.own_code:
        return Refusal(code="forbidden", detail="`code`: this application may not choose its own codes")
    if application.countries is not None and number.country not in application.countries and not test:
        return Refusal(code="forbidden", detail=f"`to`: {number.country} is not among this application's countries")
    if strange := [channel for channel in asked if channel not in cascade.channels]:
        have = ", ".join(cascade.channels)
        return Refusal(code="forbidden", detail=f"{', '.join(strange)}: this application sends over {have} only")
    reached = frozenset(Channel) if test else reach(number.kind, application.allow_types)
    reached = reached if wanted.email else reached - {Channel.EMAIL}
    plan = cascade.plan(number.e164, number.country, reached, asked or None)
    if not plan:
        kind = number.kind.replace("_", " ")
        return Refusal(code="invalid_number", detail=f"`to`: no step of the cascade reaches a number of type {kind}")
    return plan


def _binding(key: Key, wanted: Start) -> str:
    """What a pending verification must share with a new one for the new one to join it: own code, transaction."""
    if wanted.code is None and wanted.transaction is None:
        return ""
    parts = (wanted.number.e164, wanted.code or "", *(wanted.transaction.parts if wanted.transaction else ()))
    return key.fingerprint(b"binding", *(part.encode() for part in parts))


def _pointer(tag: str, place: Place, application: Application) -> str:
    return f"{tag}number:{place.hash}:{application.name}"
