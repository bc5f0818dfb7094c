"""Receipts: what providers report on deliveries. They are authenticated, matched with a delivery, and move it forward.

A receipt is matched by the token in the address that its provider was given, by what its body hands back, or else by
the provider's own id for the message, which may be reported on before the send was answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from service.answer import Answer
from service.cascade import TAKEN, pointless
from service.door import Door
from service.errors import Forged, Malformed
from service.guard.live import Guard
from service.ids import DeliveryId
from service.provider import (
    REASONS,
    Channel,
    Provider,
    Receipt,
    ReportsByMessageId,
    ShakesHands,
    SignsNonces,
    Status,
    Subscribes,
    Webhook,
)
from service.schedule import LEASE_MS
from service.sealing import KeyRing
from service.store import Store
from service.tally import Tally
from service.waits import Waits

logger = logging.getLogger(__name__)

MESSAGE_TTL_MS = 48 * 3600 * 1000
"""How long a message is known by its provider's id: twice the longest life of a verification."""
EARLY_MS = 60_000
"""How long a receipt waits for the answer to its send."""


class Receipts:
    """Takes receipts. `url` is where providers reach us, without a slash at its end."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        door: Door,
        guard: Guard,
        tally: Tally,
        waits: Waits,
        *,
        providers: Mapping[str, Provider],
        url: str,
    ) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._guard = guard
        self._tally = tally
        self._waits = waits
        self._providers = providers
        self._url = url

    # What a send tells, so that its receipts are known.

    def address(self, delivery: DeliveryId, provider: str) -> str:
        """Where a provider reports on a delivery."""
        token = self._ring.writer.token(str(delivery), provider)
        return f"{self._url}/receipts/{provider}/{delivery}.{token}"

    def mark(self, message_id: str) -> str:
        """What a provider's id for a message is recorded as; empty for none."""
        return self._ring.writer.fingerprint(b"message", message_id.encode()) if message_id else ""

    async def expect(self, mark: str, delivery: DeliveryId, provider: str) -> list[Receipt]:
        """Know the message of this mark as that of a delivery; the receipts that came before. Raises Unavailable."""
        early = await self._store.rows("message_keep", [_message(mark, provider)], [str(delivery), MESSAGE_TTL_MS])
        words = [receipt.decode().split(" ") for receipt in early]
        return [Receipt(Status(word), reason if reason != "-" else None) for word, reason in words]

    # What providers tell.

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
        if named is not None and any(one.delivery not in {None, str(named), token} for one in receipts):
            raise Malformed("the receipt is about another delivery")
        if isinstance(adapter, SignsNonces) and (nonce := adapter.nonce(webhook)) is not None:
            await self._hold(provider, nonce, webhook)
        return await self.reported(provider, receipts, named)

    async def reported(self, provider: str, receipts: Sequence[Receipt], named: DeliveryId | None = None) -> list[str]:
        """Take receipts that are known to come from this provider, for the delivery `named` or that each names.

        Returns the verifications that have work to do now, each leased to this process. Raises Unavailable.
        """
        taken = await asyncio.gather(*[self._place(provider, receipt, named) for receipt in receipts])
        return [one for one in taken if one is not None]

    async def take(self, delivery: DeliveryId, provider: str, receipt: Receipt) -> Answer:
        """Take a receipt for a delivery; the answer is `next` where another is to be sent now. Raises Unavailable."""
        n = delivery.n
        if receipt.reason == TAKEN:
            receipt = Receipt(Status.ACCEPTED, None, receipt.message_id)
        reason = _known(receipt.reason)
        useless = pointless(reason) if receipt.status is Status.FAILED else frozenset()
        answer = await self._store.run(
            "delivery_receipt",
            delivery.keys,
            [n, provider, receipt.status, reason, " ".join(sorted(useless)), LEASE_MS, self._marks(receipt.message_id)],
        )
        self._tally.count(answer.fields)
        if answer.outcome in {"moved", "next"}:
            self._tally.reported(answer, n, provider, receipt.status, reason)
            channel, country = answer.fields.channel(n), answer.fields.text("country")
            if receipt.status is Status.FAILED and (charge := self._guard.charge(answer.fields)) is not None:
                self._guard.relieve(charge, n, channel)
            if receipt.status is Status.DELIVERED:
                await self._waits.note(provider, Channel(channel), country, answer.number)
        return answer

    # Whose a receipt is, and what it is about.

    def _adapter(self, provider: str) -> Provider:
        try:
            return self._providers[provider]
        except KeyError:
            raise Forged("no such provider is configured") from None

    def _admit(self, provider: str, token: str | None) -> DeliveryId | None:
        """What the token of a path names, None for a path without one; raises Forged."""
        named = None if token is None else self._named(token, provider)
        if token is not None and named is None:
            raise Forged("the token in the path is not one that this service gave out")
        return named

    def _named(self, token: str, provider: str) -> DeliveryId | None:
        """What a token names; None unless this service gave it out for this provider."""
        name, _, mac = token.rpartition(".")
        delivery = DeliveryId.parse(name)
        return delivery if delivery is not None and self._ring.vouches(mac, name, provider) else None

    async def _hold(self, provider: str, nonce: str, webhook: Webhook) -> None:
        """Hold a nonce to the body that it first came with; raises Forged, Unavailable."""
        key = self._ring.writer
        name = key.fingerprint(b"nonce", provider.encode(), webhook.url.encode(), nonce.encode())
        body = key.fingerprint(b"body", webhook.body)
        held = await self._store.run("idempotency_claim", [f"{{i:{name}}}:claim"], [body, MESSAGE_TTL_MS])
        if held.outcome != "ours":
            raise Forged("the nonce came before, with another body")

    async def _place(self, provider: str, receipt: Receipt, named: DeliveryId | None) -> str | None:
        """Take a receipt; the verification that has work to do after it, if it does."""
        one = named or self._named(receipt.delivery or "", provider)
        if one is None and receipt.message_id and isinstance(self._providers[provider], ReportsByMessageId):
            one = await self._looked_up(provider, receipt)
        if one is None:
            return None  # an address for a whole account hears of messages that are none of ours
        answer = await self.take(one, provider, receipt)
        return one.verification if answer.outcome == "next" else None

    async def _looked_up(self, provider: str, receipt: Receipt) -> DeliveryId | None:
        """Whose delivery a receipt is about, by its message id; one that came too early waits under the first key."""
        marks = self._marks(receipt.message_id).split(" ")
        said = f"{receipt.status} {_known(receipt.reason) or '-'}"
        found = await asyncio.gather(
            *[
                self._store.rows("message_find", [_message(mark, provider)], [said, 0 if index else EARLY_MS])
                for index, mark in enumerate(marks)
            ]
        )
        return DeliveryId.parse(next((answer[0].decode() for answer in found if answer), ""))

    def _marks(self, message_id: str) -> str:
        """What a message id may have been recorded as: its fingerprint under each key of the ring."""
        marks = (key.fingerprint(b"message", message_id.encode()) for key in self._ring.keys if message_id)
        return " ".join(marks)


def _message(mark: str, provider: str) -> str:
    return f"{{m:{mark}}}:{provider}"


def _known(reason: str | None) -> str:
    """A reason as it is kept: one of `REASONS`, empty for none."""
    return "" if reason is None else reason if reason in REASONS else "unknown"
