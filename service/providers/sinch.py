"""Sinch: SMS by XMS batches, calls by text-to-speech callouts.

Facts: the official packages (sinch 2.3.0 for Python, sinch-sdk-java) and https://developers.sinch.com/docs/ (delivery
reports and callbacks of SMS; events, callback signing and locales of Voice).

Reports of SMS come to the address that each message gives; Sinch signs them once its support has switched that on
(`sms_webhook_secret`), and until then the token in that address is the only secret. Events of calls come to the one
address of the application, signed with its secret; their `custom` hands our token back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Request, Response, Status
from service.providers.members import text
from service.providers.settings import ApiUrl, Secret, Text, carried, plain

_SMS_STATUSES = {
    "queued": Status.ACCEPTED,
    "dispatched": Status.SENT,
    "delivered": Status.DELIVERED,
    "failed": Status.FAILED,
    "expired": Status.FAILED,
    "rejected": Status.FAILED,
    "aborted": Status.FAILED,
    "deleted": Status.FAILED,
    "cancelled": Status.FAILED,
}
"""Sinch writes them with one capital or all, so they are met in small letters."""
_SMS_REASONS = {
    402: "route",
    403: "provider_error",
    404: "provider_error",
    405: "request",
    406: "expired",
    407: "cancelled",
    408: "carrier_blocked",
    410: "sender_config",
    411: "request",
    412: "sender_config",
    413: "auth",
}
_CALL_STATUSES = {
    "ANSWERED": Status.DELIVERED,
    "BUSY": Status.FAILED,
    "NOANSWER": Status.FAILED,
    "FAILED": Status.FAILED,
}
_CALL_REASONS = {
    "NOCREDITPARTNER": "balance",
    "USERNOTFOUND": "invalid_number",
    "CONGESTION": "provider_error",
    "GENERALERROR": "provider_error",
    "BLOCKED": "carrier_blocked",
}
_HEARD = 3
"""Seconds of a call below which nobody can have heard a code in it."""
_TOLERANCE = timedelta(minutes=5)
"""How far a signature's time may be off; Sinch's own package does not look at it."""

_VOICES = (
    "af-ZA az-AZ bg-BG bn-IN bs-BA ca-ES cs-CZ da-DK de-DE el-GR en-US es-ES et-EE fa-IR fi-FI fil-PH fr-FR he-IL hi-IN"
    " hr-HR hu-HU id-ID it-IT ja-JP ko-KR lt-LT lv-LV mk-MK ms-MY nb-NO nl-NL pl-PL pt-PT ro-RO ru-RU sk-SK sl-SI sr-RS"
    " sv-SE sw-KE ta-IN te-IN th-TH tr-TR uk-UA ur-PK vi-VN"
)
_SPOKEN = {
    **{voice.partition("-")[0]: voice for voice in _VOICES.split()},
    "ar": "arb",
    "sr-Latn": "sr-RS",
    "zh-Hans": "cmn-CN",
    "zh-Hant": "zh-TW",
}
"""What voices are called; a locale with a region is called as it is."""


def _base64(value: SecretStr) -> SecretStr:
    try:
        base64.b64decode(value.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("write the secret in base64, as the dashboard shows it") from None
    return value


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Sinch(BaseModel):
    """A service plan for SMS, an application for calls, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sinch"] = "sinch"
    api_url: ApiUrl = "https://us.sms.api.sinch.com"
    service_plan_id: Word | None = None
    api_token: Secret | None = None
    sms_from: Text | None = None
    sms_webhook_secret: Secret | None = None
    old_sms_webhook_secret: Secret | None = None
    conversions: bool = False
    voice_api_url: ApiUrl = "https://calling.api.sinch.com"
    application_key: Word | None = None
    application_secret: Annotated[Secret, AfterValidator(_base64)] | None = None
    old_application_secret: Annotated[Secret, AfterValidator(_base64)] | None = None
    voice_from: Text | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.sms_from and not (self.service_plan_id and self.api_token):
            raise ValueError("sms_from needs service_plan_id and api_token")
        if self.voice_from and not (self.application_key and self.application_secret):
            raise ValueError("voice_from needs application_key and application_secret")
        if not self.channels:
            raise ValueError("set at least one of sms_from, voice_from")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, voice=self.voice_from)

    def request(self, message: Message, now: datetime) -> Request:
        """A batch for one person, or a call that says the text."""
        if message.channel is Channel.VOICE:
            return self._call(message)
        expires = max(message.expires_at, now + timedelta(seconds=1)).astimezone(UTC)
        batch: dict[str, Any] = {
            "to": [message.to.removeprefix("+")],
            "from": self.sms_from,
            # ${name} stands for a parameter of the batch: a brand or payee written so must not become one.
            "body": message.text.replace("${", "$ {"),
            "type": "mt_text",
            "delivery_report": "per_recipient",
            "callback_url": message.receipt_url,
            "client_reference": message.delivery,
            "expire_at": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        }
        return self._post("", batch | ({"feedback_enabled": True} if self.conversions else {}))

    def read(self, response: Response) -> Accepted | Rejected:
        """A 2xx carries the batch's or the call's id; what it refuses, Sinch refuses by status."""
        if not response.accepted:
            return response.rejected()
        return Accepted(text(response.json, "id") or text(response.json, "callId"))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:
        """The reports on an SMS or the end of a call; raises Forged or Malformed.

        Which signature a body has decides what it may be, so neither kind can be passed off as the other.
        """
        if "authorization" in webhook.headers:
            self._authenticate_call(webhook, now)
            return _calls(webhook.json)
        self._authenticate_sms(webhook, now)
        return _reports(webhook.json)

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:  # noqa: ARG002 - nothing here is dated
        """Tell Sinch that an SMS arrived, since its code was used; it takes no word of one that did not.

        An empty list means every recipient of the batch.
        """
        if not (self.conversions and feedback.converted and feedback.channel is Channel.SMS):
            return None
        return self._post(f"/{quote(feedback.message_id, safe='')}/delivery_feedback", {"recipients": []})

    def _post(self, path: str, said: dict[str, Any]) -> Request:
        url = f"{self.api_url}/xms/v1/{self.service_plan_id}/batches{path}"
        token = self.api_token.get_secret_value() if self.api_token else ""
        return Request.json(url, said, {"authorization": f"Bearer {token}"})

    def _call(self, message: Message) -> Request:
        said = {
            "cli": self.voice_from,
            "destination": {"type": "number", "endpoint": message.to},
            "locale": _SPOKEN.get(message.locale, message.locale),
            "text": message.text,
            "custom": message.reference,
            "enableDice": True,
        }
        secret = self.application_secret.get_secret_value() if self.application_secret else ""
        credentials = f"{self.application_key}:{secret}".encode()
        headers = {"authorization": f"Basic {base64.b64encode(credentials).decode()}"}
        body = {"method": "ttsCallout", "ttsCallout": said}
        return Request.json(f"{self.voice_api_url}/calling/v1/callouts", body, headers)

    def _authenticate_sms(self, webhook: provider.Webhook, now: datetime) -> None:
        secrets = [secret.encode() for secret in plain(self.sms_webhook_secret, self.old_sms_webhook_secret)]
        if not secrets:
            return
        header = "x-sinch-webhook-signature"
        signature, nonce, timestamp = (webhook.headers.get(header + part, "") for part in ("", "-nonce", "-timestamp"))
        signed = b".".join((webhook.body, nonce.encode(), timestamp.encode()))
        if not _fits(signature, signed, secrets):
            raise Forged(f"{header} does not fit")
        seconds = int(timestamp) if re.fullmatch(r"[0-9]{1,12}", timestamp) else 0
        if abs(seconds - now.timestamp()) > _TOLERANCE.total_seconds():
            raise Forged(f"{header}-timestamp is too far off")

    def _authenticate_call(self, webhook: provider.Webhook, now: datetime) -> None:
        """The scheme is `Application`, in newer documentation `Service`, over the same text."""
        secrets = [base64.b64decode(secret) for secret in plain(self.application_secret, self.old_application_secret)]
        scheme, _, credentials = webhook.headers.get("authorization", "").partition(" ")
        key, _, signature = credentials.partition(":")
        if scheme.lower() not in ("application", "service") or key != self.application_key:
            raise Forged("authorization: not the application's key")
        timestamp = webhook.headers.get("x-timestamp", "")
        digest = base64.b64encode(hashlib.md5(webhook.body, usedforsecurity=False).digest()).decode()
        path = urlsplit(webhook.url).path
        lines = ("POST", digest, webhook.headers.get("content-type", ""), f"x-timestamp:{timestamp}", path)
        if not _fits(signature, "\n".join(lines).encode(), secrets):
            raise Forged("authorization: the signature does not fit")
        try:
            off = abs(datetime.fromisoformat(timestamp) - now)
        except (ValueError, TypeError):
            raise Forged("x-timestamp is no time with a zone") from None
        if off > _TOLERANCE:
            raise Forged("x-timestamp is too far off")


