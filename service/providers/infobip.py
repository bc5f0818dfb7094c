"""Infobip: SMS, voice and WhatsApp.

Facts: Infobip's API 3.210.0 (https://www.infobip.com/docs/api) and its table of status and error codes. Our own name of
a delivery is its `messageId`: a repeated one is refused, so trying again never sends twice. A refusal comes with a 200.

Neither receipts nor replies are signed by anything that we could verify. The token in the path of a receipt's address,
which only Infobip was told, is the secret; the address for replies has one of its own, `?secret=…`. Keep both out of
the logs of proxies.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service import provider
from service.errors import Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Reply, Request, Response, Status
from service.providers.members import first, text
from service.providers.settings import ApiUrl, Secret, Text, carried, together
from service.providers.unsigned import WebhookSecret, authenticate
from service.providers.whatsapp import language_for

_GROUPS = {
    "OK": Status.ACCEPTED,
    "ACCEPTED": Status.ACCEPTED,
    "PENDING": Status.SENT,
    "DELIVERED": Status.DELIVERED,
    "UNDELIVERABLE": Status.FAILED,
    "EXPIRED": Status.FAILED,
    "REJECTED": Status.FAILED,
}
_STATUSES = {
    2: Status.SENT,  # delivered, but to the operator only
    23: Status.ACCEPTED,  # this messageId was sent before: what became of that one counts
    26: Status.ACCEPTED,
}
_STATUS_REASONS = {
    int(status): reason
    for reason, statuses in {
        "balance": "12 17",
        "cancelled": "98",
        "carrier_blocked": "4 14",
        "expired": "15 29",
        "fraud_blocked": "87",
        "invalid_number": "8 51 52",
        "opted_out": "10",
        "provider_error": "21 100",
        "rate_limited": "20",
        "request": "24 25",
        "route": "6 19",
        "sender_config": "11 13 18",
        "unreachable": "9 96 97",
    }.items()
    for status in statuses.split()
}
_ERROR_REASONS = {
    int(error): reason
    for reason, errors in {
        "auth": "433 7011",
        "balance": "4099 7019 10301",
        "cancelled": "4100 10202",
        "carrier_blocked": "9 12 375 560 561 564 566 604 607 632 2049 2051 2052 2053 7016 7027",
        "duplicate": "5492 7280",
        "expired": "811 4098 4101",
        "fraud_blocked": "608 609",
        "invalid_number": "1 5 351 352 3041 5404 5484 10303 10305",
        "landline": "11 565 568 629",
        "not_on_channel": "7002 7025 7201",
        "opted_out": "573 603 2050 7003 7030 7033",
        "provider_error": "34 255 500 501 502 503 504 630 631 633 815 2048 4097 5408 5503 7012 7050 7051 7080 7082"
        " 10307 10308 10309 10310 10312",
        "rate_limited": "541 542 4103 4104 4202 7017 7026 7032",
        "request": "323 355 5400 7006 10306",
        "route": "10 15 345 810",
        "sender_config": "368 488 562 563 571 572 592 594 597 5403 7004 7005 7007 7008 7009 7010 7034 7081 7083"
        " 10300 10302 10313",
        "unreachable": "6 7 8 13 24 27 31 32 33 256 569 581 628 5001 5002 5003 5480 5603 10002 10200 10201 10203"
        " 10204 10304",
    }.items()
    for error in errors.split()
}
_MACHINES = {5001, 10002}
"""An answering machine took the call: the group says delivered, the person heard nothing."""

_SPOKEN = {
    "fil": "fil-ph",
    "nb": "no",
    "pt": "pt-pt",
    "sw": "sw-ke",
    "ur": "ur-pk",
    "zh-Hans": "zh-cn",
    "zh-Hant": "zh-tw",
}
"""Locales that Infobip calls otherwise than we do in small letters (`CallsLanguage` of its Python client 6.0.0)."""

_LONGEST = 48 * 60 * 60
"""Seconds that a message can be kept for delivery at most."""


class Infobip(BaseModel):
    """An account's address and API key, and a sender for each channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["infobip"] = "infobip"
    api_url: ApiUrl
    api_key: Secret
    inbound_secret: WebhookSecret | None = None
    old_inbound_secret: WebhookSecret | None = None
    sms_from: Text | None = None
    voice_from: Text | None = None
    whatsapp_from: Text | None = None
    whatsapp_template: Text | None = None
    whatsapp_languages: tuple[Text, ...] = Field(default=("en",), min_length=1)
    conversions: bool = False

    @model_validator(mode="after")
    def _has_senders(self) -> Self:
        together(whatsapp_from=self.whatsapp_from, whatsapp_template=self.whatsapp_template)
        if not self.channels:
            raise ValueError("set at least one of sms_from, voice_from, whatsapp_from")
        if self.old_inbound_secret is not None and self.inbound_secret is None:
            raise ValueError("old_inbound_secret needs inbound_secret beside it")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, voice=self.voice_from, whatsapp=self.whatsapp_from)

    def request(self, message: Message, now: datetime) -> Request:
        """The message under our own `messageId`; Infobip takes numbers without the plus."""
        to = message.to.removeprefix("+")
        seconds = min(max(math.ceil((message.expires_at - now).total_seconds()), 1), _LONGEST)
        if message.channel is Channel.SMS:
            return self._post("/sms/3/messages", self._sms(message, to, seconds), self._options())
        if message.channel is Channel.VOICE:
            return self._post("/tts/3/advanced", self._call(message, to, math.ceil(seconds / 60)))
        return self._post("/whatsapp/1/message/template", self._template(message, to))

    def read(self, response: Response) -> Accepted | Rejected:
        """A 2xx may hide a refusal. A messageId that was taken before means that the message is already on its way."""
        if not response.accepted:
            return response.rejected()
        said = first(response.json.get("messages"))
        status, reason = _judged(said)
        if status is Status.FAILED:
            return response.rejected(reason)
        return Accepted(text(said, "messageId"))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nothing is signed
        """The delivery and seen reports in a webhook, whose token was its authentication. Raises Malformed.

        `messageId` is the name that we gave the delivery, so it stands for both.
        """
        receipts = []
        for result in _results(webhook):
            status, reason = (Status.READ, None) if "seenAt" in result else _judged(result)
            message_id = text(result, "messageId")
            if status is not None:
                receipts.append(Receipt(status, reason, message_id, message_id or None))
        return receipts

    def replies(self, webhook: provider.Webhook, now: datetime) -> list[Reply]:  # noqa: ARG002 - nothing is signed
        """What people wrote, by SMS (Infobip's form MO_JSON_2) or WhatsApp. Raises Forged or Malformed."""
        authenticate(webhook, self.inbound_secret, self.old_inbound_secret)
        replies = []
        for result in _results(webhook):
            if not (number := text(result, "from")):
                raise Malformed("results: an entry has no from")
            if text(result, "integrationType") == "WHATSAPP":
                replies.append(Reply(number, Channel.WHATSAPP, text(result, "message", "text")))
            elif "integrationType" not in result:
                replies.append(Reply(number, Channel.SMS, text(result, "text")))
        return replies

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:  # noqa: ARG002 - nothing here is dated
        """Tell Infobip that the code of an SMS was used; it takes no word of one that was not."""
        if not (self.conversions and feedback.converted and feedback.channel is Channel.SMS):
            return None
        return Request(f"{self.api_url}/ct/1/log/end/{quote(feedback.message_id, safe='')}", self._headers(), b"")

    def _post(self, path: str, message: dict[str, Any], more: dict[str, Any] | None = None) -> Request:
        return Request.json(self.api_url + path, {"messages": [message], **(more or {})}, self._headers())

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"App {self.api_key.get_secret_value()}", "accept": "application/json"}

    def _options(self) -> dict[str, Any]:
        return {"options": {"conversionTracking": {"useConversionTracking": True}}} if self.conversions else {}

    def _sms(self, message: Message, to: str, seconds: int) -> dict[str, Any]:
        return {
            "sender": self.sms_from,
            "destinations": [{"to": to, "messageId": message.delivery}],
            "content": {"text": message.text},
            "options": {"validityPeriod": {"amount": seconds, "timeUnit": "SECONDS"}},
            "webhooks": {
                "delivery": {"url": message.receipt_url, "intermediateReport": True},
                "contentType": "application/json",
                "callbackData": message.delivery,
            },
        }

    def _call(self, message: Message, to: str, minutes: int) -> dict[str, Any]:
        return {
            "from": self.voice_from,
            "destinations": [{"to": to, "messageId": message.delivery}],
            "text": message.text,
            "language": _SPOKEN.get(message.locale, message.locale.lower()),
            "notifyUrl": message.receipt_url,
            "notifyContentType": "application/json",
            "callbackData": message.delivery,
            "validityPeriod": minutes,
            "machineDetection": "hangup",
        }

    def _template(self, message: Message, to: str) -> dict[str, Any]:
        """An approved authentication template: the code in its text and in its copy-code or one-tap button."""
        return {
            "from": self.whatsapp_from,
            "to": to,
            "messageId": message.delivery,
            "content": {
                "templateName": self.whatsapp_template,
                "templateData": {
                    "body": {"placeholders": [message.code]},
                    "buttons": [{"type": "URL", "parameter": message.code}],
                },
                "language": language_for(message.locale, self.whatsapp_languages),
            },
            "callbackData": message.delivery,
            "notifyUrl": message.receipt_url,
        }


