"""Deliveries: what a worker does with a verification whose time has come, and what receipts do to it.

A run of a job is: begin (Redis says what is to be done and marks it), send, record (Redis decides what follows). It
may be run twice: a delivery that a dead worker left in `sending` is sent again under the same name, with the same code.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from service import ids
from service.answer import Answer, Fields
from service.application import Application
from service.cascade import NOBODY, Move, Next, after_rejection, pointless, provider_for
from service.circuit import Circuits
from service.door import Door
from service.errors import ConfigError, Forged, Malformed
from service.guard.charge import Charge
from service.guard.live import Guard
from service.metrics import Metrics
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    Message,
    Provider,
    Receipt,
    Rejected,
    ReportsByMessageId,
    Request,
    ShakesHands,
    Status,
    Subscribes,
    TakesFeedback,
    Webhook,
)
from service.record import bound, moment
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Store
from service.tally import Tally
from service.tracing import OFF, Tracing
from service.waits import Waits

logger = logging.getLogger(__name__)

MESSAGE_TTL_MS = 48 * 3600 * 1000
"""How long a message is known by its provider's id: twice the longest life of a verification."""
EARLY_MS = 60_000
"""How long a receipt waits for the answer to its send."""
MOST_AT_ONCE = 64
"""Sends that one provider may have under way from here; what comes on top waits as if the provider had said 429."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A delivery that a token names, and where it is."""

    delivery: str
    verification: str
    n: int
    tag: str


