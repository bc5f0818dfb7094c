"""Vonage: SMS and WhatsApp by its Messages API, calls by its Voice API. The older SMS API is `vonage_sms`.

Facts: Messages API v1 (document 1.11.0), Voice API v1 (document 1.3.7), Vonage's pages on webhooks and conversions. We
sign with the private key of an application; Vonage signs with the account's signature secret, over the body but not
the URL: `client_ref` binds a message's receipts to their delivery, a call's id those of a call.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from uuid import NAMESPACE_URL, UUID, uuid5

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Reply, Request, Response, Status
from service.providers.calls import HEARD
from service.providers.conversions import conversion
from service.providers.languages import nearest
from service.providers.members import text
from service.providers.settings import ApiUrl, Number, Secret, Sender, Text, carried, plain, together
from service.providers.tokens import claims, is_hash
from service.providers.whatsapp import language_for, template

_STATUSES = {
    "submitted": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "rejected": Status.FAILED,
    "undeliverable": Status.FAILED,
}
_REASONS = {
    code: reason
    for reason, codes in {
        "auth": "1060",
        "balance": "1070",
        "carrier_blocked": "1050 1210 1270 1280 1282 1461",
        "duplicate": "1320",
        "expired": "1360",
        "fraud_blocked": "1470 1473",
        "invalid_number": "1170 1190 1430",
        "not_on_channel": "1300 1310",
        "opted_out": "1240",
        "provider_error": "1030 1100 1200 1230 1331",
        "rate_limited": "1000 1241 1460 1472",
        "request": "1010 1020 1021 1040 1090 1130 1150 1380 1381 1382 1400 1410 1440 1450 1451",
        "route": "1250 1251",
        "sender_config": "1022 1080 1120 1140 1160 1340 1350 1370 1420 1480 1481 1482 1483 1484",
        "unreachable": "1180 1220 1260 1290",
    }.items()
    for code in codes.split()
}
"""By `error.title` of a receipt. The answers to sends use the same numbers in `type` for other things: not read."""

_CALLS: dict[str, tuple[Status, str | None]] = {
    "started": (Status.ACCEPTED, None),
    "ringing": (Status.SENT, None),
    "answered": (Status.SENT, None),
    "human": (Status.SENT, None),
    "machine": (Status.FAILED, "unreachable"),
    "busy": (Status.FAILED, "unreachable"),
    "timeout": (Status.FAILED, "unreachable"),
    "unanswered": (Status.FAILED, "unreachable"),
    "cancelled": (Status.FAILED, "cancelled"),
    "rejected": (Status.FAILED, "unknown"),
    "failed": (Status.FAILED, "provider_error"),
}
_CALL_DETAILS = {
    "invalid_number": "invalid_number",
    "restricted": "carrier_blocked",
    "declined": "unreachable",
    "cannot_route": "route",
    "number_out_of_service": "invalid_number",
    "internal_error": "provider_error",
}
"""What `detail` says of a call that was rejected or failed."""

_WRITTEN_ON = {"sms": Channel.SMS, "whatsapp": Channel.WHATSAPP}
"""The channel of a reply, by Vonage's name for it."""

_SPOKEN = {
    voice.partition("-")[0]: voice
    for voices in (
        "af-ZA ar bg-BG bn-IN ca-ES cs-CZ da-DK de-DE el-GR en-US es-ES fi-FI fil-PH fr-FR he-IL hi-IN hu-HU id-ID",
        "it-IT ja-JP ko-KR lv-LV ms-MY nb-NO nl-NL pl-PL pt-PT ro-RO ru-RU sk-SK sr-RS sv-SE ta-IN te-IN th-TH tr-TR",
        "uk-UA vi-VN",
    )
    for voice in voices.split()
} | {"pt-BR": "pt-BR", "zh-Hans": "cmn-CN", "zh-Hant": "cmn-TW"}
"""Vonage's voices by our locales, after `TTSLanguages` of its Node library (@vonage/voice 1.20.3)."""

_NO_MARKUP = str.maketrans("<>", "  ")
"""Between angle brackets Vonage would read SSML."""

