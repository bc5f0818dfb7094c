"""SMPP: sessions with an SMSC of another make (smpp34, in Rust), what goes over them, and what comes back."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import smpp34
from fakeredis import FakeAsyncRedis
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service import config
from service.app import Service
from service.door import Door, smpp
from service.errors import Forged, Unavailable
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Deliver,
    Message,
    Receipt,
    Rejected,
    Response,
    Status,
    Submit,
    Webhook,
)
from service.providers import KINDS
from service.providers import smpp as adapter
from service.providers.smpp import Smpp
from tests.certificate import self_signed
from tests.faults.waiting import until
from tests.listening import listening
from tests.providers import examples
from tests.providers.examples import NOW, documented
from tests.world import NUMBER, Table, World, table, world

pytestmark = pytest.mark.anyio

CASES: list[dict[str, Any]] = documented("smpp/receipts")["cases"]
ACCOUNT = Smpp(host="127.0.0.1", system_id="shop", password=SecretStr("pass-wd"), sms_from="Shop")
MESSAGE = replace(
    examples.MESSAGE,
    text="Shop: your sign-in code is 482913. It expires in 10 min. £_@",
    expires_at=NOW + timedelta(minutes=10),
)
DELIVERED = b"id:%s sub:001 dlvrd:001 submit date:2610061000 done date:2610061001 stat:DELIVRD err:000 text:482913"

RECEIPTED_MESSAGE_ID, MESSAGE_PAYLOAD, MESSAGE_STATE = 0x001E, 0x0424, 0x0427


class Smsc:
    """smpp34's server with what it was sent; `answer` decides what becomes of a message."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.sent: list[smpp34.SubmitSmEvent] = []
        self.bound: list[smpp34.Esme] = []
        self.answer: Callable[[smpp34.SubmitSmEvent], Awaitable[None] | None] = lambda sent: sent.accept("1A2B")

    async def start(self) -> None:
        """Begin to serve."""
        self._server = smpp34.Server("127.0.0.1", self.port, system_id="smsc")
        await self._server.start()
        self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            match await self._server.next():
                case smpp34.Esme() as esme:
                    self.bound.append(esme)
                case smpp34.SubmitSmEvent() as sent:
                    self.sent.append(sent)
                    if (doing := self.answer(sent)) is not None:
                        await doing
                case _:
                    self.bound.clear()

    async def stop(self) -> None:
        """Go away, with all sessions."""
        await self._server.stop()
        for esme in self.bound:
            await esme.unbind()
        self._serving.cancel()
        with suppress(asyncio.CancelledError):
            await self._serving
        self.bound.clear()

    async def is_bound(self) -> bool:
        """Whether anybody is there."""
        return bool(self.bound)

    async def report(self, text: bytes, *tlvs: smpp34.Tlv, esm_class: int = 4, session: int = -1) -> int:
        """Deliver a message; the status that it is answered with."""
        answer = await self.bound[session].deliver_sm(
            "Shop", text, source_addr="447", esm_class=esm_class, tlvs=[*tlvs]
        )
        return answer.command_status


@asynccontextmanager
async def smsc() -> AsyncIterator[Smsc]:
    """An SMSC on a port of its own."""
    one = Smsc()
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


class Way:
    """A door with a session, and the receipts that came over it."""

    def __init__(self, way: smpp.Smpp, provider: Smpp) -> None:
        self.provider = provider
        self.door = Door({Submit: way})
        self.came: list[Receipt] = []

    async def send(self, message: Message = MESSAGE) -> Accepted | Rejected:
        """Hand a message over."""
        return await self.door.send(self.provider, message, NOW)


@asynccontextmanager
async def bound(
    port: int, receive: Callable[[Sequence[Receipt]], None] | None = None, **changes: object
) -> AsyncIterator[Way]:
    """A session, impatient as tests are."""
    way = smpp.Smpp(patience=0.5, pause=0.02)
    one = Way(way, ACCOUNT.model_copy(update={"port": port, **changes}))

    async def came(_: str, receipts: Sequence[Receipt]) -> None:
        (receive or one.came.extend)(receipts)

    way.start({"smsc": one.provider}, came)
    try:
        yield one
    finally:
        await one.door.close()


