"""Prelude: SMS and WhatsApp by its Notify API, voice by its Verify API.

Notify sends a template with our code in it, once: the cascade is ours. Only Verify calls; there our code is a custom
code, and Prelude keeps a window of its own for the number, in which a further call is a retry of the first. Receipts
are signed, once a signing key was made in the dashboard, with Prelude's own key over the body, not over the address
they come to; the body names the delivery. Which codes were used is told to its Watch API, by number, for what Notify
sent: Verify keeps accounts of its own.

Sources: docs.prelude.so, pages of Notify, Verify, Watch, their webhooks and errors; prelude-python-sdk 0.16.0 (PyPI).
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.members import text
from service.providers.settings import ApiUrl, Secret, Text, carried

LONGEST = timedelta(hours=23)
"""How far off `expires_at` may be: "within the next day", less what clocks may differ by."""

_WORDS = {"verify.attempt": "delivery_status", "verify.delivery_status": "status"}
"""Where an event of Verify has its status; one of Notify has it in its type."""
_NOTIFY = "transactional.message."
_STATUSES = {
    "transactional.message.created": Status.ACCEPTED,
    "transactional.message.submitted": Status.SENT,
    "transactional.message.pending_delivery": Status.SENT,
    "transactional.message.delivered": Status.DELIVERED,
    "transactional.message.failed": Status.FAILED,
    "transactional.message.unknown": Status.UNKNOWN,
    "submitted": Status.SENT,
    "in_transit": Status.SENT,
    "delivered": Status.DELIVERED,
    "undeliverable": Status.FAILED,
    "unknown": Status.UNKNOWN,
}
_FAILURES = {
    "carrier_rejected": "carrier_blocked",
    "insufficient_balance": "balance",
    "network": "provider_error",
    "unavailable": "unreachable",
    "unknown_recipient": "invalid_number",
}
_BLOCKS = {
    "expired_signature": "request",
    "in_block_list": "fraud_blocked",
    "invalid_phone_line": "landline",
    "invalid_phone_number": "invalid_number",
    "invalid_signature": "request",
    "repeated_attempts": "rate_limited",
    "suspicious": "fraud_blocked",
}
_REASONS = {
    "blocked": "fraud_blocked",
    "channel_not_enabled_in_region": "geo_blocked",
    "custom_code_not_allowed": "sender_config",
    "expires_at_in_past": "expired",
    "insufficient_balance": "balance",
    "internal": "provider_error",
    "invalid_api_key": "auth",
    "invalid_bearer_token": "auth",
    "invalid_line_type": "landline",
    "invalid_phone_number": "invalid_number",
    "invalid_sender_id": "sender_config",
    "invalid_template_id": "sender_config",
    "invalid_template_variables": "sender_config",
    "missing_api_key": "auth",
    "spending_limit_exceeded": "balance",
    "suspended_account": "auth",
    "too_many_attempts": "rate_limited",
    "unauthorized_sender_id": "sender_config",
    "unsupported_country": "geo_blocked",
    "unsupported_region": "geo_blocked",
}
"""By the `code` of an error; what is not here is read from the HTTP status."""


def _public_key(value: str) -> str:
    _loaded(value)
    return value


@lru_cache(maxsize=8)
def _loaded(pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("write the RSA public key as the dashboard shows it, from -----BEGIN PUBLIC KEY----- on")
    return key


PublicKey = Annotated[str, AfterValidator(_public_key)]


class Prelude(BaseModel):
    """The account's keys, a template for each channel of Notify, and whether Verify may call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["prelude"] = "prelude"
    api_url: ApiUrl = "https://api.prelude.dev"
    api_key: Secret
    public_key: PublicKey | None = None
    old_public_key: PublicKey | None = None
    sms_template: Text | None = None
    sms_from: Text | None = None
    whatsapp_template: Text | None = None
    voice: bool = False
    conversions: bool = False

    @model_validator(mode="after")
    def _something_is_carried(self) -> Prelude:
        if not self.channels:
            raise ValueError("write sms_template, whatsapp_template or voice = true")
        if self.sms_from is not None and self.sms_template is None:
            raise ValueError("sms_from needs sms_template beside it")
        if self.old_public_key is not None and self.public_key is None:
            raise ValueError("old_public_key needs public_key beside it")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """Those that have a template, and voice where it is wanted."""
        return carried(sms=self.sms_template, whatsapp=self.whatsapp_template, voice=self.voice)

    def longest_code(self, channel: Channel) -> int | None:
        """Verify takes 8 digits of a custom code; a template of Notify takes any."""
        return 8 if channel is Channel.VOICE else None

    def request(self, message: Message, now: datetime) -> Request:
        """The template with the code in it, on this channel and once; or the code as one that Verify calls with."""
        if message.channel is Channel.VOICE:
            options = {
                "method": "voice",
                "custom_code": message.code,
                "locale": message.locale,
                "callback_url": message.receipt_url,
            }
            said = {
                "target": {"type": "phone_number", "value": message.to},
                "options": options,
                "metadata": {"correlation_id": message.delivery},
            }
            return self._post("verification", said)
        expires = min(message.expires_at, now + LONGEST).astimezone(UTC)
        sms = message.channel is Channel.SMS
        send = {
            "template_id": self.sms_template if sms else self.whatsapp_template,
            "to": message.to,
            "variables": {"code": message.code},
            "correlation_id": message.delivery,
            "callback_url": message.receipt_url,
            "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "locale": message.locale,
            "preferred_channel": message.channel,
            "max_auto_retries": 0,
        }
        if sms and self.sms_from is not None:
            send["from"] = self.sms_from
        return self._post("notify", send)

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts, unless Verify says in it that it blocked the call."""
        said = response.json
        if not response.accepted:
            return response.rejected(_REASONS.get(text(said, "code")))
        if said.get("status") == "blocked":
            return response.rejected(_BLOCKS.get(text(said, "reason"), "fraud_blocked"))
        return Accepted(text(said, "id"))

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:  # noqa: ARG002 - nothing here is dated
        """Tell Watch that the number was verified; it takes no word of a code that was not used."""
        told = self.conversions and feedback.converted and feedback.channel is not Channel.VOICE
        if not told or not feedback.to:
            return None
        said = {"target": {"type": "phone_number", "value": feedback.to}, "type": "verification.completed"}
        return self._post("watch/feedback", {"feedbacks": [said]})

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - Prelude signs no time
        """The receipt in an event; those of bills and of subscriptions are none. Raises Forged or Malformed."""
        self._authenticate(webhook)
        said = webhook.json
        payload = said.get("payload")
        if not isinstance(payload, dict):
            raise Malformed("write {type, payload}")
        kind = text(said, "type")
        word = text(payload, _WORDS[kind]) if kind in _WORDS else kind
        if not word or (kind not in _WORDS and not kind.startswith(_NOTIFY)):
            return []
        known = _STATUSES.get(word, Status.UNKNOWN)
        reason = _failure(payload) if known is Status.FAILED else None
        if kind in _WORDS:
            return [Receipt(known, reason, text(payload, "verification_id"), _reference(payload.get("metadata")))]
        # A message that was just created is the event's own subject.
        message_id = text(payload, "message_id") or text(payload, "id")
        return [Receipt(known, reason, message_id, _reference(payload))]

    def _post(self, path: str, said: dict[str, Any]) -> Request:
        headers = {"authorization": f"Bearer {self.api_key.get_secret_value()}"}
        return Request.json(f"{self.api_url}/v2/{path}", said, headers)

    def _authenticate(self, webhook: Webhook) -> None:
        """Check the RSASSA-PSS signature over the raw body where there is a key for it. Raises Forged."""
        keys = [key for key in (self.public_key, self.old_public_key) if key is not None]
        signature = _signature(webhook.headers.get("x-webhook-signature", ""))
        if keys and not any(_fits(key, signature, webhook.body) for key in keys):
            raise Forged("x-webhook-signature does not fit")


def _signature(header: str) -> bytes:
    """What the header says in base64url, with padding or without (RFC 4648, 3.2); nothing when it is written wrong."""
    scheme, _, padded = header.partition("=")
    given = padded.rstrip("=")
    try:
        raw = base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
    # Base64 leaves bits over at its end: of the ways to write them, one is right.
    written_right = base64.urlsafe_b64encode(raw).decode().rstrip("=") == given
    return raw if scheme == "rsassa-pss-sha256" and written_right else b""


def _fits(key: str, signature: bytes, signed: bytes) -> bool:
    scheme = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.AUTO)
    try:
        _loaded(key).verify(signature, signed, scheme, SHA256())
    except InvalidSignature:
        return False
    return True


def _failure(payload: dict[str, Any]) -> str:
    return _FAILURES.get(text(payload, "reason")) or ("expired" if payload.get("status") == "expired" else "unknown")


def _reference(said: object) -> str | None:
    return text(said, "correlation_id") or None
