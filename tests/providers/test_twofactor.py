"""2Factor: forms out in place of telling URLs, refusals inside a 200, and receipts whose address holds a secret."""

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
    Message,
    Receipt,
    Rejected,
    ReportsByMessageId,
    Status,
    Webhook,
)
from service.providers.twofactor import TwoFactor
from tests.providers import examples
from tests.providers.examples import NOW, STATES, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("twofactor/send-example")
CASES: list[dict[str, Any]] = documented("twofactor/receipts")["cases"]

KEY = "00000000-1111-2222-3333-444444444444"
SECRET = "s3cret-of-the-callback"
SETTINGS: dict[str, Any] = {
    "api_key": KEY,
    "webhook_secret": SECRET,
    "sms_from": "ACMEIN",
    "sms_template": "OTP1",
    "sms_templates": {"hi": "OTP1 Hindi"},
}
ACCOUNT = TwoFactor.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, to="+919999999999")
REQUEST = ACCOUNT.request(MESSAGE, NOW)
answer = partial(examples.answer, retry_after="3")


def webhook(body: str) -> Webhook:
    """A webhook with the secret."""
    return Webhook(f"https://otp.example.com/receipts/twofactor?secret={SECRET}", {}, body.encode())


def report(**said: str) -> Webhook:
    """A report on the session `s`."""
    return webhook(urlencode({"SessionId": "s"} | said))


def posted(message: Message, **other: Any) -> dict[str, str]:
    """The form that is posted for a message, with other settings."""
    return dict(parse_qsl(TwoFactor.model_validate(SETTINGS | other).request(message, NOW).body.decode()))


def test_the_request_is_the_documented_one() -> None:
    """To the letter; key, number and code are in the body, unlike in 2Factor's OTP API."""
    assert (REQUEST.method, REQUEST.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert posted(MESSAGE) == EXAMPLE["request"]["body"] | {"apikey": KEY}
    assert REQUEST.headers == {"content-type": EXAMPLE["request"]["content_type"]}
    assert ACCOUNT.channels == {Channel.SMS}


def test_the_template_is_of_the_persons_language_and_without_one_the_text_is_sent() -> None:
    """By locale or its first part, else the one for all, else none."""
    hindi, tamil = replace(MESSAGE, locale="hi-IN"), replace(MESSAGE, locale="ta")
    assert posted(hindi)["templatename"] == "OTP1 Hindi"
    assert posted(tamil)["templatename"] == "OTP1"
    own = posted(tamil, sms_template=None)
    assert own.keys() == {"module", "apikey", "to", "from", "msg"}
    assert own["msg"] == "482913 is your code"


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert ACCOUNT.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("76547ec2-6f5c-4f57-8b36-2b1f0c1a7f10")
    without: list[Any] = [{"Status": "Success"}, {"Status": "Success", "Details": 7}]
    assert [ACCOUNT.read(answer(200, said)) for said in without] == [Accepted("")] * 2


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """They hide in a 200, in words for people."""
    assert ACCOUNT.read(answer(error["status"], error["body"])) == Rejected(error["class"], 3)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "request"), (401, "auth"), (429, "rate_limited"), (500, "provider_error")],
)
def test_other_refusals_are_read_by_status(status: int, reason: str) -> None:
    """Whatever the body says."""
    for said in ({"Status": "Success"}, {"Status": "Error", "Details": "Gremlins"}):
        assert ACCOUNT.read(answer(status, said)) == Rejected(reason, 3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """In both forms, each by its session id alone."""
    (expected,) = case["expect"]
    failed = expected["state"].startswith("failed")
    reason = expected.get("error_class", "unknown") if failed else None
    assert reason is None or reason in REASONS
    assert ACCOUNT.receipts(webhook(case["body"]), NOW) == [
        Receipt(STATES[expected["state"]], reason, expected["message_id"], expected["reference"])
    ]
    assert isinstance(ACCOUNT, ReportsByMessageId)


@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        ({"Status": "PONDERING"}, [Status.UNKNOWN]),
        ({"Status": "delivered"}, [Status.UNKNOWN]),
        ({"mode": "VOICE_OTP", "Status": "DELIVERED", "callDetailStatus": "DELIVERED (USR_NOT_PICKD)"}, []),
    ],
)
def test_what_is_not_known_is_unknown_and_what_is_not_ours_passed_over(
    said: dict[str, str], statuses: list[Status]
) -> None:
    """2Factor calls it delivered when nobody took a call; but the calls are somebody else's."""
    assert [receipt.status for receipt in ACCOUNT.receipts(report(**said), NOW)] == statuses


@pytest.mark.parametrize("body", ["", "{}", "SessionId=s", "Status=DELIVERED", "SessionId=&Status=DELIVERED"])
def test_what_names_no_session_or_status_is_malformed(body: str) -> None:
    """There is nothing to record."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(webhook(body), NOW)


@settings(max_examples=50)
@given(body=st.binary(max_size=80), said=JSON)
def test_rubbish_with_the_secret_is_malformed_or_noise(body: bytes, said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    for raw in (body, b"SessionId=s&Status=FAILED&mode=" + body):
        receipts_of(ACCOUNT, replace(webhook(""), body=raw))
    understood(ACCOUNT, said, {"Status": said, "Details": said})


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_url": "https://2factor.in/API/R1/"},
        {"sms_from": None},
        {"sms_from": "a name that is too long"},
        {"sms_template": ""},
        {"sms_templates": {"hi": ""}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        TwoFactor.model_validate({**SETTINGS, **wrong})