def _reports(said: dict[str, Any]) -> list[Receipt]:
    """The receipts in a report on a recipient or on a batch, which has one recipient."""
    if not isinstance(said.get("type"), str):
        raise Malformed("type: a string is missing")
    reports = {"recipient_delivery_report_sms": [said], "delivery_report_sms": said.get("statuses")}.get(
        said["type"], []
    )
    if not isinstance(reports, list) or not all(isinstance(report, dict) for report in reports):
        raise Malformed("statuses: a list of objects is missing")
    reference = text(said, "client_reference") or None
    receipts = []
    for report in reports:
        word, code = text(report, "status").lower(), report.get("code")
        status = _SMS_STATUSES.get(word, Status.UNKNOWN)
        fallback = word if word in ("expired", "cancelled") else "unknown"
        reason = _SMS_REASONS.get(code, fallback) if isinstance(code, int) else fallback
        if word:
            failed = status is Status.FAILED
            receipts.append(Receipt(status, reason if failed else None, text(said, "batch_id"), reference))
    return receipts


def _calls(said: dict[str, Any]) -> list[Receipt]:
    """The receipt in the event that a call has ended; other events say nothing of the delivery."""
    if not isinstance(said.get("event"), str):
        raise Malformed("event: a string is missing")
    result, duration = text(said, "result"), said.get("duration")
    if said["event"] != "dice" or not result:
        return []
    status, reason = _CALL_STATUSES.get(result, Status.UNKNOWN), None
    if result == "ANSWERED" and isinstance(duration, int) and duration < _HEARD:
        status = Status.FAILED
    if status is Status.FAILED:
        reason = _CALL_REASONS.get(text(said, "reason"), "unknown") if result == "FAILED" else "unreachable"
    return [Receipt(status, reason, text(said, "callid"), text(said, "custom") or None)]


def _fits(signature: str, signed: bytes, secrets: list[bytes]) -> bool:
    """Whether a signature is that of one of the secrets, in constant time."""
    proofs = [base64.b64encode(hmac.digest(secret, signed, "sha256")) for secret in secrets]
    return any(hmac.compare_digest(proof, signature.encode()) for proof in proofs)
