"""2Factor (India): SMS.

Its OTP API, by which it also calls, has key, number and code in the path of a URL, where they stay in logs; so its form
API for transactional SMS is used, and there are no calls. A refusal comes with a 200. Receipts come to one address of
the account's, unsigned, and name the message by its session id alone; so the address set in the panel ends in a secret
of ours: `…/receipts/twofactor?secret=…`.

Sources: 2Factor's API documentation (R1, TRANS_SMS); its help pages on callbacks, of OTPs and of transactional SMS,
which name the same things otherwise. They show one group name of the latter; the others here are Infobip's, whose ids
they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict

from service.errors import Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.languages import nearest
from service.providers.members import text
from service.providers.settings import ApiUrl, Secret, Sender, Text
from service.providers.unsigned import WebhookSecret, authenticate

_STATUSES = {
    "PENDING": Status.SENT,
    "DELIVERED": Status.DELIVERED,
    "FAILED": Status.FAILED,
    "UNDELIVERABLE": Status.FAILED,
    "REJECTED": Status.FAILED,
    "EXPIRED": Status.FAILED,
}
_REASONS = {"REJECTED": "carrier_blocked", "EXPIRED": "expired"}
"""For lack of codes that 2Factor documents; other failures are `unknown`."""

_CALL = "VOICE_OTP"


class TwoFactor(BaseModel):
    """The account's key, the registered header that sends, its templates by locale, and the receipts' secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_message_id: ClassVar[bool] = True

    kind: Literal["twofactor"] = "twofactor"
    api_url: ApiUrl = "https://2factor.in/API/R1"
    api_key: Secret
    webhook_secret: WebhookSecret
    old_webhook_secret: WebhookSecret | None = None
    sms_from: Sender
    sms_template: Text | None = None
    sms_templates: Mapping[str, Text] = {}

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - there is no validity to set
        """The code for a template, or the text where there is none; 2Factor takes numbers without the plus."""
        template = nearest(message.locale, self.sms_templates) or self.sms_template
        content = [("templatename", template), ("var1", message.code)] if template else [("msg", message.text)]
        fields = [
            ("module", "TRANS_SMS"),
            ("apikey", self.api_key.get_secret_value()),
            ("to", message.to.removeprefix("+")),
            ("from", self.sms_from),
            *content,
        ]
        return Request.form(f"{self.api_url}/", fields)

    def read(self, response: Response) -> Accepted | Rejected:
        """What is in `Details` is the session id, or words that are meant for people."""
        if not response.accepted:
            return response.rejected()
        if response.json.get("Status") == "Error":
            return response.rejected("unknown")
        return Accepted(text(response.json, "Details"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nothing here is timed
        """The receipt in a webhook, a form; those of calls are none of ours. Raises Forged or Malformed."""
        authenticate(webhook, self.webhook_secret, self.old_webhook_secret)
        said = dict(parse_qsl(webhook.body.decode(errors="replace")))
        word, session = said.get("StatusGroupName") or said.get("Status"), said.get("SessionId")
        if not word or not session:
            raise Malformed("SessionId, and Status or StatusGroupName: both are needed")
        status = _STATUSES.get(word, Status.UNKNOWN)
        if said.get("mode") == _CALL:
            return []
        return [Receipt(status, _REASONS.get(word, "unknown") if status is Status.FAILED else None, session)]
