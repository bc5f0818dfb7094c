"""AWS End User Messaging: SMS and voice, with receipts by way of SNS.

Facts: botocore's models of pinpoint-sms-voice-v2 (1.43.11), and the guides of AWS End User Messaging and of Amazon SNS
(https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html).

Receipts are events of the configuration set, sent by an SNS topic to one HTTPS address. SNS signs them and names where
its certificate is to be had; nothing here ever visits an address out of a webhook, so the operator gives the
certificates (`sns_certificates`). Only signature version 2 (RSA with SHA-256) is taken: set it on the topic, and leave
raw delivery off. No age is asked of a message, because SNS repeats the same one for as long as its policy says.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import AfterValidator, Field, model_validator

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Request, Response, Status
from service.providers.aws_account import AwsAccount
from service.providers.languages import nearest
from service.providers.members import text
from service.providers.settings import ApiUrl, Text, carried

_STATUSES = {
    "TEXT_PENDING": Status.ACCEPTED,
    "TEXT_QUEUED": Status.ACCEPTED,
    "TEXT_SENT": Status.SENT,
    "TEXT_SUCCESSFUL": Status.SENT,  # the carrier has it; only TEXT_DELIVERED speaks of the handset
    "TEXT_DELIVERED": Status.DELIVERED,
    "VOICE_INITIATED": Status.ACCEPTED,
    "VOICE_RINGING": Status.SENT,
    "VOICE_ANSWERED": Status.SENT,
    "VOICE_COMPLETED": Status.DELIVERED,
}
_FAILURES = {
    "TEXT_BLOCKED": "opted_out",
    "TEXT_CARRIER_BLOCKED": "carrier_blocked",
    "TEXT_CARRIER_UNREACHABLE": "provider_error",
    "TEXT_INVALID": "invalid_number",
    "TEXT_INVALID_MESSAGE": "request",
    "TEXT_PROTECT_BLOCKED": "fraud_blocked",
    "TEXT_SPAM": "carrier_blocked",
    "TEXT_TTL_EXPIRED": "expired",
    "TEXT_UNREACHABLE": "unreachable",
    "VOICE_BUSY": "unreachable",
    "VOICE_FAILED": "unknown",
    "VOICE_NO_ANSWER": "unreachable",
    "VOICE_TTL_EXPIRED": "expired",
}
_REASONS = {
    "ACCOUNT_DISABLED": "auth",
    "AccessDeniedException": "auth",
    "CHANNEL_NOT_ENABLED": "sender_config",
    "COUNTRY_NOT_ENABLED": "geo_blocked",
    "DAILY_DESTINATION_CALL_LIMIT": "rate_limited",
    "DESTINATION_COUNTRY_BLOCKED": "geo_blocked",
    "DESTINATION_COUNTRY_BLOCKED_BY_PROTECT_CONFIGURATION": "geo_blocked",
    "DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE": "fraud_blocked",
    "DESTINATION_PHONE_NUMBER_NOT_VERIFIED": "sender_config",
    "DESTINATION_PHONE_NUMBER_OPTED_OUT": "opted_out",
    "ExpiredTokenException": "auth",
    "INSUFFICIENT_ACCOUNT_REPUTATION": "auth",
    "INTERNATIONAL_SENDING_NOT_SUPPORTED": "geo_blocked",
    "INVALID_IDENTITY_FOR_DESTINATION_COUNTRY": "sender_config",
    "InternalServerException": "provider_error",
    "InvalidSignatureException": "auth",
    "MESSAGE_TYPE_MISMATCH": "sender_config",
    "MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT": "balance",
    "MONTHLY_SPEND_LIMIT_REACHED_FOR_VOICE": "balance",
    "NO_ORIGINATION_IDENTITIES_FOUND": "sender_config",
    "NUMBER_CAPABILITIES_MISMATCH": "sender_config",
    "OTHER": "unknown",
    "PRICE_OVER_THRESHOLD": "sender_config",
    "RESOURCE_NOT_ACTIVE": "sender_config",
    "ResourceNotFoundException": "sender_config",
    "SENDER_ID_NOT_REGISTERED": "sender_config",
    "SENDER_ID_NOT_SUPPORTED": "sender_config",
    "SENDER_ID_REQUIRES_REGISTRATION": "sender_config",
    "ThrottlingException": "rate_limited",
    "UnrecognizedClientException": "auth",
    "VOICE_CAPABILITY_NOT_AVAILABLE": "sender_config",
}
"""By the `Reason` of an exception, else by its name; what is not here is our request's fault."""

