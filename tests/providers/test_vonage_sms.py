"""Vonage's SMS API: forms out; queries, forms or JSON back, signed or not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator
from pydantic import ValidationError
from vonage_http_client import Auth  # type: ignore[import-untyped]  # publishes no types

from service.errors import BadWebhook, Forged, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    Message,
    Receipt,
    Rejected,
    Reply,
    Status,
    Webhook,
)
from service.providers.vonage_sms import VonageSms
from tests.providers import examples
from tests.providers.examples import NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

(SEND,) = documented("vonage_sms/sends")
CODES: dict[str, dict[str, dict[str, Any]]] = documented("vonage_sms/codes")
VECTORS: list[dict[str, Any]] = documented("vonage_sms/signatures")["vectors"]
CASES: list[dict[str, Any]] = documented("vonage_sms/receipts")["cases"]
SECRET, OLD_SECRET = "ed291ad3a6a12e6a4193b0a06d91be2c117892bf", "117892bfed291ad3a6a12e6a4193b0a06d91be2c"
SIGNED = VonageSms.model_validate(
    {
        "api_key": "abcd1234",
        "api_secret": "0123456789abcdef",
        "sms_from": "+14155550100",
        "signature_secret": SECRET,
        "old_signature_secret": OLD_SECRET,
        "conversions": True,
    }
)
PLAIN = VonageSms.model_validate({"api_key": "abcd1234", "api_secret": "0123456789abcdef", "sms_from": "AcmeInc"})
MESSAGE = replace(examples.MESSAGE, receipt_url="https://otp.example.com/v1/hooks/vonage-sms")
REQUEST = PLAIN.request(MESSAGE, NOW)
RECEIPT = {
    "messageId": "0A0000001234567B",
    "status": "failed",
    "err-code": "6",
    "client-ref": "att_7Q2f9cV1",
    "price": "0.033",
}


def posted(message: Message, vonage: VonageSms = PLAIN) -> dict[str, str]:
    """The form that is posted for a message."""
    return dict(parse_qsl(vonage.request(message, NOW).body.decode()))


def signed(said: dict[str, str], secret: str = SECRET, method: str = "sha256") -> dict[str, str]:
    """What Vonage's own library makes of parameters."""
    auth = Auth(api_key="abcd1234", signature_secret=secret, signature_method=method)
    stamped = {**said, "timestamp": "1791194400", "nonce": "n"}
    return {**stamped, "sig": auth.sign_params(dict(stamped))}


def got(said: dict[str, str]) -> Webhook:
    """A GET with parameters in its query."""
    return Webhook(f"https://otp.example.com/receipts/v/x?{urlencode(said)}", {}, b"")


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["description"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_vectors(vector: dict[str, Any]) -> None:
    """By all four methods."""
    vonage = SIGNED.model_copy(update={"signature_method": vector["algorithm"]})
    webhook = Webhook(vector["url"], {}, b"")
    if vector["valid"]:
        assert [receipt.status for receipt in vonage.receipts(webhook, NOW)] == [Status.DELIVERED]
    else:
        with pytest.raises(Forged):
            vonage.receipts(webhook, NOW)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """By GET, form or JSON."""
    (expected,) = case["expect"]
    failed = expected["state"].startswith("failed")
    reason = expected.get("error_class", "expired") if failed else None
    receipts = [Receipt(STATES[expected["state"]], reason, expected["message_id"], expected["reference"])]
    assert PLAIN.receipts(Webhook(case["url"], {}, case["body"].encode()), NOW) == receipts
    if case["body"]:
        form = urlencode(json.loads(case["body"])).encode()
        assert PLAIN.receipts(Webhook(case["url"], {}, form), NOW) == receipts


@pytest.mark.parametrize("code", [*CODES["receipt"], "9999"])
def test_every_code_of_a_receipt_has_its_reason(code: str) -> None:
    """None where there is no error or the code is not in the table."""
    reason = CODES["receipt"].get(code, {"class": "unknown"})["class"] or "unknown"
    assert reason in REASONS
    (receipt,) = PLAIN.receipts(got(RECEIPT | {"err-code": code}), NOW)
    assert (receipt.status, receipt.reason) == (Status.FAILED, reason)


@pytest.mark.parametrize("code", [*CODES["submit"], "9999"])
def test_every_refusal_inside_a_200_is_seen(code: str) -> None:
    """Whichever part of a long text it is about."""
    reason = CODES["submit"].get(code, {"class": "unknown"})["class"]
    taken = {"status": "0", "message-id": "m1"}
    said = {"messages": [taken, {"status": code, "error-text": "no"}]}
    assert PLAIN.read(answer(200, said)) == (Accepted("m1") if reason is None else Rejected(reason))
    assert reason is None or reason in REASONS


def test_a_message_is_posted_as_documented() -> None:
    """To the letter, and by Vonage's own description."""
    assert posted(MESSAGE) == SEND["request"]["body"]
    assert REQUEST.url == SEND["request"]["url"]
    document = documented("vonage_sms/openapi")
    schema = document["components"]["schemas"]["NewMessage"]
    said: dict[str, Any] = posted(MESSAGE)
    OAS30Validator(schema).validate(said | {"ttl": int(said["ttl"])})
    assert posted(MESSAGE, SIGNED)["from"] == "14155550100"


def test_a_text_outside_gsm_7_bit_is_sent_as_unicode() -> None:
    """Else Vonage would put question marks into it."""
    assert "type" not in posted(MESSAGE)
    assert posted(replace(MESSAGE, text="रमज़: 482913"))["type"] == "unicode"


@pytest.mark.parametrize(("left", "ttl"), [(-5, 20_000), (19, 20_000), (60.2, 60_200), (10**7, 604_800_000)])
def test_a_message_is_kept_no_longer_than_its_code_is_good(left: float, ttl: int) -> None:
    """In milliseconds, within what Vonage allows."""
    assert posted(replace(MESSAGE, expires_at=NOW + timedelta(seconds=left)))["ttl"] == str(ttl)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, SEND["success"]["body"], Accepted("0A0000000123ABCD1")),
        *[(error["status"], error["body"], Rejected(error["class"])) for error in SEND["errors"]],
        (200, {"messages": [{"status": "0"}]}, Accepted("")),
    ],
)
def test_answers_are_read_as_documented(status: int, body: dict[str, Any], meaning: Accepted | Rejected) -> None:
    """The id of the first part, or why there is none."""
    assert PLAIN.read(answer(status, body)) == meaning


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
def test_what_the_official_library_signs_is_taken(method: str) -> None:
    """By GET, form or JSON, with the new secret or the old."""
    vonage = SIGNED.model_copy(update={"signature_method": method})
    receipt = Receipt(Status.FAILED, "carrier_blocked", "0A0000001234567B", "att_7Q2f9cV1")
    for secret in (SECRET, OLD_SECRET):
        said = signed(RECEIPT, secret, method)
        for webhook in (
            got(said),
            Webhook("https://x.example/", {}, urlencode(said).encode()),
            Webhook("https://x.example/", {}, json.dumps(said).encode()),
        ):
            assert vonage.receipts(webhook, NOW) == [receipt]
    with pytest.raises(Forged):
        vonage.receipts(got(signed(RECEIPT, SECRET[::-1], method)), NOW)


