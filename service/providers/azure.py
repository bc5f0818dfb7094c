"""Azure Communication Services: SMS.

Requests are signed with the resource's access key. Receipts are Event Grid events, all of a resource to one address;
they carry no signature, so the subscription's address ends in a secret of ours: `…/receipts/azure?secret=…`, which
Event Grid keeps hidden. The subscription uses the Event Grid schema, not CloudEvents.

Sources: Azure/azure-rest-api-specs, Sms 2026-01-23; azure-communication-sms 1.1.0 (PyPI) for the signature;
learn.microsoft.com, "SMS events" of Event Grid and "Repeatability of requests".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

from service.errors import Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.members import first, objects, text
from service.providers.settings import Text
from service.providers.unsigned import WebhookSecret, authenticate

API_VERSION = "2026-01-23"

_REPORT = "Microsoft.Communication.SMSDeliveryReportReceived"
_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_STATUSES = {
    "Delivered": Status.DELIVERED,
    "Failed": Status.FAILED,
    "Expired": Status.FAILED,
}
_REASONS = {
    "4000": "fraud_blocked",
    "4001": "sender_config",
    "4002": "invalid_number",
    "4003": "route",
    "4004": "invalid_number",
    "4005": "carrier_blocked",
    "4006": "unreachable",
    "4007": "opted_out",
    "4008": "rate_limited",
    "5000": "provider_error",
    "5001": "provider_error",
    "5002": "provider_error",
    "9999": "unknown",
}
_CODE = re.compile(r"(?<![0-9])[0-9]{4}(?![0-9])")
_INVALID_TO = "invalid to phone number"
_BAD_REQUEST = 400


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", value):
        raise ValueError("write the endpoint of the resource, for example https://contoso.communication.azure.com")
    return value.rstrip("/").lower()


def _access_key(value: SecretStr) -> SecretStr:
    try:
        key = base64.b64decode(value.get_secret_value(), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("write an access key as the portal shows it, in base64; not the whole connection string")
    return value


class Azure(BaseModel):
    """The resource's endpoint and key, the number or name that sends, and the secret that receipts come with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["azure"] = "azure"
    api_url: Annotated[str, AfterValidator(_endpoint)]
    access_key: Annotated[SecretStr, AfterValidator(_access_key)]
    webhook_secret: WebhookSecret
    old_webhook_secret: WebhookSecret | None = None
    sms_from: Text

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:
        """The text for one person. The same delivery has the same request id, by which Azure sends it once."""
        # A name-based UUID that says it is random: Azure's descriptions ask for version 4.
        request_id = UUID(bytes=uuid5(NAMESPACE_URL, message.delivery).bytes, version=4)
        request = Request.json(
            f"{self.api_url}/sms?api-version={API_VERSION}",
            {
                "from": self.sms_from,
                "smsRecipients": [
                    {
                        "to": message.to,
                        "repeatabilityRequestId": str(request_id),
                        "repeatabilityFirstSent": format_datetime(now, usegmt=True),
                    }
                ],
                "message": message.text,
                "smsSendOptions": {"enableDeliveryReport": True, "tag": message.reference},
            },
        )
        return signed(request, self.access_key.get_secret_value(), now)

    def read(self, response: Response) -> Accepted | Rejected:
        """A 202 holds what became of the recipient, who may have been refused."""
        if not response.accepted:
            return response.rejected()
        recipient = first(response.json.get("value"))
        status = recipient.get("httpStatusCode")
        status = status if isinstance(status, int) else response.status
        if status >= _BAD_REQUEST or recipient.get("successful") is False:
            # A 400 may blame the sender or the repetition as well: only the words tell.
            invalid = _INVALID_TO in str(recipient.get("errorMessage")).lower()
            return replace(response, status=status).rejected("invalid_number" if invalid else None)
        return Accepted(text(recipient, "messageId"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nothing here is timed
        """The delivery reports in a webhook; other events are none of ours. Raises Forged or Malformed."""
        reports = [event.get("data") for event in self._events(webhook) if event.get("eventType") == _REPORT]
        return [receipt for report in objects(reports) if (receipt := _receipt(report)) is not None]

    def handshake(self, webhook: Webhook) -> bytes | None:
        """The JSON that answers Event Grid's question whether this address is ours. Raises Forged or Malformed."""
        for event in self._events(webhook):
            data = event.get("data")
            if event.get("eventType") == _VALIDATION and isinstance(data, dict):
                return orjson.dumps({"validationResponse": str(data.get("validationCode"))})
        return None

    def _events(self, webhook: Webhook) -> list[dict[str, Any]]:
        """The events in a webhook, once the secret in its query fits, in constant time. Raises Forged or Malformed."""
        authenticate(webhook, self.webhook_secret, self.old_webhook_secret)
        try:
            said = orjson.loads(webhook.body)
        except orjson.JSONDecodeError:
            raise Malformed("write JSON") from None
        if not isinstance(said, list):
            raise Malformed("write a list of events, in the Event Grid schema")
        return objects(said)


def signed(request: Request, access_key: str, at: datetime) -> Request:
    """A request with the HMAC-SHA256 that Azure asks for, over method, path, query, date, host and body.

    The key is in base64, the time in UTC. Source: learn.microsoft.com, "Sign an HTTP request".
    """
    host, slash, path = request.url.partition("://")[2].partition("/")
    date = format_datetime(at, usegmt=True)
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    signing = f"{request.method}\n{slash}{path}\n{date};{host};{digest}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(access_key), signing.encode(), "sha256")).decode()
    headers = {
        **request.headers,
        "x-ms-date": date,
        "x-ms-content-sha256": digest,
        "authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
    }
    return replace(request, headers=headers)


def _receipt(report: dict[str, Any]) -> Receipt | None:
    # Microsoft's own examples write these names now with a capital, now without.
    said = {name.lower(): value for name, value in report.items()}
    word = text(said, "deliverystatus")
    if not word:
        return None
    known = _STATUSES.get(word, Status.UNKNOWN)
    reason = None
    if known is Status.FAILED:
        codes = _CODE.findall(str(said.get("deliverystatusdetails")))
        default = "expired" if word == "Expired" else "unknown"
        reason = next((_REASONS[code] for code in codes if code in _REASONS), default)
    return Receipt(known, reason, text(said, "messageid"), text(said, "tag") or None)
