"""Plivo: messages, templates, calls that fetch their words, and both of its signatures."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plivo.resources.calls import Calls  # type: ignore[import-untyped]  # it publishes no types
from plivo.resources.messages import Messages  # type: ignore[import-untyped]  # as above
from plivo.utils import signature_v3, validate_signature  # type: ignore[import-untyped]  # as above
from plivo.utils.template import Template  # type: ignore[import-untyped]  # as above
from pydantic import ValidationError

from service import provider
from service.errors import BadWebhook, Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Status
from service.providers.plivo import Plivo
from service.texts import Texts
from tests.providers import examples
from tests.providers.examples import NOW, SPOKEN, STATES, answer, documented
from tests.providers.rubbish import receipts_of

TOKEN, OLD_TOKEN = "b11be1856f3813f54e75311b0a5c066dccc94136", "0f0e0d0c0b0a"
URL = "https://otp.example.com/v1/hooks/plivo/att_7Q2f9cV1.TOKEN"
SETTINGS: dict[str, Any] = {
    "auth_id": "MAXXXXXXXXXXXXXXXXXX",
    "auth_token": TOKEN,
    "sms_from": "+15005550006",
    "whatsapp_from": "+15005550006",
    "whatsapp_template": "otp_code",
    "voice_from": "+15005550006",
}
PLIVO = Plivo.model_validate({**SETTINGS, "old_auth_token": OLD_TOKEN})
MESSAGE = replace(examples.MESSAGE, receipt_url=URL)
CALL = replace(MESSAGE, channel=Channel.VOICE, text=SPOKEN)
WHATSAPP = replace(MESSAGE, channel=Channel.WHATSAPP)
DELIVERED = {"MessageUUID": "m1", "Status": "delivered"}
SENDS = {example["channel"]: example for example in documented("plivo/send-examples")["examples"]}


class Sdk:
    """Plivo's own client with its sending cut off: what it would post."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def request(self, _method: str, _path: tuple[str, ...], said: dict[str, Any], **_options: object) -> None:
        """Keep what is to be posted."""
        self.said = said


def said(message: Message, plivo: Plivo = PLIVO) -> dict[str, Any]:
    """What is posted for a message."""
    posted: dict[str, Any] = json.loads(plivo.request(message, NOW).body)
    return posted


def signed(params: Mapping[str, str], token: str = TOKEN, *, url: str = URL, version: str = "v3") -> provider.Webhook:
    """A webhook signed with Plivo's own library (V3), or as it verifies (V2)."""
    nonce = "05429567804466091622"
    if version == "v3":
        text = signature_v3.construct_post_url(url, dict(params)).decode()
        signature = signature_v3.get_signature_v3(token.encode(), text, nonce.encode()).decode()
    else:
        text = url.partition("?")[0] + nonce
        signature = b64encode(hmac.digest(token.encode(), text.encode(), "sha256")).decode()
        assert validate_signature(url, nonce, signature, token)
    headers = {f"x-plivo-signature-{version}": signature, f"x-plivo-signature-{version}-nonce": nonce}
    return provider.Webhook(url, headers, urlencode(params).encode())


