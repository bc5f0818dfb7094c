"""Deliveries: what a worker does with a verification whose time has come, and what receipts do to it.

A run of a job is: begin (Redis says what is to be done and marks it), send, record (Redis decides what follows). It
may be run twice: a delivery that a dead worker left in `sending` is sent again under the same name, with the same code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from service import ids
from service.application import Application
from service.cascade import Move, Next, after_rejection, pointless, provider_for
from service.errors import Forged, Malformed
from service.metrics import Metrics
from service.provider import REASONS, Accepted, Channel, Door, Message, Provider, Receipt, Rejected, Status, Webhook
from service.record import Fields, answer_fields, bound, moment
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Answer, Store
from service.texts import Texts

logger = logging.getLogger(__name__)

_STAY = Move(Next.ADVANCE)


@dataclass(frozen=True, slots=True)
class Sender:
    """What an application sends with: its policy and its texts."""

    application: Application
    texts: Texts


class Deliveries:
    """Runs jobs and takes receipts. `receipts_url` is where providers reach us, without a slash at its end."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        door: Door,
        metrics: Metrics,
        *,
        senders: Mapping[str, Sender],
        providers: Mapping[str, Provider],
        receipts_url: str,
    ) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._metrics = metrics
        self._senders = senders
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
            if begun[0] == b"idle":
                return float(begun[1]) / 1000
            if begun[0] != b"deliver":
                return None
            recorded = await self._deliver(keys, verification, str(begun[1]), answer_fields(begun))
            self._count(recorded)
            if recorded[0] == b"gone":
                return None
            if recorded[0] == b"idle":
                return float(recorded[1]) / 1000

    async def _deliver(self, keys: list[str], verification: str, n: str, fields: Fields) -> Answer:
        """Send one delivery and record what came of it."""
        channel = Channel(fields.text(f"d{n}").split(" ")[1])
        attempt = fields.number("try") - 1
        sender = self._senders.get(fields.text("app"))
        names = self._route(sender, fields, channel)
        name = provider_for(names, attempt) if names else "-"
        outcome: Accepted | Rejected = Rejected("route")
        if sender is not None and names:
            message = self._message(sender, verification, n, channel, name, fields)
            outcome = await self._door.send(self._providers[name], message, datetime.now(UTC))
        match outcome:
            case Accepted(message_id):
                status, reason, move = Status.ACCEPTED, "", _STAY
            case Rejected(reason, retry_after):
                message_id, status = "", Status.REJECTED
                move = after_rejection(reason, len(names), attempt, retry_after)
        self._metrics.delivery(name, channel, fields.text("country"), status, reason).inc()
        logger.info(
            "delivery",
            extra={
                "fields": {
                    "verification": verification,
                    "n": int(n),
                    "channel": channel,
                    "provider": name,
                    "status": status,
                    "reason": reason or None,
                }
            },
        )
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

    def _route(self, sender: Sender | None, fields: Fields, channel: Channel) -> tuple[str, ...]:
        if sender is None:
            return ()
        number = self._secret(fields)[0]
        return sender.application.cascade_for(number).providers(channel)

    def _secret(self, fields: Fields) -> tuple[str, str]:
        sealed = fields.raw("secret") or b""
        number, _, code = self._ring.open(sealed, bound(fields.text("id"), "secret")).decode().partition(":")
        return number, code

    def _message(
        self, sender: Sender, verification: str, n: str, channel: Channel, provider: str, fields: Fields
    ) -> Message:
        number, code = self._secret(fields)
        sealed = fields.raw("extra")
        extra: dict[str, Any] = orjson.loads(self._ring.open(sealed, bound(verification, "extra"))) if sealed else {}
        expires, now = fields.number("expires"), fields.number("now")
        text = sender.texts.render(
            channel,
            fields.text("purpose"),
            fields.text("locale"),
            code=code,
            brand=sender.application.brand,
            minutes=max(1, math.ceil((expires - now) / 60_000)),
            **extra,
        )
        delivery = f"{verification}.{n}"
        token = f"{delivery}.{self._ring.writer.token(delivery, provider)}"
        return Message(
            delivery=delivery,
            channel=channel,
            to=number,
            text=text,
            code=code,
            locale=fields.text("locale"),
            application=sender.application.name,
            brand=sender.application.brand,
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
            answer = await self._take(tag, verification, n, provider, receipt)
            if answer[0] == b"foreign":
                raise Malformed("this delivery is another message, or went through another provider")
            if answer[0] == b"next":
                due.append(verification)
        return due

    async def _take(self, tag: str, verification: str, n: str, provider: str, receipt: Receipt) -> Answer:
        reason = "" if receipt.reason is None else receipt.reason if receipt.reason in REASONS else "unknown"
        useless = pointless(reason) if receipt.status is Status.FAILED else frozenset()
        answer = await self._store.run(
            "delivery_receipt",
            [tag + verification, f"{tag}due"],
            [n, provider, receipt.status, reason, " ".join(sorted(useless)), LEASE_MS, receipt.message_id[:128]],
        )
        self._count(answer)
        if answer[0] in {b"moved", b"next"}:
            fields = answer_fields(answer)
            channel = fields.text(f"d{n}").split(" ")[1]
            self._metrics.delivery(provider, channel, fields.text("country"), receipt.status, reason).inc()
            self._metrics.receipt_seconds(provider, channel).observe(answer[1] / 1000)
            logger.info(
                "receipt",
                extra={
                    "fields": {
                        "verification": verification,
                        "n": int(n),
                        "channel": channel,
                        "provider": provider,
                        "status": receipt.status,
                        "reason": reason or None,
                    }
                },
            )
        return answer

    def _count(self, answer: Answer) -> None:
        """Count what an act brought about: an end, an advance, a silence."""
        fields = answer_fields(answer)
        if advanced := fields.text("advanced"):
            self._metrics.advance(*advanced.split(" ")).inc()
        if silent := fields.text("silent"):
            provider, channel = silent.split(" ")
            self._metrics.delivery(provider, channel, fields.text("country"), Status.UNKNOWN, "silence").inc()
        if noticed := fields.text("noticed"):
            self._metrics.verification(fields.text("app"), fields.text("country"), noticed).inc()
