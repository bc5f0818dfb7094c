"""Telegram Gateway: codes in Telegram's own chat "Verification Codes".

Whether a person can be reached there is asked first: who cannot costs nothing, and for who can, the check pays for the
message that follows it. Telegram writes the text itself and takes only the code, of 4 to 8 digits. Receipts are signed
with the API token over time and body, not over the address they come to; the body names the delivery.

Sources: core.telegram.org/gateway/api; the names of errors, which are in no page of Telegram's, from its clients
tgateway 0.1.0 (PyPI) and apifonica/tg-gateway-go.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.members import text
from service.providers.settings import ApiUrl, Secret, plain

TOLERANCE = 300
"""Seconds that a signature's time may be off, either way; our choice."""

SHORTEST, LONGEST = 30, 3600
"""Seconds that a message may wait for delivery."""

_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "expired": Status.FAILED,
    "revoked": Status.FAILED,
}
_FAILURES = {"expired": "expired", "revoked": "cancelled"}
_REASONS = {
    "ACCESS_TOKEN_INVALID": "auth",
    "ACCESS_TOKEN_REQUIRED": "auth",
    "BALANCE_NOT_ENOUGH": "balance",
    "CALLBACK_URL_INVALID": "request",
    "CODE_INVALID": "request",
    "CODE_LENGTH_INVALID": "request",
    "CODE_LENGTH_REQUIRED": "request",
    "MESSAGE_ALREADY_SENT": "duplicate",
    "PAYLOAD_INVALID": "request",
    # A number that Telegram takes for none may have a telephone behind it all the same.
    "PHONE_NUMBER_INVALID": "not_on_channel",
    "PHONE_NUMBER_MISMATCH": "request",
    "PHONE_NUMBER_NOT_AVAILABLE": "not_on_channel",
    "PHONE_NUMBER_NOT_FOUND": "not_on_channel",
    "REQUEST_ID_INVALID": "request",
    "REQUEST_ID_REQUIRED": "request",
    "SENDER_NOT_OWNED": "sender_config",
    "SENDER_NOT_VERIFIED": "sender_config",
    "SENDER_USERNAME_INVALID": "sender_config",
    "TTL_INVALID": "request",
    "UNKNOWN_METHOD": "request",
}


class Telegram(BaseModel):
    """The account's API token, and the channel that sends in place of Telegram's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["telegram"] = "telegram"
    api_url: ApiUrl = "https://gatewayapi.telegram.org"
    api_token: Secret
    old_api_token: Secret | None = None
    telegram_from: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{3,31}$")] | None = None

    @property
    def channels(self) -> frozenset[Channel]:
        """Telegram alone."""
        return frozenset({Channel.TELEGRAM})

    def longest_code(self, channel: Channel) -> int | None:  # noqa: ARG002 - there is one channel
        """Telegram takes 8 digits."""
        return 8

    def request(self, message: Message, now: datetime) -> Request:
        """Whether the person can be reached; the code waits in `next`."""
        headers = {"authorization": f"Bearer {self.api_token.get_secret_value()}"}
        left = int((message.expires_at - now).total_seconds())
        send = {
            "phone_number": message.to,
            "code": message.code,
            "ttl": min(max(left, SHORTEST), LONGEST),
            "callback_url": message.receipt_url,
            "payload": message.delivery,
        }
        if self.telegram_from is not None:
            send["sender_username"] = self.telegram_from
        return replace(
            Request.json(f"{self.api_url}/checkSendAbility", {"phone_number": message.to}, headers),
            next=Request.json(f"{self.api_url}/sendVerificationMessage", send, headers),
        )

    def read(self, response: Response) -> Accepted | Rejected | Request:
        """2xx with `ok` is a yes: of the check, that the code may go, already paid; of the code, that it went."""
        said = response.json
        if not response.accepted or said.get("ok") is False:
            return _refusal(response, text(said, "error"))
        request_id = text(said, "result", "request_id")
        send = response.request.next if isinstance(response.request, Request) else None
        if send is None:
            return Accepted(request_id)
        if not request_id:
            # Whoever sends without it pays twice.
            return response.rejected("provider_error")
        return replace(send, body=orjson.dumps({**orjson.loads(send.body), "request_id": request_id}))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:
        """The delivery status in a report; raises Forged or Malformed."""
        self._authenticate(webhook, now)
        said = webhook.json
        if not said:
            raise Malformed("write {request_id, delivery_status, payload}")
        word = text(said, "delivery_status", "status")
        if not word:
            return []
        known = _STATUSES.get(word, Status.UNKNOWN)
        return [Receipt(known, _FAILURES.get(word), text(said, "request_id"), text(said, "payload") or None)]

    def _authenticate(self, webhook: Webhook, now: datetime) -> None:
        """Check the HMAC over time and raw body in constant time, then how far off the time is. Raises Forged."""
        time, given = (webhook.headers.get(f"x-request-{name}", "") for name in ("timestamp", "signature"))
        signed = time.encode() + b"\n" + webhook.body
        for token in plain(self.api_token, self.old_api_token):
            key = hashlib.sha256(token.encode()).digest()
            if hmac.compare_digest(given.encode(), hmac.digest(key, signed, "sha256").hex().encode()):
                break
        else:
            raise Forged("x-request-signature does not fit")
        if not re.fullmatch(r"[0-9]{1,12}", time) or abs(int(now.timestamp()) - int(time)) > TOLERANCE:
            raise Forged("x-request-timestamp is too far off")


def _refusal(response: Response, error: str) -> Rejected:
    if flood := re.fullmatch(r"FLOOD_WAIT(?:_([0-9]{1,5}))?", error):
        return Rejected("rate_limited", float(flood[1]) if flood[1] else response.retry_after)
    return response.rejected(_REASONS.get(error))
