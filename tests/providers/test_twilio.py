"""Twilio: messages, templates, calls, and both of its signatures."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator
from pydantic import SecretStr, ValidationError
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]  # it publishes no types

from service import provider
from service.errors import Forged, Malformed
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    Message,
    Receipt,
    Rejected,
    Reply,
    Request,
    Status,
)
from service.providers.twilio import Twilio
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import receipts_of, understood

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
TOKEN, OLD_TOKEN, SHARED_KEY = "e7871fa7ff19c12a1c38efac101c8239", "0f0e0d0c0b0a", "786f3c67600a1a3325595280b17d7493"
URL = "https://otp.example.com/v1/hooks/twilio?ref=att_7Q2f9cV1"
FORM = "application/x-www-form-urlencoded"
SETTINGS: dict[str, Any] = {
    "account_sid": ACCOUNT,
    "auth_token": TOKEN,
    "sms_from": "MG0123456789abcdef0123456789abcdef",
    "whatsapp_from": "+15005550006",
    "whatsapp_template": "HX0123456789abcdef0123456789abcdef",
    "voice_from": "+15005550006",
}
TWILIO = Twilio.model_validate({**SETTINGS, "old_auth_token": OLD_TOKEN, "webhook_key": SHARED_KEY})
MESSAGE = replace(examples.MESSAGE, receipt_url=URL)
CALL = replace(MESSAGE, channel=Channel.VOICE, text=SPOKEN)
WHATSAPP = replace(MESSAGE, channel=Channel.WHATSAPP)
DELIVERED = {"MessageSid": "SM1", "MessageStatus": "delivered"}
SENDS = {example["channel"]: example for example in documented("twilio/send-examples")["examples"]}
RECEIPTS = documented("twilio/receipts-message")["cases"] + documented("twilio/receipts-call")["cases"]


def fields(request: Request | None) -> dict[str, list[str]]:
    """What a form says."""
    assert request is not None
    return parse_qs(request.body.decode(), keep_blank_values=True)


def signed(params: Mapping[str, str], secret: str = TOKEN, *, url: str = URL, sha256: bool = False) -> provider.Webhook:
    """A webhook that Twilio's own library has signed, by either scheme."""
    headers = {"content-type": FORM}
    if sha256:
        headers["x-twilio-webhooks-signature-settings"] = "key=webhooks_sharedkey_1, algorithm=HMAC_SHA256"
    algorithm = "HMAC_SHA256" if sha256 else "HMAC_SHA1"
    headers["x-twilio-signature"] = RequestValidator(secret).compute_signature(url, dict(params), algorithm)
    return provider.Webhook(url, headers, urlencode(params).encode())