@asynccontextmanager
async def scripted(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that says these things, each after another thing was said to it; and the commands that it was given."""
    heard: list[int] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (*answers, *[b""] * 9):
            length, command, _, sequence = struct.unpack(">IIII", await reader.readexactly(16))
            await reader.readexactly(length - 16)
            heard.append(command)
            writer.write(answer.replace(b"SEQU", sequence.to_bytes(4, "big")))

    async with listening(visit, tls) as port:
        yield port, heard


def said(command: int, status: int = 0, body: bytes = b"") -> bytes:
    """A PDU with the sequence number of what it answers."""
    return struct.pack(">III", 16 + len(body), command, status) + b"SEQU" + body


BIND, SUBMIT, ENQUIRE_LINK = 0x09, 0x04, 0x15
BOUND = said(0x80000000 | BIND, body=b"smsc\0")


def settings_for(port: int, **changes: object) -> Table:
    """A cascade that goes to this SMSC, then to a gateway by voice."""
    account = ACCOUNT.model_dump(exclude_none=True) | {"port": port, "password": "pass-wd"}
    cascade = [
        {"channel": "sms", "providers": ["smsc"], "wait": "20s"},
        {"channel": "voice", "providers": ["voice"], "wait": "20s"},
    ]
    providers = {"smsc": account} | table()["providers"]
    return {"_top": {"providers": providers}, "cascade": cascade} | changes


async def started(one: World) -> str:
    """A verification in a service that works by itself."""
    answer = await one.post("/verifications", {"to": NUMBER})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def comes_to(one: World, name: str, *statuses: str) -> None:
    """Wait until the deliveries of a verification have these statuses."""

    async def there() -> bool:
        return [delivery["status"] for delivery in (await one.get(name))["deliveries"]] == list(statuses)

    await until(there, f"{statuses} of {name}")


async def test_a_code_goes_out_and_its_receipt_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Over the same session, through the whole service; neither number nor code nor password is in a log."""
    caplog.set_level(logging.DEBUG)
    async with smsc() as there, world(**settings_for(there.port)) as one:
        await one.service.start()
        name = await started(one)
        await comes_to(one, name, "accepted")
        assert await there.report(DELIVERED % b"1A2B") == 0
        await comes_to(one, name, "delivered")
        [sent] = there.sent
        assert (sent.source_addr, sent.destination_addr, sent.registered_delivery) == ("Shop", NUMBER[1:], 1)
        code = sent.short_message.split(b"code is ")[1][:6].decode()
        assert (await one.post("/receipts/smsc", {})).status_code == 404
        assert (await one.receipts.post("/receipts/smsc", content=b"{}")).status_code == 401
        assert (await one.check(name, code))["valid"]
        await one.service.stop()
    logged = "\n".join(str(record.__dict__) for record in caplog.records)
    assert [secret for secret in (code, NUMBER[1:], "pass-wd") if secret in logged] == []


async def test_a_receipt_may_be_faster_than_the_answer_to_its_message() -> None:
    """Then it waits for it."""
    async with smsc() as there, world(**settings_for(there.port)) as one:

        async def first_the_receipt(sent: smpp34.SubmitSmEvent) -> None:
            assert await there.report(DELIVERED % b"1A2B") == 0
            sent.accept("1A2B")

        there.answer = first_the_receipt
        await one.service.start()
        await comes_to(one, await started(one), "delivered")


async def test_a_receipt_that_says_failed_goes_on_to_the_next_step() -> None:
    """At once, with the same code; so does a refusal."""
    async with smsc() as there, world(**settings_for(there.port)) as one:
        await one.service.start()
        name = await started(one)
        await comes_to(one, name, "accepted")
        state = smpp34.Tlv(MESSAGE_STATE, b"\5")
        assert await there.report(b"", smpp34.Tlv(RECEIPTED_MESSAGE_ID, b"1A2B\0"), state) == 0
        await comes_to(one, name, "failed", "accepted")
        assert one.gateway.last.code.encode() in there.sent[0].short_message
        assert (await one.get(name))["deliveries"][0]["reason"] == "unreachable"


async def test_a_receipt_finds_its_message_over_the_session_of_another_replica() -> None:
    """SMSCs spread receipts over all sessions of an account."""
    redis = FakeAsyncRedis()
    async with smsc() as there, world(client=redis, **settings_for(there.port)) as one:
        await one.service.start()
        await until(there.is_bound, "the first session")
        name = await started(one)
        await comes_to(one, name, "accepted")
        changes = settings_for(there.port)
        other = Service(config.check(table(**changes), KINDS, {}), client=redis)
        await other.start()

        async def both() -> bool:
            return len(there.bound) == 2

        await until(both, "the session of the other")
        assert await there.report(DELIVERED % b"1A2B", session=1) == 0
        await comes_to(one, name, "delivered")
        await other.stop()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x58, Rejected("rate_limited")),
        (0x14, Rejected("rate_limited")),
        (0x08, Rejected("provider_error")),
        (0x0B, Rejected("invalid_number")),
        (0x0A, Rejected("sender_config")),
    ],
)
async def test_a_refusal_has_its_reason(status: int, outcome: Rejected) -> None:
    """By the status of the answer."""
    async with smsc() as there, bound(there.port) as way:
        there.answer = lambda sent: sent.reject(status)
        assert await way.send() == outcome


