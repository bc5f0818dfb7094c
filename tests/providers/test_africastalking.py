"""Africa's Talking: forms out, refusals inside a 201, and receipts whose address holds a secret."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Receipt,
    Rejected,
    ReportsByMessageId,
    Status,
    Webhook,
)
from service.providers.africastalking import AfricasTalking
from tests.providers import examples
from tests.providers.examples import NOW, STATES, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("africastalking/send-example")
CASES: list[dict[str, Any]] = documented("africastalking/receipts")["cases"]
CODES: dict[str, dict[str, Any]] = documented("africastalking/error-codes")["codes"]
REFUSALS = {code: said["class"] for code, said in CODES.items() if code.isdigit()}
REASONS_OF_RECEIPTS = {code: said["class"] for code, said in CODES.items() if not code.isdigit()}

SECRET = "s3cret-of-the-callback"
SETTINGS: dict[str, Any] = {
    "username": "acme",
    "api_key": "atsk_0123456789abcdef",
    "webhook_secret": SECRET,
    "sms_from": "ACME",
}
ACCOUNT = AfricasTalking.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, to="+254711000111")
REQUEST = ACCOUNT.request(MESSAGE, NOW)
answer = partial(examples.answer, retry_after="3")


def webhook(body: str) -> Webhook:
    """A webhook with the secret."""
    return Webhook(f"https://otp.example.com/receipts/africastalking?secret={SECRET}", {}, body.encode())


def report(**said: str) -> Webhook:
    """A report on the message `m`."""
    return webhook(urlencode({"id": "m", "phoneNumber": "+254711000111", "networkCode": "63902"} | said))


def recipient(**said: Any) -> dict[str, Any]:
    """What an answer says of the one recipient."""
    return {"SMSMessageData": {"Message": "Sent to 1/1", "Recipients": [{"number": "+254711000111"} | said]}}


def test_the_request_is_the_documented_one() -> None:
    """To the letter."""
    assert (REQUEST.method, REQUEST.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert dict(parse_qsl(REQUEST.body.decode())) == EXAMPLE["request"]["body"]
    assert REQUEST.headers == {
        "content-type": EXAMPLE["request"]["content_type"],
        "apikey": "atsk_0123456789abcdef",
        "accept": "application/json",
    }
    assert ACCOUNT.channels == {Channel.SMS}


def test_without_a_sender_the_vendor_chooses() -> None:
    """Then the form names none; in the sandbox the address is another."""
    sandbox = {**SETTINGS, "api_url": "https://api.sandbox.africastalking.com/version1", "sms_from": None}
    request = AfricasTalking.model_validate(sandbox).request(MESSAGE, NOW)
    assert request.url == "https://api.sandbox.africastalking.com/version1/messaging"
    assert "from" not in dict(parse_qsl(request.body.decode()))


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert ACCOUNT.read(answer(201, EXAMPLE["success"]["body"])) == Accepted("ATXid_0123456789abcdef")
    without: list[Any] = [{"SMSMessageData": {}}, recipient(), recipient(messageId=7, statusCode=100)]
    assert [ACCOUNT.read(answer(201, said)) for said in without] == [Accepted("")] * 3


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """They hide in a 201."""
    assert ACCOUNT.read(answer(error["status"], error["body"])) == Rejected(error["class"], 3)


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("status", [200, 201, 409])
def test_every_code_of_a_refusal_has_its_reason(code: str, status: int) -> None:
    """As a number or a string, under whatever status."""
    for written in (code, int(code)):
        outcome = ACCOUNT.read(answer(status, recipient(statusCode=written, messageId="m")))
        reason = REFUSALS[code]
        if reason is None:
            assert outcome == (Accepted("m") if status < 300 else Rejected("request", 3))
        else:
            assert reason in REASONS
            assert outcome == Rejected(reason, 3)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (201, recipient(statusCode=999, messageId="None"), "unknown"),
        (201, {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}, "sender_config"),
        (201, {"SMSMessageData": {"Message": "InsufficientBalance", "Recipients": []}}, "balance"),
        (201, {"SMSMessageData": {"Message": "Sent to 0/1 Total Cost: 0", "Recipients": []}}, "unknown"),
        (500, "The supplied authentication is invalid", "provider_error"),
    ],
)
def test_other_refusals_are_seen(status: int, said: Any, reason: str) -> None:
    """No id, nobody to send to, or a word for people under a status that says it."""
    assert ACCOUNT.read(answer(status, said)) == Rejected(reason, 3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each by its message id alone."""
    (expected,) = case["expect"]
    (receipt,) = ACCOUNT.receipts(webhook(case["body"]), NOW)
    failed = expected["state"].startswith("failed")
    reason = expected.get("error_class", "unreachable") if failed else None
    assert receipt == Receipt(STATES[expected["state"]], reason, expected["message_id"], expected["reference"])
    assert isinstance(ACCOUNT, ReportsByMessageId)


@pytest.mark.parametrize("code", REASONS_OF_RECEIPTS)
def test_every_reason_of_a_failure_is_known(code: str) -> None:
    """Also where it says more than a rejection does; it means nothing beside a success."""
    assert REASONS_OF_RECEIPTS[code] in REASONS
    for word in ("Failed", "Rejected"):
        said = report(status=word, failureReason=code)
        assert ACCOUNT.receipts(said, NOW) == [Receipt(Status.FAILED, REASONS_OF_RECEIPTS[code], "m")]
    assert ACCOUNT.receipts(report(status="Success", failureReason=code), NOW) == [Receipt(Status.DELIVERED, None, "m")]


@pytest.mark.parametrize(
    ("said", "receipts"),
    [
        ({"status": "Failed"}, [Receipt(Status.FAILED, "unknown", "m")]),
        ({"status": "Rejected", "failureReason": "Gremlins"}, [Receipt(Status.FAILED, "unknown", "m")]),
        ({"status": "Expired"}, [Receipt(Status.FAILED, "carrier_blocked", "m")]),
        ({"status": "Pondering"}, [Receipt(Status.UNKNOWN, None, "m")]),
        ({"status": "success"}, [Receipt(Status.UNKNOWN, None, "m")]),
    ],
)
def test_words_that_are_not_known_are_unknown(said: dict[str, str], receipts: list[Receipt]) -> None:
    """A failure keeps its status."""
    assert ACCOUNT.receipts(report(**said), NOW) == receipts


@pytest.mark.parametrize("body", ["", "{}", "id=m", "status=Success", "id=&status=Success"])
def test_what_names_no_message_or_status_is_malformed(body: str) -> None:
    """There is nothing to record."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(webhook(body), NOW)


@settings(max_examples=50)
@given(body=st.binary(max_size=80), said=JSON)
def test_rubbish_with_the_secret_is_malformed_or_noise(body: bytes, said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    for raw in (body, b"id=m&status=Failed&failureReason=" + body):
        receipts_of(ACCOUNT, replace(webhook(""), body=raw))
    understood(ACCOUNT, said, {"SMSMessageData": said}, {"SMSMessageData": {"Recipients": said, "Message": said}})
    understood(ACCOUNT, recipient(statusCode=said, messageId=said))


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": ""},
        {"sms_from": "a name that is too long"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        AfricasTalking.model_validate({**SETTINGS, **wrong})