@pytest.mark.parametrize("vector", documented("twilio/signatures")["vectors"], ids=lambda vector: vector["description"])
def test_signatures_are_judged_as_by_the_reference(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with, by its own key for both schemes."""
    twilio = Twilio.model_validate({**SETTINGS, "auth_token": vector["secret"], "webhook_key": vector["secret"]})
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    webhook = provider.Webhook(vector["url"], headers, vector["body"].encode())
    if vector["valid"]:
        assert {receipt.status for receipt in twilio.receipts(webhook, NOW)} <= {Status.DELIVERED}
    else:
        with pytest.raises(Forged):
            twilio.receipts(webhook, NOW)


@pytest.mark.parametrize("case", RECEIPTS, ids=lambda case: case["name"])
def test_receipts_say_what_the_contract_says(case: dict[str, Any]) -> None:
    """Status and reason; a word that nobody knows is unknown."""
    [expected] = case["expect"]
    receipts = TWILIO.receipts(signed(dict(parse_qsl(case["body"], keep_blank_values=True)), url=case["url"]), NOW)
    [receipt] = receipts
    assert receipt.status is STATES.get(expected["state"], Status.FAILED)
    assert receipt.message_id == expected["message_id"]
    assert (receipt.reason is not None) == (receipt.status is Status.FAILED)
    if "error_class" in expected:
        assert receipt.reason == expected["error_class"]


@pytest.mark.parametrize(
    ("said", "receipt"),
    [
        ({"CallStatus": "busy"}, Receipt(Status.FAILED, "unreachable", "CA1")),
        ({"CallStatus": "no-answer"}, Receipt(Status.FAILED, "unreachable", "CA1")),
        ({"CallStatus": "canceled"}, Receipt(Status.FAILED, "cancelled", "CA1")),
        ({"CallStatus": "failed"}, Receipt(Status.FAILED, "unknown", "CA1")),
        ({"CallStatus": "failed", "ErrorCode": "13227"}, Receipt(Status.FAILED, "geo_blocked", "CA1")),
        ({"CallStatus": "completed", "CallDuration": "5"}, Receipt(Status.DELIVERED, None, "CA1")),
        ({"CallStatus": "completed", "CallDuration": "4"}, Receipt(Status.FAILED, "unreachable", "CA1")),
        ({"CallStatus": "completed", "CallDuration": "²"}, Receipt(Status.FAILED, "unreachable", "CA1")),
        ({"CallStatus": "completed"}, Receipt(Status.FAILED, "unreachable", "CA1")),
        (
            {"CallStatus": "completed", "CallDuration": "60", "AnsweredBy": "fax"},
            Receipt(Status.FAILED, "unreachable", "CA1"),
        ),
    ],
)
def test_a_call_is_delivered_only_if_a_person_could_hear_the_code(said: dict[str, str], receipt: Receipt) -> None:
    """A machine, a fax, or four seconds are as good as no answer."""
    assert TWILIO.receipts(signed({**said, "CallSid": "CA1"}), NOW) == [receipt]


@pytest.mark.parametrize("kind", ["message", "call"])
def test_every_documented_status_is_known(kind: str) -> None:
    """All but those of messages from people."""
    table = documented(f"twilio/statuses-{kind}")
    for word, meaning in table["statuses"].items():
        receipts = TWILIO.receipts(signed({table["field"]: word, "MessageSid": "SM1", "CallDuration": "9"}), NOW)
        silent = meaning["state"] == "ignore"
        assert [receipt.status for receipt in receipts] == (
            [] if silent else [STATES.get(meaning["state"], Status.FAILED)]
        )


def test_every_documented_code_has_its_reason() -> None:
    """In a receipt, in an error, and in an answer that accepts at first sight."""
    for code, meaning in documented("twilio/error-codes")["codes"].items():
        assert meaning["class"] in REASONS
        said = {"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": code}
        assert TWILIO.receipts(signed(said), NOW) == [Receipt(Status.FAILED, meaning["class"], "SM1")]
        refused = answer(201, {"status": "queued", "error_code": int(code)})
        assert TWILIO.read(answer(400, {"code": int(code)})) == TWILIO.read(refused) == Rejected(meaning["class"])
    assert TWILIO.read(answer(201, {"sid": "SM1", "status": "failed", "error_code": None})) == Rejected("unknown")


@pytest.mark.parametrize("message", [MESSAGE, WHATSAPP, CALL], ids=lambda message: message.channel)
def test_requests_are_as_the_contract_and_the_interface_description_want_them(message: Message) -> None:
    """Field for field, and valid by Twilio's OpenAPI document."""
    example = SENDS[message.channel]
    request = TWILIO.request(message, NOW)
    said = fields(request)
    expected = {
        name: value if isinstance(value, list) else [value] for name, value in example["request"]["body"].items()
    }
    if message.channel is Channel.SMS:
        expected["ProvideFeedback"] = ["true"]
    assert said == expected
    assert request.url == example["request"]["url"]
    assert request.headers["authorization"] == "Basic " + b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    assert request.headers["content-type"] == FORM

    document = documented("twilio/messages-calls.openapi")
    path = "/2010-04-01/Accounts/{AccountSid}/" + request.url.rpartition("/")[2]
    schema = document["paths"][path]["post"]["requestBody"]["content"][FORM]["schema"]
    assert said.keys() <= schema["properties"].keys()
    typed: dict[str, Any] = {
        name: values if schema["properties"][name].get("type") == "array" else values[0]
        for name, values in said.items()
    }
    for name in typed.keys() & {"ValidityPeriod", "Timeout", "ProvideFeedback"}:
        typed[name] = json.loads(typed[name])
    OAS30Validator({**schema, "components": document["components"]}).validate(typed)

    success = example["success"]
    assert TWILIO.read(answer(success["status"], success["body"])) == Accepted(success["body"]["sid"])
    for error in example["errors"]:
        refused = answer(error["status"], error["body"], retry_after="3")
        assert TWILIO.read(refused) == Rejected(error["class"], 3.0)


@pytest.mark.parametrize(("left", "validity"), [(-5, "1"), (0.5, "1"), (59.9, "59"), (86_400, "36000")])
def test_a_message_is_valid_as_long_as_its_code(left: float, validity: str) -> None:
    """Within what Twilio takes."""
    message = replace(MESSAGE, expires_at=NOW + timedelta(seconds=left))
    assert fields(TWILIO.request(message, NOW))["ValidityPeriod"] == [validity]


def test_a_message_goes_from_a_number_or_a_name_or_a_service() -> None:
    """By what is configured; an API key takes the place of the token."""
    key = {"api_key_sid": "SK0123456789abcdef0123456789abcdef", "api_key_secret": "sesame"}
    for sender in ("+15005550006", "Shop", "3M Shop", "12345"):
        request = Twilio.model_validate({**SETTINGS, **key, "sms_from": sender}).request(MESSAGE, NOW)
        assert fields(request)["From"] == [sender]
        assert "MessagingServiceSid" not in fields(request)
        assert (
            request.headers["authorization"]
            == "Basic " + b64encode(f"{key['api_key_sid']}:{key['api_key_secret']}".encode()).decode()
        )


def test_a_call_is_spoken_in_the_language_of_its_text() -> None:
    """As Twilio calls it, or as the operator says; where Twilio has no voice, in its default one. XML is escaped."""
    twilio = Twilio.model_validate({**SETTINGS, "voice_languages": {"de": "de-AT", "sw": "sw-KE"}})
    languages = {
        "en": "en-US",
        "en-GB": "en-US",
        "pt-BR": "pt-BR",
        "zh-Hant": "zh-TW",
        "de": "de-AT",
        "sw": "sw-KE",
        "az": None,
    }
    for locale, language in languages.items():
        message = replace(CALL, locale=locale, text="<Dial>&\"'</Dial>")
        [twiml] = fields(twilio.request(message, NOW))["Twiml"]
        [say] = ET.fromstring(twiml)  # noqa: S314 - our own words
        assert (say.tag, say.get("language"), say.text) == ("Say", language, message.text)


def test_whatsapp_takes_the_template_of_the_locale() -> None:
    """The exact one, that of the language, or the default."""
    german = "HX" + "d" * 32
    twilio = Twilio.model_validate({**SETTINGS, "whatsapp_templates": {"de": german}})
    for locale, template in {"de": german, "de-CH": german, "fr": SETTINGS["whatsapp_template"]}.items():
        assert fields(twilio.request(replace(WHATSAPP, locale=locale), NOW))["ContentSid"] == [template]


@pytest.mark.parametrize(("converted", "outcome"), [(True, "confirmed"), (False, "unconfirmed")])
def test_the_use_of_a_code_is_reported_for_sms(converted: bool, outcome: str) -> None:
    """To the message itself; never under a name that could be another path."""
    sid = "SM0123456789abcdef0123456789abcdef"
    request = TWILIO.feedback(Feedback(sid, Channel.SMS, "+447400123456", converted=converted), NOW)
    assert fields(request) == {"Outcome": [outcome]}
    assert request is not None
    assert request.url == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}/Feedback.json"
    assert TWILIO.feedback(Feedback("../Calls", Channel.SMS, "+447400123456", converted=converted), NOW) is None
    assert TWILIO.feedback(Feedback(sid, Channel.WHATSAPP, "+447400123456", converted=converted), NOW) is None


