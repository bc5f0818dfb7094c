"""Meta's WhatsApp Cloud API: codes in an approved authentication template.

The template carries the words and its button; copy-code, one-tap and zero-tap buttons all take the same message, the
code once in the text and once in the button. Receipts of all numbers of an app come to one address, signed with the
app's secret, and name the delivery in `biz_opaque_callback_data`.

Sources: facebook/openapi, business-messaging-api v23.0; the codes of errors as pywa 4.5.0 reads them.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers import whatsapp
from service.providers.languages import nearest
from service.providers.members import first, objects, text
from service.providers.settings import ApiUrl, Secret, plain

_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,
    "failed": Status.FAILED,
}
_NEWS = {"deleted", "warning"}
"""What is told in the same place and says nothing of a delivery."""

_MISSING_PERMISSION = dict.fromkeys(range(200, 300), "auth")
_REASONS = _MISSING_PERMISSION | {
    0: "auth",
    1: "provider_error",
    2: "provider_error",
    3: "auth",
    4: "rate_limited",
    10: "auth",
    33: "auth",
    100: "request",
    190: "auth",
    368: "auth",
    80007: "rate_limited",
    130429: "rate_limited",
    130472: "carrier_blocked",
    130497: "carrier_blocked",
    131000: "provider_error",
    131005: "auth",
    131008: "request",
    131009: "request",
    131016: "provider_error",
    131021: "request",
    131026: "not_on_channel",
    131030: "sender_config",
    131031: "auth",
    131037: "sender_config",
    131042: "balance",
    131044: "balance",
    131045: "sender_config",
    131047: "sender_config",
    131048: "rate_limited",
    131049: "carrier_blocked",
    131050: "opted_out",
    131051: "request",
    131056: "rate_limited",
    131057: "provider_error",
    131064: "rate_limited",
    132000: "sender_config",
    132001: "sender_config",
    132005: "sender_config",
    132007: "sender_config",
    132008: "sender_config",
    132012: "sender_config",
    132015: "sender_config",
    132016: "sender_config",
    133016: "rate_limited",
    135000: "provider_error",
}


def _number_id(value: str) -> str:
    if not re.fullmatch(r"[0-9]{5,20}", value):
        raise ValueError("write the phone number's id as WhatsApp Manager shows it: digits only, not the number itself")
    return value


class Meta(BaseModel):
    """The sending number, the app's secrets, and the template with the languages that it is approved in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["meta"] = "meta"
    api_url: ApiUrl = "https://graph.facebook.com/v23.0"
    access_token: Secret
    app_secret: Secret
    old_app_secret: Secret | None = None
    verify_token: Secret
    whatsapp_from: Annotated[str, AfterValidator(_number_id)]
    template: whatsapp.TemplateName
    language: whatsapp.Language = "en_US"
    languages: dict[str, whatsapp.Language] = {}

    @property
    def channels(self) -> frozenset[Channel]:
        """WhatsApp alone."""
        return frozenset({Channel.WHATSAPP})

    def request(self, message: Message, now: datetime) -> Request:  # noqa: ARG002 - how long is tried, the template says
        """The template with the code in its text and in its button."""
        language = nearest(message.locale, self.languages) or self.language
        return Request.json(
            f"{self.api_url}/{self.whatsapp_from}/messages",
            {
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": message.to.removeprefix("+"),
                "type": "template",
                "biz_opaque_callback_data": message.reference,
                "template": whatsapp.template(self.template, language, message.code),
            },
            {"authorization": f"Bearer {self.access_token.get_secret_value()}"},
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts unless it holds an `error`. Who is not on WhatsApp is mostly told later, by a receipt."""
        said = response.json
        error = said.get("error")
        if isinstance(error, dict):
            fault = "provider_error" if error.get("is_transient") is True else None
            return response.rejected(_reason(error) or fault)
        if not response.accepted:
            return response.rejected()
        return Accepted(text(first(said.get("messages")), "id"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - Meta signs no time
        """The statuses in a webhook; messages of people and other news are none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook)
        said = webhook.json
        if not said:
            raise Malformed("write a JSON object")
        return [receipt for status in _statuses(said) if (receipt := _receipt(status)) is not None]

    def handshake(self, webhook: Webhook) -> bytes | None:
        """The challenge of a GET that asks whether this address is ours; raises Forged when the token is not ours."""
        asked = parse_qs(urlsplit(webhook.url).query)
        if asked.get("hub.mode") != ["subscribe"]:
            return None
        token = asked.get("hub.verify_token", [""])[0]
        if not hmac.compare_digest(token.encode(), self.verify_token.get_secret_value().encode()):
            raise Forged("hub.verify_token does not fit")
        return asked.get("hub.challenge", [""])[0].encode()

    def _authenticate(self, webhook: Webhook) -> None:
        """Check `X-Hub-Signature-256` over the raw body, in constant time. Raises Forged."""
        given = webhook.headers.get("x-hub-signature-256", "").encode()
        for secret in plain(self.app_secret, self.old_app_secret):
            digest = hmac.digest(secret.encode(), webhook.body, "sha256").hex()
            if hmac.compare_digest(given, f"sha256={digest}".encode()):
                return
        raise Forged("x-hub-signature-256 does not fit")


def _receipt(status: dict[str, Any]) -> Receipt | None:
    word = text(status, "status")
    known = _STATUSES.get(word, Status.UNKNOWN)
    if not word or word in _NEWS:
        return None
    reason = None
    if known is Status.FAILED:
        reason = next(filter(None, map(_reason, objects(status.get("errors")))), "unknown")
    return Receipt(known, reason, text(status, "id"), text(status, "biz_opaque_callback_data") or None)


def _statuses(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in objects(said.get("entry")):
        for change in objects(entry.get("changes")):
            for value in objects([change.get("value")]):
                yield from objects(value.get("statuses"))


def _reason(error: dict[str, Any]) -> str | None:
    code = error.get("code")
    return _REASONS.get(code) if isinstance(code, int) else None