async def test_a_receipt_is_confirmed_once_it_was_taken() -> None:
    """While Redis is away, or if something breaks, the SMSC is told to send it again."""
    troubles: list[Exception] = [Unavailable("Redis is away"), RuntimeError("a defect")]
    taken: list[Receipt] = []

    def receive(receipts: Sequence[Receipt]) -> None:
        if troubles:
            raise troubles.pop(0)
        taken.extend(receipts)

    async with smsc() as there, bound(there.port, receive):
        await until(there.is_bound, "a session")
        assert [await there.report(DELIVERED % b"7") for _ in range(3)] == [0x64, 0x64, 0]
    assert taken == [Receipt(Status.DELIVERED, None, "7")]


async def test_other_messages_are_taken_and_passed_over() -> None:
    """What a person wrote, what nobody can read as a receipt, and parameters of a vendor's own."""
    async with smsc() as there, bound(there.port) as way:
        await until(there.is_bound, "a session")
        assert await there.report(b"STOP", esm_class=0) == 0
        assert await there.report(b"your message was delivered") == 0
        assert await there.report(DELIVERED % b"8", smpp34.Tlv(0x1403, b"\xff\xff")) == 0
        assert [receipt.message_id for receipt in way.came] == ["8"]


async def test_a_session_that_was_lost_is_opened_again() -> None:
    """Messages meanwhile are refused for now; the next one after it goes through."""
    async with smsc() as there, bound(there.port) as way:
        assert await way.send() == Accepted("1A2B")
        await there.stop()
        assert await way.send() == Rejected("provider_error")
        await there.start()
        await until(there.is_bound, "another session")
        assert await way.send() == Accepted("1A2B")
        await there.bound[0].unbind()

        async def ended() -> bool:
            return not there.bound

        await until(ended, "the end of it")
        await until(there.is_bound, "a third")
        assert await way.send() == Accepted("1A2B")


async def test_no_more_messages_are_under_way_than_the_window_has_room_for() -> None:
    """The others wait here."""
    waiting: list[smpp34.SubmitSmEvent] = []
    async with smsc() as there, bound(there.port, window=2) as way:
        there.answer = waiting.append
        sends = [asyncio.get_running_loop().create_task(way.send()) for _ in range(5)]

        async def two() -> bool:
            return len(waiting) == 2

        for _ in range(2):
            await until(two, "a full window")
            while waiting:
                waiting.pop().accept("1")
        there.answer = lambda sent: sent.accept("1")
        assert await asyncio.gather(*sends[:4]) == [Accepted("1")] * 4
        while waiting:
            waiting.pop().accept("1")
        assert await sends[4] == Accepted("1")
    assert len(there.sent) == 5