def test_all_keys_are_taken_while_one_is_changed() -> None:
    """And each only for its own scheme."""
    old_key = "5f4dcc3b5aa765d61d8327deb882cf99"
    twilio = Twilio.model_validate(
        {**SETTINGS, "old_auth_token": OLD_TOKEN, "webhook_key": SHARED_KEY, "old_webhook_key": old_key}
    )
    for secret in (TOKEN, OLD_TOKEN, SHARED_KEY, old_key):
        for sha256 in (False, True):
            webhook = signed(DELIVERED, secret, sha256=sha256)
            if sha256 == (secret in (SHARED_KEY, old_key)):
                assert twilio.receipts(webhook, NOW) == [Receipt(Status.DELIVERED, None, "SM1")]
            else:
                with pytest.raises(Forged):
                    twilio.receipts(webhook, NOW)
    with pytest.raises(Forged):
        Twilio.model_validate(SETTINGS).receipts(signed(DELIVERED, TOKEN, sha256=True), NOW)


def test_a_repeated_pair_counts_once() -> None:
    """As Twilio signs it."""
    webhook = signed(DELIVERED)
    again = replace(webhook, body=webhook.body + b"&" + webhook.body)
    assert TWILIO.receipts(again, NOW) == TWILIO.receipts(webhook, NOW)


