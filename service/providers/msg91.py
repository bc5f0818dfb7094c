"""MSG91: SMS, in the words of a template that it (and, in India, the operators' DLT registry) has approved.

Its OTP API wants number and code in the URL, so its flow API is used. Receipts come to one address of the account's,
unsigned, and name the message by its request id alone; so the address set in the panel ends in a secret of ours:
`…/receipts/msg91?secret=…`. Versions 2 and 3 of its webhook are read; version 4 names no request.

Sources: msg91.com/help, "delivery reports on my webhook URL"; its page "Send SMS via FLOW"; its table of error codes as
public clients have it. Which reason a code stands for is our judgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.errors import Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.languages import nearest
from service.providers.members import objects, text
from service.providers.settings import ApiUrl, Secret, Text
from service.providers.unsigned import WebhookSecret, authenticate

_STATUSES = {"1": Status.DELIVERED}
_FAILURES = {
    "2": "unknown",
    "9": "opted_out",
    "16": "carrier_blocked",
    "17": "opted_out",
    "25": "carrier_blocked",
}
_REFUSALS = {
    "106": "auth",
    "202": "invalid_number",
    "203": "sender_config",
    "207": "auth",
    "208": "auth",
    "209": "route",
    "210": "route",
    "211": "sender_config",
    "301": "balance",
    "302": "auth",
    "303": "auth",
    "306": "route",
    "418": "auth",
    "505": "auth",
    "601": "provider_error",
    "Template ID Missing or Invalid Template": "sender_config",
}
"""By `code`; by `message` where there is none."""

_TWICE = "311"
"""The same request within ten seconds: the first is on its way."""


class Msg91(BaseModel):
    """The account's key, its templates by locale and the name of the code in them, and the receipts' secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_message_id: ClassVar[bool] = True

    kind: Literal["msg91"] = "msg91"
    api_url: ApiUrl = "https://control.msg91.com/api/v5"
    auth_key: Secret
    webhook_secret: WebhookSecret
    old_webhook_secret: WebhookSecret | None = None
    sms_template: Text
    sms_templates: Mapping[str, Text] = {}
    code_variable: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] = "VAR1"

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - there is no validity to set
        """The code for the template in the person's language; MSG91 takes numbers without the plus."""
        return Request.json(
            f"{self.api_url}/flow",
            {
                "template_id": nearest(message.locale, self.sms_templates) or self.sms_template,
                "short_url": "0",
                "recipients": [{self.code_variable: message.code, "mobiles": message.to.removeprefix("+")}],
            },
            {"authkey": self.auth_key.get_secret_value(), "accept": "application/json"},
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """A refusal may come with a 200. The request id is the `message` of an answer of the type `success`."""
        said = response.json
        code, words = str(said.get("code")), text(said, "message")
        if code == _TWICE:
            return Accepted()
        reason = _REFUSALS.get(code) or _REFUSALS.get(words)
        if not response.accepted:
            return response.rejected(reason)
        if said.get("type") == "error" or reason:
            return response.rejected(reason or "unknown")
        return Accepted(text(said, "request_id") or words)

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nothing here is timed
        """The receipts in a webhook of version 2 or 3. Raises Forged or Malformed."""
        authenticate(webhook, self.webhook_secret, self.old_webhook_secret)
        receipts = []
        for request_id, report in _reports(webhook):
            if (word := str(report.get("status", ""))) == "":
                continue
            status = Status.FAILED if word in _FAILURES else _STATUSES.get(word, Status.UNKNOWN)
            receipts.append(Receipt(status, _FAILURES.get(word), request_id))
        return receipts


def _reports(webhook: Webhook) -> list[tuple[str, dict[str, Any]]]:
    """Each report with the id of its request: one in JSON (version 3), or many in a form's field (version 2)."""
    if flat := webhook.json:
        reports = [(text(flat, "requestId"), flat)]
    else:
        try:
            said = orjson.loads(dict(parse_qsl(webhook.body.decode(errors="replace"))).get("data", ""))
        except orjson.JSONDecodeError:
            raise Malformed("write a form with JSON in `data`, or JSON: version 2 or 3 of the webhook") from None
        reports = [(text(one, "requestId"), report) for one in objects(said) for report in objects(one.get("report"))]
    if not all(request_id for request_id, _ in reports):
        raise Malformed("requestId: missing")
    return reports