def _results(webhook: provider.Webhook) -> list[dict[str, Any]]:
    """What a webhook tells of, one by one. Raises Malformed."""
    results = webhook.json.get("results")
    if not isinstance(results, list):
        raise Malformed("results: a list is missing")
    if not all(isinstance(result, dict) for result in results):
        raise Malformed("results: an entry is no object")
    return results


def _judged(said: dict[str, Any]) -> tuple[Status | None, str | None]:
    """What a status and its error mean; None where there is no status.

    The group first, then the ids: `error.permanent` says only that this message is over, not that another would be.
    """
    group, status_id, error_id = text(said, "status", "groupName"), _number(said, "status"), _number(said, "error")
    status = _STATUSES.get(status_id, _GROUPS.get(group, Status.UNKNOWN if group else None))
    if status is Status.DELIVERED and error_id in _MACHINES:
        status = Status.FAILED
    if status is not Status.FAILED:
        return status, None
    fallback = "expired" if group == "EXPIRED" else "unknown"
    return status, _ERROR_REASONS.get(error_id) or _STATUS_REASONS.get(status_id, fallback)


def _number(said: dict[str, Any], part: str) -> int:
    """The id of the status or the error; 0 (no error) when there is none."""
    inner = said.get(part)
    value = inner.get("id") if isinstance(inner, dict) else None
    return value if isinstance(value, int) else 0
