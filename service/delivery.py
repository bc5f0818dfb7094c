"""Deliveries: what a worker does with a verification whose time has come.

A run of a job is: begin (Redis says what is to be done and marks it), send, record (Redis decides what follows). It
may be run twice: a delivery that a dead worker left in `sending` is sent again under the same name, with the same code.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from service import ids
from service.answer import Answer, Fields
from service.application import Application
from service.cascade import NOBODY, Move, Next, after_rejection, in_turn, refusal
from service.circuit import Admission, Circuits
from service.door import Door
from service.errors import ConfigError
from service.guard.charge import Charge
from service.guard.live import Guard
from service.ids import DeliveryId
from service.provider import (
    Accepted,
    Channel,
    Message,
    Provider,
    Rejected,
    ReportsByMessageId,
    Status,
    TakesFeedback,
)
from service.receipts import Receipts
from service.record import moment, opened, secret
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Store
from service.tally import Tally

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 64
"""Sends that one provider may have under way from here; what comes on top waits as if the provider had said 429."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A delivery that is to be sent now: what `fields` say of it, and to whom it goes."""

    id: DeliveryId
    fields: Fields
    application: Application
    channel: Channel
    number: str = field(repr=False)
    code: str = field(repr=False)
    extra: Mapping[str, str] = field(repr=False)
    """What else the text needs."""
    email: str = field(repr=False)

    @property
    def country(self) -> str:
        """The number's country."""
        return self.fields.text("country")

    @property
    def left(self) -> float:
        """The seconds that its step still waits."""
        return (self.fields.number("until") - self.fields.number("now")) / 1000

    @property
    def refusals(self) -> list[str]:
        """Who refused in its step before, as the cascade reads it."""
        return self.fields.text("asked").split()


