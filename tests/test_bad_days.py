"""Bad days of a provider, over real sockets: the step goes on, callers feel nothing, and memory stays bounded."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson
import pytest
import time_machine

from service import config
from service.app import Service
from service.providers import KINDS
from tests.listening import listening
from tests.test_delivery import statuses, story
from tests.world import NUMBER, PUBLIC_URL, WEBHOOK_SECRET, Gateway, Table, World, signed, table, wrong

pytestmark = pytest.mark.anyio

MOST_WRITTEN = 32 * 1024 * 1024
"""What fits into the buffers of two sockets, and more."""
MOST_MEMORY = 4 * 1024 * 1024
HUNG_UP = 0.3
"""The whole of a send, in place of the ten seconds that it may take."""

Answer = Callable[["Vendor"], Awaitable[None]]


class Vendor:
    """A server on a free port of the loopback while its context is entered; `answer` is what it does to a request.

    `people` counts its connections, `asked` are the bodies that it read, `wrote` counts the bytes that somebody took.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.people = 0
        self.asked: list[bytes] = []
        self.wrote = 0
        self.busy = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listening = listening(self._serve)
        self.url = f"http://127.0.0.1:{await self._listening.__aenter__()}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listening.__aexit__(kind, error, trace)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What verifyd's own gateway protocol says, one for each request."""
        return [orjson.loads(body)["data"] for body in self.asked]

    async def write(self, some: bytes) -> None:
        """Write, and wait until there is room for more; raises ConnectionError when nobody is there."""
        self._writer.write(some)
        await self._writer.drain()
        self.wrote += len(some)

    async def listen(self) -> None:
        """Wait until the other side hangs up."""
        await self._reader.read()

    async def reply(self, said: object, status: str = "200 OK") -> None:
        """Answer with JSON, as it should be."""
        body = orjson.dumps(said)
        await self.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.people += 1
        self._reader, self._writer = reader, writer
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        self.asked.append(await reader.readexactly(int(length[1]) if length else 0))
        self.busy.set()
        await self.answer(self)


async def well(vendor: Vendor) -> None:
    """As agreed."""
    await vendor.reply({"message_id": vendor.messages[-1]["delivery"]})


async def silent(vendor: Vendor) -> None:
    """Takes the request and says nothing."""
    await vendor.listen()


async def gone(_vendor: Vendor) -> None:
    """Takes the request and hangs up."""


def says(some: bytes) -> Answer:
    """Answers these bytes and hangs up."""
    return lambda vendor: vendor.write(some)


def streams(first: bytes, then: bytes) -> Answer:
    """Answers without an end, as fast as it is read."""

    async def answer(vendor: Vendor) -> None:
        await vendor.write(first)
        while True:
            await vendor.write(then)

    return answer


def drips(first: bytes, then: bytes) -> Answer:
    """Answers without an end, little by little, until the other side hangs up."""

    async def answer(vendor: Vendor) -> None:
        await vendor.write(first)
        while True:
            await vendor.write(then)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    return await vendor.listen()

    return answer


