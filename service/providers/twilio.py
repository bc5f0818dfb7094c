"""Twilio: SMS, WhatsApp by content template, and calls with inline TwiML.

Sources: Twilio's interface description (twilio/twilio-oai, api 2010-04-01) and its pages on the message and call
resources, status callbacks, webhook security (https://www.twilio.com/docs/usage/security), webhook shared keys, `<Say>`
and errors. There is no key against a message sent twice, and receipts carry no time: replays change nothing only
because a delivery moves forward.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import Forged, Malformed
from service.provider import (
    Accepted,
    Channel,
    Feedback,
    Message,
    Receipt,
    Rejected,
    Reply,
    Request,
    Response,
    Status,
    Webhook,
)
from service.providers.calls import heard
from service.providers.languages import nearest
from service.providers.members import text
from service.providers.settings import E164, ApiUrl, Secret, carried, plain, together

_FORM = "application/x-www-form-urlencoded"
_LONGEST_VALIDITY = 36_000
"""Seconds (error 90007)."""
_SID = 34
"""Characters: a sender of this length can only be a messaging service."""

_INBOUND = {"receiving", "received"}
"""What is said of a message from a person."""

# Words of messages and of calls. What `partially_delivered` means for a code is as unknown as a word that is new.
_STATUSES = {
    "accepted": Status.ACCEPTED,
    "scheduled": Status.ACCEPTED,
    "queued": Status.ACCEPTED,
    "sending": Status.ACCEPTED,
    "initiated": Status.ACCEPTED,
    "sent": Status.SENT,
    "ringing": Status.SENT,
    "in-progress": Status.SENT,
    "delivered": Status.DELIVERED,
    "completed": Status.DELIVERED,
    "read": Status.READ,
    "undelivered": Status.FAILED,
    "failed": Status.FAILED,
    "busy": Status.FAILED,
    "no-answer": Status.FAILED,
    "canceled": Status.FAILED,
}

# What a failure means where no code says more.
_ENDINGS = {"busy": "unreachable", "no-answer": "unreachable", "completed": "unreachable", "canceled": "cancelled"}

_REASONS = {
    code: reason
    for reason, codes in {
        "invalid_number": "13223 13226 21211 21217",
        "landline": "21614 21635 30006",
        "not_on_channel": "63003 63024",
        "unreachable": "30003 34002",
        "opted_out": "21610 63014 63033",
        "carrier_blocked": "30004 30007 30038 63013 63026 63032",
        "route": "13224 21214 21612 30005",
        "geo_blocked": "13227 21215 21408",
        "fraud_blocked": "13225 21216 30450",
        "sender_config": "21210 21212 21219 21603 21606 21608 21655 21656 21703 21704 21709 30018 30024 30032 30033"
        " 30034 30035 30042 63002 63007 63008 63015 63016 63020 63027 63028 63040 63041 63042 63049",
        "auth": "20003 20404 30002 63001 63051",
        "request": "20001 21604 21617 30010 30019 63005 63006 63021",
        "rate_limited": "20429 21611 30001 30017 30022 30023 30027 63017 63018 63038",
        "provider_error": "20500 20503 30410 63009 63010 63012",
        "expired": "30036",
        "unknown": "30008",
    }.items()
    for code in codes.split()
}

# What `<Say>` calls the languages that it speaks. In any other it would say nothing, so that they are left to its
# default voice, which reads at least the digits.
_SPOKEN = (
    "af-ZA ar-XA bg-BG bn-IN ca-ES cs-CZ da-DK de-DE el-GR en-US es-ES et-EE fi-FI fil-PH fr-FR he-IL hi-IN hu-HU id-ID"
    " it-IT ja-JP ko-KR lt-LT lv-LV ms-MY nb-NO nl-NL pl-PL pt-PT ro-RO ru-RU sk-SK sr-RS sv-SE ta-IN te-IN th-TH tr-TR"
    " uk-UA vi-VN"
)
_LANGUAGES = {language.partition("-")[0]: language for language in _SPOKEN.split()} | {
    "pt-BR": "pt-BR",
    "zh-Hans": "zh-CN",
    "zh-Hant": "zh-TW",
}

_WRITTEN_ON = {"": Channel.SMS, "whatsapp": Channel.WHATSAPP}
"""The channel of a reply, by what stands before the number that it comes from."""

Template = Annotated[str, Field(pattern=r"^HX[0-9a-fA-F]{32}$")]


class Twilio(BaseModel):
    """An account, what it signs with, and a sender for each channel that it carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["twilio"] = "twilio"
    account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$")
    auth_token: Secret | None = None
    old_auth_token: Secret | None = None
    api_key_sid: str | None = Field(default=None, pattern=r"^SK[0-9a-fA-F]{32}$")
    api_key_secret: Secret | None = None
    webhook_key: Secret | None = None
    old_webhook_key: Secret | None = None
    sms_from: str | None = Field(
        default=None,
        pattern=r"^(\+[1-9][0-9]{6,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|[0-9]{0,2}[A-Za-z][A-Za-z0-9 &+_-]{0,10})$",
    )
    whatsapp_from: E164 | None = None
    whatsapp_template: Template | None = None
    whatsapp_templates: Mapping[str, Template] = {}
    voice_from: E164 | None = None
    voice_languages: Mapping[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{2,20}$")]] = {}
    api_url: ApiUrl = "https://api.twilio.com"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        together(api_key_sid=self.api_key_sid, api_key_secret=self.api_key_secret)
        if self.auth_token is None and self.api_key_sid is None:
            raise ValueError("write auth_token, or api_key_sid and api_key_secret")
        if self.auth_token is None and self.webhook_key is None:
            raise ValueError("write auth_token or webhook_key: receipts are signed with one of them")
        together(whatsapp_from=self.whatsapp_from, whatsapp_template=self.whatsapp_template)
        if not self.channels:
            raise ValueError("write at least one of sms_from, whatsapp_from, voice_from")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, whatsapp=self.whatsapp_from, voice=self.voice_from)

    def request(self, message: Message, now: datetime) -> Request:
        """A message or a call, with receipts to the message's own address."""
        fields = [("StatusCallback", message.receipt_url)]
        match message.channel:
            case Channel.VOICE:
                return self._post("Calls.json", fields + self._call(message))
            case Channel.WHATSAPP:
                template = nearest(message.locale, self.whatsapp_templates) or self.whatsapp_template or ""
                fields += [
                    ("To", f"whatsapp:{message.to}"),
                    ("From", f"whatsapp:{self.whatsapp_from}"),
                    ("ContentSid", template),
                    ("ContentVariables", json.dumps({"1": message.code}, separators=(",", ":"))),
                ]
            case Channel.SMS:
                sender = self.sms_from or ""
                left = int((message.expires_at - now).total_seconds())
                fields += [
                    ("To", message.to),
                    ("MessagingServiceSid" if len(sender) == _SID else "From", sender),
                    ("Body", message.text),
                    ("ValidityPeriod", str(min(max(left, 1), _LONGEST_VALIDITY))),
                    ("ProvideFeedback", "true"),
                ]
        return self._post("Messages.json", fields)

    def _call(self, message: Message) -> list[tuple[str, str]]:
        language = nearest(message.locale, self.voice_languages) or nearest(message.locale, _LANGUAGES)
        say = f'Say language="{language}"' if language else "Say"
        return [
            ("To", message.to),
            ("From", self.voice_from or ""),
            ("Twiml", f"<Response><{say}>{html.escape(message.text, quote=False)}</Say></Response>"),
            *(("StatusCallbackEvent", event) for event in ("initiated", "ringing", "answered", "completed")),
            ("MachineDetection", "Enable"),
            ("Timeout", "30"),
        ]

    def _post(self, path: str, fields: list[tuple[str, str]]) -> Request:
        user, secret = self.account_sid, self.auth_token
        if self.api_key_sid is not None:
            user, secret = self.api_key_sid, self.api_key_secret
        password = secret.get_secret_value() if secret else ""
        basic = b64encode(f"{user}:{password}".encode()).decode()
        url = f"{self.api_url}/2010-04-01/Accounts/{self.account_sid}/{path}"
        return Request.form(url, fields, {"authorization": f"Basic {basic}"})

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts, unless the message is already refused in it; an error has a code of its own."""
        said = response.json
        if not response.accepted:
            return response.rejected(_REASONS.get(str(said.get("code"))))
        if said.get("error_code") or said.get("status") in ("failed", "undelivered", "canceled"):
            return Rejected(_REASONS.get(str(said.get("error_code")), "unknown"))
        return Accepted(text(said, "sid"))

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:  # noqa: ARG002 - Twilio asks for no time
        """Tell whether the code of an SMS was used (Message Feedback); there is none for the other channels."""
        sid = feedback.message_id
        if feedback.channel is not Channel.SMS or not re.fullmatch(r"[SM]M[0-9a-fA-F]{32}", sid):
            return None
        outcome = "confirmed" if feedback.converted else "unconfirmed"
        return self._post(f"Messages/{sid}/Feedback.json", [("Outcome", outcome)])

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - Twilio signs no time
        """The receipt of a message or a call. Raises Forged or Malformed."""
        fields = self._authenticated(webhook)
        word = fields.get("MessageStatus") or fields.get("CallStatus", "")
        if not word or word in _INBOUND:
            return []
        status = _STATUSES.get(word, Status.UNKNOWN)
        sid = fields.get("MessageSid") or fields.get("CallSid")
        if not sid:
            raise Malformed("MessageSid or CallSid is missing")
        if word == "completed" and not _person_heard(fields):
            status = Status.FAILED
        if status is not Status.FAILED:
            return [Receipt(status, None, sid)]
        reason = _REASONS.get(fields.get("ErrorCode", "")) or _ENDINGS.get(word, "unknown")
        return [Receipt(status, reason, sid)]

    def replies(self, webhook: Webhook, now: datetime) -> list[Reply]:  # noqa: ARG002 - Twilio signs no time
        """What a person wrote. Raises Forged or Malformed.

        `OptOutType` says what a messaging service with Advanced Opt-Out took it for, in whatever language it was. To
        Twilio, YES is an opt-in (its page on opt-out keywords).
        """
        fields = self._authenticated(webhook)
        kind, _, number = fields.get("From", "").rpartition(":")
        if not number:
            raise Malformed("From is missing")
        channel, said = _WRITTEN_ON.get(kind), fields.get("OptOutType") or fields.get("Body", "")
        if channel is None:
            return []
        return [Reply(number, channel, "START" if said.strip().upper() == "YES" else said)]

    def _authenticated(self, webhook: Webhook) -> dict[str, str]:
        """The form, once its signature fits. Raises Forged."""
        form = _form(webhook)
        settings = webhook.headers.get("x-twilio-webhooks-signature-settings")
        if settings is None:
            digest, keys = "sha1", plain(self.auth_token, self.old_auth_token)
        elif "algorithm=HMAC_SHA256" in [part.strip() for part in settings.split(",")]:
            digest, keys = "sha256", plain(self.webhook_key, self.old_webhook_key)
        else:
            raise Forged("x-twilio-webhooks-signature-settings names an unknown algorithm")
        # Repeated pairs count once; neither names nor values are separated.
        joined = "".join(name + value for name, value in sorted(set(form)))
        said = webhook.headers.get("x-twilio-signature", "").encode()
        for key in keys:
            for url in _spellings(webhook.url):
                mac = hmac.digest(key.encode(), (url + joined).encode(), digest)
                if hmac.compare_digest(said, b64encode(mac)):
                    return dict(form)
        raise Forged("x-twilio-signature does not fit")


def _form(webhook: Webhook) -> list[tuple[str, str]]:
    """What a body says; one that is no form says nothing, and must be covered by `bodySHA256` in the URL."""
    media = webhook.headers.get("content-type", "").partition(";")[0].strip().lower()
    if webhook.body and media != _FORM:
        said = parse_qs(urlsplit(webhook.url).query).get("bodySHA256", [""])[0]
        if not hmac.compare_digest(said.encode(), hashlib.sha256(webhook.body).hexdigest().encode()):
            raise Forged("the body is neither a form nor the one of bodySHA256")
        return []
    try:
        return parse_qsl(webhook.body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Forged("the form is not UTF-8, so that nothing was signed") from None


def _spellings(url: str) -> Iterator[str]:
    """The URL with and without its default port: Twilio signs either."""
    yield url
    if found := re.fullmatch(r"(https?)://([^/:?#]+)(:[0-9]+)?([/?].*)?", url):
        scheme, host, port, rest = found.groups(default="")
        default = ":443" if scheme == "https" else ":80"
        if port in ("", default):
            yield f"{scheme}://{host}{'' if port else default}{rest}"


def _person_heard(fields: Mapping[str, str]) -> bool:
    """Whether a person was on the line long enough; a machine keeps the code for whoever listens to it later."""
    person = not fields.get("AnsweredBy", "").startswith(("machine", "fax"))
    return person and heard(fields.get("CallDuration", ""))
