"""Dexatel: what is sent, the answers, and receipts that come to one address for all."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Receipt, Rejected, Status, Webhook
from service.providers.dexatel import Dexatel
from tests.providers.examples import MESSAGE, NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("dexatel/send-example")
CASES: list[dict[str, Any]] = documented("dexatel/receipts")["cases"]
VECTORS: list[dict[str, Any]] = documented("dexatel/signatures")["vectors"]
CODES: dict[str, dict[str, Any]] = documented("dexatel/error-codes")["codes"]

URL = "https://otp.example.com/receipts/dexatel"
SECRET, OLD_SECRET = "555706671972bc5f74ca9c4c5f9bfb7f", "the-secret-before"
TEMPLATE, BRAZILIAN = "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3f2504e0-4f89-41d3-9a0c-0305e82c3302"
SETTINGS: dict[str, Any] = {
    "api_key": "94d2f2f2-secret",
    "webhook_secret": SECRET,
    "sms_from": "AcmeInc",
    "whatsapp_from": "Acme",
    "whatsapp_template": TEMPLATE,
    "whatsapp_templates": {"pt-BR": BRAZILIAN},
}
DEXATEL = Dexatel.model_validate(SETTINGS)


def signed(body: str, secret: str = SECRET) -> Webhook:
    """A webhook that is rightly signed."""
    signature = base64.b64encode(hmac.digest(secret.encode(), body.encode(), "sha256")).decode()
    return Webhook(URL, {"x-dexatel-signature": signature}, body.encode())


def event(**fields: Any) -> str:
    """A webhook's body."""
    return json.dumps({"data": {"event": "delivery", "message_id": "m", "payload": "p", **fields}})


def test_an_sms_is_sent_as_in_the_example() -> None:
    """With the key in its header."""
    request = DEXATEL.request(MESSAGE, NOW)
    assert (request.method, request.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert request.headers == {"content-type": "application/json", "x-dexatel-key": "94d2f2f2-secret"}
    assert json.loads(request.body) == EXAMPLE["request"]["body"]


@pytest.mark.parametrize(("locale", "template"), [("en", TEMPLATE), ("pt-BR", BRAZILIAN), ("pt", TEMPLATE)])
def test_over_whatsapp_the_template_goes_in_the_persons_language(locale: str, template: str) -> None:
    """Where there is one; the code is its variable."""
    message = replace(MESSAGE, channel=Channel.WHATSAPP, locale=locale)
    assert json.loads(DEXATEL.request(message, NOW).body)["data"] == {
        "from": "Acme",
        "to": ["14155550123"],
        "channel": "WHATSAPP",
        "template": template,
        "variables": ["482913"],
        "payload": "att_7Q2f9cV1",
    }


def test_it_carries_what_it_has_a_sender_for() -> None:
    """One channel or both."""
    assert DEXATEL.channels == {Channel.SMS, Channel.WHATSAPP}
    without = {"whatsapp_from": None, "whatsapp_template": None}
    assert Dexatel.model_validate({**SETTINGS, **without}).channels == {Channel.SMS}
    assert Dexatel.model_validate({**SETTINGS, "sms_from": None}).channels == {Channel.WHATSAPP}


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert DEXATEL.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("b0a4a26e-0000-4000-8000-000000000001")
    without: list[Any] = [{"data": []}, {"data": {"id": "m"}}, {"data": [{"id": 7}]}]
    assert [DEXATEL.read(answer(201, said)) for said in without] == [Accepted("")] * 3


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_its_reason(code: str) -> None:
    """One of ours, also where it hides in a 200."""
    reason = CODES[code]["class"]
    assert reason in REASONS
    said = {"errors": [{"code": int(code), "message": "see table", "status": 400, "path": "/v1/messages"}]}
    assert DEXATEL.read(answer(400, said, retry_after="3")) == Rejected(reason, 3.0)
    assert DEXATEL.read(answer(200, said)) == Rejected(reason)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (400, {"errors": [{"code": 1508}]}, "request"),
        (400, {"errors": [{"code": "1523"}]}, "request"),
        (401, {"errors": [{"code": [1523]}]}, "auth"),
        (200, {"data": [{"id": "m", "status": "FAILED"}]}, "request"),
    ],
)
def test_what_is_in_no_table_is_read_from_the_rest_of_the_answer(status: int, said: Any, reason: str) -> None:
    """The HTTP status, or that the message failed at once."""
    assert DEXATEL.read(answer(status, said)) == Rejected(reason)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["description"])
def test_signatures_are_judged_as_documented(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with."""
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    webhook = Webhook(vector["url"], headers, vector["body"].encode())
    if vector["valid"]:
        assert DEXATEL.receipts(webhook, NOW) == [Receipt(Status.DELIVERED, None, "b0a4", "att_7Q2f9cV1")]
    else:
        with pytest.raises(Forged):
            DEXATEL.receipts(webhook, NOW)


@pytest.mark.parametrize("header", ["", "=", "é"])
def test_what_is_not_signed_is_forged(header: str) -> None:
    """Or in another way."""
    right = signed(event(status="sent"))
    hexadecimal = hmac.digest(SECRET.encode(), right.body, "sha256").hex()
    for headers in ({}, {"x-dexatel-signature": header}, {"x-dexatel-signature": hexadecimal}):
        with pytest.raises(Forged):
            DEXATEL.receipts(replace(right, headers=headers), NOW)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each names its delivery."""
    [expected] = case["expect"]
    status = STATES[expected["state"]]
    reason = ("expired" if case["name"] == "expired" else "unknown") if status is Status.FAILED else None
    receipt = Receipt(status, reason, expected["message_id"], expected["reference"])
    assert DEXATEL.receipts(signed(case["body"]), NOW) == [receipt]


@pytest.mark.parametrize(
    ("fields", "receipts"),
    [
        ({"status": "SCHEDULED"}, [Receipt(Status.ACCEPTED, None, "m", "p")]),
        ({"status": "enroute"}, [Receipt(Status.SENT, None, "m", "p")]),
        ({"status": "Sent", "payload": None}, [Receipt(Status.SENT, None, "m", None)]),
        ({"status": "teleported"}, [Receipt(Status.UNKNOWN, None, "m", "p")]),
        ({"status": ["sent"]}, []),
        ({"event": "message", "status": "delivered"}, []),
    ],
)
def test_other_words_are_read_in_any_case_or_unknown(fields: dict[str, Any], receipts: list[Receipt]) -> None:
    """Other events, such as messages of people, are passed over."""
    assert DEXATEL.receipts(signed(event(**fields)), NOW) == receipts


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"data": []}'])
def test_what_is_no_event_is_malformed(body: str) -> None:
    """Though it is rightly signed."""
    with pytest.raises(Malformed):
        DEXATEL.receipts(signed(body), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    bodies = [json.dumps(said), json.dumps({"data": said}), event(status=said)]
    for body in [*bodies, event(status="failed", payload=said, message_id=said)]:
        assert len(receipts_of(DEXATEL, signed(body))) <= 1
    understood(DEXATEL, said, {"data": said}, {"data": [said]}, {"errors": said}, {"errors": [{"code": said}]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"sms_from": None, "whatsapp_from": None, "whatsapp_template": None},
        {"whatsapp_from": None},
        {"whatsapp_template": None},
        {"whatsapp_template": "otp_code"},
        {"whatsapp_templates": {"de": "otp_code"}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Dexatel.model_validate({**SETTINGS, **wrong})
