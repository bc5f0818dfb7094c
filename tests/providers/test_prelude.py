"""Prelude: templates by Notify, calls by Verify, the answers, and signed events of both."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    Receipt,
    Rejected,
    Status,
    Webhook,
)
from service.providers.prelude import Prelude
from tests.providers import examples
from tests.providers.examples import NOW, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("prelude/send-example")
CASES: list[dict[str, Any]] = documented("prelude/receipts")["cases"]
CODES: dict[str, dict[str, Any]] = documented("prelude/error-codes")["codes"]

URL = "https://otp.example.com/v1/hooks/prelude"
KEY, OLD_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


def public(key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> str:
    """A key's public half, as the dashboard shows it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


SETTINGS: dict[str, Any] = {
    "api_key": "sk_live_secret",
    "public_key": public(KEY),
    "sms_template": "template_sms",
    "whatsapp_template": "template_01k",
    "voice": True,
}
PRELUDE = Prelude.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, channel=Channel.WHATSAPP, locale="pt-BR", receipt_url=URL)


def signed(body: str, key: rsa.RSAPrivateKey = KEY, *, scheme: str = "rsassa-pss-sha256", pad: str = "") -> Webhook:
    """A webhook that is rightly signed."""
    pss = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
    signature = base64.urlsafe_b64encode(key.sign(body.encode(), pss, SHA256())).decode().rstrip("=") + pad
    return Webhook(URL, {"x-webhook-signature": f"{scheme}={signature}"}, body.encode())


def sent(prelude: Prelude, channel: Channel) -> dict[str, Any]:
    """The body of a send."""
    said = json.loads(prelude.request(replace(MESSAGE, channel=channel), NOW).body)
    assert isinstance(said, dict)
    return said


