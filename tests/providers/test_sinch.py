"""Sinch: what it is sent, what it answers, what it reports and how that is signed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from pydantic import SecretStr, ValidationError
from sinch.core.internal.sinch_events import authorization_helpers  # type: ignore[import-untyped]  # has no types
from sinch.core.internal.sinch_events import utils as signing
from sinch.domains.authentication.sinch_events.v1 import (  # type: ignore[import-untyped]  # as above
    authentication_validation as sdk,
)

from service import provider
from service.errors import BadWebhook, Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Feedback, Message, Receipt, Rejected, Request, Response, Status
from service.providers import sinch
from service.providers.sinch import Sinch

DATA = Path(__file__).parent.parent / "data" / "sinch"
CONTRACT: dict[str, Any] = json.loads((DATA / "openapi.json").read_text())
SENDS: dict[str, dict[str, Any]] = {
    example["channel"]: example for example in json.loads((DATA / "sends.json").read_text())["examples"]
}
VECTORS: list[dict[str, Any]] = json.loads((DATA / "signatures.json").read_text())["vectors"]
RECEIPTS: dict[str, list[dict[str, Any]]] = {
    kind: json.loads((DATA / f"receipts-{kind}.json").read_text())["cases"] for kind in ("sms", "voice")
}
STATES = {"accepted": Status.ACCEPTED, "sent": Status.SENT, "delivered": Status.DELIVERED}
SMS_SECRET, KEY, VOICE_SECRET = (
    "b225c9ee17d9f5d96bd41277",
    "11111111-2222-3333-4444-555555555555",
    "iiTFzOzxFcOUf5LsyBMIQw==",
)
OLD_SMS_SECRET, OLD_VOICE_SECRET = "the-one-before", "dGhlLW9uZS1iZWZvcmU="
NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
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
MESSAGE = Message(
    delivery="att_7Q2f9cV1",
    channel=Channel.SMS,
    to="+14155550123",
    text="482913 is your code",
    code="482913",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW + timedelta(minutes=2),
    receipt_url=URL,
)
CALL = replace(
    MESSAGE, channel=Channel.VOICE, text="Your code is 4, 8, 2, 9, 1, 3.", receipt_url=f"{URL}/{MESSAGE.delivery}"
)
REQUEST = Request("https://eu.sms.api.sinch.com/xms/v1/SERVICE_PLAN_ID/batches", {}, b"")


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


@pytest.mark.parametrize("message", [MESSAGE, CALL])
def test_nothing_secret_shows(message: Message) -> None:
    """No number and no code in URL, headers or repr; no secret in a repr."""
    request = ACCOUNT.request(message, NOW)
    assert not any(secret in f"{request.url} {request.headers}" for secret in ("482913", "4155550123"))
    secrets = ("482913", "4155550123", "the-token", SMS_SECRET, VOICE_SECRET, OLD_SMS_SECRET, OLD_VOICE_SECRET)
    assert not any(secret in f"{request!r} {ACCOUNT!r}" for secret in secrets)


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
    answer = Response(REQUEST, success["status"], {}, json.dumps(success["body"]).encode())
    assert ACCOUNT.read(answer) == Accepted(success["body"][success["message_id"]])


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (201, {}, Accepted("")),
        (201, {"id": 7}, Accepted("")),
        (400, SENDS["sms"]["errors"][0]["body"], Rejected("request", 7.0)),
        (401, {}, Rejected("auth", 7.0)),
        (403, {}, Rejected("auth", 7.0)),
        (402, {}, Rejected("balance", 7.0)),
        (429, {}, Rejected("rate_limited", 7.0)),
        (503, {}, Rejected("provider_error", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: object, meaning: Accepted | Rejected) -> None:
    """Sinch refuses by status."""
    assert ACCOUNT.read(Response(REQUEST, status, {"retry-after": "7"}, json.dumps(body).encode())) == meaning


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
    """Each documented report, rightly signed; a status that means unknown says nothing."""
    signed = call_event(case["body"]) if case in RECEIPTS["voice"] else sms_report(case["body"])
    expected = [event for event in case["expect"] if event["state"] != "unknown"]
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
        sms_report('{"type": "recipient_delivery_report_sms", "status": "Teleported"}'),
        call_event('{"event": "ace"}'),
        call_event('{"event": "dice", "result": "N/A"}'),
    ],
)
def test_what_says_nothing_of_a_delivery_is_passed_over(webhook: provider.Webhook) -> None:
    """Inbound texts, other events, new words."""
    assert ACCOUNT.receipts(webhook, NOW) == []


def test_a_signature_counts_for_its_own_kind_only() -> None:
    """The end of a call under the secret for SMS is no receipt, nor the other way round."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(sms_report(RECEIPTS["voice"][0]["body"]), NOW)
    with pytest.raises(Malformed):
        ACCOUNT.receipts(call_event(RECEIPTS["sms"][0]["body"]), NOW)


