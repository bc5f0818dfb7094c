"""Deliveries: what a worker does with a verification whose time has come, and what receipts do to it.

A run of a job is: begin (Redis says what is to be done and marks it), send, record (Redis decides what follows). It
may be run twice: a delivery that a dead worker left in `sending` is sent again under the same name, with the same code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from service import ids
from service.answer import Answer, Fields
from service.application import Application
from service.cascade import Move, Next, after_rejection, pointless, provider_for
from service.errors import Forged, Malformed
from service.metrics import Metrics
from service.provider import REASONS, Accepted, Channel, Door, Message, Provider, Receipt, Rejected, Status, Webhook
from service.record import bound, moment
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Store

logger = logging.getLogger(__name__)


class Deliveries:
    """Runs jobs and takes receipts. `receipts_url` is where providers reach us, without a slash at its end."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        door: Door,
        metrics: Metrics,
        *,
        applications: Mapping[str, Application],
        providers: Mapping[str, Provider],
        receipts_url: str,
    ) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._metrics = metrics
        self._applications = applications
        self._providers = providers
        self._receipts_url = receipts_url

    async def run(self, verification: str) -> float | None:
        """Do what is due for a verification; the seconds until it is due again, None when nothing is left."""
        tag = ids.tag_of(verification)
        if tag is None:
            return None
        keys = [tag + verification, f"{tag}due"]
        while True:
            begun = await self._store.run("delivery_begin", keys, [LEASE_MS, verification])
            self._count(begun)
            if begun.outcome != "deliver":
                return begun.number / 1000 if begun.outcome == "idle" else None
            recorded = await self._deliver(keys, verification, begun.number, begun.fields)
            self._count(recorded)
            if recorded.outcome != "next":
                return recorded.number / 1000 if recorded.outcome == "idle" else None

    async def _deliver(self, keys: list[str], verification: str, n: int, fields: Fields) -> Answer:
        """Send one delivery and record what came of it."""
        channel = Channel(fields.channel(n))
        number, code = self._secret(fields)
        application = self._applications.get(fields.text("app"))
        names = application.cascade_for(number).providers(channel) if application else ()
        attempt = fields.number("try") - 1
        name = provider_for(names, attempt) if names else "-"
        outcome: Accepted | Rejected = Rejected("route")  # when the configuration no longer has the way
        if application is not None and names:
            message = self._message(application, f"{verification}.{n}", channel, name, number, code, fields)
            outcome = await self._door.send(self._providers[name], message, datetime.now(UTC))
        match outcome:
            case Accepted(message_id):
                status, reason, move = Status.ACCEPTED, "", Move(Next.WAIT)
            case Rejected(reason, retry_after):
                message_id, status = "", Status.REJECTED
                move = after_rejection(reason, len(names), attempt, retry_after)
        self._tell("delivery", verification, n, channel, name, fields.text("country"), status, reason)
        return await self._store.run(
            "delivery_record",
            keys,
            [
                n,
                name,
                status,
                reason,
                message_id[:128],
                move.next,
                round(move.delay * 1000),
                " ".join(sorted(move.pointless)),
                LEASE_MS,
            ],
        )

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
        )

    def knows(self, provider: str) -> bool:
        """Whether a provider of this name is configured."""
        return provider in self._providers

    async def receive(self, provider: str, token: str, webhook: Webhook) -> list[str]:
        """Take the receipts in a webhook that came for the delivery of `token`.

        Returns the verifications that have work to do now, each leased to this process. Raises Forged, Malformed,
        Unavailable.
        """
        adapter = self._providers.get(provider)
        if adapter is None:
            raise Forged("no such provider is configured")
        delivery, _, mac = token.rpartition(".")
        verification, _, n = delivery.partition(".")
        tag = ids.tag_of(verification)
        if tag is None or not n.isdecimal() or not self._ring.vouches(mac, delivery, provider):
            raise Forged("the token in the path is not one that this service gave out")
        receipts = adapter.receipts(webhook, datetime.now(UTC))
        due = []
        for receipt in receipts:
            if receipt.delivery not in {None, delivery}:
                raise Malformed("the receipt is about another delivery")
            answer = await self._take(tag, verification, int(n), provider, receipt)
            if answer.outcome == "foreign":
                raise Malformed("this delivery is another message, or went through another provider")
            if answer.outcome == "next":
                due.append(verification)
        return due

    async def _take(self, tag: str, verification: str, n: int, provider: str, receipt: Receipt) -> Answer:
        reason = "" if receipt.reason is None else receipt.reason if receipt.reason in REASONS else "unknown"
        useless = pointless(reason) if receipt.status is Status.FAILED else frozenset()
        answer = await self._store.run(
            "delivery_receipt",
            [tag + verification, f"{tag}due"],
            [n, provider, receipt.status, reason, " ".join(sorted(useless)), LEASE_MS, receipt.message_id[:128]],
        )
        self._count(answer)
        if answer.outcome in {"moved", "next"}:
            channel, country = answer.fields.channel(n), answer.fields.text("country")
            self._tell("receipt", verification, n, channel, provider, country, receipt.status, reason)
            self._metrics.receipt_seconds(provider, channel).observe(answer.number / 1000)
        return answer

    def _tell(
        self, what: str, verification: str, n: int, channel: str, provider: str, country: str, status: str, reason: str
    ) -> None:
        """Count and log a step of a delivery."""
        self._metrics.delivery(provider, channel, country, status, reason).inc()
        fields = {"verification": verification, "n": n, "channel": channel, "provider": provider}
        logger.info(what, extra={"fields": fields | {"status": status, "reason": reason or None}})

    def _count(self, answer: Answer) -> None:
        """Count what an act brought about: an end, an advance, a silence."""
        fields = answer.fields
        if advanced := fields.text("advanced"):
            self._metrics.advance(*advanced.split(" ")).inc()
        if silent := fields.text("silent"):
            provider, channel = silent.split(" ")
            self._metrics.delivery(provider, channel, fields.text("country"), Status.UNKNOWN, "silence").inc()
        if noticed := fields.text("noticed"):
            self._metrics.verification(fields.text("app"), fields.text("country"), noticed).inc()
