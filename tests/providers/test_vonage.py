"""Vonage: messages and calls, and the tokens that both ways are signed with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from openapi_schema_validator import OAS30Validator
from pydantic import ValidationError
from vonage_jwt import JwtClient, verify_signature  # type: ignore[import-untyped]  # publishes no types

from service.errors import Forged, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    Message,
    Receipt,
    Rejected,
    Reply,
    Request,
    Status,
    Webhook,
)
from service.providers.vonage import Vonage
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

SENDS, CODES = documented("vonage/sends"), documented("vonage/codes")
SMS, WHATSAPP, VOICE = SENDS
VECTORS: list[dict[str, Any]] = documented("vonage/signatures")["vectors"]
MESSAGES, CALLS = (documented(f"vonage/receipts-{name}")["cases"] for name in ("messages", "voice"))
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SECRET, OLD_SECRET = "770920705129bbea1a219bf92e912430fa1b602284eaa5a96d", "b602284eaa5a96d770920705129bbea1a219bf92e91"
SETTINGS: dict[str, Any] = {
    "application_id": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
    "private_key": PEM,
    "signature_secret": SECRET,
    "old_signature_secret": OLD_SECRET,
    "sms_from": "AcmeInc",
    "voice_from": "+14155550100",
    "whatsapp_from": "14155550100",
    "whatsapp_template": "otp_code",
    "whatsapp_languages": ["en_US", "de", "pt_BR"],
    "conversions": True,
    "api_key": "abcd1234",
    "api_secret": "a secret of the account",
}
VONAGE = Vonage.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, receipt_url="https://otp.example.com/v1/hooks/vonage")
CALL = replace(
    MESSAGE,
    channel=Channel.VOICE,
    text=SPOKEN,
    receipt_url="https://otp.example.com/v1/hooks/vonage-voice?ref=att_7Q2f9cV1",
)


def sent(message: Message, provider: Vonage = VONAGE) -> Any:
    """What is posted for a message."""
    return json.loads(provider.request(message, NOW).body)


def signed(body: str | bytes, secret: str = SECRET, **claims: object) -> Webhook:
    """A webhook as Vonage signs it now."""
    raw = body.encode() if isinstance(body, str) else body
    said = {"iss": "Vonage", "iat": int(NOW.timestamp()), "payload_hash": hashlib.sha256(raw).hexdigest(), **claims}
    headers = {"authorization": f"Bearer {jwt.encode(said, secret, algorithm='HS256')}"}
    return Webhook("https://otp.example.com/receipts/vonage/x", headers, raw)


def validator(file: str, path: str) -> OAS30Validator:
    """What checks a body to be posted against Vonage's own description."""
    document = documented(f"vonage/{file}")
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return OAS30Validator({**schema, "components": document["components"]})


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["description"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_vectors(vector: dict[str, Any]) -> None:
    """Some of them more strictly than by Vonage's own library."""
    provider = Vonage.model_validate(SETTINGS | {"signature_secret": vector["secret"]})
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    webhook = Webhook(vector["url"], headers, vector["body"].encode())
    now = datetime.fromtimestamp(vector["now"], UTC)
    if vector["valid"]:
        assert [receipt.status for receipt in provider.receipts(webhook, now)] == [Status.DELIVERED]
    else:
        with pytest.raises(Forged):
            provider.receipts(webhook, now)


@pytest.mark.parametrize("case", MESSAGES, ids=[case["name"] for case in MESSAGES])
def test_receipts_of_messages_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each names its delivery in what is signed."""
    (expected,) = case["expect"]
    receipt = Receipt(
        STATES[expected["state"]], expected.get("error_class"), expected["message_id"], expected["reference"]
    )
    assert VONAGE.receipts(signed(case["body"]), NOW) == [receipt]


@pytest.mark.parametrize("case", CALLS, ids=[case["name"] for case in CALLS])
def test_receipts_of_calls_are_read_as_documented(case: dict[str, Any]) -> None:
    """Calls have no reference: their id, with dashes or without, is what binds them."""
    (expected,) = case["expect"]
    (receipt,) = VONAGE.receipts(signed(case["body"]), NOW)
    assert receipt.status is STATES[expected["state"]]
    assert (receipt.reason in REASONS) is (receipt.status is Status.FAILED)
    assert (receipt.message_id, receipt.delivery) == (str(UUID(expected["message_id"])), None)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"status": "completed", "duration": "2"}, (Status.FAILED, "unreachable")),
        ({"status": "completed", "duration": 30}, (Status.DELIVERED, None)),
        ({"status": "completed"}, None),
        ({"status": "human"}, (Status.SENT, None)),
        ({"status": "timeout", "duration": "0"}, (Status.FAILED, "unreachable")),
        ({"status": "cancelled"}, (Status.FAILED, "cancelled")),
        ({"status": "rejected", "detail": "restricted"}, (Status.FAILED, "carrier_blocked")),
        ({"status": "rejected", "detail": "declined"}, (Status.FAILED, "unreachable")),
        ({"status": "rejected"}, (Status.FAILED, "unknown")),
        ({"status": "failed", "detail": "number_out_of_service"}, (Status.FAILED, "invalid_number")),
        ({"status": "failed", "detail": "internal_error"}, (Status.FAILED, "provider_error")),
        ({"status": "failed", "detail": "new"}, (Status.FAILED, "provider_error")),
        ({"status": "disconnected"}, (Status.UNKNOWN, None)),
        ({"type": "transfer"}, None),
    ],
)
def test_how_a_call_ended_says_whether_the_code_was_heard(
    said: dict[str, Any], outcome: tuple[Status, str | None] | None
) -> None:
    """One that lasted some seconds was; a word that we do not know is unknown, an event without one nothing."""
    webhook = signed(json.dumps({"uuid": "m1"} | said))
    assert VONAGE.receipts(webhook, NOW) == ([Receipt(*outcome, "m1")] if outcome else [])


def test_a_word_about_a_message_that_nobody_knows_is_unknown() -> None:
    """One that has none, such as a message from a person, is passed over."""
    said = {"message_uuid": "m1", "status": "teleported"}
    assert VONAGE.receipts(signed(json.dumps(said)), NOW) == [Receipt(Status.UNKNOWN, None, "m1")]
    assert VONAGE.receipts(signed(json.dumps({"message_uuid": "m1", "text": "STOP"})), NOW) == []


def test_the_event_of_a_machine_names_the_call_otherwise() -> None:
    """`call_uuid` in place of `uuid`."""
    body = json.dumps({"call_uuid": "63f618634a514f6b86e146edebcf9356", "status": "machine"})
    (receipt,) = VONAGE.receipts(signed(body), NOW)
    assert receipt == Receipt(Status.FAILED, "unreachable", "63f61863-4a51-4f6b-86e1-46edebcf9356")


@pytest.mark.parametrize("code", [*CODES, "9999"])
def test_every_code_of_a_receipt_has_its_reason(code: str) -> None:
    """One that is not in the table has none that we know."""
    said = {"message_uuid": "m1", "status": "rejected", "error": {"title": code}}
    reason = CODES.get(code, {"class": "unknown"})["class"]
    assert reason in REASONS
    assert VONAGE.receipts(signed(json.dumps(said)), NOW) == [Receipt(Status.FAILED, reason, "m1")]


def test_an_sms_is_posted_as_documented() -> None:
    """To the letter, and by Vonage's own description."""
    assert sent(MESSAGE) == SMS["request"]["body"]
    assert VONAGE.request(MESSAGE, NOW).url == SMS["request"]["url"]
    validator("messages.openapi", "/v1/messages").validate(sent(MESSAGE))


def test_a_whatsapp_message_is_the_template_with_the_code_twice() -> None:
    """In its text and in its button, in the nearest language, with an address for receipts."""
    message = replace(MESSAGE, channel=Channel.WHATSAPP)
    receipts = {"webhook_url": MESSAGE.receipt_url, "webhook_version": "v1"}
    assert sent(message) == WHATSAPP["request"]["body"] | receipts
    validator("messages.openapi", "/v1/messages").validate(sent(message))
    for locale, language in {"de-AT": "de", "pt-BR": "pt_BR", "fr": "en_US"}.items():
        assert sent(replace(message, locale=locale))["custom"]["template"]["language"]["code"] == language


def test_a_call_says_the_text_in_its_language() -> None:
    """Without markup; in English where there is no voice."""
    assert sent(CALL) == VOICE["request"]["body"]
    assert VONAGE.request(CALL, NOW).url == VOICE["request"]["url"]
    validator("voice.openapi", "/").validate(sent(CALL))
    for locale, voice in {
        "de": "de-DE",
        "pt-BR": "pt-BR",
        "zh-Hant": "cmn-TW",
        "es-MX": "es-ES",
        "et": "en-US",
    }.items():
        assert sent(replace(CALL, locale=locale))["ncco"][0]["language"] == voice
    assert sent(replace(CALL, text="Pay <b> & 1"))["ncco"][0]["text"] == "Pay  b  & 1"


@pytest.mark.parametrize(("left", "ttl"), [(-5, 20), (19, 20), (60.2, 61), (10**7, 604_800)])
def test_an_sms_is_kept_no_longer_than_its_code_is_good(left: float, ttl: int) -> None:
    """Within what Vonage allows."""
    assert sent(replace(MESSAGE, expires_at=NOW + timedelta(seconds=left)))["ttl"] == ttl


def test_our_token_is_what_the_official_library_would_make() -> None:
    """Signed by the same key, with the same claims, and of its own for each request."""
    ours = VONAGE.request(MESSAGE, NOW).headers["authorization"]
    with time_machine.travel(NOW, tick=False):
        theirs = JwtClient(SETTINGS["application_id"], PEM).generate_application_jwt()
        claims = [
            jwt.decode(token, KEY.public_key(), algorithms=["RS256"])
            for token in (ours.removeprefix("Bearer "), theirs)
        ]
    assert claims[0].keys() == claims[1].keys()
    assert [said["application_id"] for said in claims] == [SETTINGS["application_id"]] * 2
    again = VONAGE.request(MESSAGE, NOW + timedelta(milliseconds=1)).headers["authorization"]
    assert again != ours


def test_the_official_library_accepts_what_these_tests_sign() -> None:
    """So that they and Vonage mean the same."""
    with time_machine.travel(NOW, tick=False):
        token = signed("{}").headers["authorization"].removeprefix("Bearer ")
        assert verify_signature(token, SECRET)
        assert not verify_signature(token, OLD_SECRET)


def test_a_token_is_good_for_its_time_and_its_body() -> None:
    """By its scheme alone, and of the types that its parts should have."""
    webhook = signed(MESSAGES[0]["body"])
    basic = {"authorization": webhook.headers["authorization"].replace("Bearer", "Basic")}
    for forged, now in (
        (replace(webhook, body=b""), NOW),
        (replace(webhook, headers=basic), NOW),
        (webhook, NOW + timedelta(seconds=301)),
        (webhook, NOW - timedelta(seconds=61)),
        (signed(MESSAGES[0]["body"], iat="now"), NOW),
        (signed(MESSAGES[0]["body"], exp="later"), NOW),
        (signed(MESSAGES[0]["body"], payload_hash="é"), NOW),
    ):
        with pytest.raises(Forged):
            VONAGE.receipts(forged, now)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        *[(send["success"]["status"], send["success"]["body"], None) for send in SENDS],
        *[(error["status"], error["body"], Rejected(error["class"])) for send in SENDS for error in send["errors"]],
        (202, {"message_uuid": 7}, Accepted("")),
        (401, {"title": "You did not provide correct credentials."}, Rejected("auth")),
        (402, {"title": "Low balance"}, Rejected("balance")),
    ],
)
def test_answers_are_read_as_documented(status: int, body: dict[str, Any], meaning: Accepted | Rejected | None) -> None:
    """The id of a message or call, or why there is none."""
    expected = meaning or Accepted(body.get("message_uuid") or body["uuid"])
    assert VONAGE.read(answer(status, body)) == expected


