"""The operator's own gateway: signed JSON to its URL, signed receipts back.

Both ways are signed by Standard Webhooks (https://www.standardwebhooks.com, specification 1.0.0) with the same secret.
While a secret is changed, `secret` signs and both it and `old_secret` are taken.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from standardwebhooks import Webhook as StandardWebhook

from service import provider
from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status
from service.providers.members import text
from service.providers.settings import plain
from service.record import rfc3339

_STATUSES = {
    "accepted": Status.ACCEPTED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "failed": Status.FAILED,
}
_REJECTED = 422
_TOLERANCE = 300
_LEAST_SECRET = 16


def _signing_secret(value: SecretStr) -> SecretStr:
    prefix, _, words = value.get_secret_value().partition("_")
    try:
        raw = base64.b64decode(words + "=" * (-len(words) % 4), validate=True)
    except binascii.Error:
        raw = b""
    if prefix != "whsec" or len(raw) < _LEAST_SECRET:
        raise ValueError(f"write whsec_ and then {_LEAST_SECRET} bytes or more in base64; `verifyd keys` makes one")
    return value


def _http_url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in {"http", "https"} and url.hostname and (url.port is None or url.port)
    except ValueError:
        usable = False
    if not usable or "@" in url.netloc or url.fragment:
        raise ValueError("write an absolute https:// URL (http:// inside a trusted network), without a password")
    return value


Url = Annotated[str, AfterValidator(_http_url)]
Secret = Annotated[SecretStr, AfterValidator(_signing_secret)]


class Webhook(BaseModel):
    """The gateway's address, its secret, and the channels that it carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["webhook"] = "webhook"
    url: Url
    secret: Secret
    old_secret: Secret | None = None
    channels: frozenset[Channel] = Field(default=frozenset({Channel.SMS, Channel.VOICE}), min_length=1)

    def request(self, message: Message, now: datetime) -> Request:
        """The message as `delivery.send`. Its `webhook-id` is the delivery's name, the same when it is tried again."""
        body = orjson.dumps(
            {
                "type": "delivery.send",
                "timestamp": rfc3339(now),
                "data": {
                    "delivery": message.delivery,
                    "channel": message.channel,
                    "to": message.email if message.channel is Channel.EMAIL else message.to,
                    "text": message.text,
                    "code": message.code,
                    "locale": message.locale,
                    "application": message.application,
                    "purpose": message.purpose,
                    "expires_at": rfc3339(message.expires_at),
                    "receipt_url": message.receipt_url,
                },
            }
        )
        signer = StandardWebhook(self.secret.get_secret_value())
        return Request(
            url=self.url,
            headers={
                "content-type": "application/json",
                "webhook-id": message.delivery,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": signer.sign(message.delivery, now, body.decode()),
            },
            body=body,
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts, 422 rejects with a reason, 429 and 5xx are transient, anything else is our request's fault."""
        if response.accepted:
            return Accepted(text(response.json, "message_id"))
        if response.status == _REJECTED:
            reason = text(response.json, "reason")
            return Rejected(reason if reason in REASONS else "unknown")
        return response.rejected()

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:
        """The receipt in a `delivery.receipt`; other types are none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook, now)
        said = webhook.json
        data = said.get("data")
        if not isinstance(said.get("type"), str) or not isinstance(data, dict):
            raise Malformed("write {type, timestamp, data}")
        if said["type"] != "delivery.receipt":
            return []
        status, reason = data.get("status"), data.get("reason")
        if not isinstance(status, str):
            raise Malformed("data.status: write one of sent, delivered, read, failed")
        if reason is not None and not isinstance(reason, str):
            raise Malformed("data.reason: write a string, or leave it out")
        return [Receipt(_STATUSES.get(status, Status.UNKNOWN), reason, text(data, "message_id"))]

    def _authenticate(self, webhook: provider.Webhook, now: datetime) -> None:
        """Check signature and age (five minutes either way), in constant time. Raises Forged."""
        name, stamp = webhook.headers.get("webhook-id", ""), webhook.headers.get("webhook-timestamp", "")
        if not name or not re.fullmatch(r"[0-9]{1,11}", stamp) or abs(now.timestamp() - int(stamp)) > _TOLERANCE:
            raise Forged("webhook-id, webhook-timestamp: missing, or more than five minutes off")
        try:
            body = webhook.body.decode()
        except UnicodeDecodeError:
            raise Forged("no text in UTF-8 was signed") from None
        given = [word.encode() for word in webhook.headers.get("webhook-signature", "").split(" ")]
        for secret in plain(self.secret, self.old_secret):
            right = StandardWebhook(secret).sign(name, datetime.fromtimestamp(int(stamp), UTC), body).encode()
            fits = [hmac.compare_digest(right, word) for word in given]
            if any(fits):
                return
        raise Forged("webhook-signature does not fit")