@pytest.mark.parametrize("signed", [sms_report(RECEIPTS["sms"][2]["body"]), call_event(RECEIPTS["voice"][0]["body"])])
def test_any_change_is_refused(signed: provider.Webhook) -> None:
    """Of a byte of the body, of a header, and for calls of the path."""
    changed = [replace(signed, body=signed.body[:-1] + bytes([signed.body[-1] ^ 1]))]
    changed += [replace(signed, headers={**signed.headers, name: "x" + text}) for name, text in signed.headers.items()]
    changed += [
        replace(signed, headers={n: signed.headers[n] for n in signed.headers if n != name}) for name in signed.headers
    ]
    if "authorization" in signed.headers:
        changed.append(replace(signed, url=URL + "/x"))
    assert ACCOUNT.receipts(signed, NOW)
    for webhook in changed:
        with pytest.raises(Forged):
            ACCOUNT.receipts(webhook, NOW)


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


def test_both_secrets_are_taken_while_one_is_changed() -> None:
    """And no third."""
    sms, call = RECEIPTS["sms"][2]["body"], RECEIPTS["voice"][0]["body"]
    assert ACCOUNT.receipts(sms_report(sms, OLD_SMS_SECRET), NOW) == ACCOUNT.receipts(sms_report(sms), NOW)
    assert ACCOUNT.receipts(call_event(call, OLD_VOICE_SECRET), NOW) == ACCOUNT.receipts(call_event(call), NOW)
    for webhook in (sms_report(sms, "a-third"), call_event(call, "YS10aGlyZA==")):
        with pytest.raises(Forged):
            ACCOUNT.receipts(webhook, NOW)


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


def test_every_reason_is_one_of_ours() -> None:
    """Else a failure would lead nowhere."""
    assert {*sinch._SMS_REASONS.values(), *sinch._CALL_REASONS.values()} <= REASONS.keys()  # noqa: SLF001 - tables


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


NAMES = st.sampled_from(["authorization", "x-timestamp", "content-type", "x-sinch-webhook-signature"])


@settings(max_examples=50)
@given(body=st.binary(max_size=200), headers=st.dictionaries(NAMES, st.text(max_size=40)))
def test_rubbish_is_forged_and_never_breaks_reading(body: bytes, headers: dict[str, str]) -> None:
    """Neither as a webhook nor as an answer."""
    with pytest.raises(BadWebhook):
        ACCOUNT.receipts(provider.Webhook("https://x.example/", headers, body), NOW)
    assert isinstance(ACCOUNT.read(Response(REQUEST, 201, headers, body)), Accepted)


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inside: st.lists(inside)))
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands."""
    report, call = {"type": "recipient_delivery_report_sms"}, {"event": "dice"}
    shapes = [said, {"type": said, "event": said}, {"type": "delivery_report_sms", "statuses": said}]
    shapes += [{**report, "status": said}, {**report, "status": "Failed", "code": said, "client_reference": said}]
    shapes += [{**call, "result": said}, {**call, "result": "FAILED", "reason": said, "duration": said, "custom": said}]
    for shape in shapes:
        for webhook in (sms_report(json.dumps(shape)), call_event(json.dumps(shape))):
            try:
                receipts = ACCOUNT.receipts(webhook, NOW)
            except BadWebhook:
                continue
            assert all(isinstance(receipt, Receipt) for receipt in receipts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sms_from": None}, "at least one of"),
        ({"api_token": None}, "api_token"),
        ({"service_plan_id": "a/b"}, "service_plan_id"),
        ({"voice_from": "+14155550100"}, "application_key"),
        ({"application_secret": "no base64!"}, "base64"),
        ({"api_url": "ftp://us.sms.api.sinch.com"}, "api_url"),
        ({"voice_api_url": "https://user:password@calling.api.sinch.com"}, "voice_api_url"),
        ({"token": "t"}, "token"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"service_plan_id": "plan", "api_token": "t", "sms_from": "AcmeInc"}
    assert Sinch.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError, match=message):
        Sinch.model_validate({**right, **wrong})
