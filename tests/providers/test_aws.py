"""AWS End User Messaging: what it is sent, what it answers, and what SNS reports under its signature."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service import provider
from service.errors import BadWebhook, Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Status
from service.providers import aws
from service.providers.aws import Aws
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

MODEL = ServiceModel(documented("aws/service"), "pinpoint-sms-voice-v2")
SEND: dict[str, Any] = documented("aws/sends")["examples"][0]
VECTORS: list[dict[str, Any]] = documented("aws/signatures")["vectors"]
RECEIPTS: list[dict[str, Any]] = documented("aws/receipts")["cases"]
URL = "https://otp.example.com/v1/hooks/aws"
TOPIC = "arn:aws:sns:us-east-1:123456789012:otp-events"
SIGNING_KEY = rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, days: int = 365) -> str:
    """A certificate of its own for a key, good from a day before NOW."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=days))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


CERTIFICATE = certificate(SIGNING_KEY)
ACCOUNT = Aws(
    region="us-east-1",
    access_key_id="AKIDEXAMPLE",
    secret_access_key=SecretStr("the-secret-key"),
    session_token=SecretStr("the-session"),
    sms_from="+15005550006",
    voice_from="+15005550007",
    configuration_set="otp",
    sns_topic=TOPIC,
    sns_certificates=(CERTIFICATE, VECTORS[0]["certificates"][json.loads(VECTORS[0]["body"])["SigningCertURL"]]),
)
MESSAGE = replace(examples.MESSAGE, receipt_url=f"{URL}/att_7Q2f9cV1")
CALL = replace(MESSAGE, channel=Channel.VOICE, text=SPOKEN)


