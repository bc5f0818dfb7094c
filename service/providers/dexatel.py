"""Dexatel: SMS and WhatsApp.

Receipts of a whole account come to one address, signed with the secret of its webhook over the body, which hands back
what a message was sent with.

Sources: developers.dexatel.com, "Messages", "Webhooks - Delivery", "Status and Error Codes" and "WhatsApp"; that the
signature is in base64 is only seen in their example.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.languages import nearest
from service.providers.members import first, text
from service.providers.settings import ApiUrl, Secret, Text, carried, plain, together

_STATUSES = {
    "scheduled": Status.ACCEPTED,
    "enroute": Status.SENT,
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "failed": Status.FAILED,
    "rejected": Status.FAILED,
    "expired": Status.FAILED,
}
_REASONS = {
    1503: "sender_config",
    1504: "sender_config",
    1505: "sender_config",
    1512: "sender_config",
    1513: "sender_config",
    1514: "sender_config",
    1523: "invalid_number",
    1524: "auth",
    1525: "balance",
    1530: "opted_out",
    1531: "geo_blocked",
    1625: "sender_config",
}
"""By the `code` of an error; what is not here is read from the HTTP status."""

Template = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class Dexatel(BaseModel):
    """The account's key, the secret of its webhook, a sender for each channel, and WhatsApp's templates by locale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dexatel"] = "dexatel"
    api_url: ApiUrl = "https://api.dexatel.com/v1"
    api_key: Secret
    webhook_secret: Secret
    old_webhook_secret: Secret | None = None
    sms_from: Text | None = None
    whatsapp_from: Text | None = None
    whatsapp_template: Template | None = None
    whatsapp_templates: Mapping[str, Template] = {}

    @model_validator(mode="after")
    def _somebody_sends(self) -> Dexatel:
        if not self.channels:
            raise ValueError("write sms_from, whatsapp_from or both")
        together(whatsapp_from=self.whatsapp_from, whatsapp_template=self.whatsapp_template)
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """Those that have a sender."""
        return carried(sms=self.sms_from, whatsapp=self.whatsapp_from)

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - there is no validity to set
        """The text by SMS; over WhatsApp the template in the nearest language, with the code in it."""
        said: dict[str, object] = {
            "to": [message.to.removeprefix("+")],
            "channel": message.channel.upper(),
            "payload": message.reference,
        }
        if message.channel is Channel.SMS:
            said |= {"from": self.sms_from, "text": message.text}
        else:
            template = nearest(message.locale, self.whatsapp_templates) or self.whatsapp_template
            said |= {"from": self.whatsapp_from, "template": template, "variables": [message.code]}
        headers = {"x-dexatel-key": self.api_key.get_secret_value()}
        return Request.json(f"{self.api_url}/messages", {"data": said}, headers)

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts unless there are errors in it, or the message's status is a failure."""
        error, message = first(response.json.get("errors")), first(response.json.get("data"))
        failed = _STATUSES.get(text(message, "status").lower()) is Status.FAILED
        if error or failed or not response.accepted:
            code = error.get("code")
            return response.rejected(_REASONS.get(code) if isinstance(code, int) else None)
        return Accepted(text(message, "id"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - Dexatel signs no time
        """The delivery status in an event; people's messages are none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook)
        event = webhook.json.get("data")
        if not isinstance(event, dict):
            raise Malformed("write {data: {event, message_id, status, payload}}")
        word = text(event, "status").lower()
        known = _STATUSES.get(word, Status.UNKNOWN)
        if not word or event.get("event") != "delivery":
            return []
        reason = None
        if known is Status.FAILED:
            reason = "expired" if word == "expired" else "unknown"
        return [Receipt(known, reason, text(event, "message_id"), text(event, "payload") or None)]

    def _authenticate(self, webhook: Webhook) -> None:
        """Check the HMAC over the raw body, in constant time. Raises Forged."""
        given = webhook.headers.get("x-dexatel-signature", "").encode()
        for secret in plain(self.webhook_secret, self.old_webhook_secret):
            digest = base64.b64encode(hmac.digest(secret.encode(), webhook.body, "sha256"))
            if hmac.compare_digest(given, digest):
                return
        raise Forged("x-dexatel-signature does not fit")
