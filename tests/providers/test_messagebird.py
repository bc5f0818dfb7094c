"""MessageBird: SMS and voice messages, and the tokens that its receipts are signed with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from messagebird.error import ValidationError as Refused  # type: ignore[import-untyped]  # publishes no types
from messagebird.request_validator import RequestValidator  # type: ignore[import-untyped]  # publishes no types
from pydantic import ValidationError

from service.errors import BadWebhook, Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Response, Status, Webhook
from service.providers.messagebird import MessageBird

DATA = Path(__file__).parent.parent / "data" / "messagebird"
(SEND,) = json.loads((DATA / "sends.json").read_text())
VECTORS: list[dict[str, Any]] = json.loads((DATA / "signatures.json").read_text())["vectors"]
CASES: list[dict[str, Any]] = json.loads((DATA / "receipts.json").read_text())["cases"]
STATES = {"sent": Status.SENT, "delivered": Status.DELIVERED, "failed_transient": Status.FAILED}
NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
KEY, OLD_KEY = "17339e636a0aec7765a39d36a2a2aeff", "a39d36a2a2aeff17339e636a0aec7765"
SETTINGS: dict[str, Any] = {
    "access_key": "live_0123456789",
    "signing_key": KEY,
    "old_signing_key": OLD_KEY,
    "sms_from": "AcmeInc",
    "voice_from": "+14155550100",
}
BIRD = MessageBird.model_validate(SETTINGS)
MESSAGE = Message(
    delivery="att_7Q2f9cV1",
    channel=Channel.SMS,
    to="+14155550123",
    text="482913 is your code",
    code="482913",
    locale="en",
    application="acme",
    brand="Acme",
    purpose="login",
    expires_at=NOW + timedelta(seconds=120),
    receipt_url="https://otp.example.com/v1/hooks/messagebird",
)
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


def reported(said: dict[str, str], **more: Any) -> Webhook:
    """A signed receipt."""
    return signed(f"https://otp.example.com/receipts/mb/x?{urlencode(said)}", **more)


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
        ({"status": "a new word"}, None),
    ],
)
def test_statuses_and_codes_have_their_meaning(said: dict[str, str], outcome: tuple[Status, str | None] | None) -> None:
    """A word that we do not know says nothing."""
    receipts = BIRD.receipts(reported(RECEIPT | said), NOW)
    assert receipts == ([Receipt(*outcome, "m1", "att_7Q2f9cV1")] if outcome else [])
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
        (201, {}, Accepted("")),
        (201, {"id": 7}, Accepted("")),
        (401, {}, Rejected("auth")),
        (422, {"errors": [{"code": 25}]}, Rejected("balance")),
        (429, {}, Rejected("rate_limited")),
        (500, {"errors": [{"code": 99}]}, Rejected("provider_error")),
    ],
)
def test_answers_are_read_as_documented(status: int, body: dict[str, Any], meaning: Accepted | Rejected) -> None:
    """The id of the message, or why there is none, even with a 200."""
    answer = BIRD.read(Response(REQUEST, status, {}, json.dumps(body).encode()))
    assert answer == meaning
    assert not isinstance(answer, Rejected) or answer.reason in REASONS


def test_the_official_library_judges_what_these_tests_sign_alike() -> None:
    """So that they and MessageBird mean the same."""
    webhook = reported(RECEIPT)
    with time_machine.travel(NOW, tick=False):
        RequestValidator(KEY).validate_signature(webhook.headers[HEADER], webhook.url, webhook.body)
        with pytest.raises(Refused):
            RequestValidator(OLD_KEY).validate_signature(webhook.headers[HEADER], webhook.url, webhook.body)


def test_both_keys_are_taken_while_one_is_changed() -> None:
    """Any other is not."""
    for key in (KEY, OLD_KEY):
        receipts = BIRD.receipts(reported(RECEIPT, key=key), NOW)
        assert receipts == [Receipt(Status.DELIVERED, None, "m1", "att_7Q2f9cV1")]
    with pytest.raises(Forged):
        BIRD.receipts(reported(RECEIPT, key=KEY[::-1]), NOW)


def test_one_changed_byte_is_refused() -> None:
    """Of URL, body or token, and a clock past its second of tolerance."""
    webhook = reported(RECEIPT, body=b"body")
    token = webhook.headers[HEADER]
    middle = len(token) // 2
    changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    assert (
        BIRD.receipts(webhook, NOW + timedelta(seconds=60)) == BIRD.receipts(webhook, NOW - timedelta(seconds=3)) != []
    )
    for forged, now in (
        (replace(webhook, url=webhook.url.replace("/x?", "/y?")), NOW),
        (replace(webhook, url=webhook.url.replace("id=m1", "id=m2")), NOW),
        (replace(webhook, body=b"Body"), NOW),
        (replace(webhook, body=b""), NOW),
        (replace(webhook, headers={HEADER: changed}), NOW),
        (replace(webhook, headers={"messagebird-signature": token}), NOW),
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


def test_nothing_secret_shows() -> None:
    """Neither number nor code in URL or headers; no secret in a repr."""
    public = f"{REQUEST.url} {sorted(REQUEST.headers.items())} {REQUEST!r} {BIRD!r}"
    assert not any(secret in public for secret in ("482913", "14155550123", KEY, OLD_KEY))
    assert "live_" not in f"{REQUEST!r} {BIRD!r}"


@settings(max_examples=50)
@given(body=st.binary(max_size=100), header=st.text(max_size=60))
def test_rubbish_never_raises_anything_but_the_documented_errors(body: bytes, header: str) -> None:
    """Neither as a webhook nor as an answer."""
    for token in (header, f"{header}.{header}.{header}"):
        with pytest.raises(BadWebhook):
            BIRD.receipts(Webhook("https://x.example/?status=sent", {HEADER: token}, body), NOW)
    for status in (200, 422, 500):
        assert isinstance(BIRD.read(Response(REQUEST, status, {}, body)), Accepted | Rejected)


def test_a_token_nested_too_deep_is_forged() -> None:
    """Its header is read before its signature."""
    header = jwt.utils.base64url_encode(b"[" * 100_000).decode()
    with pytest.raises(Forged):
        BIRD.receipts(Webhook("https://x.example/", {HEADER: f"{header}.e30.e30"}, b""), NOW)


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inside: st.lists(inside)))
def test_rubbish_of_the_right_shape_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands."""
    for answer in (said, {"errors": said}, {"errors": [said]}, {"errors": [{"code": said}]}, {"id": said}):
        raw = json.dumps(answer).encode()
        assert isinstance(BIRD.read(Response(REQUEST, 200, {}, raw)), Accepted | Rejected)
    for query in (str(said), f"id=m1&status={said}", f"id={said}&status=delivery_failed&statusErrorCode={said}"):
        try:
            receipts = BIRD.receipts(signed(f"https://x.example/?{query}"), NOW)
        except Malformed:
            continue
        assert all(isinstance(receipt, Receipt) for receipt in receipts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key": ""},
        {"signing_key": ""},
        {"api_url": "rest.messagebird.com"},
        {"sms_from": "a name that is too long"},
        {"voice_from": "Acme"},
        {"sms_from": None, "voice_from": None},
        {"surprise": 1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    assert BIRD.channels == {Channel.SMS, Channel.VOICE}
    with pytest.raises(ValidationError):
        MessageBird.model_validate(SETTINGS | wrong)
