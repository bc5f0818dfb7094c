"""MessageBird: SMS and voice messages, and the tokens that its receipts are signed with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
import time_machine
from hypothesis import given, settings
from messagebird.error import ValidationError as Refused  # type: ignore[import-untyped]  # publishes no types
from messagebird.request_validator import RequestValidator  # type: ignore[import-untyped]  # publishes no types
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Status, Webhook
from service.providers.messagebird import MessageBird
from tests.providers import examples
from tests.providers.examples import NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

(SEND,) = documented("messagebird/sends")
VECTORS: list[dict[str, Any]] = documented("messagebird/signatures")["vectors"]
CASES: list[dict[str, Any]] = documented("messagebird/receipts")["cases"]
KEY, OLD_KEY = "17339e636a0aec7765a39d36a2a2aeff", "a39d36a2a2aeff17339e636a0aec7765"
SETTINGS: dict[str, Any] = {
    "access_key": "live_0123456789",
    "signing_key": KEY,
    "old_signing_key": OLD_KEY,
    "sms_from": "AcmeInc",
    "voice_from": "+14155550100",
}
BIRD = MessageBird.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, receipt_url="https://otp.example.com/v1/hooks/messagebird")
REQUEST = BIRD.request(MESSAGE, NOW)
HEADER = "messagebird-signature-jwt"
RECEIPT = {"id": "m1", "reference": "att_7Q2f9cV1", "recipient": "14155550123", "status": "delivered"}


def posted(message: Message) -> Any:
    """What is posted for a message."""
    return json.loads(BIRD.request(message, NOW).body)


def signed(url: str, body: bytes = b"", key: str = KEY, **claims: object) -> Webhook:
    """A webhook as MessageBird signs it now."""
    now = int(NOW.timestamp())
    said = {
        "iss": "MessageBird",
        "nbf": now - 2,
        "exp": now + 60,
        "url_hash": hashlib.sha256(url.encode()).hexdigest(),
        **({"payload_hash": hashlib.sha256(body).hexdigest()} if body else {}),
        **claims,
    }
    return Webhook(url, {HEADER: jwt.encode(said, key, algorithm="HS256")}, body)


def reported(said: dict[str, str], key: str = KEY, **more: Any) -> Webhook:
    """A signed receipt."""
    return signed(f"https://otp.example.com/receipts/mb/x?{urlencode(said)}", key=key, **more)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["description"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_vectors(vector: dict[str, Any]) -> None:
    """Each at its own time; one that came by POST is no receipt."""
    bird = MessageBird.model_validate(SETTINGS | {"signing_key": vector["secret"]})
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    webhook = Webhook(vector["url"], headers, vector["body"].encode())
    now = datetime.fromtimestamp(vector["now"], UTC)
    if vector["valid"]:
        statuses = [receipt.status for receipt in bird.receipts(webhook, now)]
        assert statuses == ([Status.DELIVERED] if vector["method"] == "GET" else [])
    else:
        with pytest.raises(Forged):
            bird.receipts(webhook, now)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each names its delivery in what is signed."""
    (expected,) = case["expect"]
    (receipt,) = BIRD.receipts(signed(case["url"]), NOW)
    assert receipt.status is STATES[expected["state"]]
    assert (receipt.message_id, receipt.delivery) == (expected["message_id"], expected["reference"])


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"status": "scheduled"}, (Status.ACCEPTED, None)),
        ({"status": "delivered", "statusErrorCode": "0"}, (Status.DELIVERED, None)),
        ({"status": "expired"}, (Status.FAILED, "expired")),
        ({"status": "delivery_failed", "statusErrorCode": "1"}, (Status.FAILED, "invalid_number")),
        ({"status": "delivery_failed", "statusErrorCode": "27"}, (Status.FAILED, "unreachable")),
        ({"status": "delivery_failed", "statusErrorCode": "12"}, (Status.FAILED, "carrier_blocked")),
        ({"status": "delivery_failed", "statusErrorCode": "11"}, (Status.FAILED, "landline")),
        ({"status": "delivery_failed", "statusErrorCode": "34"}, (Status.FAILED, "provider_error")),
        ({"status": "delivery_failed", "statusErrorCode": "9999"}, (Status.FAILED, "unknown")),
        ({"status": "delivery_failed"}, (Status.FAILED, "unknown")),
        ({"status": "calling"}, (Status.SENT, None)),
        ({"status": "answered"}, (Status.DELIVERED, None)),
        ({"status": "busy"}, (Status.FAILED, "unreachable")),
        ({"status": "machine"}, (Status.FAILED, "unreachable")),
        ({"status": "failed"}, (Status.FAILED, "unknown")),
        ({"status": "a new word"}, (Status.UNKNOWN, None)),
    ],
)
def test_statuses_and_codes_have_their_meaning(said: dict[str, str], outcome: tuple[Status, str | None]) -> None:
    """A word that we do not know is unknown."""
    receipts = BIRD.receipts(reported(RECEIPT | said), NOW)
    assert receipts == [Receipt(*outcome, "m1", "att_7Q2f9cV1")]
    assert {receipt.reason for receipt in receipts} <= {None, *REASONS}