@pytest.mark.parametrize("vector", documented("plivo/signatures")["vectors"], ids=lambda vector: vector["description"])
def test_signatures_are_judged_as_by_the_reference(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with, of both versions."""
    plivo = Plivo.model_validate({**SETTINGS, "auth_token": vector["secret"]})
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    body = vector["body"] if "body" in vector else urlencode([(name, value) for name, value in vector["params"]])
    webhook = provider.Webhook(vector["url"], headers, body.encode())
    if vector["valid"]:
        expected = {"delivered": Status.DELIVERED, "completed": Status.DELIVERED, "failed": Status.FAILED}
        words = [word for word in expected if f"={word}" in body]
        assert [receipt.status for receipt in plivo.receipts(webhook, NOW)] == [expected[word] for word in words]
    else:
        with pytest.raises(Forged):
            plivo.receipts(webhook, NOW)


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("case", documented("plivo/receipts-message")["cases"], ids=lambda case: case["name"])
def test_receipts_say_what_the_contract_says(case: dict[str, Any], version: str) -> None:
    """Status and reason, under either signature."""
    params = dict(pair.split("=") for pair in case["body"].replace("+", " ").replace("%3A", ":").split("&"))
    [expected] = case["expect"]
    [receipt] = PLIVO.receipts(signed(params, version=version), NOW)
    assert receipt.status is STATES.get(expected["state"], Status.FAILED)
    assert receipt.message_id == expected["message_id"]
    assert receipt.reason == expected.get("error_class")


@pytest.mark.parametrize("kind", ["message", "call"])
def test_every_documented_status_is_known(kind: str) -> None:
    """And a new one is unknown."""
    table = documented(f"plivo/statuses-{kind}")
    for word, meaning in table["statuses"].items():
        [receipt] = PLIVO.receipts(signed({table["field"]: word, "MessageUUID": "m1", "Duration": "9"}), NOW)
        assert receipt.status is STATES.get(meaning["state"], Status.FAILED)
    [receipt] = PLIVO.receipts(signed({table["field"]: "brand new", "MessageUUID": "m1"}), NOW)
    assert (receipt.status, receipt.reason) == (Status.UNKNOWN, None)


def test_every_documented_code_has_its_reason() -> None:
    """And one that nobody knows is unknown."""
    for code, meaning in documented("plivo/error-codes")["codes"].items():
        assert meaning["class"] in REASONS
        receipts = PLIVO.receipts(signed({"MessageUUID": "m1", "Status": "failed", "ErrorCode": code}), NOW)
        assert receipts == [Receipt(Status.FAILED, meaning["class"], "m1")]
    receipts = PLIVO.receipts(signed({"MessageUUID": "m1", "Status": "failed", "ErrorCode": "4711"}), NOW)
    assert receipts == [Receipt(Status.FAILED, "unknown", "m1")]


def test_a_part_of_a_long_message_reports_under_the_name_of_the_whole() -> None:
    """That is the one that the answer to the send gave."""
    part = {**DELIVERED, "MessageUUID": "m1-2", "ParentMessageUUID": "m1", "PartInfo": "2 of 2"}
    assert PLIVO.receipts(signed(part), NOW) == [Receipt(Status.DELIVERED, None, "m1")]


@pytest.mark.parametrize(
    ("params", "status", "reason"),
    [
        ({"CallStatus": "completed", "Duration": "5"}, Status.DELIVERED, None),
        ({"CallStatus": "completed", "Duration": "4"}, Status.FAILED, "unreachable"),
        ({"CallStatus": "completed", "Duration": "²"}, Status.FAILED, "unreachable"),
        ({"CallStatus": "completed"}, Status.FAILED, "unreachable"),
        ({"CallStatus": "completed", "Duration": "60", "Machine": "true"}, Status.FAILED, "unreachable"),
        ({"CallStatus": "busy"}, Status.FAILED, "unreachable"),
        ({"CallStatus": "failed"}, Status.FAILED, "unknown"),
    ],
)
def test_a_call_is_delivered_only_if_a_person_could_hear_the_code(
    params: dict[str, str], status: Status, reason: str | None
) -> None:
    """It reports under the name of the request, which the answer to the send gave."""
    params |= {"CallUUID": "c1", "RequestUUID": "r1"}
    assert PLIVO.receipts(signed(params), NOW) == [Receipt(status, reason, "r1")]


def test_what_is_said_of_a_call_must_be_signed() -> None:
    """V2 does not cover the body."""
    with pytest.raises(Forged):
        PLIVO.receipts(signed({"CallStatus": "completed", "Duration": "9"}, version="v2"), NOW)


@pytest.mark.parametrize("message", [MESSAGE, CALL], ids=lambda message: message.channel)
def test_requests_and_answers_are_as_the_contract_has_them(message: Message) -> None:
    """Field for field; addresses are our own, and a message also has an end."""
    example = SENDS[message.channel]
    request = PLIVO.request(message, NOW)
    posted, expected = said(message), dict(example["request"]["body"])
    if message.channel is Channel.VOICE:
        assert posted["answer_url"].startswith(f"{URL}?say=")
        expected |= {"answer_url": posted["answer_url"], "hangup_url": URL}
    else:
        expected |= {"url": URL, "message_expiry": 120}
    assert posted == expected
    assert request.url == example["request"]["url"]
    assert request.headers["authorization"] == "Basic " + b64encode(f"MAXXXXXXXXXXXXXXXXXX:{TOKEN}".encode()).decode()

    status, body = example["success"]["status"], example["success"]["body"]
    assert PLIVO.read(answer(status, body)) == Accepted(body.get("request_uuid") or body["message_uuid"][0])
    for error in example["errors"]:
        assert PLIVO.read(answer(error["status"], b"", retry_after="3")) == Rejected(error["class"], 3.0)


def test_the_official_library_would_post_the_same() -> None:
    """SMS, template and call, each checked by its own validators."""
    sdk = Sdk()
    posted = said(MESSAGE)
    Messages(sdk).create(**{name.replace("type", "type_"): value for name, value in posted.items()})
    assert sdk.said.items() >= posted.items()

    posted = said(WHATSAPP)
    assert posted["template"]["components"][1]["parameters"] == [{"type": "text", "text": "482913"}]
    arguments = {name.replace("type", "type_"): value for name, value in posted.items()}
    Messages(sdk).create(**arguments | {"template": Template(**posted["template"])})
    assert sdk.said.items() >= posted.items()

    posted = said(CALL)
    Calls(sdk).create(posted["from"], posted["to"], **{name: posted[name] for name in posted.keys() - {"from", "to"}})
    assert {name.strip("_"): value for name, value in sdk.said.items()}.items() >= posted.items()


@pytest.mark.parametrize(("left", "expiry"), [(-5, 5), (59.9, 59), (86_400, 10_800)])
def test_a_message_is_tried_as_long_as_its_code_is_good(left: float, expiry: int) -> None:
    """Within what Plivo takes."""
    assert said(replace(MESSAGE, expires_at=NOW + timedelta(seconds=left)))["message_expiry"] == expiry


def test_senders_and_template_languages_are_those_configured() -> None:
    """A name, a powerpack; the language of the locale, of its first part, or the default."""
    assert said(MESSAGE, Plivo.model_validate({**SETTINGS, "sms_from": "Shop"}))["src"] == "Shop"
    powerpack = {"sms_from": None, "sms_powerpack": "db3ce55a-7f1d-11e1-8ea7-1231380bc196"}
    posted = said(MESSAGE, Plivo.model_validate({**SETTINGS, **powerpack}))
    assert posted["powerpack_uuid"] == powerpack["sms_powerpack"]
    assert "src" not in posted
    plivo = Plivo.model_validate({**SETTINGS, "whatsapp_languages": {"de": "de"}})
    for locale, language in {"de": "de", "de-CH": "de", "fr": "en_US"}.items():
        assert said(replace(WHATSAPP, locale=locale), plivo)["template"]["language"] == language


def test_a_call_is_told_what_to_say_when_plivo_asks() -> None:
    """In the voice of its language, with XML escaped; the same address each time, also while the token is changed."""
    plivo = Plivo.model_validate({**SETTINGS, "voices": {"pl": "Polly.Jan"}})
    for locale, voice in {"en": "Polly.Joanna", "pt-BR": "Polly.Vitoria", "pl": "Polly.Jan", "fi": None}.items():
        message = replace(CALL, locale=locale, text="<Dial>&\"'</Dial>")
        address = said(message, plivo)["answer_url"]
        assert address == said(message, plivo)["answer_url"]
        for adapter in (plivo, Plivo.model_validate({**SETTINGS, "auth_token": "new", "old_auth_token": TOKEN})):
            xml = adapter.handshake(signed({"CallUUID": "c1", "CallStatus": "in-progress"}, url=address))
            assert xml is not None
            [speak] = ET.fromstring(xml)  # noqa: S314 - our own words
            assert (speak.tag, speak.get("voice"), speak.text) == ("Speak", voice, message.text)


def test_only_plivo_can_ask_and_only_at_the_address_of_the_delivery() -> None:
    """Not unsigned, not by V2, not with the words of another delivery; any other webhook asks nothing."""
    address = said(CALL)["answer_url"]
    assert not any(secret in address for secret in (CALL.code, "4, 8", CALL.to[1:], TOKEN, OLD_TOKEN))
    asked = {"CallUUID": "c1", "CallStatus": "in-progress"}
    for webhook in (signed(asked, url=address, version="v2"), signed(asked, url=address, token="other")):
        with pytest.raises(Forged):
            PLIVO.handshake(webhook)
    with pytest.raises(Malformed):
        PLIVO.handshake(signed(asked, url=address.replace("att_7Q2f9cV1", "att_other")))
    for sealed in ("x", "%20", "AAAA"):
        with pytest.raises(BadWebhook):
            PLIVO.handshake(signed(asked, url=f"{URL}?say={sealed}"))
    assert PLIVO.handshake(signed(asked)) is None


def test_the_longest_words_fit_into_an_address() -> None:
    """2,000 characters pass everywhere."""
    texts = Texts()
    for locale in texts.locales:
        text = texts.render(
            "voice",
            "transaction",
            locale,
            code="1234567890",
            brand="B" * 40,
            minutes=1440,
            amount="9" * 20,
            payee="ப" * 40,
        )
        assert len(said(replace(CALL, text=text, receipt_url=URL + "x" * 100))["answer_url"]) < 2000


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_the_main_account_may_sign_for_a_subaccount(version: str) -> None:
    """Under a name of its own, and in a list of signatures."""
    webhook = signed(DELIVERED, version=version)
    name = f"x-plivo-signature-{version}"
    right, nonce = webhook.headers[name], {f"{name}-nonce": webhook.headers[f"{name}-nonce"]}
    for headers in ({f"x-plivo-signature-ma-{version}": right}, {name: f"AAAA,{right}"}):
        assert PLIVO.receipts(replace(webhook, headers=headers | nonce), NOW) == [Receipt(Status.DELIVERED, None, "m1")]


def test_a_newer_signature_that_fails_is_not_saved_by_an_older_one() -> None:
    """Which has less of the webhook under it."""
    both = {**signed(DELIVERED, version="v2").headers, **signed(DELIVERED).headers}
    with pytest.raises(Forged):
        PLIVO.receipts(replace(signed(DELIVERED), headers={**both, "x-plivo-signature-v3": "AAAA"}), NOW)


def test_a_receipt_without_an_id_is_malformed() -> None:
    """It could be about anything."""
    with pytest.raises(Malformed):
        PLIVO.receipts(signed({"Status": "delivered"}), NOW)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (202, {"message_uuid": [], "invalid_number": ["1"]}, Rejected("invalid_number")),
        (200, {"error": "no"}, Rejected("unknown")),
        (202, {"message_uuid": []}, Accepted()),
        (202, {"message_uuid": [7]}, Accepted()),
        (201, {"request_uuid": None}, Accepted()),
    ],
)
def test_refusals_are_seen_wherever_they_stand(status: int, body: object, outcome: Accepted | Rejected) -> None:
    """Also in an answer that accepts at first sight; without an id it is still accepted."""
    assert PLIVO.read(answer(status, body)) == outcome


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(["Status", "CallStatus", "MessageUUID", "RequestUUID", "Duration", "ErrorCode"]),
        st.text(max_size=9),
    ),
    st.binary(max_size=40),
)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(params: dict[str, str], body: bytes) -> None:
    """Whatever stands where a word, an id or a number should be."""
    receipts_of(PLIVO, signed(params))
    with suppress(BadWebhook):
        receipts_of(PLIVO, replace(signed({}, version="v2"), body=body))
    with pytest.raises(BadWebhook):
        PLIVO.handshake(replace(signed({}, url=f"{URL}?say=x"), body=body))


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_id": "XX"},
        {"sms_from": "15005550006"},
        {"sms_powerpack": "db3ce55a-7f1d-11e1-8ea7-1231380bc196"},
        {"sms_powerpack": "p", "sms_from": None},
        {"whatsapp_template": None},
        {"whatsapp_template": "Otp Code"},
        {"whatsapp_language": "en-US"},
        {"voice_from": "Shop"},
        {"voices": {"en": '"/>'}},
        {"sms_from": None, "whatsapp_from": None, "whatsapp_template": None, "voice_from": None},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Plivo.model_validate(SETTINGS | changes)


def test_channels_follow_from_senders() -> None:
    """Each has one of its own."""
    assert PLIVO.channels == {Channel.SMS, Channel.WHATSAPP, Channel.VOICE}
    assert Plivo.model_validate({name: SETTINGS[name] for name in ("auth_id", "auth_token", "sms_from")}).channels == {
        Channel.SMS
    }
