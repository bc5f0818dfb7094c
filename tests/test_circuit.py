"""Circuit breakers: a provider that fails is left alone, and tried again; all replicas know."""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
import httpx
import pytest

from service.circuit import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, PROBE_MS, WINDOW_MS
from tests.world import NUMBER, Sent, World, table, world

pytestmark = pytest.mark.anyio

NO_LIMITS: dict[str, Any] = {"guard": {"limits": {"number": []}}}
STEPS = [
    {"channel": "sms", "providers": ["gw", "voice"], "wait": "15m"},
    {"channel": "voice", "providers": ["voice"], "wait": "20s"},
]
PAUSE = FIRST_PAUSE_MS / 1000


def number(n: int) -> str:
    """One of many numbers."""
    return f"+4474001{n:05d}"


def failing(*hosts: str, status: int = 503) -> Any:
    """A gateway whose `hosts` answer with an error."""
    return lambda sent: (
        httpx.Response(status)
        if sent.host in hosts
        else httpx.Response(200, json={"message_id": sent.data["delivery"]})
    )


async def opened(one: World, status: int = 503) -> None:
    """Let five messages fail at `gw`."""
    one.gateway.answer = failing("gw.example", status=status)
    for n in range(5):
        await one.create(number(n))
    one.gateway.sent.clear()


async def degraded(one: World) -> list[tuple[str, str]]:
    """The routes that `/readyz` calls degraded."""
    answer = await one.ops.get("/readyz")
    assert answer.status_code == 200
    return [(route["provider"], route["channel"]) for route in answer.json()["degraded"]]


@pytest.mark.parametrize("status", [503, 401, 402])
async def test_a_provider_that_fails_is_no_longer_asked(status: int) -> None:
    """Its messages go to the next one at once; probes and metrics say so."""
    async with world(cascade=STEPS) as one:
        assert (await degraded(one), one.metric("otp_provider_up", provider="gw")) == ([], 1)
        await opened(one, status)
        found = await one.create()
        assert [sent.host for sent in one.gateway.sent] == ["voice.example"]
        assert [delivery["provider"] for delivery in (await one.get(found["id"]))["deliveries"]] == ["voice"]
        assert (await degraded(one), one.metric("otp_provider_up", provider="gw")) == ([("gw", "sms")], 0)
        assert one.metric("otp_provider_up", provider="voice") == 1


async def test_the_others_take_their_turns_without_it() -> None:
    """Each is asked once, though who is left out stands before them."""
    third = {**table()["providers"]["gw"], "url": "https://third.example/send"}
    steps = [{"channel": "sms", "providers": ["gw", "voice", "third"]}, *STEPS[1:]]
    async with world(cascade=steps, _top={"providers": table()["providers"] | {"third": third}}) as one:
        await opened(one)
        one.gateway.refuse("route")
        await one.create()
        assert [sent.host for sent in one.gateway.sent if sent.channel == "sms"] == ["voice.example", "third.example"]


async def test_what_is_about_one_message_opens_no_circuit() -> None:
    """A dead number or a landline says nothing of the provider; nor does one that wants us to slow down."""
    async with world(cascade=STEPS) as one:
        for n, reason in enumerate(["invalid_number", "landline", "unreachable", "request", "opted_out", "route"]):
            one.gateway.refuse(reason)
            await one.create(number(n))
        assert await degraded(one) == []


async def test_a_provider_that_mostly_works_is_kept() -> None:
    """Five failures among more successes within the window do not open its circuit."""
    async with world(cascade=STEPS) as one:
        for n in range(8):
            await one.create(number(n))
        one.gateway.answer = failing("gw.example")
        for n in range(8, 15):
            await one.create(number(n))
        assert await degraded(one) == []
        await one.create(number(15))
        assert await degraded(one) == [("gw", "sms")]


async def test_old_failures_are_forgotten() -> None:
    """Four failures, and a fifth after the window."""
    async with world(cascade=STEPS, _top=NO_LIMITS) as one:
        one.gateway.answer = failing("gw.example")
        for n in range(4):
            await one.create(number(n))
        await one.travel(WINDOW_MS / 1000 + 1)
        await one.create(number(4))
        assert await degraded(one) == []


async def test_one_message_is_let_through_after_the_pause_and_closes_the_circuit() -> None:
    """All others wait for what becomes of it."""
    async with world(cascade=STEPS) as one:
        await opened(one)
        one.gateway.answer = failing()
        await one.travel(PAUSE + 0.1)
        await one.create(number(6))
        await one.create(number(7))
        assert [sent.host for sent in one.gateway.sent] == ["gw.example", "gw.example"]
        assert (await degraded(one), one.metric("otp_provider_up", provider="gw")) == ([], 1)


async def test_a_provider_that_still_fails_is_left_alone_for_twice_as_long() -> None:
    """And again, up to five minutes; the message that tried goes to the next provider."""
    async with world(cascade=STEPS) as one:
        await opened(one)
        pause = PAUSE
        for n in range(8):
            await one.travel(pause - 1)
            await one.create(number(20 + n))
            assert [sent.host for sent in one.gateway.sent] == ["voice.example"]
            one.gateway.sent.clear()
            await one.travel(1.1)
            await one.create(number(40 + n))
            assert [sent.host for sent in one.gateway.sent] == ["gw.example", "voice.example"]
            one.gateway.sent.clear()
            pause = min(pause * 2, LONGEST_PAUSE_MS / 1000)
        assert pause == LONGEST_PAUSE_MS / 1000


