"""Telnyx: what is sent, the answers, and receipts under Telnyx's own key."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import given, settings
from nacl.signing import SigningKey
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Receipt, Rejected, Status, Webhook
from service.providers.telnyx import Telnyx
from tests.providers import examples
from tests.providers.examples import NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("telnyx/send-example")
CASES: list[dict[str, Any]] = documented("telnyx/receipts")["cases"]
VECTORS: list[dict[str, Any]] = documented("telnyx/signatures")["vectors"]
CODES: dict[str, dict[str, Any]] = documented("telnyx/error-codes")["codes"]

KEY, OLD_KEY = SigningKey(bytes(32)), SigningKey(bytes([1] * 32))
URL = "https://otp.example.com/receipts/telnyx/x"


def public(key: SigningKey) -> str:
    """A key's public half, as the portal shows it."""
    return base64.b64encode(bytes(key.verify_key)).decode()


SETTINGS: dict[str, Any] = {"api_key": "KEY0123-secret", "public_key": public(KEY), "sms_from": "+15005550006"}
TELNYX = Telnyx.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, receipt_url="https://otp.example.com/v1/hooks/telnyx?ref=att_7Q2f9cV1")


def signed(body: str, key: SigningKey = KEY, *, at: datetime = NOW, url: str = URL) -> Webhook:
    """A webhook that is rightly signed."""
    time = str(int(at.timestamp()))
    signature = base64.b64encode(key.sign(f"{time}|{body}".encode()).signature).decode()
    return Webhook(url, {"telnyx-timestamp": time, "telnyx-signature-ed25519": signature}, body.encode())


def event(payload: Any, event_type: Any = "message.finalized") -> str:
    """A webhook's body around a message."""
    return json.dumps({"data": {"event_type": event_type, "id": "e1", "payload": payload}})


