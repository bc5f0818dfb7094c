"""Telegram Gateway: the check, the code that follows it, the answers, and signed receipts."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Receipt,
    Rejected,
    Request,
    Status,
    Webhook,
)
from service.providers.telegram import Telegram
from tests.providers import examples
from tests.providers.examples import NOW, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("telegram/send-example")
CODES: dict[str, dict[str, Any]] = documented("telegram/error-codes")["codes"]
CASES: list[dict[str, Any]] = documented("telegram/receipts")["cases"]
VECTORS: list[dict[str, Any]] = documented("telegram/signatures")["vectors"]

URL = "https://otp.example.com/v1/hooks/telegram"
TOKEN, OLD_TOKEN = "AAE06ead569f7351b68fe80ab9e3800c3ac264a7ee8", "AAE0-the-one-before"
TELEGRAM = Telegram.model_validate({"api_token": TOKEN})
MESSAGE = replace(examples.MESSAGE, channel=Channel.TELEGRAM, expires_at=NOW + timedelta(seconds=60), receipt_url=URL)
REACHABLE = {"ok": True, "result": {"request_id": "1234567890", "phone_number": "+14155550123", "request_cost": 0.01}}


def followed(request: Request) -> Request:
    """The request with the code, once the check said yes."""
    send = TELEGRAM.read(answer(200, REACHABLE, to=request))
    assert isinstance(send, Request)
    return send


def signed(body: str, token: str = TOKEN, *, time: str = str(int(NOW.timestamp()))) -> Webhook:
    """A webhook that is rightly signed."""
    key = hashlib.sha256(token.encode()).digest()
    signature = hmac.new(key, f"{time}\n{body}".encode(), "sha256").hexdigest()
    return Webhook(URL, {"x-request-timestamp": time, "x-request-signature": signature}, body.encode())


CHECK = TELEGRAM.request(MESSAGE, NOW)
SEND = followed(CHECK)


def test_it_is_asked_first_who_can_be_reached() -> None:
    """With the number alone: the code stays here until the answer."""
    assert (CHECK.method, CHECK.url) == ("POST", "https://gatewayapi.telegram.org/checkSendAbility")
    assert json.loads(CHECK.body) == {"phone_number": "+14155550123"}
    assert CHECK.headers == {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}


def test_the_code_follows_and_is_paid_by_the_check() -> None:
    """As in the example, and under the check's id."""
    assert (SEND.method, SEND.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert SEND.headers == CHECK.headers
    assert json.loads(SEND.body) == {**EXAMPLE["request"]["body"], "request_id": "1234567890"}
    assert TELEGRAM.read(answer(200, EXAMPLE["success"]["body"], to=SEND)) == Accepted("1234567890")


@pytest.mark.parametrize(("left", "ttl"), [(-5, 30), (29.9, 30), (600, 600), (86_400, 3600)])
def test_it_waits_for_delivery_as_long_as_the_code_lives(left: float, ttl: int) -> None:
    """Within what Telegram takes."""
    message = replace(MESSAGE, expires_at=NOW + timedelta(seconds=left))
    assert json.loads(followed(TELEGRAM.request(message, NOW)).body)["ttl"] == ttl


def test_a_channel_of_ours_may_send() -> None:
    """In place of Telegram's own."""
    ours = Telegram.model_validate({"api_token": TOKEN, "telegram_from": "shop_codes"})
    assert json.loads(followed(ours.request(MESSAGE, NOW)).body)["sender_username"] == "shop_codes"
    assert "sender_username" not in json.loads(SEND.body)


@pytest.mark.parametrize("code", CODES)
def test_every_refusal_has_its_reason(code: str) -> None:
    """One of ours; whether it refuses the check or the code, and also where it hides in a 200."""
    said, reason = {"ok": False, "error": code}, CODES[code]["class"]
    assert reason in REASONS
    assert TELEGRAM.read(answer(200, said, to=CHECK)) == Rejected(reason)
    assert TELEGRAM.read(answer(400, said, retry_after="3", to=SEND)) == Rejected(reason, 3.0)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (200, "SOMETHING_NEW", "request"),
        (401, "SOMETHING_NEW", "auth"),
        (200, ["ACCESS_TOKEN_INVALID"], "request"),
        (429, "FLOOD_WAIT", "rate_limited"),
        (503, None, "provider_error"),
    ],
)
def test_what_is_in_no_table_is_read_from_the_http_status(status: int, error: Any, reason: str) -> None:
    """Of either request."""
    for request in (CHECK, SEND):
        said = {"ok": False, "error": error}
        assert TELEGRAM.read(answer(status, said, retry_after="3", to=request)) == Rejected(reason, 3.0)


