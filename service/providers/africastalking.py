"""Africa's Talking: SMS.

A refusal comes with a 201. Receipts come to one address of the account's, unsigned, and name the message by its id
alone; so the address set in the dashboard ends in a secret of ours: `…/receipts/africastalking?secret=…`.

Sources: africastalking 2.0.3 (PyPI) for the request; docs.africastalking.com, "SMS notifications", for receipts; the
table of status codes as several public clients have it. Which reason a code stands for is our judgement.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict

from service.errors import Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.members import first, text
from service.providers.settings import ApiUrl, Secret, Sender, Text
from service.providers.unsigned import WebhookSecret, authenticate

_STATUSES = {
    "Sent": Status.SENT,
    "Submitted": Status.SENT,
    "Buffered": Status.SENT,
    "Success": Status.DELIVERED,
    "Rejected": Status.FAILED,
    "Failed": Status.FAILED,
    "AbsentSubscriber": Status.FAILED,
    "Expired": Status.FAILED,
}
_REFUSALS = {
    "401": "carrier_blocked",
    "402": "sender_config",
    "403": "invalid_number",
    "404": "landline",
    "405": "balance",
    "406": "opted_out",
    "407": "route",
    "409": "opted_out",
    "500": "provider_error",
    "501": "provider_error",
    "502": "carrier_blocked",
    "InvalidSenderId": "sender_config",
    "InsufficientBalance": "balance",
}
"""By `statusCode` of the recipient; by the word in its place where the whole request is refused."""

_REASONS = {
    "AbsentSubscriber": "unreachable",
    "DeliveryFailure": "provider_error",
    "DoNotDisturbRejection": "opted_out",
    "Expired": "carrier_blocked",
    "InsufficientCredit": "unreachable",
    "InvalidLinkId": "sender_config",
    "NotNetworkSubcriber": "route",
    "NotNetworkSubscriber": "route",
    "UserAccountSuspended": "unreachable",
    "UserDoesNotExist": "invalid_number",
    "UserInBlackList": "opted_out",
    "UserIsInactive": "invalid_number",
    "UserNotSubscribedToProduct": "sender_config",
}
"""By `failureReason` of a receipt, else by its `status`. The vendor misspells a word; both spellings are here."""

_NO_ID = "None"
"""What stands in the place of the id of a message that was refused."""


class AfricasTalking(BaseModel):
    """An application of the account's, who sends, and the secret that receipts come with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_message_id: ClassVar[bool] = True

    kind: Literal["africastalking"] = "africastalking"
    api_url: ApiUrl = "https://api.africastalking.com/version1"
    username: Text
    api_key: Secret
    webhook_secret: WebhookSecret
    old_webhook_secret: WebhookSecret | None = None
    sms_from: Sender | None = None

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - there is no validity to set
        """The text for one person; `enqueue` off, so that the answer tells whether it was taken."""
        fields = [
            ("username", self.username),
            ("to", message.to),
            ("message", message.text),
            *([("from", self.sms_from)] if self.sms_from else []),
            ("bulkSMSMode", "1"),
            ("enqueue", "0"),
        ]
        headers = {"apikey": self.api_key.get_secret_value(), "accept": "application/json"}
        return Request.form(f"{self.api_url}/messaging", fields, headers)

    def read(self, response: Response) -> Accepted | Rejected:
        """The recipient's own code, or the reason why there is no recipient; a refused message has no id."""
        said = response.json.get("SMSMessageData")
        recipients = said.get("Recipients") if isinstance(said, dict) else None
        recipient = first(recipients)
        message_id = text(recipient, "messageId")
        reason = _REFUSALS.get(str(recipient.get("statusCode")) if recipients else text(said, "Message"))
        if not response.accepted:
            return response.rejected(reason)
        if reason or message_id == _NO_ID or recipients == []:
            return response.rejected(reason or "unknown")
        return Accepted(message_id)

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nothing here is timed
        """The receipt in a webhook, a form. Raises Forged or Malformed."""
        authenticate(webhook, self.webhook_secret, self.old_webhook_secret)
        said = dict(parse_qsl(webhook.body.decode(errors="replace")))
        word, message_id = said.get("status"), said.get("id")
        if not word or not message_id:
            raise Malformed("id, status: both are needed")
        status = _STATUSES.get(word, Status.UNKNOWN)
        reason = _REASONS.get(said.get("failureReason", "")) or _REASONS.get(word, "unknown")
        return [Receipt(status, reason if status is Status.FAILED else None, message_id)]
