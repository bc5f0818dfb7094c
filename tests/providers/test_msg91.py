"""MSG91: codes for an approved template, refusals inside a 200, and receipts whose address holds a secret."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import Malformed
from service.provider import (
    Accepted,
    Channel,
    Receipt,
    Rejected,
    ReportsByMessageId,
    Status,
    Webhook,
)
from service.providers.msg91 import Msg91
from tests.providers import examples
from tests.providers.examples import NOW, STATES, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("msg91/send-example")
CASES: list[dict[str, Any]] = documented("msg91/receipts")["cases"]
CODES: dict[str, dict[str, Any]] = documented("msg91/error-codes")["codes"]

SECRET = "s3cret-of-the-webhook"
SETTINGS: dict[str, Any] = {
    "auth_key": "123456AbCdEfGh",
    "webhook_secret": SECRET,
    "sms_template": "5f0000000000000000000001",
    "sms_templates": {"hi": "5f0000000000000000000002"},
}
ACCOUNT = Msg91.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, to="+919999999999")
REQUEST = ACCOUNT.request(MESSAGE, NOW)
answer = partial(examples.answer, retry_after="3")


def webhook(body: str) -> Webhook:
    """A webhook with the secret."""
    return Webhook(f"https://otp.example.com/receipts/msg91?secret={SECRET}", {}, body.encode())


def second(said: Any) -> Webhook:
    """A webhook of version 2."""
    return webhook(urlencode({"data": json.dumps(said)}))


def third(**said: Any) -> Webhook:
    """A webhook of version 3, on the request `r`."""
    return webhook(json.dumps({"requestId": "r", "number": "919999999999"} | said))


def test_the_request_is_the_documented_one() -> None:
    """To the letter; the code is in the body, unlike in MSG91's OTP API."""
    assert (REQUEST.method, REQUEST.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert json.loads(REQUEST.body) == EXAMPLE["request"]["body"]
    assert REQUEST.headers == {
        "content-type": EXAMPLE["request"]["content_type"],
        "authkey": "123456AbCdEfGh",
        "accept": "application/json",
    }
    assert ACCOUNT.channels == {Channel.SMS}


def test_the_template_is_of_the_persons_language_and_names_the_code_as_it_likes() -> None:
    """By locale or its first part, else the one for all."""
    account = Msg91.model_validate({**SETTINGS, "code_variable": "otp"})
    said = {
        locale: json.loads(account.request(replace(MESSAGE, locale=locale), NOW).body) for locale in ("hi-IN", "ta")
    }
    assert said["hi-IN"]["template_id"] == "5f0000000000000000000002"
    assert said["ta"]["template_id"] == "5f0000000000000000000001"
    assert said["ta"]["recipients"] == [{"mobiles": "919999999999", "otp": "482913"}]


def test_an_accepted_message_has_its_id() -> None:
    """From the example, or under the name that the OTP API has for it; an answer without an id accepts as well."""
    assert ACCOUNT.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("356a6b6b6b6b353532303937")
    otp = {"type": "success", "message": "sent", "request_id": "356a"}
    assert ACCOUNT.read(answer(200, otp)) == Accepted("356a")
    without: list[Any] = [{"type": "success"}, {"type": "success", "message": 7}]
    assert [ACCOUNT.read(answer(200, said)) for said in without] == [Accepted("")] * 2


def test_what_was_asked_twice_is_on_its_way() -> None:
    """Its id is lost, but nothing is to be sent again."""
    assert ACCOUNT.read(answer(400, {"type": "error", "code": "311"})) == Accepted("")


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
@pytest.mark.parametrize("status", [200, 400])
def test_documented_refusals_have_their_reason(error: dict[str, Any], status: int) -> None:
    """They may hide in a 200."""
    assert ACCOUNT.read(answer(status, error["body"])) == Rejected(error["class"], 3)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (200, {"type": "error", "code": 301}, "balance"),
        (200, {"type": "error", "code": "202"}, "invalid_number"),
        (200, {"code": "207"}, "auth"),
        (200, {"type": "error", "message": "Gremlins", "code": "999"}, "unknown"),
        (400, {"type": "error", "message": "Gremlins"}, "request"),
        (401, {"type": "error", "code": "601"}, "provider_error"),
    ],
)
def test_other_refusals_are_read_by_code_or_status(status: int, said: Any, reason: str) -> None:
    """An error whose code nobody knows is one all the same."""
    assert ACCOUNT.read(answer(status, said)) == Rejected(reason, 3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each by its request id alone."""
    (expected,) = case["expect"]
    (receipt,) = ACCOUNT.receipts(webhook(case["body"]), NOW)
    found = (receipt.status, receipt.message_id, receipt.delivery)
    assert found == (STATES[expected["state"]], expected["message_id"], expected["reference"])
    assert isinstance(ACCOUNT, ReportsByMessageId)


@pytest.mark.parametrize("code", CODES)
def test_every_status_has_its_reason(code: str) -> None:
    """As a string or a number, in both versions."""
    reason = CODES[code]["class"]
    expected = Receipt(Status.FAILED if reason else Status.DELIVERED, reason, "r")
    for status in (code, int(code)):
        reports = [{"requestId": "r", "report": [{"status": status}]}]
        assert ACCOUNT.receipts(third(status=status), NOW) == ACCOUNT.receipts(second(reports), NOW) == [expected]


def test_a_webhook_may_hold_many_reports() -> None:
    """Of several requests; a word that is not known is unknown, and what has none is passed over."""
    reports = [
        {"requestId": "a", "report": [{"status": "1"}, {"status": "26"}, {}, 7]},
        {"requestId": "b", "report": [{"status": "17"}]},
        {"requestId": "c", "report": None},
        "noise",
    ]
    assert ACCOUNT.receipts(second(reports), NOW) == [
        Receipt(Status.DELIVERED, None, "a"),
        Receipt(Status.UNKNOWN, None, "a"),
        Receipt(Status.FAILED, "opted_out", "b"),
    ]
    [pondering] = ACCOUNT.receipts(third(status="Pondering"), NOW)
    assert (pondering.status, pondering.reason) == (Status.UNKNOWN, None)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "data=",
        "data=x",
        '{"status": "1"}',
        '{"requestId": 7, "status": "1"}',
        urlencode({"data": '[{"report": [{"status": "1"}]}]'}),
        '[{"data":[{"meta":"0","description":"DELIVERED"}],"event":"delivered"}]',
    ],
)
def test_what_names_no_request_is_malformed(body: str) -> None:
    """Version 4 of the webhook, for example."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(webhook(body), NOW)


@settings(max_examples=50)
@given(body=st.binary(max_size=80), said=JSON)
def test_rubbish_with_the_secret_is_malformed_or_noise(body: bytes, said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    reports = [said, [said], [{"requestId": said, "report": said}], [{"requestId": "r", "report": [{"status": said}]}]]
    shapes = [replace(webhook(""), body=body), third(status=said), third(requestId=said)]
    for shape in [*shapes, *(second(report) for report in reports)]:
        receipts_of(ACCOUNT, shape)
    understood(ACCOUNT, said, {"type": said, "message": said, "code": said, "request_id": said})


@pytest.mark.parametrize(
    "wrong",
    [
        {"sms_template": ""},
        {"sms_templates": {"hi": ""}},
        {"code_variable": ""},
        {"code_variable": "##otp##"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Msg91.model_validate({**SETTINGS, **wrong})
