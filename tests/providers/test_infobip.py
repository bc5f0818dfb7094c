"""Infobip: what it is sent, what it answers and what it reports."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service import provider
from service.errors import Forged, Malformed
from service.provider import (
    Accepted,
    Channel,
    Feedback,
    Message,
    Receipt,
    Rejected,
    Reply,
    Status,
)
from service.providers.infobip import Infobip
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

SENDS: dict[str, dict[str, Any]] = {example["channel"]: example for example in documented("infobip/sends")["examples"]}
RECEIPTS: list[dict[str, Any]] = [
    case for kind in ("sms", "whatsapp") for case in documented(f"infobip/receipts-{kind}")["cases"]
]
INBOUND_SECRET = "a-secret-of-the-address"
ACCOUNT = Infobip(
    api_url="https://xxxxx.api.infobip.com",
    api_key=SecretStr("the-key"),
    sms_from="AcmeInc",
    voice_from="442032864231",
    whatsapp_from="441134960000",
    whatsapp_template="otp_code",
    whatsapp_languages=("en", "de", "pt_BR"),
    inbound_secret=SecretStr(INBOUND_SECRET),
    old_inbound_secret=SecretStr("the-secret-before-it"),
)
MESSAGE = replace(examples.MESSAGE, receipt_url="https://otp.example.com/v1/hooks/infobip")


def report(said: object) -> provider.Webhook:
    """A webhook as the listener hands it on; nothing about it is signed."""
    return provider.Webhook("https://otp.example.com/receipts/ib/token", {}, json.dumps(said).encode())


def message_on(channel: Channel) -> Message:
    """The message of the examples on a channel."""
    return replace(MESSAGE, channel=channel, text=SPOKEN if channel is Channel.VOICE else MESSAGE.text)


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.VOICE, Channel.WHATSAPP])
def test_requests_are_the_documented_ones(channel: Channel) -> None:
    """The SMS says its validity in seconds, and the call leaves the voice to Infobip: the examples do otherwise."""
    request, example = ACCOUNT.request(message_on(channel), NOW), SENDS[channel]["request"]
    expected = example["body"]["messages"][0]
    if channel is Channel.SMS:
        expected = expected | {"options": {"validityPeriod": {"amount": 120, "timeUnit": "SECONDS"}}}
    if channel is Channel.VOICE:
        expected = {name: value for name, value in expected.items() if name != "voice"} | {"validityPeriod": 2}
    assert (request.method, request.url) == ("POST", example["url"])
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "App the-key"
    assert json.loads(request.body) == {"messages": [expected]}


def test_trying_again_repeats_the_name() -> None:
    """So that Infobip refuses to send a delivery twice, and says no more than that it has it."""
    first, second = (json.loads(ACCOUNT.request(MESSAGE, NOW).body)["messages"][0] for _ in range(2))
    assert first["destinations"] == second["destinations"] == [{"to": "14155550123", "messageId": MESSAGE.delivery}]
    refusal = SENDS["sms"]["errors"][0]["body"]
    assert ACCOUNT.read(answer(200, refusal)) == Accepted(MESSAGE.delivery)


@pytest.mark.parametrize(("left", "seconds"), [(-5, 1), (0.2, 1), (90, 90), (10**6, 48 * 3600)])
def test_the_validity_is_what_is_left_of_the_code(left: float, seconds: int) -> None:
    """At least a second, or a minute for a call; at most the two days that Infobip allows."""
    message = replace(MESSAGE, expires_at=NOW + timedelta(seconds=left))
    said = json.loads(ACCOUNT.request(message, NOW).body)["messages"][0]
    assert said["options"]["validityPeriod"] == {"amount": seconds, "timeUnit": "SECONDS"}
    call = json.loads(ACCOUNT.request(replace(message, channel=Channel.VOICE), NOW).body)["messages"][0]
    assert call["validityPeriod"] == -(-seconds // 60)


@pytest.mark.parametrize(
    ("locale", "spoken", "template"),
    [
        ("en-GB", "en-gb", "en"),
        ("de", "de", "de"),
        ("pt-BR", "pt-br", "pt_BR"),
        ("pt", "pt-pt", "en"),
        ("nb", "no", "en"),
        ("zh-Hant", "zh-tw", "en"),
    ],
)
def test_languages_are_called_as_infobip_does(locale: str, spoken: str, template: str) -> None:
    """A template that is not approved in the language comes in its first."""
    call = ACCOUNT.request(replace(message_on(Channel.VOICE), locale=locale), NOW)
    assert json.loads(call.body)["messages"][0]["language"] == spoken
    chat = ACCOUNT.request(replace(message_on(Channel.WHATSAPP), locale=locale), NOW)
    assert json.loads(chat.body)["messages"][0]["content"]["language"] == template


@pytest.mark.parametrize("channel", sorted(SENDS))
def test_success_answers_are_accepted(channel: str) -> None:
    """Each with the name that we gave the message."""
    success = SENDS[channel]["success"]
    assert ACCOUNT.read(answer(success["status"], success["body"])) == Accepted("att_7Q2f9cV1")


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, {"messages": [{"status": {"groupName": "REJECTED", "id": 52}}]}, Rejected("invalid_number", 7.0)),
        (200, {"messages": [{"status": {"groupName": "REJECTED", "id": 12}}]}, Rejected("balance", 7.0)),
        (200, {"messages": [{"status": {"groupName": "REJECTED", "id": 87}}]}, Rejected("fraud_blocked", 7.0)),
        (200, {"messages": [{"status": {"groupName": "REJECTED", "id": 424242}}]}, Rejected("unknown", 7.0)),
        (200, {"messages": [{"status": {"groupName": "UNDELIVERABLE", "id": 9}}]}, Rejected("unreachable", 7.0)),
        (200, {"messages": []}, Accepted("")),
        (200, {"messages": [{"messageId": 7, "status": "?"}]}, Accepted("")),
        (401, SENDS["sms"]["errors"][1]["body"], Rejected("auth", 7.0)),
        (400, {"requestError": {"serviceException": {"messageId": "BAD_REQUEST"}}}, Rejected("request", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: object, meaning: Accepted | Rejected) -> None:
    """A refusal hides in a 200; a status that is not 2xx says enough by itself."""
    assert ACCOUNT.read(answer(status, body, retry_after="7")) == meaning


@pytest.mark.parametrize("case", RECEIPTS, ids=[case["name"] for case in RECEIPTS])
def test_reports_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each with its delivery, which is the name that we gave."""
    receipts = ACCOUNT.receipts(provider.Webhook(case["url"], {}, case["body"].encode()), NOW)
    assert [(receipt.status, receipt.message_id, receipt.delivery) for receipt in receipts] == [
        (STATES.get(event["state"], Status.FAILED), event["message_id"], event["reference"]) for event in case["expect"]
    ]
    for receipt, event in zip(receipts, case["expect"], strict=True):
        assert (receipt.reason is not None) is (receipt.status is Status.FAILED)
        assert "error_class" not in event or receipt.reason == event["error_class"]


