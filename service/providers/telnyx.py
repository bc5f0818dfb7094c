"""Telnyx: SMS.

Receipts are signed by Telnyx's own key over time and body, not over the address they come to; the body names that
address, so a genuine receipt cannot be sent again to the address of another delivery. They hold the message's text,
hence the code.

Sources: team-telnyx/openapi, spec3.yml; telnyx 4.189.0 (PyPI) for the signature; developers.telnyx.com, messaging error
codes.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.members import first, text
from service.providers.settings import ApiUrl, Secret, Text

TOLERANCE = 300
"""Seconds that a signature's time may be off, either way."""

_EVENTS = ("message.sent", "message.finalized")
_STATUSES = {
    "queued": Status.ACCEPTED,
    "sending": Status.ACCEPTED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "delivery_unconfirmed": Status.UNKNOWN,
    "sending_failed": Status.FAILED,
    "delivery_failed": Status.FAILED,
    "expired": Status.FAILED,
}
_REASONS = {
    "10009": "auth",
    "10011": "rate_limited",
    "40001": "landline",
    "40002": "carrier_blocked",
    "40003": "carrier_blocked",
    "40004": "carrier_blocked",
    "40005": "expired",
    "40006": "unreachable",
    "40007": "provider_error",
    "40008": "route",
    "40009": "request",
    "40011": "provider_error",
    "40012": "invalid_number",
    "40013": "sender_config",
    "40014": "expired",
    "40015": "carrier_blocked",
    "40300": "opted_out",
    "40310": "invalid_number",
}


def _public_key(value: str) -> str:
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(value, validate=True))
    except ValueError:
        raise ValueError("write the public key as the Telnyx portal shows it: 32 bytes in base64") from None
    return value


PublicKey = Annotated[str, AfterValidator(_public_key)]


class Telnyx(BaseModel):
    """The account's keys, and who sends: a number, a messaging profile with a pool of them, or a profile's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["telnyx"] = "telnyx"
    api_url: ApiUrl = "https://api.telnyx.com/v2"
    api_key: Secret
    public_key: PublicKey
    old_public_key: PublicKey | None = None
    sms_from: Text | None = None
    messaging_profile_id: Text | None = None

    @model_validator(mode="after")
    def _somebody_sends(self) -> Telnyx:
        if self.messaging_profile_id is None and not re.fullmatch(r"\+?[0-9]+", self.sms_from or ""):
            raise ValueError(
                "write a number or a short code as sms_from, or a messaging_profile_id for its pool of numbers; "
                "a sender's name needs both"
            )
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - there is no validity to set
        """The text, and where its receipts go in place of where the profile says."""
        sender = {"from": self.sms_from, "messaging_profile_id": self.messaging_profile_id}
        return Request.json(
            f"{self.api_url}/messages",
            {
                **{name: value for name, value in sender.items() if value is not None},
                "to": message.to,
                "text": message.text,
                "webhook_url": message.receipt_url,
                "use_profile_webhooks": False,
            },
            {"authorization": f"Bearer {self.api_key.get_secret_value()}"},
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts unless there are errors around the message or in it, or its status is a failure."""
        said = response.json
        message = _object(said.get("data"))
        error = first(said.get("errors")) or first(message.get("errors"))
        if error or not response.accepted or _STATUSES.get(_word(message)) is Status.FAILED:
            return response.rejected(_reason(error))
        return Accepted(text(message, "id"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:
        """The receipt in a `message.sent` or `message.finalized`; other events are none of ours.

        Raises Forged, or Malformed also when the receipt was meant for another address.
        """
        self._authenticate(webhook, now)
        event = _object(webhook.json.get("data"))
        message = _object(event.get("payload"))
        if not message:
            raise Malformed("write {data: {event_type, payload}}")
        if event.get("event_type") not in _EVENTS:
            return []
        if message.get("webhook_url", webhook.url) != webhook.url:
            raise Malformed("the receipt is about another delivery")
        if not (word := _word(message)):
            return []
        known = _STATUSES.get(word, Status.UNKNOWN)
        reason = None
        if known is Status.FAILED:
            reason = _reason(first(message.get("errors"))) or ("expired" if word == "expired" else "unknown")
        return [Receipt(known, reason, text(message, "id"))]

    def _authenticate(self, webhook: Webhook, now: datetime) -> None:
        """Check the Ed25519 signature over `time|body`, then how far off the time is. Raises Forged."""
        time, header = (webhook.headers.get(name, "") for name in ("telnyx-timestamp", "telnyx-signature-ed25519"))
        try:
            signature = base64.b64decode(header, validate=True)
        except ValueError:
            signature = b""
        signed = time.encode() + b"|" + webhook.body
        # Base64 leaves bits over at its end: of the ways to write them, one is right.
        written_right = base64.b64encode(signature).decode() == header
        keys = [key for key in (self.public_key, self.old_public_key) if key is not None]
        if not written_right or not any(_fits(key, signature, signed) for key in keys):
            raise Forged("telnyx-signature-ed25519 does not fit")
        if not re.fullmatch(r"[0-9]{1,12}", time) or abs(int(now.timestamp()) - int(time)) > TOLERANCE:
            raise Forged("telnyx-timestamp is too far off")


def _fits(key: str, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _word(message: dict[str, Any]) -> str:
    """The status of a message to one person, in Telnyx's word for it."""
    return text(first(message.get("to")), "status")


def _reason(error: dict[str, Any]) -> str | None:
    return _REASONS.get(text(error, "code"))


def _object(said: object) -> dict[str, Any]:
    """An object; whatever is none is noise, and empty."""
    return said if isinstance(said, dict) else {}