class Deliveries:
    """Runs jobs and takes receipts. `receipts_url` is where providers reach us, without a slash at its end."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        door: Door,
        metrics: Metrics,
        tally: Tally,
        circuits: Circuits,
        waits: Waits,
        *,
        applications: Mapping[str, Application],
        providers: Mapping[str, Provider],
        receipts_url: str,
        guard: Guard,
        tracing: Tracing = OFF,
    ) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._metrics = metrics
        self._tally = tally
        self._circuits = circuits
        self._waits = waits
        self._applications = applications
        self._providers = providers
        self._receipts_url = receipts_url
        self._guard = guard
        self._tracing = tracing
        self._under_way: Counter[str] = Counter()
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self, verification: str) -> float | None:
        """Do what is due for a verification; the seconds until it is due again, None when nothing is left."""
        tag = ids.tag_of(verification)
        if tag is None:
            return None
        keys = [tag + verification, f"{tag}due"]
        while True:
            begun = await self._store.run("delivery_begin", keys, [LEASE_MS, verification])
            self._tally.count(begun.fields)
            if begun.outcome != "deliver":
                return begun.number / 1000 if begun.outcome == "idle" else None
            recorded = await self._deliver(keys, verification, begun.number, begun.fields)
            self._tally.count(recorded.fields)
            if recorded.outcome != "next":
                return recorded.number / 1000 if recorded.outcome == "idle" else None

    async def _deliver(self, keys: list[str], verification: str, n: int, fields: Fields) -> Answer:
        """Send one delivery and record what came of it."""
        channel = Channel(fields.channel(n))
        number, code = self._secret(fields)
        application = self._applications.get(fields.text("app"))
        if application is None:
            # This replica is older or newer than the one that began: one that knows the application will come by.
            raise ConfigError([(f"applications.{fields.text('app')}", "not configured here")])
        listed = application.cascade_for(number).providers(channel, number, fields.text("country"), verification)
        attempt = fields.number("try") - 1
        name, providers = await self._choose(listed, channel, attempt)
        charge = self._guard.charge(fields)
        # Nobody is left in the configuration, or nobody may be called.
        outcome: Accepted | Rejected = Rejected("provider_error" if listed else "route")
        if name and not await self._may_send(application, channel, name, fields, charge):
            outcome = Rejected("guard")
        elif name:
            message = self._message(application, f"{verification}.{n}", channel, name, number, code, fields)
            # A verification that was started without an address may be joined by a request that has one.
            unaddressed = channel is Channel.EMAIL and not message.email
            outcome = Rejected("request") if unaddressed else await self._send(name, message)
        match outcome:
            case Accepted(message_id):
                status, reason, move = Status.ACCEPTED, "", Move(Next.WAIT)
                price = self._guard.prices.price(fields.text("country"), channel, name)
                self._tally.sent(fields, channel, name, price)
            case Rejected(reason, retry_after):
                message_id, status = "", Status.REJECTED
                stuck = listed and not name
                move = NOBODY if stuck else after_rejection(reason, providers, attempt, retry_after)
                if charge is not None and move.next is Next.ADVANCE and reason != "guard":
                    self._guard.relieve(charge, n, channel)
        self._tell("delivery", verification, n, channel, name or "-", fields.text("country"), status, reason)
        mark = self._ring.writer.fingerprint(b"message", message_id.encode()) if message_id else ""
        recorded = self._store.run(
            "delivery_record",
            keys,
            [
                n,
                name or "-",
                status,
                reason,
                mark,
                message_id[:128] if isinstance(self._providers.get(name), TakesFeedback) else "",
                move.next,
                round(move.delay * 1000),
                " ".join(sorted(move.pointless)),
                LEASE_MS,
            ],
        )
        noted = self._circuits.note(name, channel, reason) if name else _nothing()
        if not mark or not isinstance(self._providers[name], ReportsByMessageId):
            answer, _ = await asyncio.gather(recorded, noted)
            return answer
        kept = self._store.rows("message_keep", [_message(mark, name)], [f"{verification}.{n}", MESSAGE_TTL_MS])
        answer, _, early = await asyncio.gather(recorded, noted, kept)
        for receipt in early:
            word, reason = receipt.decode().split(" ")
            found = _Named(f"{verification}.{n}", verification, n, ids.tag_of(verification) or "")
            taken = await self._take(found, name, Receipt(Status(word), reason if reason != "-" else None))
            answer = taken if taken.outcome == "next" else answer
        return answer

    async def _choose(self, listed: Sequence[str], channel: Channel, attempt: int) -> tuple[str, int]:
        """The provider for an attempt, and out of how many: those listed that may be called; empty for none."""
        left = list(listed)
        while left:
            name = provider_for(left, attempt)
            if await self._circuits.admits(name, channel):
                return name, len(left)
            left.remove(name)
        return "", 0

    async def _may_send(
        self,
        application: Application,
        channel: Channel,
        provider: str,
        fields: Fields,
        charge: Charge | None,
    ) -> bool:
        """Ask the guard about a step that nobody asked for; what was asked for it has allowed already."""
        if charge is None or not fields.text("ask") or application.policy.mode == "off":
            return True
        heard = await self._guard.hear_again(application.policy, charge, channel, provider)
        self._guard.commit(heard)
        return not heard.refused

    async def _send(self, name: str, message: Message) -> Accepted | Rejected:
        if self._under_way[name] >= MOST_AT_ONCE:
            return Rejected("rate_limited")
        self._under_way[name] += 1
        try:
            return await self._door.send(self._providers[name], message, self._store.now())
        except Exception:  # a defect is a rejection: without a record the message would go out again and again
            fields = {"verification": message.delivery.partition(".")[0], "provider": name}
            logger.exception("a provider's adapter failed", extra={"fields": fields})
            return Rejected("unknown")
        finally:
            self._under_way[name] -= 1

    def _secret(self, fields: Fields) -> tuple[str, str]:
        """The number and the code."""
        sealed = fields.raw("secret") or b""
        number, _, code = self._ring.open(sealed, bound(fields.text("id"), "secret")).decode().partition(":")
        return number, code

    def _message(
        self,
        application: Application,
        delivery: str,
        channel: Channel,
        provider: str,
        number: str,
        code: str,
        fields: Fields,
    ) -> Message:
        sealed = fields.raw("extra")
        extra = orjson.loads(self._ring.open(sealed, bound(fields.text("id"), "extra"))) if sealed else {}
        email = extra.pop("email", "")
        expires = fields.number("expires")
        text = application.texts.render(
            channel,
            fields.text("purpose"),
            fields.text("locale"),
            code=code,
            brand=application.brand,
            minutes=max(1, math.ceil((expires - fields.number("now")) / 60_000)),
            **extra,
        )
        token = f"{delivery}.{self._ring.writer.token(delivery, provider)}"
        return Message(
            delivery=delivery,
            channel=channel,
            to=number,
            text=text,
            code=code,
            locale=fields.text("locale"),
            application=application.name,
            brand=application.brand,
            purpose=fields.text("purpose"),
            expires_at=moment(expires),
            receipt_url=f"{self._receipts_url}/receipts/{provider}/{token}",
            email=email,
        )

    def used(self, fields: Fields, converted: bool) -> None:
        """Tell the providers that want to know of it whether a code of theirs was used; nothing waits for it."""
        requests: list[Request] = []
        for n in [n for n in range(fields.number("n") + 1) if fields.text(f"f{n}")]:
            name = fields.text(f"d{n}").split(" ")[2]
            provider: object = self._providers.get(name)
            if not isinstance(provider, TakesFeedback):
                continue
            try:
                to = self._secret(fields)[0] if fields.raw("secret") else ""
                feedback = Feedback(fields.text(f"f{n}"), Channel(fields.channel(n)), to, converted)
                request = provider.feedback(feedback, self._store.now())
            except Exception:  # a defect of an adapter must not spoil an approval
                logger.exception("a provider's adapter failed", extra={"fields": {"provider": name}})
                continue
            # One that asks for the number alone would hear the same of each delivery.
            if request is not None and request not in requests:
                requests.append(request)
        for request in requests[: MOST_AT_ONCE - len(self._telling)]:
            task = asyncio.get_running_loop().create_task(self._tell_use(request))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_use(self, request: Request) -> None:
        try:
            await self._door.tell(request)
        except Exception:  # nobody waits for this: else it would be asyncio that tells of it, and `stop` that fails
            logger.exception("a provider could not be told")

    async def stop(self) -> None:
        """Let what is being told be told, for as long as the door allows."""
        await asyncio.gather(*self._telling)

    def knows(self, provider: str) -> bool:
        """Whether a provider of this name is configured."""
        return provider in self._providers

    def handshake(self, provider: str, token: str | None, webhook: Webhook) -> bytes | None:
        """What a provider that asks something at this address is answered, if it does; raises Forged, Malformed."""
        adapter = self._adapter(provider)
        self._admit(provider, token)
        return adapter.handshake(webhook) if isinstance(adapter, ShakesHands) else None

    async def receive(self, provider: str, token: str | None, webhook: Webhook) -> list[str]:
        """Take the receipts in a webhook that came for the delivery of `token`, or for those that its body names.

        Returns the verifications that have work to do now, each leased to this process. Raises Forged, Malformed,
        Unavailable.
        """
        adapter = self._adapter(provider)
        named = self._admit(provider, token)
        if isinstance(adapter, Subscribes) and (asked := adapter.confirmation(webhook, self._store.now())) is not None:
            confirmed = await self._door.tell(asked)
            logger.info("subscription", extra={"fields": {"provider": provider, "confirmed": confirmed}})
            return []
        receipts = adapter.receipts(webhook, self._store.now())
        if named is not None and any(one.delivery not in {None, named.delivery, token} for one in receipts):
            raise Malformed("the receipt is about another delivery")
        return await self.reported(provider, receipts, named)

    async def reported(self, provider: str, receipts: Sequence[Receipt], named: _Named | None = None) -> list[str]:
        """Take receipts that are known to come from this provider, for the delivery `named` or that each names.

        Returns the verifications that have work to do now, each leased to this process. Raises Unavailable.
        """
        taken = await asyncio.gather(*[self._place(provider, receipt, named) for receipt in receipts])
        return [one for one in taken if one is not None]

    async def _place(self, provider: str, receipt: Receipt, named: _Named | None) -> str | None:
        """Take a receipt; the verification that has work to do after it, if it does."""
        one = named or self._named(receipt.delivery or "", provider)
        if one is None and receipt.message_id and isinstance(self._providers[provider], ReportsByMessageId):
            one = await self._looked_up(provider, receipt)
        if one is None:
            return None  # an address for a whole account hears of messages that are none of ours
        answer = await self._take(one, provider, receipt)
        return one.verification if answer.outcome == "next" else None

    async def _looked_up(self, provider: str, receipt: Receipt) -> _Named | None:
        """Whose delivery a receipt is about, by its message id; one that came too early waits under the first key."""
        marks = self._marks(receipt.message_id).split(" ")
        said = f"{receipt.status} {_known(receipt.reason) or '-'}"
        found = await asyncio.gather(
            *[
                self._store.rows("message_find", [_message(mark, provider)], [said, 0 if index else EARLY_MS])
                for index, mark in enumerate(marks)
            ]
        )
        delivery = next((answer[0].decode() for answer in found if answer), "")
        verification, _, n = delivery.partition(".")
        tag = ids.tag_of(verification)
        return None if tag is None else _Named(delivery, verification, int(n), tag)

    def _adapter(self, provider: str) -> Provider:
        try:
            return self._providers[provider]
        except KeyError:
            raise Forged("no such provider is configured") from None

    def _admit(self, provider: str, token: str | None) -> _Named | None:
        """What the token of a path names, None for a path without one; raises Forged."""
        named = None if token is None else self._named(token, provider)
        if token is not None and named is None:
            raise Forged("the token in the path is not one that this service gave out")
        return named

    def _named(self, token: str, provider: str) -> _Named | None:
        """What a token names; None unless this service gave it out for this provider."""
        delivery, _, mac = token.rpartition(".")
        verification, _, n = delivery.partition(".")
        tag = ids.tag_of(verification)
        if tag is None or not (n.isascii() and n.isdecimal()) or not self._ring.vouches(mac, delivery, provider):
            return None
        return _Named(delivery, verification, int(n), tag)

    async def _take(self, named: _Named, provider: str, receipt: Receipt) -> Answer:
        tag, verification, n = named.tag, named.verification, named.n
        reason = _known(receipt.reason)
        useless = pointless(reason) if receipt.status is Status.FAILED else frozenset()
        answer = await self._store.run(
            "delivery_receipt",
            [tag + verification, f"{tag}due"],
            [n, provider, receipt.status, reason, " ".join(sorted(useless)), LEASE_MS, self._marks(receipt.message_id)],
        )
        self._tally.count(answer.fields)
        if answer.outcome in {"moved", "next"}:
            channel, country = answer.fields.channel(n), answer.fields.text("country")
            self._tell("receipt", verification, n, channel, provider, country, receipt.status, reason)
            self._metrics.receipt_seconds(provider, channel).observe(answer.number / 1000)
            if receipt.status is Status.FAILED and (charge := self._guard.charge(answer.fields)) is not None:
                self._guard.relieve(charge, n, channel)
            if receipt.status is Status.DELIVERED:
                await self._waits.note(provider, Channel(channel), country, answer.number)
        return answer

    def _marks(self, message_id: str) -> str:
        """What a message id may have been recorded as: its fingerprint under each key of the ring."""
        marks = (key.fingerprint(b"message", message_id.encode()) for key in self._ring.keys if message_id)
        return " ".join(marks)

    def _tell(
        self, what: str, verification: str, n: int, channel: str, provider: str, country: str, status: str, reason: str
    ) -> None:
        """Count, log and trace a step of a delivery."""
        self._metrics.delivery(provider, channel, country, status, reason).inc()
        fields = {"verification": verification, "n": n, "channel": channel, "provider": provider}
        fields |= {"status": status, "reason": reason or None}
        logger.info(what, extra={"fields": fields})
        self._tracing.event(what, fields)


async def _nothing() -> None:
    """Nothing is to be noted."""


def _message(mark: str, provider: str) -> str:
    return f"{{m:{mark}}}:{provider}"


def _known(reason: str | None) -> str:
    """A reason as it is kept: one of `REASONS`, empty for none."""
    return "" if reason is None else reason if reason in REASONS else "unknown"