def sns(message: str, **more: str) -> provider.Webhook:
    """A message of SNS, signed with our key as the documentation says."""
    said = {"Type": "Notification", "MessageId": "m", "TopicArn": TOPIC, "Message": message, "Timestamp": "t"} | more
    names = [name for name in ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token") if name in said]
    text = "".join(f"{name}\n{said[name]}\n" for name in [*names, "TopicArn", "Type"])
    signature = base64.b64encode(SIGNING_KEY.sign(text.encode(), PKCS1v15(), SHA256())).decode()
    source = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123.pem"
    signed = {"Signature": signature, "SignatureVersion": "2", "SigningCertURL": source} | said
    return provider.Webhook(URL, {"content-type": "text/plain; charset=UTF-8"}, json.dumps(signed).encode())


def invitation(url: str = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription") -> provider.Webhook:
    """What SNS sends to a new subscriber."""
    return sns("You have chosen", Type="SubscriptionConfirmation", Token="2336412f37", SubscribeURL=url)


@pytest.mark.parametrize(("message", "operation"), [(MESSAGE, "SendTextMessage"), (CALL, "SendVoiceMessage")])
def test_requests_are_the_documented_ones(message: Message, operation: str) -> None:
    """Equal to the example, and to botocore's model of the service."""
    request = ACCOUNT.request(message, NOW)
    said = json.loads(request.body)
    assert (request.method, request.url) == ("POST", SEND["request"]["url"])
    assert request.headers["content-type"] == SEND["request"]["content_type"]
    assert request.headers["x-amz-target"] == f"PinpointSMSVoiceV2.{operation}"
    shape = MODEL.operation_model(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate(said, shape)
    assert not report.has_errors(), report.generate_report()
    if message is MESSAGE:
        assert said == SEND["request"]["body"]
    else:
        assert (said["MessageBody"], said["VoiceId"], said["OriginationIdentity"]) == (
            CALL.text,
            "JOANNA",
            "+15005550007",
        )


def test_every_voice_is_one_that_aws_takes() -> None:
    """And what no voice speaks comes as digits alone."""
    voices = set(MODEL.shape_for("VoiceId").enum)  # type: ignore[attr-defined]  # the stubs know no string shapes here
    for locale in (*aws._VOICES, "en-GB", "pt-AO", "zh-Hant", "th"):  # noqa: SLF001 - the table
        said = json.loads(ACCOUNT.request(replace(CALL, locale=locale), NOW).body)
        assert said["VoiceId"] in voices
        spoken = locale not in ("zh-Hant", "th")
        assert said["MessageBody"] == (CALL.text if spoken else "4, 8, 2, 9, 1, 3. 4, 8, 2, 9, 1, 3.")


@pytest.mark.parametrize(("left", "seconds"), [(-5, 5), (89.5, 90), (10**6, 259_200)])
def test_the_time_to_live_is_what_is_left_of_the_code(left: float, seconds: int) -> None:
    """Within the bounds of AWS."""
    message = replace(MESSAGE, expires_at=NOW + timedelta(seconds=left))
    assert json.loads(ACCOUNT.request(message, NOW).body)["TimeToLive"] == seconds


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, SEND["success"]["body"], Accepted("11111111-2222-3333-4444-555555555555")),
        (200, {"MessageId": 7}, Accepted("")),
        *[(error["status"], error["body"], Rejected(error["class"], 7.0)) for error in SEND["errors"]],
        (400, {"__type": "ConflictException", "Reason": "DESTINATION_COUNTRY_BLOCKED"}, Rejected("geo_blocked", 7.0)),
        (400, {"__type": "x#AccessDeniedException"}, Rejected("auth", 7.0)),
        (400, {"__type": "x#ValidationException", "Reason": "FIELD_VALIDATION_FAILED"}, Rejected("request", 7.0)),
        (400, {"__type": [], "Reason": {}}, Rejected("request", 7.0)),
        (500, {"__type": "InternalServerException"}, Rejected("provider_error", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: object, meaning: Accepted | Rejected) -> None:
    """The reason of an exception says more than its name, and that more than the status."""
    assert ACCOUNT.read(answer(status, body, retry_after="7")) == meaning


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_reference(vector: dict[str, Any]) -> None:
    """Each vector; version 1 is never taken, whoever allows it."""
    webhook = provider.Webhook(vector["url"], {}, vector["body"].encode())
    if vector["valid"] and not vector["accept_v1"]:
        notified = json.loads(vector["body"])["Type"] == "Notification"
        expected = [Receipt(Status.DELIVERED, None, "m", "att_7Q2f9cV1")] if notified else []
        assert ACCOUNT.receipts(webhook, NOW) == expected
    else:
        with pytest.raises(Forged):
            ACCOUNT.receipts(webhook, NOW)


@pytest.mark.parametrize("case", RECEIPTS, ids=[case["name"] for case in RECEIPTS])
def test_events_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each documented event, rightly signed."""
    receipts = ACCOUNT.receipts(sns(json.loads(case["body"])["Message"]), NOW)
    assert [(receipt.status, receipt.message_id, receipt.delivery) for receipt in receipts] == [
        (STATES.get(event["state"], Status.FAILED), event["message_id"], event["reference"]) for event in case["expect"]
    ]
    assert all((receipt.reason is not None) is (receipt.status is Status.FAILED) for receipt in receipts)


def test_every_event_is_known() -> None:
    """Those of the model that concern texts and calls, but the ones that say nothing."""
    events = set(MODEL.shape_for("EventType").enum)  # type: ignore[attr-defined]  # as above
    silent = {"ALL", "TEXT_ALL", "VOICE_ALL", "TEXT_UNKNOWN"}
    known = {*aws._STATUSES, *aws._FAILURES}  # noqa: SLF001 - the tables
    assert known == {event for event in events - silent if not event.startswith("MEDIA_")}


def test_events_that_nobody_knows_are_unknown() -> None:
    """Those without a context are passed over by the caller, who knows no delivery for them."""
    assert ACCOUNT.receipts(sns('{"eventType": "TEXT_UNKNOWN"}'), NOW) == [Receipt(Status.UNKNOWN)]
    assert ACCOUNT.receipts(sns('{"eventType": "TEXT_TELEPORTED"}'), NOW) == [Receipt(Status.UNKNOWN)]
    assert ACCOUNT.receipts(sns('{"eventType": "TEXT_SENT", "context": 7}'), NOW) == [Receipt(Status.SENT)]


@pytest.mark.parametrize("message", ["", "[]", "7", "{}", '{"eventType": 7}', "Successfully validated SNS topic"])
def test_a_message_that_is_no_event_is_malformed(message: str) -> None:
    """So that the sender learns of it."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(sns(message), NOW)


@pytest.mark.parametrize(
    "more",
    [
        {"TopicArn": "arn:aws:sns:us-east-1:999999999999:x"},
        {"SignatureVersion": "1"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com.evil.example/a.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://user@sns.us-east-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com/a.pem?x"},
        {"SigningCertURL": ""},
        {"Type": "Gossip"},
        {"Type": "SubscriptionConfirmation"},
        {"Signature": ""},
        {"Signature": "no base64!"},
        {"Signature": base64.b64encode(b"short").decode()},
    ],
)
def test_what_is_not_of_our_topic_is_forged(more: dict[str, str]) -> None:
    """Though everything else in it is right."""
    with pytest.raises(Forged):
        ACCOUNT.receipts(sns('{"eventType": "TEXT_DELIVERED"}', **more), NOW)


def test_any_change_of_what_is_signed_is_refused() -> None:
    """A subject that was added included."""
    said = json.loads(sns('{"eventType": "TEXT_DELIVERED"}').body)
    for name in ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", "Signature"):
        changed = said | {name: said.get(name, "") + "x"}
        with pytest.raises(Forged):
            ACCOUNT.receipts(provider.Webhook(URL, {}, json.dumps(changed).encode()), NOW)


def test_certificates_count_while_they_are_good() -> None:
    """An old one may stay in the settings without harm."""
    delivered = sns('{"eventType": "TEXT_DELIVERED"}')
    assert ACCOUNT.receipts(delivered, NOW + timedelta(days=364))
    for at in (NOW - timedelta(days=2), NOW + timedelta(days=366)):
        with pytest.raises(Forged):
            ACCOUNT.receipts(delivered, at)


def test_a_subscription_is_confirmed_without_visiting_a_webhook_s_address() -> None:
    """The request is made from our settings and the signed token."""
    request = ACCOUNT.confirmation(invitation("https://evil.example/"), NOW)
    assert request is not None
    assert (request.method, request.body, dict(request.headers)) == ("GET", b"", {})
    assert request.url == (
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Version=2010-03-31"
        "&TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A123456789012%3Aotp-events&Token=2336412f37"
    )
    there = ACCOUNT.model_copy(update={"sns_api_url": "http://127.0.0.1:5000"}).confirmation(invitation(), NOW)
    assert there is not None
    assert there.url.startswith("http://127.0.0.1:5000/?Action=ConfirmSubscription")
    assert ACCOUNT.receipts(invitation(), NOW) == []
    assert ACCOUNT.confirmation(sns("{}"), NOW) is None
    with pytest.raises(Forged):
        ACCOUNT.confirmation(replace(invitation(), body=invitation().body.replace(b"2336412f37", b"2336412f38")), NOW)


def test_conversions_are_told_where_that_is_switched_on() -> None:
    """Either way, signed like a send."""
    teller = ACCOUNT.model_copy(update={"conversions": True})
    assert json.loads(teller.request(MESSAGE, NOW).body)["MessageFeedbackEnabled"] is True
    for converted, status in ((True, "RECEIVED"), (False, "FAILED")):
        told = teller.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=converted), NOW)
        assert told is not None
        assert told.headers["x-amz-target"] == "PinpointSMSVoiceV2.PutMessageFeedback"
        assert "Signature=" in told.headers["authorization"]
        assert json.loads(told.body) == {"MessageId": "m", "MessageFeedbackStatus": status}
    assert ACCOUNT.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=True), NOW) is None