class Deliveries:
    """Runs jobs."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        door: Door,
        guard: Guard,
        receipts: Receipts,
        circuits: Circuits,
        tally: Tally,
        *,
        applications: Mapping[str, Application],
        providers: Mapping[str, Provider],
    ) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._guard = guard
        self._receipts = receipts
        self._circuits = circuits
        self._tally = tally
        self._applications = applications
        self._providers = providers
        self._under_way: Counter[str] = Counter()

    async def run(self, verification: str) -> float | None:
        """Do what is due for a verification; the seconds until it is due again, None when nothing is left."""
        tag = ids.tag_of(verification)
        if tag is None:
            return None
        while True:
            begun = await self._store.run("delivery_begin", [tag + verification, f"{tag}due"], [LEASE_MS, verification])
            self._tally.count(begun.fields)
            if begun.outcome != "deliver":
                return begun.number / 1000 if begun.outcome == "idle" else None
            recorded = await self._deliver(self._due(DeliveryId(verification, begun.number, tag), begun.fields))
            self._tally.count(recorded.fields)
            if recorded.outcome != "next":
                return recorded.number / 1000 if recorded.outcome == "idle" else None

    def _due(self, delivery: DeliveryId, fields: Fields) -> _Due:
        number, code = secret(self._ring, fields)
        application = self._applications.get(fields.text("app"))
        if application is None:
            # This replica is older or newer than the one that began: one that knows the application will come by.
            raise ConfigError([(f"applications.{fields.text('app')}", "not configured here")])
        extra = orjson.loads(opened(self._ring, fields, "extra") or b"{}")
        email = extra.pop("email", "")
        return _Due(delivery, fields, application, Channel(fields.channel(delivery.n)), number, code, extra, email)

    async def _deliver(self, due: _Due) -> Answer:
        """Send one delivery and record what came of it."""
        cascade = due.application.cascade_for(due.number)
        listed = cascade.providers(due.channel, due.number, due.country, due.id.verification)
        name, left, admission = await self._choose(in_turn(listed, due.refusals), due.channel)
        charge = self._guard.charge(due.fields)
        outcome: Accepted | Rejected
        if not name:
            # Nobody is left in the configuration, or nobody may be called.
            outcome = Rejected("provider_error" if listed else "route")
        elif unasked := await self._unasked(due, name, charge):
            outcome, admission = Rejected(unasked), Admission.NONE
        else:
            outcome = await self._send(due, name)
        match outcome:
            case Accepted():
                move = Move(Next.WAIT)
                price = self._guard.prices.price(due.country, due.channel, name)
                self._tally.sent(due.fields, due.channel, name, price)
            case Rejected(reason, retry_after):
                stuck = listed and not name
                attempt = sum(due.refusals.count(one) for one in left)
                move = NOBODY if stuck else after_rejection(reason, len(left), attempt, retry_after)
                if charge is not None and move.next is Next.ADVANCE and reason != "guard":
                    self._guard.relieve(charge, due.id.n, due.channel)
        return await self._record(due, name, outcome, move, admission)

    async def _choose(self, turns: Sequence[str], channel: Channel) -> tuple[str, Sequence[str], Admission]:
        """The first in turn that may be called, those among whom it was, and as what; an empty name for none."""
        for skipped, name in enumerate(turns):
            if admission := await self._circuits.admits(name, channel):
                return name, turns[skipped:], admission
        return "", [], Admission.NONE

    async def _unasked(self, due: _Due, name: str, charge: Charge | None) -> str:
        """Why a provider is not even asked to carry a message; empty when it is."""
        if not await self._may_send(due, name, charge):
            return "guard"
        if due.channel is Channel.EMAIL and not due.email:
            return "request"  # started without an address, and joined by a request that has one
        return "rate_limited" if self._under_way[name] >= MOST_AT_ONCE else ""

    async def _may_send(self, due: _Due, name: str, charge: Charge | None) -> bool:
        """Ask the guard about a step that nobody asked for; what was asked for it has allowed already."""
        policy = due.application.policy
        if charge is None or not due.fields.text("ask") or policy.mode == "off":
            return True
        heard = await self._guard.hear_again(policy, charge, due.channel, name)
        self._guard.commit(heard)
        return not heard.refused

    async def _send(self, due: _Due, name: str) -> Accepted | Rejected:
        self._under_way[name] += 1
        try:
            return await self._door.send(self._providers[name], self._message(due, name), self._store.now(), due.left)
        except Exception:  # a defect is a rejection: without a record the message would go out again and again
            logger.exception(
                "a provider's adapter failed", extra={"fields": {"verification": due.id.verification, "provider": name}}
            )
            return Rejected("unknown")
        finally:
            self._under_way[name] -= 1

    def _message(self, due: _Due, provider: str) -> Message:
        application, fields = due.application, due.fields
        expires = fields.number("expires")
        text = application.texts.render(
            due.channel,
            fields.text("purpose"),
            fields.text("locale"),
            code=due.code,
            brand=application.brand,
            minutes=max(1, math.ceil((expires - fields.number("now")) / 60_000)),
            **due.extra,
        )
        return Message(
            delivery=str(due.id),
            channel=due.channel,
            to=due.number,
            text=text,
            code=due.code,
            locale=fields.text("locale"),
            application=application.name,
            brand=application.brand,
            purpose=fields.text("purpose"),
            expires_at=moment(expires),
            receipt_url=self._receipts.address(due.id, provider),
            email=due.email,
        )

    async def _record(
        self, due: _Due, name: str, outcome: Accepted | Rejected, move: Move, admission: Admission
    ) -> Answer:
        match outcome:
            case Accepted(message_id):
                status, reason = Status.ACCEPTED, ""
            case Rejected() if move.next is Next.WAIT:
                status, reason, message_id = Status.ACCEPTED, "", ""
            case Rejected(reason):
                status, message_id = Status.REJECTED, ""
        self._tally.tried(due.fields, due.id.n, name or "-", status, reason)
        mark = self._receipts.mark(message_id)
        recorded = self._store.run(
            "delivery_record",
            due.id.keys,
            [
                due.id.n,
                name or "-",
                status,
                reason,
                mark,
                message_id[:128] if isinstance(self._providers.get(name), TakesFeedback) else "",
                move.next,
                round(move.delay * 1000),
                " ".join(sorted(move.pointless)),
                LEASE_MS,
                refusal(name, reason) if name and reason else "",
            ],
        )
        noted = self._circuits.note(name, due.channel, reason, admission) if admission else _nothing()
        if not mark or not isinstance(self._providers[name], ReportsByMessageId):
            answer, _ = await asyncio.gather(recorded, noted)
            return answer
        answer, _, early = await asyncio.gather(recorded, noted, self._receipts.expect(mark, due.id, name))
        for receipt in early:
            taken = await self._receipts.take(due.id, name, receipt)
            answer = taken if taken.outcome == "next" else answer
        return answer


async def _nothing() -> None:
    """Nothing is to be noted."""
