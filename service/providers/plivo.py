"""Plivo: SMS, WhatsApp by authentication template, and calls.

Sources: the official SDK (plivo 4.63.0) and Plivo's pages on messages, calls, error codes and signature validation.
There is no key against a message sent twice.

A call fetches its words from us. They travel in the address that Plivo is given, sealed under the account's token and
bound to the delivery, so that nothing has to be stored: `handshake` opens them for a request that Plivo has signed.
"""

from __future__ import annotations

import hmac
import html
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.calls import heard
from service.providers.languages import nearest
from service.providers.settings import E164, ApiUrl, Secret, carried, plain, together
from service.providers.whatsapp import Language, TemplateName, components

_SHORTEST_EXPIRY, _LONGEST_EXPIRY = 5, 10_800
"""Seconds that Plivo goes on trying to send a message."""

# Words of messages and of calls.
_STATUSES = {
    "queued": Status.ACCEPTED,
    "sent": Status.SENT,
    "ringing": Status.SENT,
    "in-progress": Status.SENT,
    "delivered": Status.DELIVERED,
    "completed": Status.DELIVERED,
    "read": Status.READ,
    "undelivered": Status.FAILED,
    "failed": Status.FAILED,
    "rejected": Status.FAILED,
    "busy": Status.FAILED,
    "no-answer": Status.FAILED,
    "timeout": Status.FAILED,
}

# What a failure means where no code says more.
_ENDINGS = {"busy": "unreachable", "no-answer": "unreachable", "timeout": "unreachable", "completed": "unreachable"}

_REASONS = {
    "10": "request",
    "20": "provider_error",
    "30": "carrier_blocked",
    "40": "sender_config",
    "50": "landline",
    "60": "provider_error",
    "70": "invalid_number",
    "80": "unreachable",
    "90": "route",
    "100": "carrier_blocked",
    "110": "request",
    "200": "opted_out",
    "201": "sender_config",
    "1000": "unknown",
}

# Amazon Polly's standard voices, as `<Speak>` names them. Other languages are left to its default voice, which reads at
# least the digits.
_VOICES = {
    "ar": "Polly.Zeina",
    "da": "Polly.Naja",
    "de": "Polly.Marlene",
    "en": "Polly.Joanna",
    "es": "Polly.Lucia",
    "fr": "Polly.Celine",
    "hi": "Polly.Aditi",
    "it": "Polly.Carla",
    "ja": "Polly.Mizuki",
    "ko": "Polly.Seoyeon",
    "nb": "Polly.Liv",
    "nl": "Polly.Lotte",
    "pl": "Polly.Ewa",
    "pt": "Polly.Ines",
    "pt-BR": "Polly.Vitoria",
    "ro": "Polly.Carmen",
    "ru": "Polly.Tatyana",
    "sv": "Polly.Astrid",
    "tr": "Polly.Filiz",
    "zh-Hans": "Polly.Zhiyu",
}


