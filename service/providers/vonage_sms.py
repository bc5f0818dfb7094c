"""Vonage's older SMS API (rest.nexmo.com). The newer Messages API, WhatsApp and calls are `vonage`.

Facts: SMS API 1.0.10 (https://github.com/Nexmo/api-specification), Vonage's guides on receipts, troubleshooting and
signing. A refusal comes with a 200. Receipts are signed, over all parameters, only when Vonage's support has switched
it on; without, the token in the path of their address, which only Vonage was told, is the secret.
"""

from __future__ import annotations

import hmac
import math
from datetime import datetime
from typing import ClassVar, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, model_validator

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Reply, Request, Response, Status
from service.providers.conversions import conversion
from service.providers.members import first, objects, text
from service.providers.settings import ApiUrl, Secret, Sender, Text, plain
from service.segments import measure

_REFUSALS = {
    "1": "rate_limited",
    "2": "request",
    "3": "request",
    "4": "auth",
    "5": "provider_error",
    "6": "request",
    "7": "carrier_blocked",
    "8": "auth",
    "9": "balance",
    "10": "auth",
    "11": "auth",
    "12": "request",
    "13": "provider_error",
    "14": "auth",
    "15": "sender_config",
    "22": "request",
    "23": "request",
    "29": "sender_config",
    "32": "sender_config",
    "33": "invalid_number",
    "34": "sender_config",
}
_TAKEN = "0"

_STATUSES = {
    "accepted": Status.SENT,
    "buffered": Status.SENT,
    "delivered": Status.DELIVERED,
    "expired": Status.FAILED,
    "failed": Status.FAILED,
    "rejected": Status.FAILED,
}
_REASONS = {
    "2": "unreachable",
    "3": "invalid_number",
    "4": "opted_out",
    "5": "provider_error",
    "6": "carrier_blocked",
    "7": "unreachable",
    "8": "provider_error",
    "9": "opted_out",
    "10": "request",
    "11": "route",
    "12": "unreachable",
    "13": "carrier_blocked",
    "14": "carrier_blocked",
    "15": "unreachable",
    "50": "sender_config",
    "51": "sender_config",
    "52": "sender_config",
    "53": "sender_config",
    "54": "sender_config",
}
"""By `err-code` of a receipt."""

_SHORTEST, _LONGEST = 20_000, 604_800_000
"""Milliseconds that a message can be kept for delivery."""

_JOINTS = str.maketrans("&=", "__")


class VonageSms(BaseModel):
    """An account and its sender; `signature_secret` and `signature_method` as they are set for the account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    longest_address: ClassVar[int] = 100

    kind: Literal["vonage_sms"] = "vonage_sms"
    api_url: ApiUrl = "https://rest.nexmo.com"
    api_key: Text
    api_secret: Secret
    sms_from: Sender
    signature_secret: Secret | None = None
    old_signature_secret: Secret | None = None
    signature_method: Literal["md5", "sha1", "sha256", "sha512"] = "sha256"
    conversions: bool = False
    conversions_url: ApiUrl = "https://api.nexmo.com/conversions/sms"

    @model_validator(mode="after")
    def _has_a_secret_before_an_old_one(self) -> VonageSms:
        if self.old_signature_secret is not None and self.signature_secret is None:
            raise ValueError("old_signature_secret needs signature_secret beside it")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:
        """The message; Vonage takes numbers without the plus, and has to be told of characters outside GSM 7-bit."""
        left = math.ceil((message.expires_at - now).total_seconds() * 1000)
        fields = [
            ("api_key", self.api_key),
            ("api_secret", self.api_secret.get_secret_value()),
            ("from", self.sms_from.removeprefix("+")),
            ("to", message.to.removeprefix("+")),
            ("text", message.text),
            ("client-ref", message.delivery),
            ("callback", message.receipt_url),
            ("ttl", str(min(max(left, _SHORTEST), _LONGEST))),
        ]
        if measure(message.text).encoding == "ucs2":
            fields.append(("type", "unicode"))
        return Request.form(f"{self.api_url}/sms/json", fields)

    def read(self, response: Response) -> Accepted | Rejected:
        """Each part of a long text is taken or refused for itself; the message is named by the first."""
        if not response.accepted:
            return response.rejected()
        parts = objects(response.json.get("messages"))
        for part in parts:
            code = str(part.get("status", _TAKEN))
            if code != _TAKEN:
                return response.rejected(_REFUSALS.get(code, "unknown"))
        return Accepted(text(first(parts), "message-id"))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - no age is documented
        """The receipt in a webhook, which may be a GET, a form or JSON. Raises Forged or Malformed."""
        said = _parameters(webhook)
        self._authenticate(said)
        word, message_id = said.get("status"), said.get("messageId")
        if not word or not message_id:
            raise Malformed("status, messageId: both are needed")
        status = _STATUSES.get(word, Status.UNKNOWN)
        otherwise = "expired" if word == "expired" else "unknown"
        reason = _REASONS.get(said.get("err-code", ""), otherwise) if status is Status.FAILED else None
        return [Receipt(status, reason, message_id, said.get("client-ref"))]

    def replies(self, webhook: provider.Webhook, now: datetime) -> list[Reply]:  # noqa: ARG002 - no age is documented
        """What a person wrote. Nothing but a signature can show that it is Vonage's. Raises Forged or Malformed."""
        if self.signature_secret is None:
            raise Forged("replies are taken with a signature only: set signature_secret")
        said = _parameters(webhook)
        self._authenticate(said)
        if not (number := said.get("msisdn")):
            raise Malformed("msisdn is missing")
        return [Reply(number, Channel.SMS, said.get("text", ""))]

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:
        """Tell Vonage whether the code of an SMS was used; its support must have switched this on."""
        if not self.conversions or feedback.channel is not Channel.SMS:
            return None
        return conversion(self.conversions_url, feedback, now, self.api_key, self.api_secret)

    def _authenticate(self, said: dict[str, str]) -> None:
        """Check the signature, where there is a secret for it, in constant time. Raises Forged."""
        if self.signature_secret is None:
            return
        if any("&" in name or "=" in name for name in said):
            # What is signed is joined by these: in a name they could hide the parameters that follow.
            raise Forged("a parameter's name has & or = in it")
        signature = said.get("sig", "").lower().encode()
        secrets = plain(self.signature_secret, self.old_signature_secret)
        if not any(hmac.compare_digest(self._signature(said, secret).encode(), signature) for secret in secrets):
            raise Forged("sig does not fit")

    def _signature(self, said: dict[str, str], secret: str) -> str:
        joined = "".join(f"&{name}={said[name].translate(_JOINTS)}" for name in sorted(said) if name != "sig")
        return hmac.new(secret.encode(), joined.encode(), self.signature_method).hexdigest()


def _parameters(webhook: provider.Webhook) -> dict[str, str]:
    """The parameters by name; of several of one name the last, for signature and meaning alike."""
    if said := webhook.json:
        return {name: str(value) for name, value in said.items()}
    form = webhook.body.decode(errors="replace") if webhook.body else webhook.url.partition("?")[2]
    return dict(parse_qsl(form, keep_blank_values=True))
