"""MessageBird (Bird's REST API): SMS and voice messages.

Facts: https://developers.messagebird.com (SMS, Voice Messaging, verifying requests), its Python and PHP libraries.
Receipts come by GET, signed over the whole URL, hence over their token and everything that they say.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, model_validator

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status
from service.providers.languages import nearest
from service.providers.members import first, text
from service.providers.settings import ApiUrl, Number, Secret, Sender, carried, plain
from service.providers.tokens import claims, is_hash

_REFUSALS = {2: "auth", 9: "request", 25: "balance"}
"""By `errors[].code`; of the others the HTTP status says as much."""

_STATUSES = {
    "scheduled": Status.ACCEPTED,
    "sent": Status.SENT,
    "buffered": Status.SENT,
    "delivered": Status.DELIVERED,
    "expired": Status.FAILED,
    "delivery_failed": Status.FAILED,
    # Of voice messages. Whoever answers hears the message; there is no later word for that.
    "calling": Status.SENT,
    "answered": Status.DELIVERED,
    "busy": Status.FAILED,
    "machine": Status.FAILED,
    "failed": Status.FAILED,
}
_REASONS = {"expired": "expired", "busy": "unreachable", "machine": "unreachable"}
_CODE_REASONS = {
    "1": "invalid_number",
    "2": "invalid_number",
    "3": "invalid_number",
    "5": "invalid_number",
    "6": "unreachable",
    "9": "carrier_blocked",
    "11": "landline",
    "12": "carrier_blocked",
    "13": "unreachable",
    "21": "landline",
    "27": "unreachable",
    "31": "unreachable",
    "32": "unreachable",
    "33": "unreachable",
    "34": "provider_error",
}
"""By `statusErrorCode`, which are the errors of the mobile network (3GPP TS 29.002, 17.6.6)."""

_SPOKEN = {
    "da": "da-dk",
    "de": "de-de",
    "el": "el-gr",
    "es": "es-es",
    "fr": "fr-fr",
    "id": "id-id",
    "it": "it-it",
    "ja": "ja-jp",
    "ko": "ko-kr",
    "ms": "ms-my",
    "nb": "nb-no",
    "nl": "nl-nl",
    "pl": "pl-pl",
    "pt": "pt-pt",
    "pt-BR": "pt-br",
    "ro": "ro-ro",
    "ru": "ru-ru",
    "sv": "sv-se",
    "ta": "ta-in",
    "th": "th-th",
    "tr": "tr-tr",
    "vi": "vi-vn",
    "zh": "zh-cn",
}
"""The `language` of a voice message by our locales."""

_NO_MARKUP = str.maketrans("<>", "  ")
"""Between angle brackets MessageBird would read markup for the voice."""

_LEEWAY = 1
"""Seconds that clocks may differ by, as in MessageBird's own libraries."""


class MessageBird(BaseModel):
    """An access key, the signing key of the account, and a sender for each channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["messagebird"] = "messagebird"
    api_url: ApiUrl = "https://rest.messagebird.com"
    access_key: Secret
    signing_key: Secret
    old_signing_key: Secret | None = None
    sms_from: Sender | None = None
    voice_from: Number | None = None

    @model_validator(mode="after")
    def _has_senders(self) -> Self:
        if not self.channels:
            raise ValueError("set at least one of sms_from, voice_from")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, voice=self.voice_from)

    def request(self, message: Message, now: datetime) -> Request:
        """The message, with its own address for receipts; without a reference MessageBird would send none."""
        said = {
            "recipients": [message.to.removeprefix("+")],
            "reference": message.delivery,
            "reportUrl": message.receipt_url,
        }
        headers = {"authorization": f"AccessKey {self.access_key.get_secret_value()}", "accept": "application/json"}
        if message.channel is Channel.VOICE:
            return Request.json(f"{self.api_url}/voicemessages", said | self._call(message), headers)
        return Request.json(f"{self.api_url}/messages", said | self._sms(message, now), headers)

    def read(self, response: Response) -> Accepted | Rejected:
        """Errors refuse the message, whatever the HTTP status."""
        error = first(response.json.get("errors"))
        code = error.get("code")
        if error or not response.accepted:
            reason = _REFUSALS.get(code) if isinstance(code, int) else None
            return response.rejected(reason)
        return Accepted(text(response.json, "id"))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:
        """The receipt in a URL's query; a webhook without one is none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook, now.timestamp())
        said = dict(parse_qsl(webhook.url.partition("?")[2]))
        if "status" not in said:
            return []
        if "id" not in said:
            raise Malformed("id: it is missing")
        status = _STATUSES.get(said["status"], Status.UNKNOWN)
        otherwise = _REASONS.get(said["status"], "unknown")
        reason = _CODE_REASONS.get(said.get("statusErrorCode", ""), otherwise) if status is Status.FAILED else None
        return [Receipt(status, reason, said["id"], said.get("reference"))]

    def _sms(self, message: Message, now: datetime) -> dict[str, Any]:
        return {
            "originator": (self.sms_from or "").removeprefix("+"),
            "body": message.text,
            "validity": max(math.ceil((message.expires_at - now).total_seconds()), 1),
            # The default puts question marks for what is not in GSM 7-bit.
            "datacoding": "auto",
        }

    def _call(self, message: Message) -> dict[str, Any]:
        """Without a voice for the language an English one at least says the digits."""
        language = nearest(message.locale, _SPOKEN) or "en-us"
        return {
            "originator": (self.voice_from or "").removeprefix("+"),
            "body": message.text.translate(_NO_MARKUP),
            "language": language,
            "repeat": 2,
            # A code on a mailbox is anybody's who can listen to it.
            "ifMachine": "hangup",
        }

    def _authenticate(self, webhook: provider.Webhook, now: float) -> None:
        """Check the token, then that it is valid now and about this URL and body, in constant time. Raises Forged."""
        token = webhook.headers.get("messagebird-signature-jwt", "")
        said = claims(
            token,
            plain(self.signing_key, self.old_signing_key),
            issuer="MessageBird",
            algorithms=["HS256", "HS384", "HS512"],
            require=["iss", "nbf", "exp", "url_hash"],
        )
        if said is None:
            raise Forged("messagebird-signature-jwt does not fit")
        starts, expires = said["nbf"], said["exp"]
        if not isinstance(starts, int | float) or not isinstance(expires, int | float):
            raise Forged("the token's times are no numbers")
        if not starts - _LEEWAY <= now < expires + _LEEWAY:
            raise Forged("the token is not valid now")
        if not is_hash(said["url_hash"], webhook.url.encode()):
            raise Forged("the token is about another URL")
        if not webhook.body:
            if "payload_hash" in said:
                raise Forged("the token is about a body, and there is none")
        elif not is_hash(said.get("payload_hash"), webhook.body):
            raise Forged("the token is about another body")