OK, ERROR = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 Internal Server Error\r\n"
TROUBLES: dict[str, Answer] = {
    "silent": silent,
    "gone": gone,
    "something-else-than-http": says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nonsense": says(bytes(range(256)) * 256),
    "gone-in-a-header": says(OK + b"content-le"),
    "gone-in-the-body": says(OK + b"content-length: 100\r\n\r\n{"),
    "gone-in-a-chunk": says(OK + b"transfer-encoding: chunked\r\n\r\n64\r\n{"),
    "two-lengths": says(OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    "huge-header": says(OK + b"x: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "header-without-end": streams(OK + b"x: ", b"x" * 65_536),
    "headers-without-end": streams(OK, b"x: y\r\n" * 10_000),
    "trailers-without-end": streams(OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 10_000),
    "error-without-end": streams(ERROR + b"\r\n", b"x" * 65_536),
    "compressed-error-without-end": streams(ERROR + b"content-encoding: gzip\r\n\r\n", b"\x1f\x8b" * 32_768),
    "error-in-chunks-without-end": streams(
        ERROR + b"transfer-encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"
    ),
    "slow-body-without-end": drips(OK + b"\r\n", b"x"),
    "slow-header-without-end": drips(OK + b"x: ", b"x"),
    "interim-answers-without-end": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@asynccontextmanager
async def day(cascade: list[Table], **providers: Table) -> AsyncIterator[World]:
    """A world that sends over the network, by these providers."""
    settings = table(_top={"providers": table()["providers"] | providers}, cascade=cascade)
    service = Service(config.check(settings, KINDS, {}))
    with time_machine.travel(datetime.now(UTC), tick=True) as clock:
        one = World(service, Gateway(), clock)
        try:
            yield one
        finally:
            await one.stop()


def gateway(vendor: Vendor) -> Table:
    """An operator's gateway at this address."""
    return {"kind": "webhook", "url": vendor.url, "secret": WEBHOOK_SECRET}


def step(*providers: str, channel: str = "sms", wait: str = "5s") -> Table:
    """A step of a cascade."""
    return {"channel": channel, "providers": list(providers), "wait": wait}


async def outcomes(one: World, name: str) -> list[tuple[str, str, str | None]]:
    """Provider, status and reason of each delivery."""
    return [(d["provider"], d["status"], d["reason"]) for d in (await one.get(name))["deliveries"]]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_next_provider_takes_over_from_one_that_is_beside_itself(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, or when its time is over; nobody keeps reading what never ends, and little of it is kept."""
    monkeypatch.setattr("service.door.SECONDS", HUNG_UP)
    async with (
        Vendor(TROUBLES[trouble]) as bad,
        Vendor(well) as good,
        day([step("bad", "good")], bad=gateway(bad), good=gateway(good)) as one,
    ):
        started = (await one.post("/verifications", {"to": NUMBER})).json()
        tracemalloc.start()
        try:
            await one.work()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert await outcomes(one, started["id"]) == [
            ("bad", "rejected", "provider_error"),
            ("good", "accepted", None),
        ]
        assert (bad.people, good.people) == (1, 1)
        assert bad.messages[0]["code"] == good.messages[0]["code"]
        assert bad.wrote < MOST_WRITTEN
        assert peak < MOST_MEMORY
        assert (await one.check(started["id"], good.messages[0]["code"]))["valid"]


async def test_the_next_provider_takes_over_from_one_that_is_not_there() -> None:
    """Nobody listens at its port."""
    async with Vendor(well) as good:
        async with Vendor(well) as bad:
            pass
        async with day([step("bad", "good")], bad=gateway(bad), good=gateway(good)) as one:
            started = await one.create()
            assert await outcomes(one, started["id"]) == [
                ("bad", "rejected", "provider_error"),
                ("good", "accepted", None),
            ]


async def test_an_answer_without_end_is_an_answer_all_the_same() -> None:
    """Its first 64 KiB say enough; the connection is not used again."""
    async with (
        Vendor(streams(OK + b"\r\n", b"x" * 65_536)) as vendor,
        day([step("gw")], gw=gateway(vendor)) as one,
    ):
        for to in (NUMBER, "+447400123457"):
            assert await statuses(one, (await one.create(to))["id"]) == ["accepted"]
        assert vendor.people == 2
        assert vendor.wrote < 2 * MOST_WRITTEN


@pytest.mark.parametrize("trouble", ["gone", "silent"])
async def test_the_next_channel_takes_over_within_the_wait(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step with nobody else tries again and again, and ends when it should."""
    monkeypatch.setattr("service.door.SECONDS", HUNG_UP)
    async with (
        Vendor(TROUBLES[trouble]) as bad,
        Vendor(well) as good,
        day([step("bad"), step("good", channel="voice")], bad=gateway(bad), good=gateway(good)) as one,
    ):
        started = await one.create()
        assert good.asked == []
        for _ in range(5):
            await one.travel(1)
        assert 2 <= bad.people <= 4
        assert await outcomes(one, started["id"]) == [
            ("bad", "rejected", "provider_error"),
            ("good", "accepted", None),
        ]


async def test_a_redirect_is_not_followed() -> None:
    """A message with a code in it goes where the configuration says, and nowhere else."""
    async with Vendor(well) as elsewhere, Vendor(well) as good:
        for status in (301, 302, 303, 307, 308):
            moved = says(b"HTTP/1.1 %d Moved\r\nlocation: %b/\r\n\r\n" % (status, elsewhere.url.encode()))
            async with (
                Vendor(moved) as bad,
                day([step("bad", "good")], bad=gateway(bad), good=gateway(good)) as one,
            ):
                started = await one.create()
                assert await outcomes(one, started["id"]) == [
                    ("bad", "rejected", "request"),
                    ("good", "accepted", None),
                ]
        assert elsewhere.people == 0


OWN_ID = {"username": "shop", "api_key": "a-key", "webhook_secret": "a-secret-in-the-address"}
"""An account with Africa's Talking, whose receipts name its own message id and nothing else."""
REFUSALS: dict[str, tuple[Table, object, str]] = {
    "twilio": (
        {"account_sid": "AC" + "0" * 32, "auth_token": "a-token", "sms_from": "+15005550006"},
        {"sid": "SM" + "0" * 32, "status": "failed", "error_code": 30007},
        "carrier_blocked",
    ),
    "infobip": (
        {"api_key": "a-key", "sms_from": "Shop"},
        {"messages": [{"messageId": "m", "status": {"groupId": 5, "groupName": "REJECTED", "id": 6}}]},
        "route",
    ),
    "vonage_sms": (
        {"api_key": "a-key", "api_secret": "a-secret", "sms_from": "Shop"},
        {"message-count": "1", "messages": [{"status": "9", "error-text": "Partner quota exceeded"}]},
        "balance",
    ),
    "africastalking": (
        OWN_ID,
        {"SMSMessageData": {"Recipients": [{"statusCode": 405, "messageId": "None"}]}},
        "balance",
    ),
}
"""Settings of a vendor, a refusal that it answers with 200, and what it means."""


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refusal_that_looks_like_success_is_a_refusal(kind: str) -> None:
    """The next provider is asked at once, as if the status had said so."""
    account, said, reason = REFUSALS[kind]
    async with (
        Vendor(lambda vendor: vendor.reply(said)) as bad,
        Vendor(well) as good,
        day([step("bad", "good")], bad={"kind": kind, "api_url": bad.url} | account, good=gateway(good)) as one,
    ):
        started = await one.create()
        assert await outcomes(one, started["id"]) == [("bad", "rejected", reason), ("good", "accepted", None)]


async def test_callers_feel_nothing_of_a_provider_that_hangs() -> None:
    """They start, read and check as ever while a send hangs; what was approved meanwhile is sent nowhere else."""
    hang_up = asyncio.Event()

    async def hangs(_vendor: Vendor) -> None:
        await hang_up.wait()

    async with (
        Vendor(hangs) as bad,
        Vendor(well) as good,
        day([step("bad", "good"), step("good", channel="voice")], bad=gateway(bad), good=gateway(good)) as one,
    ):
        one.service.schedule.start()
        started = (await one.post("/verifications", {"to": NUMBER})).json()
        await bad.busy.wait()
        assert await statuses(one, started["id"]) == ["sending"]
        code = bad.messages[0]["code"]
        assert not (await one.check(started["id"], wrong(code)))["valid"]
        assert (await one.check(started["id"], code))["valid"]
        hang_up.set()
        await one.service.schedule.stop()
        await one.travel(60)
        assert (await one.get(started["id"]))["status"] == "approved"
        assert (bad.people, good.people) == (1, 0)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_receipt_by_the_vendors_own_id_may_come_before_we_know_that_id(times: int) -> None:
    """It waits for the answer that tells the id; then it counts, once."""

    async def hasty(vendor: Vendor) -> None:
        path = f"/receipts/at?secret={OWN_ID['webhook_secret']}"
        for _ in range(times):
            assert (await one.receipts.post(path, content="id=m1&status=Failed")).status_code == 200
        await vendor.reply({"SMSMessageData": {"Recipients": [{"statusCode": 101, "messageId": "m1"}]}})

    async with (
        Vendor(hasty) as vendor,
        Vendor(well) as good,
        day(
            [step("at"), step("good", channel="voice"), step("good", channel="whatsapp")],
            at={"kind": "africastalking", "api_url": vendor.url} | OWN_ID,
            good=gateway(good) | {"channels": ["voice", "whatsapp"]},
        ) as one,
    ):
        started = await one.create()
        assert await outcomes(one, started["id"]) == [("at", "failed", "unknown"), ("good", "accepted", None)]
        assert (await one.receipts.post("/receipts/at?secret=x", content="id=m1&status=Success")).status_code == 401
        path = f"/receipts/at?secret={OWN_ID['webhook_secret']}"
        for word in ("Failed", "Success"):
            assert (await one.receipts.post(path, content=f"id=m1&status={word}")).status_code == 200
        await one.travel(4)
        assert await statuses(one, started["id"]) == ["delivered", "accepted"]
        assert (vendor.people, good.people) == (1, 1)


EARLY = {
    "failed": (["failed", "accepted"], ["sms", "voice"]),
    "delivered": (["delivered"], ["sms"]),
    "sent": (["sent"], ["sms"]),
}
"""A receipt, the deliveries after it, and the channels that are used."""


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("answer", ["accepted", "lost"])
async def test_a_receipt_may_come_while_the_send_still_waits_for_its_answer(
    answer: str, early: str, times: int
) -> None:
    """However often, and whether the answer comes or not: what it says counts, and a step is left once."""
    reports: list[int] = []

    async def hasty(vendor: Vendor) -> None:
        message = vendor.messages[-1]
        if message["channel"] == "sms":
            data = {"message_id": message["delivery"], "status": early, "reason": None}
            body = orjson.dumps({"type": "delivery.receipt", "data": data}).decode()
            path = message["receipt_url"].removeprefix(PUBLIC_URL)
            posts = [one.receipts.post(path, content=body, headers=signed(body)) for _ in range(times)]
            reports.extend(response.status_code for response in await asyncio.gather(*posts))
        if message["channel"] == "voice" or answer == "accepted":
            await well(vendor)

    async with (
        Vendor(hasty) as vendor,
        day([step("gw"), step("gw", channel="voice")], gw=gateway(vendor)) as one,
    ):
        started = await one.create()
        expected, channels = EARLY[early]
        assert reports == [200] * times
        assert await statuses(one, started["id"]) == expected
        assert [message["channel"] for message in vendor.messages] == channels
        advances = [n for event, n, _ in await story(one, started["id"]) if event == "delivery.queued"]
        assert advances == list(range(len(expected)))