_SHORTEST, _LONGEST = 20, 604_800
"""Seconds that an SMS can be kept for delivery."""

_OLDEST, _NEWEST = -300, 60
"""Seconds from now that a webhook's token may have been issued at."""


def _rsa_key(value: SecretStr) -> SecretStr:
    _loaded(value.get_secret_value())
    return value


@lru_cache(maxsize=8)
def _loaded(pem: str) -> RSAPrivateKey:
    """Checking a key takes longer than signing with it, so it is done once."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("write the application's RSA private key: PEM, without a passphrase")
    return key


class Vonage(BaseModel):
    """An application, the secret that its webhooks are signed with, and a sender for each channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vonage"] = "vonage"
    api_url: ApiUrl = "https://api.nexmo.com"
    application_id: Text
    private_key: Annotated[SecretStr, AfterValidator(_rsa_key)]
    signature_secret: Secret
    old_signature_secret: Secret | None = None
    sms_from: Sender | None = None
    voice_from: Number | None = None
    whatsapp_from: Number | None = None
    whatsapp_template: Text | None = None
    whatsapp_languages: tuple[Text, ...] = Field(default=("en",), min_length=1)
    conversions: bool = False
    api_key: Text | None = None
    api_secret: Secret | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        together(whatsapp_from=self.whatsapp_from, whatsapp_template=self.whatsapp_template)
        if not self.channels:
            raise ValueError("set at least one of sms_from, voice_from, whatsapp_from")
        if self.conversions and (self.api_key is None or self.api_secret is None):
            raise ValueError("conversions needs api_key and api_secret")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, voice=self.voice_from, whatsapp=self.whatsapp_from)

    def request(self, message: Message, now: datetime) -> Request:
        """The message, with its own address for receipts; Vonage takes numbers without the plus."""
        to = message.to.removeprefix("+")
        headers = self._headers(message.delivery, now)
        if message.channel is Channel.VOICE:
            return Request.json(f"{self.api_url}/v1/calls", self._call(message, to), headers)
        said = self._sms(message, now) if message.channel is Channel.SMS else self._template(message)
        common = {
            "to": to,
            "client_ref": message.delivery,
            "webhook_url": message.receipt_url,
            "webhook_version": "v1",
        }
        return Request.json(f"{self.api_url}/v1/messages", common | said, headers)

    def read(self, response: Response) -> Accepted | Rejected:
        """Both APIs say by the HTTP status whether they take it, and name it `message_uuid` or, for calls, `uuid`."""
        if not response.accepted:
            return response.rejected()
        return Accepted(_id(response.json))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:
        """The state of a message or a call; other events are none of ours. Raises Forged or Malformed."""
        self._authenticate(webhook, now)
        said = webhook.json
        message_id = _id(said)
        if not message_id:
            raise Malformed("message_uuid, uuid, call_uuid: one of them is needed")
        status, reason = _message(said) if "message_uuid" in said else _called(said)
        return [] if status is None else [Receipt(status, reason, message_id, text(said, "client_ref") or None)]

    def replies(self, webhook: provider.Webhook, now: datetime) -> list[Reply]:
        """What a person wrote, as Messages API v1 hands it on. Raises Forged or Malformed."""
        self._authenticate(webhook, now)
        said = webhook.json
        number, channel = text(said, "from"), _WRITTEN_ON.get(text(said, "channel"))
        if not number:
            raise Malformed("from is missing: set the application's webhooks to version v1")
        return [] if channel is None else [Reply(number, channel, text(said, "text"))]

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:
        """Tell Vonage whether the code of an SMS or call was used; its support must have switched this on."""
        channel = feedback.channel
        if self.api_key is None or self.api_secret is None or not self.conversions or channel is Channel.WHATSAPP:
            return None
        return conversion(f"{self.api_url}/conversions/{channel}", feedback, now, self.api_key, self.api_secret)

    def _headers(self, delivery: str, now: datetime) -> dict[str, str]:
        """A token for this request alone, good for five minutes (Vonage allows fifteen)."""
        issued = int(now.timestamp())
        claims = {
            "application_id": self.application_id,
            "iat": issued,
            "exp": issued + 300,
            "jti": str(uuid5(NAMESPACE_URL, f"{delivery} {now.isoformat()}")),
        }
        token = jwt.encode(claims, _loaded(self.private_key.get_secret_value()), algorithm="RS256")
        return {"authorization": f"Bearer {token}"}

    def _sms(self, message: Message, now: datetime) -> dict[str, Any]:
        left = math.ceil((message.expires_at - now).total_seconds())
        return {
            "message_type": "text",
            "channel": "sms",
            "from": (self.sms_from or "").removeprefix("+"),
            "text": message.text,
            "ttl": min(max(left, _SHORTEST), _LONGEST),
        }

    def _template(self, message: Message) -> dict[str, Any]:
        """An approved authentication template, as Meta takes it."""
        language = language_for(message.locale, self.whatsapp_languages)
        return {
            "message_type": "custom",
            "channel": "whatsapp",
            "from": (self.whatsapp_from or "").removeprefix("+"),
            "custom": {
                "type": "template",
                "template": template(self.whatsapp_template or "", language, message.code),
            },
        }

    def _call(self, message: Message, to: str) -> dict[str, Any]:
        """Without a voice for the language an English one at least says the digits."""
        voice = nearest(message.locale, _SPOKEN) or "en-US"
        return {
            "to": [{"type": "phone", "number": to}],
            "from": {"type": "phone", "number": (self.voice_from or "").removeprefix("+")},
            "ncco": [{"action": "talk", "text": message.text.translate(_NO_MARKUP), "language": voice, "loop": 2}],
            "event_url": [message.receipt_url],
            "event_method": "POST",
            "machine_detection": "hangup",
            "ringing_timer": 30,
        }

    def _authenticate(self, webhook: provider.Webhook, now: datetime) -> None:
        """Check the token, then that it is fresh and about this body, in constant time. Raises Forged."""
        scheme, _, token = webhook.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Forged("no signed token came with it: switch signed webhooks on for the application")
        said = claims(
            token,
            plain(self.signature_secret, self.old_signature_secret),
            issuer="Vonage",
            algorithms=["HS256"],
            require=["iss", "iat", "payload_hash"],
        )
        if said is None:
            raise Forged("the token's signature does not fit")
        if not _fresh(said, now.timestamp()):
            raise Forged("the token is too old, or from the future")
        if not is_hash(said["payload_hash"], webhook.body):
            raise Forged("the token is about another body")