def test_an_sms_is_posted_as_documented() -> None:
    """To the letter, and in the encoding that its text needs."""
    assert posted(MESSAGE) == SEND["request"]["body"] | {"datacoding": "auto"}
    assert REQUEST.url == SEND["request"]["url"]
    assert REQUEST.headers["authorization"] == "AccessKey live_0123456789"
    assert posted(replace(MESSAGE, expires_at=NOW))["validity"] == 1


def test_a_voice_message_is_said_in_its_language() -> None:
    """Without markup, never to a machine; in English where there is no voice."""
    call = replace(MESSAGE, channel=Channel.VOICE, text="Your code is <4>, 8.")
    assert BIRD.request(call, NOW).url == "https://rest.messagebird.com/voicemessages"
    assert posted(call) == {
        "originator": "14155550100",
        "recipients": ["14155550123"],
        "body": "Your code is  4 , 8.",
        "reference": "att_7Q2f9cV1",
        "reportUrl": "https://otp.example.com/v1/hooks/messagebird",
        "language": "en-us",
        "repeat": 2,
        "ifMachine": "hangup",
    }
    for locale, language in {
        "de": "de-de",
        "pt-BR": "pt-br",
        "es-MX": "es-es",
        "zh-Hant": "zh-cn",
        "et": "en-us",
    }.items():
        assert posted(replace(call, locale=locale))["language"] == language


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (201, SEND["success"]["body"], Accepted("e8077d803532c0b5937c639b60216938")),
        *[(error["status"], error["body"], Rejected(error["class"])) for error in SEND["errors"]],
        (200, {"errors": [{"code": 25, "description": "Not enough balance"}]}, Rejected("balance")),
        (200, {"errors": [{"code": 99}]}, Rejected("request")),
        (201, {"id": 7}, Accepted("")),
        (422, {"errors": [{"code": 25}]}, Rejected("balance")),
        (500, {"errors": [{"code": 99}]}, Rejected("provider_error")),
    ],
)
def test_answers_are_read_as_documented(status: int, body: dict[str, Any], meaning: Accepted | Rejected) -> None:
    """The id of the message, or why there is none, even with a 200."""
    assert BIRD.read(answer(status, body)) == meaning


def test_the_official_library_judges_what_these_tests_sign_alike() -> None:
    """So that they and MessageBird mean the same."""
    webhook = reported(RECEIPT)
    with time_machine.travel(NOW, tick=False):
        RequestValidator(KEY).validate_signature(webhook.headers[HEADER], webhook.url, webhook.body)
        with pytest.raises(Refused):
            RequestValidator(OLD_KEY).validate_signature(webhook.headers[HEADER], webhook.url, webhook.body)


def test_a_token_is_good_for_its_time_and_its_body() -> None:
    """With two seconds of tolerance."""
    webhook = reported(RECEIPT, body=b"body")
    for right in (NOW + timedelta(seconds=60), NOW - timedelta(seconds=3)):
        assert BIRD.receipts(webhook, right)
    for forged, now in (
        (replace(webhook, body=b""), NOW),
        (webhook, NOW + timedelta(seconds=61)),
        (webhook, NOW - timedelta(seconds=4)),
        (reported(RECEIPT, nbf="now"), NOW),
        (reported(RECEIPT, url_hash="é"), NOW),
    ):
        with pytest.raises(Forged):
            BIRD.receipts(forged, now)


def test_a_receipt_without_an_id_is_malformed() -> None:
    """Another webhook, which has no status, is not."""
    with pytest.raises(Malformed):
        BIRD.receipts(reported({"status": "sent"}), NOW)
    assert BIRD.receipts(reported({"originator": "14155550123"}), NOW) == []


def test_a_token_nested_too_deep_is_forged() -> None:
    """Its header is read before its signature."""
    header = jwt.utils.base64url_encode(b"[" * 100_000).decode()
    with pytest.raises(Forged):
        BIRD.receipts(Webhook("https://x.example/", {HEADER: f"{header}.e30.e30"}, b""), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands; as it is in an answer."""
    for query in (str(said), f"id=m1&status={said}", f"id={said}&status=delivery_failed&statusErrorCode={said}"):
        receipts_of(BIRD, signed(f"https://x.example/?{query}"))
    understood(BIRD, said, {"errors": said}, {"errors": [said]}, {"errors": [{"code": said}]}, {"id": said})


@pytest.mark.parametrize(
    "wrong",
    [
        {"sms_from": "a name that is too long"},
        {"voice_from": "Acme"},
        {"sms_from": None, "voice_from": None},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    assert BIRD.channels == {Channel.SMS, Channel.VOICE}
    with pytest.raises(ValidationError):
        MessageBird.model_validate(SETTINGS | wrong)