def test_the_example_of_a_refusal_has_its_reason() -> None:
    """The one that Telegram itself documents."""
    [error] = EXAMPLE["errors"]
    assert TELEGRAM.read(answer(error["status"], error["body"], to=SEND)) == Rejected(error["class"])


def test_a_flood_says_how_long_to_wait() -> None:
    """In its own name."""
    said = {"ok": False, "error": "FLOOD_WAIT_42"}
    assert TELEGRAM.read(answer(200, said, to=CHECK)) == Rejected("rate_limited", 42.0)


@pytest.mark.parametrize("said", [{"ok": True}, {"ok": True, "result": {"request_id": 7}}, [], None])
def test_an_answer_without_an_id_accepts_a_code_but_ends_a_check(said: Any) -> None:
    """A code that went may not go again; one that follows an unnamed check would be paid twice."""
    assert TELEGRAM.read(answer(200, said, to=SEND)) == Accepted("")
    assert TELEGRAM.read(answer(200, said, to=CHECK)) == Rejected("provider_error")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["description"])
def test_signatures_are_judged_as_documented(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with, at its own time."""
    now = datetime.fromtimestamp(vector["now"], UTC)
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    webhook = Webhook(vector["url"], headers, vector["body"].encode())
    if vector["valid"]:
        assert TELEGRAM.receipts(webhook, now) == [Receipt(Status.DELIVERED, None, "1234567890", "att_7Q2f9cV1")]
    else:
        with pytest.raises(Forged):
            TELEGRAM.receipts(webhook, now)


@pytest.mark.parametrize("off", [-301, -300, 300, 301])
def test_a_signature_is_good_for_five_minutes(off: int) -> None:
    """Either way."""
    webhook = signed('{"request_id": "1"}', time=str(int(NOW.timestamp()) + off))
    if abs(off) <= 300:
        assert TELEGRAM.receipts(webhook, NOW) == []
    else:
        with pytest.raises(Forged):
            TELEGRAM.receipts(webhook, NOW)


@pytest.mark.parametrize("time", ["", "soon", "-1", "1e9", "٣", "9" * 5000])
def test_a_time_that_is_none_is_forged(time: str) -> None:
    """Though it is rightly signed."""
    with pytest.raises(Forged):
        TELEGRAM.receipts(signed("{}", time=time), NOW)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each names its delivery, so that none can be sent again to the address of another."""
    [expected] = case["expect"]
    failed = {"expired": "expired", "revoked": "cancelled"}.get(case["name"])
    status = Status.FAILED if failed else Status(expected["state"])
    receipt = Receipt(status, failed, expected["message_id"], expected["reference"])
    assert TELEGRAM.receipts(signed(case["body"]), NOW) == [receipt]


@pytest.mark.parametrize(
    ("said", "receipts"),
    [
        ({"request_id": "1"}, []),
        ({"delivery_status": {"status": ["sent"]}}, []),
        ({"delivery_status": {"status": "pending"}}, [Receipt(Status.UNKNOWN)]),
    ],
)
def test_words_that_are_not_known_are_unknown(said: Any, receipts: list[Receipt]) -> None:
    """A report on something else than delivery is passed over."""
    assert TELEGRAM.receipts(signed(json.dumps(said)), NOW) == receipts


@pytest.mark.parametrize("body", ["", "[]", "{}", "sent"])
def test_what_is_no_report_is_malformed(body: str) -> None:
    """Though it is rightly signed."""
    with pytest.raises(Malformed):
        TELEGRAM.receipts(signed(body), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    for shape in (said, {"delivery_status": said}, {"payload": said, "delivery_status": {"status": "sent"}}):
        assert len(receipts_of(TELEGRAM, signed(json.dumps(shape)))) <= 1
    answers = [said, {"ok": said}, {"ok": False, "error": said}, {"ok": True, "result": said}]
    understood(TELEGRAM, *answers)
    for one in answers:
        assert isinstance(TELEGRAM.read(answer(200, one, to=CHECK)), (Request, Rejected))


@pytest.mark.parametrize(
    "wrong",
    [
        {"telegram_from": "@shop_codes"},
        {"telegram_from": ""},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Telegram.model_validate({"api_token": TOKEN, **wrong})