def test_a_template_is_sent_as_in_the_example() -> None:
    """On one channel, once, and in the person's language."""
    request = PRELUDE.request(MESSAGE, NOW)
    assert (request.method, request.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert request.headers == {"content-type": "application/json", "authorization": "Bearer sk_live_secret"}
    assert json.loads(request.body) == {**EXAMPLE["request"]["body"], "locale": "pt-BR", "max_auto_retries": 0}


def test_each_channel_has_its_template_and_sms_its_sender() -> None:
    """Who sends is named where it is configured."""
    sms = sent(Prelude.model_validate({**SETTINGS, "sms_from": "Shop"}), Channel.SMS)
    assert (sms["template_id"], sms["preferred_channel"], sms["from"]) == ("template_sms", "sms", "Shop")
    assert "from" not in sent(PRELUDE, Channel.SMS)
    assert "from" not in sent(Prelude.model_validate({**SETTINGS, "sms_from": "Shop"}), Channel.WHATSAPP)


def test_a_message_expires_with_its_code_and_within_a_day() -> None:
    """Prelude takes no time that is further off."""
    late = replace(MESSAGE, expires_at=NOW + timedelta(days=1))
    assert json.loads(PRELUDE.request(late, NOW).body)["expires_at"] == "2026-10-07T09:00:00Z"


def test_verified_numbers_are_told_where_that_is_switched_on() -> None:
    """To Watch, which has no word for a code that was not used, and hears of Verify's calls from Verify."""
    teller = PRELUDE.model_copy(update={"conversions": True})
    used = Feedback("tx_01k", Channel.SMS, "+14155550123", converted=True)
    told = teller.feedback(used, NOW)
    assert told is not None
    assert told.url == "https://api.prelude.dev/v2/watch/feedback"
    assert told.headers["authorization"] == "Bearer sk_live_secret"
    target = {"type": "phone_number", "value": "+14155550123"}
    assert json.loads(told.body) == {"feedbacks": [{"target": target, "type": "verification.completed"}]}
    assert PRELUDE.feedback(used, NOW) is None
    for left_out in ({"converted": False}, {"channel": Channel.VOICE}, {"to": ""}):
        assert teller.feedback(replace(used, **left_out), NOW) is None


def test_a_call_is_a_verification_with_our_code() -> None:
    """And names its delivery."""
    request = PRELUDE.request(replace(MESSAGE, channel=Channel.VOICE), NOW)
    assert request.url == "https://api.prelude.dev/v2/verification"
    assert json.loads(request.body) == {
        "target": {"type": "phone_number", "value": "+14155550123"},
        "options": {"method": "voice", "custom_code": "482913", "locale": "pt-BR", "callback_url": URL},
        "metadata": {"correlation_id": "att_7Q2f9cV1"},
    }


@pytest.mark.parametrize(
    ("carried", "channels"),
    [
        ({"sms_template": "template_1"}, {Channel.SMS}),
        ({"whatsapp_template": "template_1"}, {Channel.WHATSAPP}),
        ({"voice": True}, {Channel.VOICE}),
    ],
)
def test_it_carries_what_it_has_a_template_for(carried: dict[str, Any], channels: set[Channel]) -> None:
    """And calls where it may."""
    assert Prelude.model_validate({"api_key": "sk", **carried}).channels == channels
    assert PRELUDE.channels == {Channel.SMS, Channel.WHATSAPP, Channel.VOICE}


def test_an_accepted_message_has_its_id() -> None:
    """From the example; of a call, which may be a retry or go another way; and where there is none."""
    assert PRELUDE.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("tx_01k")
    for status in ("success", "retry", "challenged", "shadow_blocked"):
        assert PRELUDE.read(answer(200, {"id": "vrf_1", "status": status})) == Accepted("vrf_1")
    assert PRELUDE.read(answer(200, {"id": 7})) == Accepted("")


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_its_reason(code: str) -> None:
    """One of ours."""
    assert CODES[code]["class"] in REASONS
    said = {"code": code, "message": "see table", "type": "bad_request", "request_id": "1"}
    assert PRELUDE.read(answer(400, said, retry_after="3")) == Rejected(CODES[code]["class"], 3.0)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (400, {"code": "something_new"}, "request"),
        (401, {"code": ["invalid_api_key"]}, "auth"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "suspicious"}, "fraud_blocked"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "in_block_list"}, "fraud_blocked"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "invalid_phone_line"}, "landline"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "invalid_phone_number"}, "invalid_number"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "repeated_attempts"}, "rate_limited"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "invalid_signature"}, "request"),
        (200, {"id": "vrf_1", "status": "blocked", "reason": "expired_signature"}, "request"),
        (200, {"id": "vrf_1", "status": "blocked"}, "fraud_blocked"),
    ],
)
def test_other_refusals_have_their_reason_too(status: int, said: Any, reason: str) -> None:
    """By the HTTP status where the code is not known, and by the block that hides in a 200."""
    assert PRELUDE.read(answer(status, said)) == Rejected(reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_events_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each names its delivery, so that none can be sent again to the address of another."""
    receipts = [
        Receipt(Status(expected["state"]), expected.get("error_class"), expected["message_id"], expected["reference"])
        for expected in case["expect"]
    ]
    assert PRELUDE.receipts(signed(case["body"]), NOW) == receipts
    assert all(receipt.reason is None or receipt.reason in REASONS for receipt in receipts)


@pytest.mark.parametrize(
    ("said", "receipts"),
    [
        ({"type": "verify.delivery_status", "payload": {"status": "teleported"}}, [Receipt(Status.UNKNOWN)]),
        ({"type": "transactional.message.teleported", "payload": {}}, [Receipt(Status.UNKNOWN)]),
        ({"type": "verify.delivery_status", "payload": {"status": ["delivered"]}}, []),
        ({"type": "teleported", "payload": {"status": "delivered"}}, []),
        ({"type": ["verify.attempt"], "payload": {}}, []),
        ({"payload": {"status": "delivered"}}, []),
    ],
)
def test_words_that_are_not_known_are_unknown(said: Any, receipts: list[Receipt]) -> None:
    """An event of another kind, or without a type, is passed over."""
    assert PRELUDE.receipts(signed(json.dumps(said)), NOW) == receipts


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"type": "verify.attempt", "payload": []}'])
def test_what_is_no_event_is_malformed(body: str) -> None:
    """Though it is rightly signed."""
    with pytest.raises(Malformed):
        PRELUDE.receipts(signed(body), NOW)


@pytest.mark.parametrize("pad", ["", "=="])
def test_a_signature_may_be_padded_or_not(pad: str) -> None:
    """256 bytes leave room for two signs of padding."""
    assert len(PRELUDE.receipts(signed(CASES[0]["body"], pad=pad), NOW)) == 1


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-webhook-signature": ""}, {"x-webhook-signature": "rsassa-pss-sha256="}, {"x-webhook-signature": "x=a"}],
)
def test_what_is_not_signed_is_forged(headers: dict[str, str]) -> None:
    """Unless there is no key to check it by: then the token in the address is all there is."""
    webhook = replace(signed(CASES[0]["body"]), headers=headers)
    with pytest.raises(Forged):
        PRELUDE.receipts(webhook, NOW)
    assert len(Prelude.model_validate({**SETTINGS, "public_key": None}).receipts(webhook, NOW)) == 1


def test_another_scheme_is_forged() -> None:
    """Whatever its signature says."""
    with pytest.raises(Forged):
        PRELUDE.receipts(signed(CASES[0]["body"], scheme="sha256"), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    failed = {"type": "transactional.message.failed", "payload": {"status": said, "reason": said, "id": said}}
    called = {"type": "verify.attempt", "payload": {"delivery_status": "delivered", "metadata": said}}
    for shape in (said, {"type": "verify.attempt", "payload": said}, failed, called):
        assert len(receipts_of(PRELUDE, signed(json.dumps(shape)))) <= 1
    understood(PRELUDE, said, {"code": said}, {"id": said}, {"status": "blocked", "reason": said})


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key": "-----BEGIN PUBLIC KEY-----"},
        {"public_key": public(Ed25519PrivateKey.generate())},
        {"public_key": None, "old_public_key": public(OLD_KEY)},
        {"sms_template": None, "whatsapp_template": None, "voice": False},
        {"sms_template": None, "sms_from": "Shop"},
        {"whatsapp_template": ""},
    ],
    ids=lambda wrong: ",".join(wrong),
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Prelude.model_validate({**SETTINGS, **wrong})
