"""Sinch: what it is sent, what it answers, what it reports and how that is signed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from openapi_schema_validator import OAS31Validator
from pydantic import SecretStr, ValidationError
from sinch.core.internal.sinch_events import authorization_helpers  # type: ignore[import-untyped]  # has no types
from sinch.core.internal.sinch_events import utils as signing
from sinch.domains.authentication.sinch_events.v1 import (  # type: ignore[import-untyped]  # as above
    authentication_validation as sdk,
)

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Channel, Feedback, Message, Receipt, Rejected, Status
from service.providers.sinch import Sinch
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

CONTRACT: dict[str, Any] = documented("sinch/openapi")
SENDS: dict[str, dict[str, Any]] = {example["channel"]: example for example in documented("sinch/sends")["examples"]}
VECTORS: list[dict[str, Any]] = documented("sinch/signatures")["vectors"]
RECEIPTS: dict[str, list[dict[str, Any]]] = {
    kind: documented(f"sinch/receipts-{kind}")["cases"] for kind in ("sms", "voice")
}
SMS_SECRET, KEY, VOICE_SECRET = (
    "b225c9ee17d9f5d96bd41277",
    "11111111-2222-3333-4444-555555555555",
    "iiTFzOzxFcOUf5LsyBMIQw==",
)
OLD_SMS_SECRET, OLD_VOICE_SECRET = "the-one-before", "dGhlLW9uZS1iZWZvcmU="
URL = "https://otp.example.com/v1/hooks/sinch"
ACCOUNT = Sinch(
    api_url="https://eu.sms.api.sinch.com",
    service_plan_id="SERVICE_PLAN_ID",
    api_token=SecretStr("the-token"),
    sms_from="AcmeInc",
    sms_webhook_secret=SecretStr(SMS_SECRET),
    old_sms_webhook_secret=SecretStr(OLD_SMS_SECRET),
    application_key=KEY,
    application_secret=SecretStr(VOICE_SECRET),
    old_application_secret=SecretStr(OLD_VOICE_SECRET),
    voice_from="+14155550100",
)
MESSAGE = replace(examples.MESSAGE, receipt_url=URL)
CALL = replace(MESSAGE, channel=Channel.VOICE, text=SPOKEN, receipt_url=f"{URL}/{MESSAGE.delivery}")


def sms_report(body: str, secret: str = SMS_SECRET, at: datetime = NOW) -> provider.Webhook:
    """A report as Sinch's own package signs it."""
    timestamp, header = str(int(at.timestamp())), "x-sinch-webhook-signature"
    signature = sdk.calculate_sinch_event_signature(sdk.compute_signed_data(body, "nonce", timestamp), secret)
    headers = {header: signature, f"{header}-nonce": "nonce", f"{header}-timestamp": timestamp}
    return provider.Webhook(URL, headers, body.encode())


def call_event(body: str, secret: str = VOICE_SECRET, at: str = "2026-10-06T10:00:00.0000000Z") -> provider.Webhook:
    """An event as Sinch's own package signs it; only the scheme's name is the older one."""
    text = signing.build_string_to_sign(
        "POST", signing.compute_content_md5(body), "application/json", at, "/v1/hooks/sinch"
    )
    headers = {
        "authorization": f"Application {KEY}:{signing.compute_signature(text, secret)}",
        "content-type": "application/json",
        "x-timestamp": at,
    }
    return provider.Webhook(URL, headers, body.encode())


@pytest.mark.parametrize(("message", "schema"), [(MESSAGE, "TextRequest"), (CALL, "TtsCalloutRequest")])
def test_requests_are_the_documented_ones(message: Message, schema: str) -> None:
    """Equal to the examples, and to the schema that they come from."""
    request, example = ACCOUNT.request(message, NOW), SENDS[message.channel]["request"]
    assert (request.method, request.url) == ("POST", example["url"])
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == example["body"]
    OAS31Validator({**CONTRACT, "$ref": f"#/components/schemas/{schema}"}).validate(json.loads(request.body))


def test_each_interface_has_its_own_credentials() -> None:
    """A bearer token for SMS, key and secret of the application for calls."""
    assert ACCOUNT.request(MESSAGE, NOW).headers["authorization"] == "Bearer the-token"
    scheme, _, credentials = ACCOUNT.request(CALL, NOW).headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials).decode()) == ("Basic", f"{KEY}:{VOICE_SECRET}")


def test_a_text_never_becomes_a_parameter() -> None:
    """Sinch would put something else, or nothing, in the place of `${payee}`."""
    request = ACCOUNT.request(replace(MESSAGE, text="482913 pays ${payee}"), NOW)
    assert json.loads(request.body)["body"] == "482913 pays $ {payee}"


def test_a_batch_never_expires_before_it_is_sent() -> None:
    """Sinch refuses such a one, though a late message could still be of use to nobody."""
    request = ACCOUNT.request(replace(MESSAGE, expires_at=NOW - timedelta(minutes=1)), NOW)
    assert json.loads(request.body)["expire_at"] == "2026-10-06T10:00:01Z"


