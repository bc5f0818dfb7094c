"""Africa's Talking: forms out, refusals inside a 201, and receipts whose address holds a secret."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import BadWebhook, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Message,
    Receipt,
    Rejected,
    ReportsByMessageId,
    Request,
    Response,
    Status,
    Webhook,
)
from service.providers.africastalking import AfricasTalking

DATA = Path(__file__).parent.parent / "data" / "africastalking"
EXAMPLE: dict[str, Any] = json.loads((DATA / "send-example.json").read_text())
CASES: list[dict[str, Any]] = json.loads((DATA / "receipts.json").read_text())["cases"]
CODES: dict[str, dict[str, Any]] = json.loads((DATA / "error-codes.json").read_text())["codes"]
REFUSALS = {code: said["class"] for code, said in CODES.items() if code.isdigit()}
REASONS_OF_RECEIPTS = {code: said["class"] for code, said in CODES.items() if not code.isdigit()}

NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
SECRET, OLD_SECRET = "s3cret-of-the-callback", "the-secret-that-was-before"
SETTINGS: dict[str, Any] = {
    "username": "acme",
    "api_key": "atsk_0123456789abcdef",
    "webhook_secret": SECRET,
    "sms_from": "ACME",
}
ACCOUNT = AfricasTalking.model_validate(SETTINGS)
MESSAGE = Message(
    delivery="att_7Q2f9cV1",
    channel=Channel.SMS,
    to="+254711000111",
    text="482913 is your code",
    code="482913",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW + timedelta(minutes=10),
    receipt_url="https://otp.example.com/receipts/africastalking/att_7Q2f9cV1",
)
REQUEST = ACCOUNT.request(MESSAGE, NOW)
STATES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "failed_permanent": Status.FAILED,
    "failed_transient": Status.FAILED,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside, max_size=3),
    max_leaves=6,
)


def webhook(body: str, query: str = f"?secret={SECRET}") -> Webhook:
    """A webhook as the listener hands it on, with the secret unless another query is given."""
    return Webhook(f"https://otp.example.com/receipts/africastalking{query}", {}, body.encode())


def report(**said: str) -> Webhook:
    """A report on the message `m`."""
    return webhook(urlencode({"id": "m", "phoneNumber": "+254711000111", "networkCode": "63902"} | said))


def answer(status: int, said: Any) -> Response:
    """An answer to a send."""
    return Response(REQUEST, status, {"retry-after": "3"}, json.dumps(said).encode())


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


def test_number_code_and_secrets_are_in_no_repr_and_no_address() -> None:
    """Nor in a header, but for the key that is one."""
    shown = f"{REQUEST.url} {REQUEST!r} {ACCOUNT!r} {report(status='Sent')!r}"
    assert not any(secret in shown for secret in ("482913", "254711000111", "atsk_0123456789abcdef"))
    assert SECRET not in f"{REQUEST.url} {REQUEST!r} {ACCOUNT!r}"


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert ACCOUNT.read(answer(201, EXAMPLE["success"]["body"])) == Accepted("ATXid_0123456789abcdef")
    without: list[Any] = [{}, {"SMSMessageData": {}}, recipient(), recipient(messageId=7, statusCode=100), [], None]
    assert [ACCOUNT.read(answer(201, said)) for said in without] == [Accepted("")] * 6


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
        (401, {}, "auth"),
        (400, {}, "request"),
        (429, {}, "rate_limited"),
        (500, "The supplied authentication is invalid", "provider_error"),
    ],
)
def test_other_refusals_are_seen(status: int, said: Any, reason: str) -> None:
    """No id, nobody to send to, or a status that says it."""
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
        ({"status": "Pondering"}, []),
        ({"status": "success"}, []),
    ],
)
def test_words_that_are_not_known_are_unknown(said: dict[str, str], receipts: list[Receipt]) -> None:
    """A status is passed over, a failure keeps its status."""
    assert ACCOUNT.receipts(report(**said), NOW) == receipts


@pytest.mark.parametrize("body", ["", "{}", "id=m", "status=Success", "id=&status=Success"])
def test_what_names_no_message_or_status_is_malformed(body: str) -> None:
    """There is nothing to record."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(webhook(body), NOW)


@settings(max_examples=50)
@given(body=st.binary(max_size=80), query=st.text(max_size=40), said=JSON)
def test_rubbish_never_raises_anything_but_the_documented_errors(body: bytes, query: str, said: Any) -> None:
    """Neither without the secret, nor with it; nor as an answer, wherever it stands."""
    with pytest.raises(BadWebhook):
        ACCOUNT.receipts(Webhook(f"https://otp.example.com/?{query}", {}, body), NOW)
    for raw in (body, b"id=m&status=Failed&failureReason=" + body):
        try:
            receipts = ACCOUNT.receipts(replace(webhook(""), body=raw), NOW)
        except BadWebhook:
            continue
        assert all(receipt.reason is None or receipt.reason in REASONS for receipt in receipts)
    shapes = [said, {"SMSMessageData": said}, {"SMSMessageData": {"Recipients": said, "Message": said}}]
    for shape in [*shapes, recipient(statusCode=said, messageId=said)]:
        for status in (201, 400, 500):
            assert isinstance(ACCOUNT.read(answer(status, shape)), (Accepted, Rejected))
    assert isinstance(ACCOUNT.read(Response(Request("https://x.example/", {}, b""), 201, {}, body)), Accepted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": ""},
        {"api_key": ""},
        {"api_url": "api.africastalking.com/version1"},
        {"webhook_secret": None},
        {"webhook_secret": "short"},
        {"webhook_secret": "sixteen or more but with spaces"},
        {"old_webhook_secret": ""},
        {"sms_from": "a name that is too long"},
        {"voice_from": "+254711082000"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        AfricasTalking.model_validate({**SETTINGS, **wrong})