@pytest.mark.parametrize(
    ("group", "status", "error", "expected"),
    [
        ("REJECTED", 52, 0, (Status.FAILED, "invalid_number")),
        ("REJECTED", 23, 0, (Status.ACCEPTED, None)),
        ("PENDING", 26, 0, (Status.ACCEPTED, None)),
        ("EXPIRED", 15, 4098, (Status.FAILED, "expired")),
        ("EXPIRED", 99999, 99999, (Status.FAILED, "expired")),
        ("EXPIRED", 87, 0, (Status.FAILED, "fraud_blocked")),
        ("UNDELIVERABLE", 99999, 99999, (Status.FAILED, "unknown")),
        ("UNDELIVERABLE", 96, 10200, (Status.FAILED, "unreachable")),
        ("DELIVERED", 5, 10003, (Status.DELIVERED, None)),
        ("DELIVERED", 5, 10002, (Status.FAILED, "unreachable")),
    ],
)
def test_the_group_and_the_ids_make_the_meaning(
    group: str, status: int, error: int, expected: tuple[Status, str | None]
) -> None:
    """A call that a machine took reached nobody, though the group says delivered."""
    said = {"messageId": "m", "status": {"groupName": group, "id": status}, "error": {"id": error}}
    assert ACCOUNT.receipts(report({"results": [said]}), NOW) == [Receipt(*expected, "m", "m")]


def test_words_that_nobody_knows_are_unknown() -> None:
    """A new group is, what has none is passed over."""
    said = {"results": [{"status": {"groupName": "TELEPORTED"}}, {}]}
    assert ACCOUNT.receipts(report(said), NOW) == [Receipt(Status.UNKNOWN)]


@pytest.mark.parametrize("said", [{}, [], {"results": {}}, {"results": [1]}, "x", {"results": None}])
def test_a_body_that_is_no_report_is_malformed(said: object) -> None:
    """So that the sender learns of it."""
    with pytest.raises(Malformed):
        ACCOUNT.receipts(report(said), NOW)


