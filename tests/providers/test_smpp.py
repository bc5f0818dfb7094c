"""SMPP: what a message is submitted as, and what receipts and refusals say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service.errors import Forged
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Deliver,
    Receipt,
    Rejected,
    Response,
    Status,
    Webhook,
)
from service.providers import smpp as adapter
from service.providers.smpp import Smpp
from tests.providers import examples
from tests.providers.examples import NOW, documented

CASES: list[dict[str, Any]] = documented("smpp/receipts")["cases"]
ACCOUNT = Smpp(host="127.0.0.1", system_id="shop", password=SecretStr("pass-wd"), sms_from="Shop")
MESSAGE = replace(
    examples.MESSAGE,
    text="Shop: your sign-in code is 482913. It expires in 10 min. £_@",
    expires_at=NOW + timedelta(minutes=10),
)
DELIVERED = b"id:%s sub:001 dlvrd:001 submit date:2610061000 done date:2610061001 stat:DELIVRD err:000 text:482913"


def parameters(provider: Smpp = ACCOUNT, **changes: Any) -> dict[str, Any]:
    """What is submitted."""
    return dict(provider.request(replace(MESSAGE, **changes), NOW).parameters)


def test_a_message_is_good_for_as_long_as_its_code() -> None:
    """The number without its plus, a receipt wanted, the text in the alphabet of GSM."""
    assert parameters() == {
        "source_addr_ton": 5,
        "source_addr_npi": 0,
        "source_addr": "Shop",
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "destination_addr": "14155550123",
        "validity_period": "000000001000000R",
        "registered_delivery": 1,
        "data_coding": 0,
        "short_message": b"Shop: your sign-in code is 482913. It expires in 10 min. \x01\x11\x00",
    }
    assert parameters(expires_at=NOW + timedelta(days=1, seconds=3.9))["validity_period"] == "000001000003000R"
    assert parameters(expires_at=NOW - timedelta(days=1))["validity_period"] == "000000000001000R"


BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""3GPP TS 23.038, 6.2.1."""


@pytest.mark.parametrize("character", sorted(set(BASIC) - {"\x1b"}))
def test_every_character_of_gsm_arrives(character: str) -> None:
    """In its place of the alphabet; or the whole text in UCS-2, where the library does not know it."""
    sent = parameters(text=character)
    if character == "§":
        assert (sent["data_coding"], sent["short_message"]) == (8, b"\x00\xa7")
    else:
        assert (sent["data_coding"], sent["short_message"]) == (0, bytes([BASIC.index(character)]))


def test_other_scripts_go_as_ucs2_and_long_texts_as_payload() -> None:
    """A payload has one id and one receipt, however many parts the SMSC makes of it."""
    assert parameters(text="Код: 1")["short_message"] == "Код: 1".encode("utf-16-be")
    assert parameters(text="`")["data_coding"] == 8
    assert parameters(text="€{")["short_message"] == b"\x1be\x1b("
    assert len(parameters(text="a" * 160)["short_message"]) == 160
    assert len(parameters(text="a" * 161)["message_payload"]) == 161
    assert len(parameters(text="я" * 71)["message_payload"]) == 142


@pytest.mark.parametrize(
    ("sender", "kind"), [("Shop", (5, 0)), ("+447700900123", (1, 1)), ("447700900123", (1, 1)), ("60123", (0, 0))]
)
def test_a_sender_is_what_it_looks_like(sender: str, kind: tuple[int, int]) -> None:
    """Unless the settings say otherwise."""
    sent = parameters(ACCOUNT.model_copy(update={"sms_from": sender}))
    assert (sent["source_addr_ton"], sent["source_addr_npi"], sent["source_addr"]) == (*kind, sender.lstrip("+"))
    sent = parameters(ACCOUNT.model_copy(update={"sms_from": sender, "sms_from_ton": 3, "sms_from_npi": 0}))
    assert (sent["source_addr_ton"], sent["source_addr_npi"]) == (3, 0)