async def test_with_nobody_to_ask_the_step_is_left_at_once() -> None:
    """The next channel is better than waiting."""
    steps = [{"channel": "sms", "providers": ["gw"]}, {"channel": "voice", "providers": ["voice"]}]
    async with world(cascade=steps) as one:
        await opened(one)
        found = await one.create()
        assert [(sent.host, sent.channel) for sent in one.gateway.sent] == [("voice.example", "voice")]
        first, second = (await one.get(found["id"]))["deliveries"]
        assert (first["provider"], first["status"], first["reason"]) == (None, "rejected", "provider_error")
        assert (second["provider"], second["status"]) == ("voice", "accepted")


async def test_the_last_step_waits_for_the_circuit_within_its_wait() -> None:
    """A provider that comes back in time still gets the message; else nothing is left."""
    async with world(cascade=[{"channel": "sms", "providers": ["gw"], "wait": "20s"}]) as one:
        await opened(one)
        found = await one.create()
        assert one.gateway.sent == []
        one.gateway.answer = failing()
        for _ in range(4):
            await one.travel(2)
        assert [sent.data["delivery"] for sent in one.gateway.sent if sent.data["delivery"].startswith(found["id"])]
        assert (await one.get(found["id"]))["deliveries"][-1]["status"] == "accepted"
    async with world(cascade=[{"channel": "sms", "providers": ["gw"], "wait": "20s"}]) as one:
        await opened(one)
        found = await one.create()
        for _ in range(12):
            await one.travel(2)
        assert (await one.get(found["id"]))["status"] == "undeliverable"


async def test_a_probe_whose_process_died_is_not_the_last() -> None:
    """Another message is let through once the first has had its time."""
    async with world(cascade=STEPS) as one:
        await opened(one)
        await one.travel(PAUSE + 0.1)
        granted = await one.service.circuits.admits("gw", "sms")  # type: ignore[arg-type]  # a StrEnum's value will do
        assert granted
        assert not await one.service.circuits.admits("gw", "sms")  # type: ignore[arg-type]  # as above
        await one.travel(15.1)
        one.gateway.answer = failing()
        await one.create(number(9))
        assert [sent.host for sent in one.gateway.sent] == ["gw.example"]


async def test_a_probe_that_is_not_sent_says_nothing() -> None:
    """A message without an address goes to nobody: the circuit stays open, and later another message may try."""
    steps = [{"channel": "sms", "providers": ["voice"]}, {"channel": "email", "providers": ["gw"]}]
    async with world(cascade=steps, resend_after=["5s"], _top=NO_LIMITS) as one:
        one.gateway.answer = failing("gw.example")
        by_mail = {"cascade": ["email"], "email": "person@example.com"}
        for n in range(5):
            started = await one.create(number(n), **by_mail)
            await one.post(f"/verifications/{started['id']}/cancel")
        await one.create()
        await one.travel(PAUSE + 0.1)
        assert (await one.post("/verifications", {"to": NUMBER, **by_mail})).status_code == 200
        await one.work()
        assert await degraded(one) == [("gw", "email")]
        one.gateway.answer = failing()
        await one.travel(PROBE_MS / 1000)
        await one.create(number(9), **by_mail)
        assert await degraded(one) == []


async def test_what_was_under_way_before_is_no_probe() -> None:
    """A send that began before the circuit opened fails while another probes: only that one's end counts."""
    hung, probed, busy = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(sent: Sent) -> httpx.Response:
        waits = {number(6): hung, number(7): probed}.get(sent.data["to"])
        if sent.host == "gw.example" and waits is not None:
            busy.set()
            await waits.wait()
        failed = sent.host == "gw.example" and waits is not probed
        return httpx.Response(503) if failed else httpx.Response(200, json={"message_id": sent.data["delivery"]})

    async with world(cascade=STEPS) as one:
        one.gateway.answer = answer
        await one.post("/verifications", {"to": number(6)})
        before = asyncio.create_task(one.service.schedule.drain())
        await busy.wait()
        for n in range(5):
            await one.create(number(n))
        assert await degraded(one) == [("gw", "sms")]
        await one.travel(PAUSE + 0.1)
        await one.post("/verifications", {"to": number(7)})
        busy.clear()
        probe = asyncio.create_task(one.service.schedule.drain())
        await busy.wait()
        hung.set()
        await before
        probed.set()
        await probe
        assert await degraded(one) == []


async def test_all_replicas_know_of_an_open_circuit() -> None:
    """One that was idle tries once at most; one that is asked for its readiness knows at once."""
    server = fakeredis.FakeServer()
    async with (
        world(client=fakeredis.FakeAsyncRedis(server=server), cascade=STEPS) as one,
        world(client=fakeredis.FakeAsyncRedis(server=server), cascade=STEPS) as other,
    ):
        await opened(one)
        assert await degraded(other) == [("gw", "sms")]
        await other.create()
        assert [sent.host for sent in other.gateway.sent] == ["voice.example"]
        one.gateway.answer = failing()
        await other.travel(PAUSE + 0.1)
        await one.work()
        await one.create(number(8))
        assert await degraded(other) == []