@pytest.mark.parametrize(
    ("locale", "voice"),
    [("en", "en-US"), ("en-GB", "en-GB"), ("pt-BR", "pt-BR"), ("pt", "pt-PT"), ("zh-Hans", "cmn-CN")],
)
def test_voices_are_called_as_sinch_does(locale: str, voice: str) -> None:
    """By language and region."""
    request = ACCOUNT.request(replace(CALL, locale=locale), NOW)
    assert json.loads(request.body)["ttsCallout"]["locale"] == voice


@pytest.mark.parametrize("channel", sorted(SENDS))
def test_success_answers_are_accepted(channel: str) -> None:
    """With the id of the batch or of the call."""
    success = SENDS[channel]["success"]
    assert ACCOUNT.read(answer(success["status"], success["body"])) == Accepted(success["body"][success["message_id"]])


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (201, {"id": 7}, Accepted("")),
        (400, SENDS["sms"]["errors"][0]["body"], Rejected("request", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: object, meaning: Accepted | Rejected) -> None:
    """Sinch refuses by status."""
    assert ACCOUNT.read(answer(status, body, retry_after="7")) == meaning


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_reference(vector: dict[str, Any]) -> None:
    """Each vector, at its time; the scheme `sha1` is that of number rentals, which report nothing that is ours."""
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    timestamp = headers.get("x-sinch-webhook-signature-timestamp")
    at = datetime.fromtimestamp(int(timestamp), UTC) if timestamp else NOW
    webhook = provider.Webhook(vector["url"], headers, vector["body"].encode())
    if vector["valid"] and vector["kind"] != "sha1":
        receipts = ACCOUNT.receipts(webhook, at)
        assert [(receipt.status, receipt.delivery) for receipt in receipts] == [(Status.DELIVERED, "att_7Q2f9cV1")]
    else:
        with pytest.raises(Forged):
            ACCOUNT.receipts(webhook, at)


def test_the_reference_accepts_our_doubles() -> None:
    """So that the tests below stand on signatures that Sinch's own package takes."""
    report, event = sms_report("{}"), call_event("{}")
    assert sdk.validate_sinch_event_signature_with_nonce(SMS_SECRET, dict(report.headers), "{}")
    headers = {**event.headers, "authorization": event.headers["authorization"].replace("Application", "Service")}
    assert authorization_helpers.validate_authentication_header(
        KEY, VOICE_SECRET, headers, "{}", "/v1/hooks/sinch", "POST"
    )


@pytest.mark.parametrize("case", RECEIPTS["sms"] + RECEIPTS["voice"], ids=lambda case: case["name"])
def test_reports_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each documented report, rightly signed."""
    signed = call_event(case["body"]) if case in RECEIPTS["voice"] else sms_report(case["body"])
    expected = case["expect"]
    receipts = ACCOUNT.receipts(signed, NOW)
    assert [(receipt.status, receipt.message_id, receipt.delivery) for receipt in receipts] == [
        (STATES.get(event["state"], Status.FAILED), event["message_id"], event["reference"]) for event in expected
    ]
    for receipt, event in zip(receipts, expected, strict=True):
        assert (receipt.reason is not None) is (receipt.status is Status.FAILED)
        assert "error_class" not in event or receipt.reason == event["error_class"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"result": "ANSWERED", "duration": 1}, (Status.FAILED, "unreachable")),
        ({"result": "ANSWERED", "duration": 9}, (Status.DELIVERED, None)),
        ({"result": "BUSY"}, (Status.FAILED, "unreachable")),
        ({"result": "FAILED", "reason": "NOCREDITPARTNER"}, (Status.FAILED, "balance")),
        ({"result": "FAILED", "reason": "USERNOTFOUND"}, (Status.FAILED, "invalid_number")),
        ({"result": "FAILED", "reason": "COSMICRAYS"}, (Status.FAILED, "unknown")),
    ],
)
def test_the_end_of_a_call_says_whether_the_code_was_heard(said: object, expected: tuple[Status, str | None]) -> None:
    """Who hangs up at once has heard nothing."""
    assert isinstance(said, dict)
    event = call_event(json.dumps({"event": "dice", "callid": "c", "custom": "ver_a.0", **said}))
    assert ACCOUNT.receipts(event, NOW) == [Receipt(*expected, "c", "ver_a.0")]


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("Cancelled", 0, "cancelled"),
        ("Expired", None, "expired"),
        ("Deleted", 999, "unknown"),
        ("FAILED", [], "unknown"),
    ],
)
def test_a_code_that_nobody_knows_leaves_the_status_to_say_why(status: str, code: object, reason: str) -> None:
    """Operators have codes of their own."""
    body = json.dumps({"type": "recipient_delivery_report_sms", "batch_id": "b", "status": status, "code": code})
    assert ACCOUNT.receipts(sms_report(body), NOW) == [Receipt(Status.FAILED, reason, "b")]


@pytest.mark.parametrize(
    "webhook",
    [
        sms_report('{"type": "mo_text"}'),
        sms_report('{"type": "recipient_delivery_report_sms"}'),
        call_event('{"event": "ace"}'),
        call_event('{"event": "dice"}'),
    ],
)
def test_what_says_nothing_of_a_delivery_is_passed_over(webhook: provider.Webhook) -> None:
    """Inbound texts, other events, reports without a word."""
    assert ACCOUNT.receipts(webhook, NOW) == []


@pytest.mark.parametrize(
    "webhook",
    [
        sms_report('{"type": "recipient_delivery_report_sms", "status": "Teleported"}'),
        call_event('{"event": "dice", "result": "N/A"}'),
    ],
)
def test_words_that_nobody_knows_are_unknown(webhook: provider.Webhook) -> None:
    """Also where Sinch says itself that it does not know."""
    assert ACCOUNT.receipts(webhook, NOW) == [Receipt(Status.UNKNOWN)]


def test_a_signature_counts_for_its_own_kind_only() -> None:
    """The end of a call under the secret for SMS is no receipt, nor the other way round."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(sms_report(RECEIPTS["voice"][0]["body"]), NOW)
    with pytest.raises(Malformed):
        ACCOUNT.receipts(call_event(RECEIPTS["sms"][0]["body"]), NOW)


def test_a_call_is_signed_for_its_path() -> None:
    """Whatever stands before it."""
    event = call_event(RECEIPTS["voice"][0]["body"])
    assert ACCOUNT.receipts(replace(event, url=URL.replace("otp.", "www.")), NOW)
    with pytest.raises(Forged):
        ACCOUNT.receipts(replace(event, url=f"{URL}/x"), NOW)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_old_signature_is_refused(minutes: int) -> None:
    """Five minutes either way."""
    for signed in (sms_report(RECEIPTS["sms"][2]["body"]), call_event(RECEIPTS["voice"][0]["body"])):
        with pytest.raises(Forged, match="far off"):
            ACCOUNT.receipts(signed, NOW + timedelta(minutes=minutes))


def test_a_time_that_is_none_is_refused() -> None:
    """Even when Sinch itself should sign it."""
    for at in ("", "soon", "2026-10-06T10:00:00"):
        with pytest.raises(Forged):
            ACCOUNT.receipts(call_event("{}", at=at), NOW)


def test_reports_on_sms_may_come_unsigned() -> None:
    """As long as Sinch does not sign them, the token in their address is the proof; calls are always signed."""
    trusting = ACCOUNT.model_copy(update={"sms_webhook_secret": None, "old_sms_webhook_secret": None})
    unsigned = provider.Webhook(URL, {}, RECEIPTS["sms"][2]["body"].encode())
    assert trusting.receipts(unsigned, NOW) == ACCOUNT.receipts(sms_report(RECEIPTS["sms"][2]["body"]), NOW)
    with pytest.raises(Malformed):
        trusting.receipts(replace(unsigned, body=RECEIPTS["voice"][0]["body"].encode()), NOW)
    with pytest.raises(Forged):
        Sinch.model_validate({"sms_from": "A", "service_plan_id": "p", "api_token": "t"}).receipts(
            call_event("{}"), NOW
        )


def test_conversions_are_told_where_that_is_switched_on() -> None:
    """Only of an SMS, only that its code was used, and without the number."""
    teller = ACCOUNT.model_copy(update={"conversions": True})
    assert json.loads(teller.request(MESSAGE, NOW).body)["feedback_enabled"] is True
    told = teller.feedback(Feedback("01FC/?", Channel.SMS, "+447400123456", converted=True), NOW)
    assert told is not None
    assert told.url == "https://eu.sms.api.sinch.com/xms/v1/SERVICE_PLAN_ID/batches/01FC%2F%3F/delivery_feedback"
    assert json.loads(told.body) == {"recipients": []}
    assert teller.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=False), NOW) is None
    assert teller.feedback(Feedback("m", Channel.VOICE, "+447400123456", converted=True), NOW) is None
    assert ACCOUNT.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=True), NOW) is None


@settings(max_examples=50)
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands; as it is in an answer."""
    report, call = {"type": "recipient_delivery_report_sms"}, {"event": "dice"}
    shapes = [said, {"type": said, "event": said}, {"type": "delivery_report_sms", "statuses": said}]
    shapes += [{**report, "status": said}, {**report, "status": "Failed", "code": said, "client_reference": said}]
    shapes += [{**call, "result": said}, {**call, "result": "FAILED", "reason": said, "duration": said, "custom": said}]
    for shape in map(json.dumps, shapes):
        receipts_of(ACCOUNT, sms_report(shape))
        receipts_of(ACCOUNT, call_event(shape))
    understood(ACCOUNT, said, {"id": said}, {"callId": said})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sms_from": None}, "at least one of"),
        ({"api_token": None}, "api_token"),
        ({"service_plan_id": "a/b"}, "service_plan_id"),
        ({"voice_from": "+14155550100"}, "application_key"),
        ({"application_secret": "no base64!"}, "base64"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"service_plan_id": "plan", "api_token": "t", "sms_from": "AcmeInc"}
    assert Sinch.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError, match=message):
        Sinch.model_validate({**right, **wrong})
