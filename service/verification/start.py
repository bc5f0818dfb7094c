"""A verification starts, or its code is sent again: what costs money, so the guard is asked first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from service import ids
from service.answer import Answer
from service.application import Application
from service.cascade import Step
from service.errors import Unavailable
from service.guard.ask import Ask
from service.guard.live import Guard, Heard
from service.idempotency import TTL_MS, Memory
from service.optout import OptOuts
from service.provider import Channel
from service.requests import Refusal, Start, Started
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Store
from service.tally import Tally
from service.verification.draft import Drafts
from service.verification.lookup import GONE, Lookup, pointer
from service.verification.plan import plan
from service.verification.refusals import CONFLICT, NOT_FOUND, guarded, not_pending, other_channels, unsent, waiting


class Starts:
    """Starts verifications, and sends again for those that are alive.

    `nudge` tells the schedule of a job that was leased for it, `blocked` the application of what the guard refused.
    """

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        guard: Guard,
        lookup: Lookup,
        drafts: Drafts,
        optouts: OptOuts,
        tally: Tally,
        *,
        nudge: Callable[[str], None],
        blocked: Callable[[Application, Start, Refusal], Awaitable[None]],
    ) -> None:
        self._store = store
        self._ring = ring
        self._guard = guard
        self._lookup = lookup
        self._drafts = drafts
        self._optouts = optouts
        self._tally = tally
        self._nudge = nudge
        self._blocked = blocked

    async def start(self, application: Application, wanted: Start) -> Started | Refusal:
        """Start a verification, or send again for the one that is alive; raises Unavailable."""
        number = wanted.number
        steps = plan(application, wanted)
        if isinstance(steps, Refusal):
            return self._refused(application, number.country, steps)
        written = self._drafts.plan(steps, number)
        memory = Memory.of(self._ring, application.name, "create", wanted.idempotency)
        hearing = self._hear(application, wanted, steps[0], memory)
        if memory.names or len(self._ring.keys) > 1:
            heard, elder, claims, _ = await asyncio.gather(
                hearing,
                self._lookup.elder(application, wanted, memory),
                self._store.together(memory.claims),
                self._optouts.carry(number.e164),
            )
        else:
            heard, elder, claims = await hearing, GONE, []
        if any(claim.outcome == "conflict" for claim in claims):
            self._guard.drop(heard)
            return self._refused(application, number.country, CONFLICT)
        if heard.refused:
            # What was answered before is answered again, whatever is thought of it now.
            past = heard.beside if heard.beside and not elder.replayed else elder
            past = elder if past.outcome == "gone" else past
            if past.outcome == "found" and past.number > 0:
                # Nothing would be sent anyway: who asks twice in a moment goes on with the code that is out.
                return self._refused(application, number.country, waiting(past.fields.text("id"), past.number))
            if past.outcome in {"gone", "found", "other"}:
                return await self._turned_away(application, wanted, guarded(heard))
            return self._started(application, number.country, past)
        answer = await self._begin(application, wanted, written, memory, elder, heard)
        if answer.outcome not in {"started", "joined"} or answer.replayed:
            self._guard.give_back(heard)
        return self._started(application, number.country, answer)

    async def resend(self, application: Application, verification: str, channel: Channel | None) -> Started | Refusal:
        """Send the same code again, on `channel` or the next of the cascade; raises Unavailable."""
        if ids.tag_of(verification) is None:
            return NOT_FOUND
        heard = await self._hear_again(application, verification, channel)
        if heard.refused:
            tag = ids.tag_of(verification) or ""
            found = await self._store.run("verification_read", [tag + verification, f"{tag}due"], [application.name])
            wait = found.fields.number("resend") - round(self._store.clock() * 1000)
            refusal = waiting(verification, wait) if wait > 0 else guarded(heard)
            return self._refused(application, heard.decision.country, refusal)
        self._guard.commit(heard)
        answer = await self._resend(application, verification, channel or "", "", Memory())
        if answer.outcome != "joined":
            self._guard.give_back(heard)
        return self._started(application, "", answer)

    async def _hear(self, application: Application, wanted: Start, step: Step, memory: Memory) -> Heard:
        """What the guard says of the first send of a verification, or of one more by the same request."""
        number = wanted.number
        if number.e164 in application.test_numbers:
            return Heard()
        provider = next(route.provider for route in step.routes if route.serves(number.e164, number.country))
        return await self._guard.hear(
            Ask.of(application.policy, number, step.channel, wanted.signals, self._guard.prices, provider),
            beside=lambda: self._lookup.finding(application, wanted, memory),
        )

    async def _hear_again(self, application: Application, verification: str, channel: Channel | None) -> Heard:
        """What the guard says of sending once more, over this channel or that of the next step."""
        if application.policy.mode == "off":
            return Heard()
        tag = ids.tag_of(verification) or ""
        found = await self._store.run("verification_read", [tag + verification, f"{tag}due"], [application.name])
        charge = self._guard.charge(found.fields)
        if charge is None:
            return Heard()
        steps = [step.partition(":")[0] for step in found.fields.text("plan").split()]
        at = found.fields.number("n")
        following = steps[(int(found.fields.text(f"d{at}").split(" ")[0]) + 1) % len(steps)]
        return await self._guard.hear_again(application.policy, charge, channel or following, requested=True)

    async def _begin(
        self, application: Application, wanted: Start, plan: str, memory: Memory, elder: Answer, heard: Heard
    ) -> Answer:
        """Start a verification, or send for the one that is alive, where what is older did not answer already."""
        joining = plan if wanted.channels else ""
        if elder.outcome == "found":
            self._guard.commit(heard)
            elder = await self._resend(application, elder.fields.text("id"), "", joining, memory)
        if elder.outcome not in {"gone", "over", "other"}:
            return elder
        place = self._lookup.place(wanted.number)
        verification, fields = await self._drafts.draft(application, wanted, place, plan, heard.charge)
        tag, key = place.tag, place.tag + verification
        test = wanted.number.e164 in application.test_numbers
        counted = heard.decision.verdict == "allow" and not test
        self._guard.commit(heard)
        answer = await self._store.run(
            "verification_start",
            [key, pointer(application, place), place.key("rates"), f"{tag}due", *memory.records(tag)],
            [
                application.name,
                LEASE_MS,
                application.resend_pauses,
                "" if test else application.rates,
                application.ttl * 1000,
                joining,
                memory.marks,
                TTL_MS,
                self._store.not_after(key),
                wanted.binding(self._ring.writer),
                self._guard.number_rules(application.policy) if counted else "",
                *fields,
            ],
        )
        if elder.outcome == "other" and answer.outcome == "started":
            await self._end(application, elder.fields.text("id"))
        return answer

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
                TTL_MS,
                self._store.not_after(key),
                self._guard.number_rules(application.policy),
            ],
        )

    async def _end(self, application: Application, verification: str) -> None:
        """Cancel what was pending for the number under an older key, for another code or transaction."""
        tag = ids.tag_of(verification) or ""
        ended = await self._store.run("verification_cancel", [tag + verification, f"{tag}due"], [application.name, ""])
        self._tally.count(ended.fields)

    def _started(self, application: Application, country: str, answer: Answer) -> Started | Refusal:
        if answer.outcome == "late":
            raise Unavailable("late")
        if answer.outcome not in {"started", "joined", "test"}:
            return self._refused(application, answer.fields.text("country") or country, self._not_started(answer))
        found = self._tally.noticed(answer)
        joined = answer.outcome != "started"
        if not answer.replayed:
            self._tally.started(found, joined=joined)
            if not found.test:
                self._nudge(found.id)
        return Started(found, joined)

    def _not_started(self, answer: Answer) -> Refusal:
        if (refusal := unsent(answer)) is not None:
            return refusal
        found = self._tally.noticed(answer)
        return other_channels(found) if answer.outcome == "channel" else not_pending(found)

    async def _turned_away(self, application: Application, wanted: Start, refusal: Refusal) -> Refusal:
        """What the guard refused, which has no verification that could tell of it."""
        if refusal.code == "blocked":
            await self._blocked(application, wanted, refusal)
        return self._refused(application, wanted.number.country, refusal)

    def _refused(self, application: Application, country: str, refusal: Refusal) -> Refusal:
        self._tally.refused(application.name, country, refusal.code)
        return refusal