class Plivo(BaseModel):
    """An account, and a sender for each channel that it carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["plivo"] = "plivo"
    auth_id: str = Field(pattern=r"^(MA|SA)[A-Z0-9]{18}$")
    auth_token: Secret
    old_auth_token: Secret | None = None
    sms_from: str | None = Field(
        default=None, pattern=r"^(\+[1-9][0-9]{6,14}|[0-9]{3,8}|[0-9]{0,2}[A-Za-z][A-Za-z0-9 ]{0,10})$"
    )
    sms_powerpack: str | None = Field(default=None, pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    whatsapp_from: E164 | None = None
    whatsapp_template: TemplateName | None = None
    whatsapp_language: Language = "en_US"
    whatsapp_languages: Mapping[str, Language] = {}
    voice_from: E164 | None = None
    voices: Mapping[str, Annotated[str, Field(pattern=r"^[A-Za-z.-]{1,40}$")]] = {}
    api_url: ApiUrl = "https://api.plivo.com"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.sms_from is not None and self.sms_powerpack is not None:
            raise ValueError("write sms_from or sms_powerpack, not both")
        together(whatsapp_from=self.whatsapp_from, whatsapp_template=self.whatsapp_template)
        if not self.channels:
            raise ValueError("write at least one of sms_from, sms_powerpack, whatsapp_from, voice_from")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from or self.sms_powerpack, whatsapp=self.whatsapp_from, voice=self.voice_from)

    def request(self, message: Message, now: datetime) -> Request:
        """A message or a call, with receipts to the message's own address. Its content stays out of Plivo's logs."""
        to = message.to.removeprefix("+")
        receipts = {"url": message.receipt_url, "method": "POST", "log": "false"}
        match message.channel:
            case Channel.VOICE:
                call = {
                    "from": (self.voice_from or "").removeprefix("+"),
                    "to": to,
                    "answer_url": f"{message.receipt_url}?say={self._sealed(message)}",
                    "answer_method": "POST",
                    "hangup_url": message.receipt_url,
                    "ring_timeout": 30,
                    "machine_detection": "hangup",
                }
                return self._post("Call/", call)
            case Channel.WHATSAPP:
                sender = {"src": (self.whatsapp_from or "").removeprefix("+")}
                words: dict[str, Any] = {"type": "whatsapp", "template": self._template(message)}
            case Channel.SMS:
                sender = {"src": (self.sms_from or "").removeprefix("+")}
                if self.sms_powerpack is not None:
                    sender = {"powerpack_uuid": self.sms_powerpack}
                left = int((message.expires_at - now).total_seconds())
                expiry = min(max(left, _SHORTEST_EXPIRY), _LONGEST_EXPIRY)
                words = {"type": "sms", "text": message.text, "message_expiry": expiry}
        return self._post("Message/", {**sender, "dst": to, **words, **receipts})

    def _template(self, message: Message) -> dict[str, Any]:
        """The template; Plivo writes its language otherwise than Meta."""
        return {
            "name": self.whatsapp_template,
            "language": nearest(message.locale, self.whatsapp_languages) or self.whatsapp_language,
            "components": components(message.code),
        }

    def _post(self, path: str, said: dict[str, Any]) -> Request:
        basic = b64encode(f"{self.auth_id}:{self.auth_token.get_secret_value()}".encode()).decode()
        url = f"{self.api_url}/v1/Account/{self.auth_id}/{path}"
        return Request.json(url, said, {"authorization": f"Basic {basic}"})

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts, unless it lists the number as invalid or carries an error. Errors have no codes."""
        said = response.json
        if not response.accepted:
            return response.rejected()
        if said.get("invalid_number"):
            return Rejected("invalid_number")
        if said.get("error"):
            return Rejected("unknown")
        # A message has a list of ids, of which we ask for one; a call has one.
        match said.get("message_uuid", said.get("request_uuid")):
            case [str(found), *_] | str(found):
                return Accepted(found)
        return Accepted()

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - Plivo signs a nonce, no time
        """The receipt of a message, or of a part of one, or of a call. Raises Forged or Malformed."""
        covered = self._authenticate(webhook)
        fields = dict(_form(webhook))
        if "CallStatus" in fields:
            if not covered:
                raise Forged("what is said of a call must be signed, by V3")
            return _call(fields)
        if not (word := fields.get("Status")):
            return []
        status = _STATUSES.get(word, Status.UNKNOWN)
        # Of a long message each part is reported; it was accepted under its parent's name.
        message = fields.get("ParentMessageUUID") or fields.get("MessageUUID")
        if not message:
            raise Malformed("MessageUUID is missing")
        reason = _REASONS.get(fields.get("ErrorCode", ""), "unknown") if status is Status.FAILED else None
        return [Receipt(status, reason, message)]

    def nonce(self, webhook: Webhook) -> str | None:
        """The nonce of a webhook that is signed by V2, whose body anybody could write who saw it."""
        return None if _by_v3(webhook) else webhook.headers.get("x-plivo-signature-v2-nonce", "")

    def handshake(self, webhook: Webhook) -> bytes | None:
        """What to say, as XML, when Plivo asks for it; None for any other request. Raises Forged or Malformed."""
        sealed = dict(parse_qsl(urlsplit(webhook.url).query)).get("say")
        if sealed is None:
            return None
        if not self._authenticate(webhook):
            raise Forged("who asks what to say must sign, by V3")
        for token in plain(self.auth_token, self.old_auth_token):
            try:
                said = _cipher(token).decrypt(_unpadded(sealed), [_address(webhook.url).encode()]).decode()
            except (InvalidTag, ValueError):
                continue
            voice, _, text = said.partition("\n")
            speak = f'Speak voice="{voice}"' if voice else "Speak"
            return f"<Response><{speak}>{html.escape(text, quote=False)}</Speak></Response>".encode()
        raise Malformed("the address does not hold what to say")

    def _sealed(self, message: Message) -> str:
        voice = nearest(message.locale, self.voices) or nearest(message.locale, _VOICES) or ""
        cipher = _cipher(self.auth_token.get_secret_value())
        sealed = cipher.encrypt(f"{voice}\n{message.text}".encode(), [message.receipt_url.encode()])
        return urlsafe_b64encode(sealed).decode().rstrip("=")

    def _authenticate(self, webhook: Webhook) -> bool:
        """Whether query and body are covered, as by V3; V2 (messages) covers the address only. Raises Forged."""
        covered = _by_v3(webhook)
        version, text = ("v3", _signed_by_v3(webhook) + ".") if covered else ("v2", _address(webhook.url))
        nonce = webhook.headers.get(f"x-plivo-signature-{version}-nonce", "")
        tokens = plain(self.auth_token, self.old_auth_token)
        macs = [b64encode(hmac.digest(token.encode(), (text + nonce).encode(), "sha256")) for token in tokens]
        # `ma` is signed by the main account: the same token, if that is the one that sends.
        for main in ("", "-ma"):
            for said in webhook.headers.get(f"x-plivo-signature{main}-{version}", "").encode().split(b","):
                if any(hmac.compare_digest(mac, said) for mac in macs):
                    return covered
        raise Forged(f"x-plivo-signature-{version} does not fit")