def _fresh(said: dict[str, Any], now: float) -> bool:
    issued, expires = said["iat"], said.get("exp", math.inf)
    if not isinstance(issued, int | float) or not isinstance(expires, int | float):
        return False
    return _OLDEST <= issued - now <= _NEWEST and now < expires


def _id(said: dict[str, Any]) -> str:
    """The id of a message or a call, with the dashes that some events leave out; empty when there is none."""
    value = said.get("message_uuid") or said.get("uuid") or said.get("call_uuid")
    if not isinstance(value, str):
        return ""
    try:
        return str(UUID(value))
    except ValueError:
        return value


def _message(said: dict[str, Any]) -> tuple[Status | None, str | None]:
    if not (word := text(said, "status")):
        return None, None
    status = _STATUSES.get(word, Status.UNKNOWN)
    if status is not Status.FAILED:
        return status, None
    error = said.get("error")
    title = error.get("title") if isinstance(error, dict) else None
    return status, _REASONS.get(str(title), "unknown")


def _called(said: dict[str, Any]) -> tuple[Status | None, str | None]:
    """A call that was completed after a few seconds was a mailbox, or somebody who hung up."""
    if not (word := text(said, "status")):
        return None, None
    if word == "completed":
        try:
            heard = float(str(said.get("duration"))) >= HEARD
        except ValueError:
            return None, None
        return (Status.DELIVERED, None) if heard else (Status.FAILED, "unreachable")
    status, reason = _CALLS.get(word, (Status.UNKNOWN, None))
    if status is not Status.FAILED:
        return status, None
    return status, _CALL_DETAILS.get(str(said.get("detail")), reason)