async def test_a_refused_bind_is_the_operators_to_put_right() -> None:
    """So another provider may do; it is tried again, for a carrier may unlock the account."""
    async with scripted(said(0x80000000 | BIND, 0x0E)) as (port, heard), bound(port) as way:

        async def twice() -> bool:
            return heard.count(BIND) > 1

        await until(twice, "another attempt")
        assert await way.send() == Rejected("auth")
    assert SUBMIT not in heard


async def test_an_smsc_that_no_longer_answers_is_left() -> None:
    """It is asked now and again whether it is there."""
    async with scripted(BOUND) as (port, heard):
        way = smpp.Smpp(patience=0.05, pause=0.02)
        provider = ACCOUNT.model_copy(update={"port": port, "enquire_link": 0.02})

        async def came(_: str, __: Sequence[Receipt]) -> None:
            """Nothing will come."""

        way.start({"smsc": provider}, came)

        async def again() -> bool:
            return heard[:3] == [BIND, ENQUIRE_LINK, BIND]

        await until(again, "a new session")
        await way.close()


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", struct.pack(">IIII", 15, BIND, 0, 1), b"", said(0x80000000, 0x03)],
    ids=["another protocol", "too short", "silence", "no such command"],
)
async def test_what_is_no_smsc_is_not_sent_to(nonsense: bytes) -> None:
    """Nor is it a reason to stop looking."""
    async with scripted(nonsense) as (port, heard), bound(port) as way:

        async def twice() -> bool:
            return heard.count(BIND) > 1

        await until(twice, "another attempt")
        assert isinstance(await way.send(), Rejected)
    assert SUBMIT not in heard


async def test_what_cannot_be_read_is_refused_and_the_session_goes_on() -> None:
    """Commands that are in no book, or none of ours, an answer to nothing; a message without a body is passed over."""
    strange = said(0x00010203, body=b"\xff") + said(0x05, body=b"\xff") + said(0x8000FFFF) + said(0x103) + said(0x21)
    answer = said(0x80000000 | SUBMIT, body=b"9\0")
    async with scripted(BOUND, strange + answer) as (port, heard), bound(port) as way:
        assert await way.send() == Accepted("9")

        async def answered() -> bool:
            return len(heard) == 6

        await until(answered, "the refusals")
    assert (heard[:2], sorted(heard[2:6])) == ([BIND, SUBMIT], [0x80000000] * 3 + [0x80000005])


async def test_a_session_goes_over_tls_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an SMSC whose certificate is trusted, and to no other."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answers = (BOUND, said(0x80000000 | SUBMIT, body=b"9\0"))
    async with scripted(*answers, tls=context) as (port, heard):
        async with bound(port, tls=True) as way:
            assert await way.send() == Rejected("provider_error")
        assert heard == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with bound(port, tls=True) as way:
            assert await way.send() == Accepted("9")


async def test_without_a_session_nothing_goes_out() -> None:
    """A service that was not started has none."""
    assert await Door({Submit: smpp.Smpp()}).send(ACCOUNT, MESSAGE, NOW) == Rejected("provider_error")


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


async def test_a_long_text_arrives_whole() -> None:
    """As one message."""
    async with smsc() as there, bound(there.port) as way:
        assert await way.send(replace(MESSAGE, text="ж" * 200)) == Accepted("1A2B")
    [payload] = there.sent[0].tlvs
    assert (payload.tag, payload.value.decode("utf-16-be")) == (MESSAGE_PAYLOAD, "ж" * 200)


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
    for other in (Deliver(0, text), Deliver(8, text), Deliver(4, b"id:1 stat:SKIPPED"), Deliver(4, b"stat:DELIVRD")):
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