_VOICES = {
    "ar": "ZEINA",
    "da": "NAJA",
    "de": "VICKI",
    "en": "JOANNA",
    "es": "CONCHITA",
    "fr": "CELINE",
    "it": "CARLA",
    "ja": "MIZUKI",
    "ko": "SEOYEON",
    "nb": "LIV",
    "nl": "LOTTE",
    "pl": "EWA",
    "pt": "INES",
    "pt-BR": "CAMILA",
    "ro": "CARMEN",
    "ru": "TATYANA",
    "sv": "ASTRID",
    "tr": "FILIZ",
    "zh-Hans": "ZHIYU",
}
"""Amazon Polly's standard voices, as far as `SendVoiceMessage` takes them."""

_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""What SNS signs of each type of message, in this order; `Subject` only where there is one."""
_SHORTEST, _LONGEST = 5, 259_200
"""The bounds of `TimeToLive` in seconds."""


def _certificate(value: str) -> str:
    try:
        key = x509.load_pem_x509_certificate(value.encode()).public_key()
    except ValueError:
        raise ValueError("write a certificate as PEM text, from -----BEGIN CERTIFICATE----- on") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("SNS signs with RSA, and this certificate is for another kind of key")
    return value


class Aws(AwsAccount):
    """An account, a sender for each channel, and the topic that receipts come from."""

    kind: Literal["aws"] = "aws"
    sms_from: Text | None = None
    voice_from: Text | None = None
    configuration_set: Text | None = None
    conversions: bool = False
    sns_topic: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:\S+$")] | None = None
    sns_certificates: tuple[Annotated[str, AfterValidator(_certificate)], ...] = ()
    sns_api_url: ApiUrl | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.channels:
            raise ValueError("set at least one of sms_from, voice_from")
        if bool(self.sns_topic) != bool(self.sns_certificates):
            raise ValueError("receipts need both sns_topic and sns_certificates")
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that have a sender."""
        return carried(sms=self.sms_from, voice=self.voice_from)

    def request(self, message: Message, now: datetime) -> Request:
        """The message with the token of its receipts in its `Context`, which its events repeat.

        A call in a language that no voice speaks says the digits alone, in English: better than words in no language.
        """
        seconds = math.ceil((message.expires_at - now).total_seconds())
        said: dict[str, Any] = {
            "DestinationPhoneNumber": message.to,
            "TimeToLive": min(max(seconds, _SHORTEST), _LONGEST),
            "Context": {"ref": message.reference},
        }
        if self.configuration_set:
            said["ConfigurationSetName"] = self.configuration_set
        if self.conversions:
            said["MessageFeedbackEnabled"] = True
        if message.channel is Channel.VOICE:
            voice = nearest(message.locale, _VOICES)
            digits = ", ".join(message.code)
            words = message.text if voice else f"{digits}. {digits}."
            said |= {"OriginationIdentity": self.voice_from, "MessageBody": words, "MessageBodyTextType": "TEXT"}
            return self._post("SendVoiceMessage", said | {"VoiceId": voice or _VOICES["en"]}, now)
        said |= {"OriginationIdentity": self.sms_from, "MessageBody": message.text, "MessageType": "TRANSACTIONAL"}
        return self._post("SendTextMessage", said, now)

    def read(self, response: Response) -> Accepted | Rejected:
        """A `MessageId`, or an exception with its name and mostly a `Reason`."""
        said = response.json
        if response.accepted:
            return Accepted(text(said, "MessageId"))
        name = text(said, "__type").rpartition("#")[2]
        return response.rejected(_REASONS.get(text(said, "Reason")) or _REASONS.get(name))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:
        """The event in a notification; other messages of SNS hold none. Raises Forged or Malformed."""
        said = self._authenticated(webhook, now)
        if said["Type"] != "Notification":
            return []
        try:
            event = orjson.loads(said["Message"])
        except orjson.JSONDecodeError:
            raise Malformed("Message: it is no JSON") from None
        if not isinstance(event, dict) or not isinstance(event.get("eventType"), str):
            raise Malformed("Message: it is no event of a message")
        reason = _FAILURES.get(event["eventType"])
        status = Status.FAILED if reason else _STATUSES.get(event["eventType"], Status.UNKNOWN)
        return [Receipt(status, reason, text(event, "messageId"), text(event, "context", "ref") or None)]

    def confirmation(self, webhook: provider.Webhook, now: datetime) -> Request | None:
        """What confirms the subscription that a `SubscriptionConfirmation` offers, to SNS itself.

        The address is made from our own settings: the `SubscribeURL` of a webhook is never visited. Raises Forged.
        """
        said = self._authenticated(webhook, now)
        if said["Type"] != "SubscriptionConfirmation":
            return None
        url = self.sns_api_url or f"https://{_sns_host(said['TopicArn'])}"
        asked = {"Action": "ConfirmSubscription", "Version": "2010-03-31"}
        asked |= {"TopicArn": said["TopicArn"], "Token": said["Token"]}
        return Request(f"{url}/?{urlencode(asked)}", {}, b"", method="GET")

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:
        """Tell AWS whether a code was used, which for it is whether the message was received."""
        if not self.conversions:
            return None
        status = "RECEIVED" if feedback.converted else "FAILED"
        said = {"MessageId": feedback.message_id, "MessageFeedbackStatus": status}
        return self._post("PutMessageFeedback", said, now)

    def _post(self, operation: str, said: dict[str, Any], now: datetime) -> Request:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"PinpointSMSVoiceV2.{operation}"}
        return self.signed("sms-voice", headers, orjson.dumps(said), now)

    def _authenticated(self, webhook: provider.Webhook, now: datetime) -> dict[str, str]:
        """The strings of a message that SNS signed for our topic. Raises Forged."""
        said = {name: value for name, value in webhook.json.items() if isinstance(value, str)}
        if self.sns_topic is None or said.get("TopicArn") != self.sns_topic:
            raise Forged("TopicArn: not the topic of ours")
        source = rf"https://{re.escape(_sns_host(self.sns_topic))}/[^\s/?#]+\.pem"
        if said.get("SignatureVersion") != "2" or not re.fullmatch(source, said.get("SigningCertURL", "")):
            raise Forged("SignatureVersion is not 2, or SigningCertURL is not of SNS")
        names = [name for name in _SIGNED.get(said.get("Type", ""), ()) if name != "Subject" or name in said]
        if not names or not said.keys() >= set(names):
            raise Forged("Type: a message of SNS has others, or more in it")
        signed = "".join(f"{name}\n{said[name]}\n" for name in names).encode()
        if not any(_fits(said.get("Signature", ""), signed, pem, now) for pem in self.sns_certificates):
            raise Forged("Signature: not by the certificates of sns_certificates")
        return said


def _sns_host(topic: str) -> str:
    """Where the SNS of a topic is: its ARN is `arn:<partition>:sns:<region>:<account>:<name>`."""
    _, partition, _, region, _ = topic.split(":", 4)
    return f"sns.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def _fits(signature: str, signed: bytes, pem: str, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    key = certificate.public_key()
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc or not isinstance(
        key, RSAPublicKey
    ):
        return False
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