def test_the_request_is_the_documented_one() -> None:
    """As in the example."""
    request = TELNYX.request(MESSAGE, NOW)
    assert (request.method, request.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert request.headers == {"content-type": "application/json", "authorization": "Bearer KEY0123-secret"}
    assert json.loads(request.body) == EXAMPLE["request"]["body"]
    assert TELNYX.channels == {Channel.SMS}


def test_a_profile_sends_from_its_pool_or_under_its_name() -> None:
    """The field that says who sends is there only when it is configured."""
    table = {"api_key": "KEY0123-secret", "public_key": public(KEY), "messaging_profile_id": "4000eba1"}
    pool = json.loads(Telnyx.model_validate(table).request(MESSAGE, NOW).body)
    named = json.loads(Telnyx.model_validate({**table, "sms_from": "Shop"}).request(MESSAGE, NOW).body)
    assert (pool["messaging_profile_id"], pool.get("from")) == ("4000eba1", None)
    assert (named["messaging_profile_id"], named["from"]) == ("4000eba1", "Shop")


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert TELNYX.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("40385f64-5717-4562-b3fc-2c963f66afa6")
    without: list[Any] = [{"data": []}, {"data": {"id": 7, "to": []}}]
    assert [TELNYX.read(answer(200, said)) for said in without] == [Accepted("")] * 2


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """Also where they hide in a 200."""
    assert TELNYX.read(answer(error["status"], error["body"], retry_after="3")) == Rejected(error["class"], 3.0)
    assert TELNYX.read(answer(200, error["body"])) == Rejected(error["class"])
    assert TELNYX.read(answer(200, {"data": {"id": "m", **error["body"]}})) == Rejected(error["class"])


@pytest.mark.parametrize("code", [*CODES, "40310"])
def test_every_code_has_its_reason_in_answers_and_in_receipts(code: str) -> None:
    """One of ours. 40310 is an invalid `to` and only in Telnyx's own list of codes."""
    reason = CODES.get(code, {"class": "invalid_number"})["class"]
    assert reason in REASONS
    errors = [{"code": code, "title": "see table"}]
    assert TELNYX.read(answer(422, {"errors": errors})) == Rejected(reason)
    said = event({"id": "m", "to": [{"status": "delivery_failed"}], "errors": errors})
    assert TELNYX.receipts(signed(said), NOW) == [Receipt(Status.FAILED, reason, "m")]


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (422, {"errors": [{"code": "99999"}]}, "request"),
        (401, {"errors": [{"code": ["10009"]}]}, "auth"),
        (200, {"errors": [{"code": "99999"}]}, "request"),
        (200, {"data": {"id": "m", "to": [{"status": "sending_failed"}]}}, "request"),
    ],
)
def test_what_is_in_no_table_is_read_from_the_rest_of_the_answer(status: int, said: Any, reason: str) -> None:
    """The HTTP status, or that there was an error at all."""
    assert TELNYX.read(answer(status, said)) == Rejected(reason)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_signatures_are_judged_as_by_the_sdk(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with, at its own time; a key that is none is refused with the settings."""
    now = datetime.fromtimestamp(vector["now"], UTC)
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    given_webhook = Webhook(vector["url"], headers, vector["body"].encode())
    if vector["valid"]:
        telnyx = Telnyx.model_validate({**SETTINGS, "public_key": vector["public_key"]})
        assert telnyx.receipts(given_webhook, now) == [
            Receipt(Status.DELIVERED, None, "40385f64-5717-4562-b3fc-2c963f66afa6")
        ]
    else:
        with pytest.raises((Forged, ValidationError)):
            Telnyx.model_validate({**SETTINGS, "public_key": vector["public_key"]}).receipts(given_webhook, now)


@pytest.mark.parametrize("off", [-301, -300, 0, 300, 301])
def test_the_sdk_and_we_agree_on_what_is_signed(off: int) -> None:
    """And on how long it is good."""
    from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

    right = signed(event({"id": "m", "to": [{"status": "sent"}]}), at=NOW + timedelta(seconds=off))
    with time_machine.travel(NOW, tick=False):
        if abs(off) <= 300:
            verify_webhook_signature(right.body, right.headers, public(KEY))
            assert TELNYX.receipts(right, NOW) == [Receipt(Status.SENT, None, "m")]
        else:
            with pytest.raises(WebhookVerificationError):
                verify_webhook_signature(right.body, right.headers, public(KEY))
            with pytest.raises(Forged):
                TELNYX.receipts(right, NOW)


@pytest.mark.parametrize("time", ["", "soon", "-1", "1e9", "٣", "9" * 5000])
def test_a_time_that_is_none_is_forged(time: str) -> None:
    """Though it is rightly signed."""
    signature = base64.b64encode(KEY.sign(f"{time}|{{}}".encode()).signature).decode()
    headers = {"telnyx-timestamp": time, "telnyx-signature-ed25519": signature}
    with pytest.raises(Forged):
        TELNYX.receipts(Webhook(URL, headers, b"{}"), NOW)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """And those of another delivery are not taken at this one's address, though they are genuine."""
    (expected,) = case["expect"]
    reason = expected.get("error_class", "expired" if case["name"].startswith("expired") else None)
    receipt = Receipt(STATES[expected["state"]], reason, expected["message_id"])
    assert TELNYX.receipts(signed(case["body"], url=case["url"]), NOW) == [receipt]
    with pytest.raises(Malformed):
        TELNYX.receipts(signed(case["body"], url=URL), NOW)


@pytest.mark.parametrize(
    ("payload", "receipts"),
    [
        ({"id": "m", "to": [{"status": "sending"}]}, [Receipt(Status.ACCEPTED, None, "m")]),
        ({"id": "m", "to": [{"status": "expired"}]}, [Receipt(Status.FAILED, "expired", "m")]),
        ({"id": "m", "to": [{"status": "sending_failed"}]}, [Receipt(Status.FAILED, "unknown", "m")]),
        ({"id": "m", "to": [{"status": "sent"}], "errors": [{"code": "40001"}]}, [Receipt(Status.SENT, None, "m")]),
        ({"id": 7, "to": [{"status": "sent"}]}, [Receipt(Status.SENT)]),
        ({"id": "m", "to": [{"status": "webhook_delivered"}]}, [Receipt(Status.UNKNOWN, None, "m")]),
        ({"id": "m", "to": [{"status": ["sent"]}]}, []),
        ({"id": "m", "to": []}, []),
    ],
)
def test_words_and_codes_that_are_not_known_are_unknown(payload: dict[str, Any], receipts: list[Receipt]) -> None:
    """A failure keeps its status."""
    assert TELNYX.receipts(signed(event(payload)), NOW) == receipts


def test_other_events_are_passed_over_and_what_is_no_event_is_malformed() -> None:
    """Inbound messages, for example, may come to the same address."""
    assert TELNYX.receipts(signed(event({"id": "m", "to": [{"status": "delivered"}]}, "message.received")), NOW) == []
    for body in ("", "[]", "{}", '{"data": {"event_type": "message.sent"}}'):
        with pytest.raises(Malformed):
            TELNYX.receipts(signed(body), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    failed = {"id": said, "to": [{"status": "sending_failed"}], "errors": said}
    shapes = [said, {"data": said}, {"data": {"event_type": "message.sent", "payload": {"x": 1, "to": said}}}]
    for shape in [*map(json.dumps, shapes), event(said), event({"to": [said]}), event(failed), event(failed, said)]:
        receipts_of(TELNYX, signed(shape))
    understood(TELNYX, said, {"data": said}, {"data": {"to": said}}, {"errors": said}, {"errors": [{"code": said}]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key": "AAAA"},
        {"public_key": "no base64"},
        {"old_public_key": ""},
        {"sms_from": None},
        {"sms_from": "Shop"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message; a sender's name needs the profile that owns it."""
    with pytest.raises(ValidationError):
        Telnyx.model_validate({**SETTINGS, **wrong})
