"""The operator's own gateway: signed JSON to its URL, signed receipts back.

Both ways are signed by Standard Webhooks (https://www.standardwebhooks.com, specification 1.0.0) with the same secret.
While a secret is changed, `secret` signs and both it and `old_secret` are taken.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from service import provider
from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status
from service.record import rfc3339

_STATUSES = {
    "accepted": Status.ACCEPTED,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "failed": Status.FAILED,
}
_REJECTED = 422


def _signing_secret(value: SecretStr) -> SecretStr:
    try:
        if not value.get_secret_value().startswith("whsec_"):
            raise ValueError
        StandardWebhook(value.get_secret_value())
    except Exception:  # noqa: BLE001 - the library raises its own and base64's errors
        raise ValueError("write whsec_ and then base64; `verifyd keys` makes one") from None
    return value


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+([/?][^\s#]*)?", value):
        raise ValueError("write an absolute https:// URL (http:// inside a trusted network), without a password")
    return value


Secret = Annotated[SecretStr, AfterValidator(_signing_secret)]


class Webhook(BaseModel):
    """The gateway's address, its secret, and the channels that it carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["webhook"] = "webhook"
    url: Annotated[str, AfterValidator(_http_url)]
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
                    "to": message.to,
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
            message_id = response.json.get("message_id")
            return Accepted(message_id if isinstance(message_id, str) else "")
        if response.status == _REJECTED:
            reason = response.json.get("reason")
            return Rejected(reason if isinstance(reason, str) and reason in REASONS else "unknown")
        return response.rejected()

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - see _authenticate
        """The receipt in a `delivery.receipt`; other types are none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook)
        said = webhook.json
        data = said.get("data")
        if not isinstance(said.get("type"), str) or not isinstance(data, dict):
            raise Malformed("write {type, timestamp, data}")
        if said["type"] != "delivery.receipt":
            return []
        status, reason, message_id = data.get("status"), data.get("reason"), data.get("message_id")
        if not isinstance(status, str):
            raise Malformed("data.status: write one of sent, delivered, read, failed")
        if reason is not None and not isinstance(reason, str):
            raise Malformed("data.reason: write a string, or leave it out")
        known = _STATUSES.get(status)
        if known is None:
            return []
        return [Receipt(known, reason, message_id if isinstance(message_id, str) else "")]

    def _authenticate(self, webhook: provider.Webhook) -> None:
        """Check signature and age (five minutes, by the library's own clock) in constant time. Raises Forged."""
        for secret in (self.secret, self.old_secret):
            if secret is not None and _signed(StandardWebhook(secret.get_secret_value()), webhook):
                return
        raise Forged("webhook-signature does not fit")


def _signed(verifier: StandardWebhook, webhook: provider.Webhook) -> bool:
    try:
        verifier.verify(webhook.body, dict(webhook.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        # ValueError: the library lets pieces that are no base64, no pair, no UTF-8 through to where they break.
        return False
    return True