FIELDS = st.sampled_from(["Type", "TopicArn", "Message", "Signature", "SignatureVersion", "SigningCertURL"])


@settings(max_examples=50)
@given(body=st.binary(max_size=200), said=st.dictionaries(FIELDS, JSON))
def test_rubbish_is_forged(body: bytes, said: dict[str, Any]) -> None:
    """Also where all but the signature is right."""
    real = json.loads(sns("{}").body)
    for rubbish in (body, json.dumps(said).encode(), json.dumps(real | said | {"Signature": "AAAA"}).encode()):
        with pytest.raises(BadWebhook):
            ACCOUNT.receipts(provider.Webhook(URL, {}, rubbish), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands; as it is in an answer."""
    shapes = [said, {"eventType": said}, {"eventType": "TEXT_INVALID", "messageId": said, "context": {"ref": said}}]
    for shape in shapes:
        receipts_of(ACCOUNT, sns(json.dumps(shape)))
    understood(ACCOUNT, said, {"MessageId": said}, {"__type": said, "Reason": said})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sms_from": None}, "at least one of"),
        ({"region": "us east"}, "region"),
        ({"sns_topic": TOPIC}, "sns_certificates"),
        ({"sns_certificates": [CERTIFICATE]}, "sns_topic"),
        ({"sns_topic": "otp-events", "sns_certificates": [CERTIFICATE]}, "sns_topic"),
        ({"sns_topic": TOPIC, "sns_certificates": ["PEM"]}, "PEM"),
        ({"sns_topic": TOPIC, "sns_certificates": [certificate(ec.generate_private_key(ec.SECP256R1()))]}, "RSA"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message. Without a topic there are no receipts to believe."""
    right = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "s", "sms_from": "Shop"}
    plain = Aws.model_validate(right)
    assert plain.channels == {Channel.SMS}
    with pytest.raises(Forged):
        plain.receipts(sns('{"eventType": "TEXT_DELIVERED"}'), NOW)
    with pytest.raises(ValidationError, match=message):
        Aws.model_validate({**right, **wrong})