def test_conversions_are_told_of_calls_too() -> None:
    """But not of what went over WhatsApp."""
    call = VONAGE.feedback(Feedback("m1", Channel.VOICE, "+447400123456", converted=False), NOW)
    assert isinstance(call, Request)
    assert call.url == "https://api.nexmo.com/conversions/voice"
    assert VONAGE.feedback(Feedback("m1", Channel.WHATSAPP, "+447400123456", converted=True), NOW) is None


def test_what_is_signed_but_no_receipt_is_malformed() -> None:
    """It has no id."""
    for body in ("", "[]", "{}", '{"status": "delivered"}', '{"message_uuid": 7, "status": "delivered"}'):
        with pytest.raises(Malformed):
            VONAGE.receipts(signed(body), NOW)


def test_a_token_nested_too_deep_is_forged() -> None:
    """Its header is read before its signature."""
    header = jwt.utils.base64url_encode(b"[" * 100_000).decode()
    with pytest.raises(Forged):
        VONAGE.receipts(Webhook("https://x.example/", {"authorization": f"Bearer {header}.e30.e30"}, b""), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands; as it is in an answer."""
    for shape in (
        said,
        {"uuid": said},
        {"uuid": "m1", "status": said, "duration": said, "detail": said},
        {"uuid": "m1", "status": "completed", "duration": said},
        {"message_uuid": "m1", "status": "rejected", "error": said, "client_ref": said},
        {"message_uuid": "m1", "status": "rejected", "error": {"title": said}},
    ):
        receipts_of(VONAGE, signed(json.dumps(shape)))
    understood(VONAGE, said, {"message_uuid": said}, {"uuid": said})


ELLIPTIC = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "wrong",
    [
        {"private_key": "nonsense"},
        {"private_key": ELLIPTIC.decode()},
        {"sms_from": "a name that is too long"},
        {"voice_from": "Acme"},
        {"whatsapp_template": None},
        {"whatsapp_from": None},
        {"whatsapp_languages": []},
        {"sms_from": None, "voice_from": None, "whatsapp_from": None, "whatsapp_template": None},
        {"api_secret": None},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Vonage.model_validate(SETTINGS | wrong)


def test_a_channel_is_there_when_it_has_a_sender() -> None:
    """And only then."""
    assert VONAGE.channels == {Channel.SMS, Channel.WHATSAPP, Channel.VOICE}
    assert Vonage.model_validate(SETTINGS | {"sms_from": None, "voice_from": None}).channels == {Channel.WHATSAPP}


INBOUND = {
    "channel": "sms",
    "message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
    "to": "447860099299",
    "from": "14155550123",
    "timestamp": "2026-10-06T10:00:00Z",
    "message_type": "text",
    "text": "Stop",
}


@pytest.mark.parametrize(
    ("said", "replies"),
    [
        ({}, [Reply("14155550123", Channel.SMS, "Stop")]),
        ({"channel": "whatsapp"}, [Reply("14155550123", Channel.WHATSAPP, "Stop")]),
        ({"channel": "viber_service"}, []),
        ({"message_type": "image", "text": None}, [Reply("14155550123", Channel.SMS, "")]),
    ],
)
def test_a_reply_says_who_wrote_what_and_where(said: dict[str, Any], replies: list[Reply]) -> None:
    """In the form of Messages API v1."""
    assert VONAGE.replies(signed(json.dumps(INBOUND | said)), NOW) == replies


def test_a_reply_is_signed_as_a_receipt_is() -> None:
    """Freshly, and over the body; the older form, whose sender is an object, is malformed."""
    body = json.dumps(INBOUND)
    assert VONAGE.replies(signed(body, OLD_SECRET), NOW)
    forged = [
        signed(body, SECRET[::-1]),
        signed(body, iat=0),
        replace(signed(body), body=b"{}"),
        Webhook("x", {}, b"{}"),
    ]
    for webhook in forged:
        with pytest.raises(Forged):
            VONAGE.replies(webhook, NOW)
    older: list[object] = [INBOUND | {"from": {"type": "sms", "number": "14155550123"}}, {}, []]
    for malformed in older:
        with pytest.raises(Malformed):
            VONAGE.replies(signed(json.dumps(malformed)), NOW)