def test_a_receipt_without_an_id_is_malformed() -> None:
    """It could be about anything."""
    with pytest.raises(Malformed):
        TWILIO.receipts(signed({"MessageStatus": "delivered"}), NOW)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(["sid", "status", "code", "error_code"]), st.none() | st.integers() | st.lists(st.text())
    ),
    st.dictionaries(st.sampled_from(["MessageStatus", "CallStatus", "CallSid", "CallDuration"]), st.text(max_size=9)),
)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(answered: dict[str, Any], said: dict[str, str]) -> None:
    """Whatever stands where a word, an id or a code should be; as it is in an answer."""
    receipts_of(TWILIO, signed(said))
    understood(TWILIO, answered)


@settings(max_examples=50)
@given(st.text(max_size=40) | st.just("algorithm=HMAC_SHA256"))
def test_who_chooses_a_scheme_has_to_sign_by_it(chosen: str) -> None:
    """Whatever it is."""
    headers = {**signed(DELIVERED, "another key").headers, "x-twilio-webhooks-signature-settings": chosen}
    with pytest.raises(Forged):
        TWILIO.receipts(replace(signed(DELIVERED), headers=headers), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"account_sid": "AC1"},
        {"auth_token": None},
        {"auth_token": None, "webhook_key": SHARED_KEY},
        {"auth_token": None, "api_key_sid": "SK0123456789abcdef0123456789abcdef", "api_key_secret": "s"},
        {"api_key_secret": "s"},
        {"sms_from": "15005550006"},
        {"sms_from": "MG0123" * 9},
        {"whatsapp_template": None},
        {"whatsapp_template": "otp"},
        {"whatsapp_from": "whatsapp:+15005550006"},
        {"voice_from": "Shop"},
        {"voice_languages": {"en": '"/>'}},
        {"sms_from": None, "whatsapp_from": None, "whatsapp_template": None, "voice_from": None},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Twilio.model_validate(SETTINGS | changes)


def test_channels_follow_from_senders() -> None:
    """Each has one of its own."""
    assert TWILIO.channels == {Channel.SMS, Channel.WHATSAPP, Channel.VOICE}
    assert Twilio(account_sid=ACCOUNT, auth_token=SecretStr(TOKEN), sms_from="Shop").channels == {Channel.SMS}


INBOUND = {"MessageSid": "SM1", "From": "+14155550123", "To": "+15005550006", "Body": "Stop"}


@pytest.mark.parametrize(
    ("said", "replies"),
    [
        ({}, [Reply("+14155550123", Channel.SMS, "Stop")]),
        ({"From": "whatsapp:+14155550123"}, [Reply("+14155550123", Channel.WHATSAPP, "Stop")]),
        ({"From": "messenger:7213"}, []),
        ({"Body": "ARRET", "OptOutType": "STOP"}, [Reply("+14155550123", Channel.SMS, "STOP")]),
        ({"Body": "Stop", "OptOutType": ""}, [Reply("+14155550123", Channel.SMS, "Stop")]),
        ({"Body": "yes "}, [Reply("+14155550123", Channel.SMS, "START")]),
        ({"Body": ""}, [Reply("+14155550123", Channel.SMS, "")]),
    ],
)
def test_a_reply_says_who_wrote_what_and_where(said: dict[str, str], replies: list[Reply]) -> None:
    """What Advanced Opt-Out took it for comes before the words, and YES opts in."""
    assert TWILIO.replies(signed(INBOUND | said), NOW) == replies


def test_a_reply_is_signed_as_a_receipt_is() -> None:
    """By either scheme, over the address too; and it says who wrote."""
    assert TWILIO.replies(signed(INBOUND, SHARED_KEY, sha256=True), NOW)
    assert TWILIO.replies(signed(INBOUND, OLD_TOKEN), NOW)
    webhook = signed(INBOUND)
    for forged in (replace(webhook, url=f"{URL}x"), replace(webhook, body=webhook.body + b"&OptOutType=STOP")):
        with pytest.raises(Forged):
            TWILIO.replies(forged, NOW)
    for malformed in ({"MessageSid": "SM1", "Body": "STOP"}, INBOUND | {"From": "whatsapp:"}):
        with pytest.raises(Malformed):
            TWILIO.replies(signed(malformed), NOW)