def _call(fields: Mapping[str, str]) -> list[Receipt]:
    word = fields["CallStatus"]
    status = _STATUSES.get(word, Status.UNKNOWN)
    if word == "completed" and (fields.get("Machine") == "true" or not heard(fields.get("Duration", ""))):
        status = Status.FAILED
    reason = _ENDINGS.get(word, "unknown") if status is Status.FAILED else None
    # The call was accepted under the name of the request; `CallUUID` is another one.
    return [Receipt(status, reason, fields.get("RequestUUID", ""))]


def _by_v3(webhook: Webhook) -> bool:
    return any(webhook.headers.get(f"x-plivo-signature{main}-v3") for main in ("", "-ma"))


def _signed_by_v3(webhook: Webhook) -> str:
    """The address, the sorted query, and the sorted form without separators, as V3 joins them before the nonce."""
    pairs = parse_qsl(urlsplit(webhook.url).query, keep_blank_values=True)
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    form = "".join(name + value for name, value in sorted(_form(webhook)))
    marks = ("?" if query or form else "", "." if query and form else "")
    return f"{_address(webhook.url)}{marks[0]}{query}{marks[1]}{form}"


def _form(webhook: Webhook) -> list[tuple[str, str]]:
    try:
        return parse_qsl(webhook.body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Forged("the form is not UTF-8, as Plivo's are") from None


def _address(url: str) -> str:
    return url.partition("?")[0]


def _cipher(token: str) -> AESSIV:
    """A cipher that needs no nonce: the same delivery has the same address, also when it is tried again."""
    return AESSIV(HKDF(SHA256(), 64, salt=None, info=b"verifyd: what a call says").derive(token.encode()))


def _unpadded(sealed: str) -> bytes:
    return urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