@pytest.mark.parametrize("name", [*signed(RECEIPT)])
def test_one_changed_or_missing_parameter_is_refused(name: str) -> None:
    """The timestamp and the signature are parameters too."""
    said = signed(RECEIPT)
    for forged in (
        said | {name: said[name][:-1] + ("0" if said[name][-1] != "0" else "1")},
        {key: value for key, value in said.items() if key != name},
        said | {"extra": "1"},
    ):
        with pytest.raises(Forged):
            SIGNED.receipts(got(forged), NOW)


def test_parameters_cannot_be_hidden_in_a_name() -> None:
    """The signed text is the same, but `client-ref`, which binds it to its delivery, would be gone."""
    said = signed(RECEIPT)
    del said["client-ref"], said["err-code"]
    with pytest.raises(Forged):
        SIGNED.receipts(got(said | {"client-ref=att_7Q2f9cV1&err-code": "6"}), NOW)


@pytest.mark.parametrize("name", ["status", "messageId"])
def test_what_names_no_message_or_status_is_malformed(name: str) -> None:
    """There is nothing to record."""
    with pytest.raises(Malformed):
        PLAIN.receipts(got({key: value for key, value in RECEIPT.items() if key != name}), NOW)


def test_conversions_are_told_of_sms_alone() -> None:
    """Calls are another API's."""
    assert SIGNED.feedback(Feedback("m1", Channel.VOICE, "+447400123456", converted=True), NOW) is None


@settings(max_examples=50)
@given(body=st.binary(max_size=100), query=st.text(max_size=60))
def test_rubbish_never_raises_anything_but_the_documented_errors(body: bytes, query: str) -> None:
    """Whether it should be signed or not."""
    for vonage in (PLAIN, SIGNED):
        for raw in (body, b""):
            with pytest.raises(BadWebhook):
                vonage.receipts(Webhook(f"https://x.example/?{query}", {}, raw), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_of_the_right_shape_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands."""
    understood(PLAIN, said, {"messages": said}, {"messages": [said]})
    understood(PLAIN, {"messages": [{"status": said, "message-id": said}]})
    for receipt in ({"status": said, "messageId": "m1"}, {"status": "failed", "messageId": said, "err-code": said}):
        receipts_of(PLAIN, Webhook("https://x.example/", {}, json.dumps(receipt).encode()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": ""},
        {"sms_from": None},
        {"sms_from": "a name that is too long"},
        {"signature_method": "md5hash"},
        {"signature_secret": None, "old_signature_secret": OLD_SECRET},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    right = {"api_key": "abcd1234", "api_secret": "0123456789abcdef", "sms_from": "AcmeInc"}
    assert VonageSms.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError):
        VonageSms.model_validate(right | wrong)


INBOUND = {"msisdn": "14155550123", "to": "14155550100", "messageId": "0A1", "text": "Stop", "type": "text"}


def test_a_reply_says_who_wrote_what() -> None:
    """By a GET, a form or JSON, as the account has it."""
    said = signed(INBOUND)
    form, body = urlencode(said).encode(), json.dumps(said).encode()
    for webhook in (got(said), Webhook("https://x.example/", {}, form), Webhook("https://x.example/", {}, body)):
        assert SIGNED.replies(webhook, NOW) == [Reply("14155550123", Channel.SMS, "Stop")]
    picture = signed({name: value for name, value in INBOUND.items() if name != "text"})
    assert SIGNED.replies(got(picture), NOW) == [Reply("14155550123", Channel.SMS, "")]


def test_a_reply_is_believed_with_a_signature_only() -> None:
    """An account that does not sign has nothing else that could prove it: there is no token in this address."""
    said = signed(INBOUND)
    assert SIGNED.replies(got(signed(INBOUND, OLD_SECRET)), NOW)
    for vonage, forged in ((PLAIN, said), (PLAIN, INBOUND), (SIGNED, INBOUND), (SIGNED, said | {"text": "START"})):
        with pytest.raises(Forged):
            vonage.replies(got(forged), NOW)
    with pytest.raises(Malformed):
        SIGNED.replies(got(signed({"text": "Stop"})), NOW)
