"""SMPP: sessions with an SMSC of another make (smpp34, in Rust), and what goes over them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import smpp34
from fakeredis import FakeAsyncRedis

from service import config
from service.app import Service
from service.door import Door, smpp
from service.errors import Unavailable
from service.provider import (
    Accepted,
    Message,
    Receipt,
    Rejected,
    Status,
    Submit,
)
from service.providers import KINDS
from service.providers.smpp import Smpp
from tests.certificate import self_signed
from tests.faults.waiting import until
from tests.listening import listening
from tests.providers.examples import NOW
from tests.providers.test_smpp import ACCOUNT, DELIVERED, MESSAGE
from tests.world import NUMBER, Table, World, table, world

pytestmark = pytest.mark.anyio

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


async def test_a_long_text_arrives_whole() -> None:
    """As one message."""
    async with smsc() as there, bound(there.port) as way:
        assert await way.send(replace(MESSAGE, text="ж" * 200)) == Accepted("1A2B")
    [payload] = there.sent[0].tlvs
    assert (payload.tag, payload.value.decode("utf-16-be")) == (MESSAGE_PAYLOAD, "ж" * 200)