STATES = {"delivered": {"delivered"}, "sent": {"sent"}, "unknown": {"unknown"}}
FAILED = {"failed_transient": {"unreachable", "expired"}, "failed_permanent": {"carrier_blocked", "unknown"}}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each case with what it means."""
    tlvs = case.get("tlvs", {})
    message = Deliver(
        case["esm_class"],
        case["short_message"].encode(),
        tlvs.get("receipted_message_id", "").encode(),
        tlvs.get("message_state"),
    )
    found = ACCOUNT.delivered(message)
    assert [receipt.message_id for receipt in found] == [event["message_id"] for event in case["expect"]]
    for receipt, event in zip(found, case["expect"], strict=True):
        failed = FAILED.get(event["state"])
        assert (receipt.status == "failed") == (failed is not None)
        assert receipt.reason in failed if failed else receipt.status in STATES[event["state"]]


def test_parameters_say_more_than_the_text() -> None:
    """Where both say something; a state that is in no book leaves it to the text."""
    text = DELIVERED % b"1"
    assert ACCOUNT.delivered(Deliver(4, text, b"2", 8)) == [Receipt(Status.FAILED, "carrier_blocked", "2")]
    assert ACCOUNT.delivered(Deliver(4, text, b"", 200)) == [Receipt(Status.DELIVERED, None, "1")]
    assert ACCOUNT.delivered(Deliver(4, b"ID:5 STAT:delivrd TEXT:id:6")) == [Receipt(Status.DELIVERED, None, "5")]
    assert ACCOUNT.delivered(Deliver(0x44, text)) == [Receipt(Status.DELIVERED, None, "1")]
    assert ACCOUNT.delivered(Deliver(4, b"id:1 stat:SKIPPED")) == [Receipt(Status.UNKNOWN, None, "1")]
    for other in (Deliver(0, text), Deliver(8, text), Deliver(4, b"id:1"), Deliver(4, b"stat:DELIVRD")):
        assert ACCOUNT.delivered(other) == []


@pytest.mark.parametrize(
    ("ids", "answered", "reported"),
    [
        ("same", b"0A1b", b"0A1b"),
        ("hex-decimal", b"1A2B", b"6699"),
        ("hex-decimal", b"1a2b", b"0000006699"),
        ("decimal-hex", b"6699", b"1A2B"),
        ("decimal-hex", b"0006699", b"00001a2b"),
        ("hex-decimal", b"no-number", b"no-number"),
    ],
)
def test_an_id_is_known_again_however_it_is_written(ids: str, answered: bytes, reported: bytes) -> None:
    """Some SMSCs answer in one base and report in another; which, is said in the settings, for it cannot be guessed."""
    one = ACCOUNT.model_copy(update={"message_ids": ids})
    taken = one.read(Response(one.request(MESSAGE, NOW), 0, {}, answered))
    assert isinstance(taken, Accepted)
    for message in (Deliver(4, DELIVERED % reported), Deliver(4, b"", reported, 2)):
        assert [receipt.message_id for receipt in one.delivered(message)] == [taken.message_id]


def test_every_status_means_something() -> None:
    """What nobody knows is unknown."""
    request = ACCOUNT.request(MESSAGE, NOW)
    outcomes = [ACCOUNT.read(Response(request, status, {}, b"")) for status in range(0x500)]
    assert outcomes[0] == Accepted("")
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Rejected)} <= REASONS.keys()
    assert outcomes[0x400] == Rejected("unknown")
    assert outcomes[0x65] == outcomes[0x66] == Rejected("carrier_blocked")
    assert {reason for _, reason in adapter._RECEIPTS.values() if reason} <= REASONS.keys()  # noqa: SLF001 - the table


@settings(max_examples=100)
@given(
    esm_class=st.integers(0, 255),
    text=st.binary(max_size=60) | st.from_regex(rb"\A(id|stat|text|err):[ -~]{0,9} (id|stat):\S{0,9}"),
    name=st.binary(max_size=9),
    state=st.none() | st.integers(0, 255),
    ids=st.sampled_from(["same", "hex-decimal", "decimal-hex"]),
)
def test_rubbish_is_a_receipt_of_something_or_nothing(
    esm_class: int, text: bytes, name: bytes, state: int | None, ids: str
) -> None:
    """Never an exception."""
    one = ACCOUNT.model_copy(update={"message_ids": ids})
    assert all(receipt.message_id for receipt in one.delivered(Deliver(esm_class, text, name, state)))
    assert isinstance(one.read(Response(one.request(MESSAGE, NOW), 0, {}, name)), Accepted)


def test_nothing_secret_shows() -> None:
    """However it is printed; and nobody is believed who posts a receipt."""
    request = ACCOUNT.request(MESSAGE, NOW)
    receipt = Deliver(4, DELIVERED % b"1")
    for secret in (MESSAGE.to[1:], MESSAGE.code, "pass-wd"):
        assert secret not in f"{request!r} {receipt!r} {ACCOUNT!r} {ACCOUNT.bind!r}"
    with pytest.raises(Forged):
        ACCOUNT.receipts(Webhook("https://otp.example.com/receipts/smsc", {}, b""), NOW)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"host": "smsc:2775/"}, "host"),
        ({"port": 70_000}, "port"),
        ({"system_id": "longer-than-fifteen"}, "system_id"),
        ({"password": "ninechars"}, "1 to 8 ASCII"),
        ({"password": "geheimß"}, "1 to 8 ASCII"),
        ({"password": ""}, "1 to 8 ASCII"),
        ({"system_type": "longer-than-12"}, "system_type"),
        ({"sms_from": "A name too long"}, "sms_from"),
        ({"sms_from_ton": 7}, "sms_from_ton"),
        ({"window": 0}, "window"),
        ({"enquire_link": 0}, "enquire_link"),
        ({"message_ids": "octal"}, "message_ids"),
        ({"bind_type": "TX"}, "bind_type"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"host": "smsc.example", "system_id": "shop", "password": "x", "sms_from": "Shop"}
    assert Smpp.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError, match=message):
        Smpp.model_validate({**right, **wrong})