def test_conversions_are_told_where_that_is_switched_on() -> None:
    """Only of an SMS, and only that its code was used."""
    teller = ACCOUNT.model_copy(update={"conversions": True})
    sent = json.loads(teller.request(MESSAGE, NOW).body)
    assert sent["options"] == {"conversionTracking": {"useConversionTracking": True}}
    told = teller.feedback(Feedback("ver_a.0/?", Channel.SMS, "+447400123456", converted=True), NOW)
    assert told is not None
    assert (told.method, told.url) == ("POST", "https://xxxxx.api.infobip.com/ct/1/log/end/ver_a.0%2F%3F")
    assert told.headers["authorization"] == "App the-key"
    assert teller.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=False), NOW) is None
    assert teller.feedback(Feedback("m", Channel.VOICE, "+447400123456", converted=True), NOW) is None
    assert ACCOUNT.feedback(Feedback("m", Channel.SMS, "+447400123456", converted=True), NOW) is None


@settings(max_examples=50)
@given(body=st.binary(max_size=200), said=JSON)
def test_rubbish_is_malformed_or_noise(body: bytes, said: object) -> None:
    """Wherever it stands, in a report or in an answer."""
    entries = [said, {"status": said, "error": said, "messageId": said}, {"status": {"groupName": said, "id": said}}]
    entries += [{"status": {"groupName": "REJECTED", "id": said}, "error": {"id": said}}]
    receipts_of(ACCOUNT, replace(report({}), body=body))
    for rubbish in [said, *({"results": [entry], "messages": [entry]} for entry in entries)]:
        receipts_of(ACCOUNT, report(rubbish))
        understood(ACCOUNT, rubbish)


def test_channels_follow_the_senders() -> None:
    """What has no sender is not carried."""
    assert ACCOUNT.channels == {Channel.SMS, Channel.VOICE, Channel.WHATSAPP}
    only = Infobip(api_url="https://x.api.infobip.com", api_key=SecretStr("k"), voice_from="442032864231")
    assert only.channels == {Channel.VOICE}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sms_from": None}, "at least one of"),
        ({"sms_from": ""}, "sms_from"),
        ({"whatsapp_from": "441134960000"}, "whatsapp_template"),
        ({"whatsapp_template": "otp"}, "whatsapp_from"),
        ({"whatsapp_languages": []}, "whatsapp_languages"),
        ({"inbound_secret": "short"}, "inbound_secret"),
        ({"inbound_secret": "a secret with & in it"}, "inbound_secret"),
        ({"old_inbound_secret": "a-secret-of-the-address"}, "needs inbound_secret"),
        ({"api_url": "https://x.api.infobip.com/"}, "api_url"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"api_url": "https://x.api.infobip.com", "api_key": "k", "sms_from": "AcmeInc"}
    with pytest.raises(ValidationError, match=message):
        Infobip.model_validate({**right, **wrong})


def inbound(said: object, secret: str = INBOUND_SECRET) -> provider.Webhook:
    """What people wrote, at the address that ends in a secret."""
    return provider.Webhook(f"https://otp.example.com/inbound/ib?secret={secret}", {}, json.dumps(said).encode())


def test_replies_say_who_wrote_what_and_where() -> None:
    """Several at once; what comes over other channels is none of ours."""
    sms = {"messageId": "1", "from": "14155550123", "to": "442032864231", "text": "KEY Stop", "cleanText": "Stop"}
    whatsapp = {"from": "14155550124", "integrationType": "WHATSAPP", "message": {"type": "TEXT", "text": "Start"}}
    picture = whatsapp | {"message": {"type": "IMAGE", "url": "https://x.example/"}}
    viber = whatsapp | {"integrationType": "VIBER_BM"}
    assert ACCOUNT.replies(inbound({"results": [sms, whatsapp, picture, viber]}), NOW) == [
        Reply("14155550123", Channel.SMS, "KEY Stop"),
        Reply("14155550124", Channel.WHATSAPP, "Start"),
        Reply("14155550124", Channel.WHATSAPP, ""),
    ]


def test_replies_are_believed_with_the_secret_of_their_address_only() -> None:
    """That in use or that before it; where none is set, nobody is believed."""
    said = {"results": [{"from": "14155550123", "text": "STOP"}]}
    assert ACCOUNT.replies(inbound(said, "the-secret-before-it"), NOW)
    unset = ACCOUNT.model_copy(update={"inbound_secret": None, "old_inbound_secret": None})
    for account, secret in ((ACCOUNT, "another-secret-of-it"), (ACCOUNT, ""), (unset, ""), (unset, "None")):
        with pytest.raises(Forged):
            account.replies(inbound(said, secret), NOW)
    rubbish: list[object] = [{}, {"results": {}}, {"results": [1]}, {"results": [{"text": "STOP"}]}]
    for malformed in rubbish:
        with pytest.raises(Malformed):
            ACCOUNT.replies(inbound(malformed), NOW)
