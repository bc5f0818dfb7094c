"""The simulator: the last two digits of a number choose what becomes of its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from service.app import Service
from service.errors import Forged, Unavailable
from service.provider import REASONS, Accepted, Channel, Rejected, Response, Simulation, Status, Webhook
from service.providers.simulator import ENDINGS, Behaviour, Simulator, behaviour
from service.store import connect
from tests.providers.test_contract import CODE, NOW, NUMBER, TOKEN, message
from tests.world import KEY, World, table, world

SIMULATOR = Simulator()

Fates = list[tuple[str, str, str | None]]
"""Channel, status and reason of each delivery."""

CASCADE = [{"channel": channel, "providers": ["phone"], "wait": "20s"} for channel in ("sms", "whatsapp", "voice")]


def simulated(**settings: Any) -> dict[str, Any]:
    """The changes to a world whose messages all go to a simulator of these settings."""
    providers = table()["providers"] | {"phone": {"kind": "simulator", **settings}}
    return {"cascade": CASCADE, "_top": {"providers": providers}}


@asynccontextmanager
async def started(ending: str, **settings: Any) -> AsyncIterator[tuple[World, str]]:
    """A world, and in it a verification of a number with this ending."""
    async with world(**simulated(**settings)) as one:
        answer = await one.post("/verifications", {"to": f"+4474001239{ending}"})
        working = asyncio.create_task(one.work())
        await asyncio.wait({working}, timeout=0.2)  # one that is slow to answer holds its worker
        yield one, answer.json()["id"]
        await working


async def live(one: World, seconds: int) -> None:
    """Travel second by second, so that every wait ends in its time."""
    for _ in range(seconds):
        await one.travel(1)


async def fates(one: World, name: str) -> Fates:
    """What became of each delivery."""
    return [(d["channel"], d["status"], d["reason"]) for d in (await one.get(name))["deliveries"]]


SILENT: Fates = [("sms", "unknown", "silence")]
FAILED: Fates = [("sms", "failed", "unreachable")]
DELIVERED: Fates = [("sms", "delivered", None)]
FATES: dict[str, Fates] = {
    "00": DELIVERED,
    "01": [("sms", "delivered", None), ("whatsapp", "delivered", None), ("voice", "delivered", None)],
    "02": [*FAILED, ("whatsapp", "delivered", None)],
    "03": [*SILENT, ("whatsapp", "delivered", None)],
    "04": [("sms", "rejected", "carrier_blocked"), ("whatsapp", "delivered", None)],
    "05": [("sms", "rejected", "landline"), ("voice", "delivered", None)],
    "06": [*SILENT, ("whatsapp", "rejected", "not_on_channel"), ("voice", "delivered", None)],
    "07": [*FAILED, ("whatsapp", "rejected", "not_on_channel"), ("voice", "delivered", None)],
    "08": DELIVERED,
    "09": DELIVERED,
    "10": DELIVERED,
    "11": [("sms", "read", None)],
    "12": DELIVERED,
    "13": [*SILENT, ("whatsapp", "unknown", "silence"), ("voice", "unknown", "silence")],
    "14": [*FAILED, ("whatsapp", "failed", "unreachable"), ("voice", "failed", "unreachable")],
}


def test_every_ending_has_its_fate_here() -> None:
    """And one that is in no table."""
    assert set(FATES) == set(ENDINGS) | {"00"}


@pytest.mark.anyio
@pytest.mark.parametrize("ending", FATES)
async def test_the_ending_decides_what_becomes_of_a_message(ending: str) -> None:
    """All the way through the cascade."""
    async with started(ending) as (one, name):
        await live(one, 100)
        assert await fates(one, name) == FATES[ending]
        assert (await one.get(name))["status"] == ("undeliverable" if ending == "14" else "pending")
        assert one.gateway.sent == []


@pytest.mark.anyio
async def test_a_message_is_delivered_after_its_delay_and_not_before() -> None:
    """Here three seconds."""
    async with started("00", delay="3s") as (one, name):
        await one.travel(2)
        assert await fates(one, name) == [("sms", "accepted", None)]
        await one.travel(1)
        assert await fates(one, name) == DELIVERED


@pytest.mark.anyio
async def test_late_is_after_the_step_was_left() -> None:
    """The receipt is recorded, and moves nothing."""
    async with started("01", late="30s") as (one, name):
        await one.travel(29)
        assert await fates(one, name) == [*SILENT, ("whatsapp", "accepted", None)]
        await one.travel(1)
        assert await fates(one, name) == [*DELIVERED, ("whatsapp", "accepted", None)]


@pytest.mark.anyio
async def test_a_busy_simulator_takes_the_second_try() -> None:
    """It asks for a second, as a provider's 429 does, and shows the message once."""
    async with started("08") as (one, name):
        assert await fates(one, name) == [("sms", "queued", None)]
        await one.travel(1)
        assert await fates(one, name) == [("sms", "accepted", None)]
        assert len((await inbox(one))["messages"]) == 1


@pytest.mark.anyio
async def test_a_slow_answer_holds_the_delivery_in_sending() -> None:
    """For five seconds unless set."""
    async with started("09") as (one, name):
        await one.travel(4)
        assert await fates(one, name) == [("sms", "sending", None)]
        await one.travel(1)
        assert await fates(one, name) == [("sms", "accepted", None)]
        await one.travel(1)


@pytest.mark.anyio
async def test_duplicate_receipts_count_once() -> None:
    """Three come."""
    async with started("10") as (one, name):
        await one.travel(5)
        assert one.metric("otp_receipt_seconds_count", provider="phone", channel="sms") == 1
        events = [line["event"] for line in (await one.get(name))["timeline"]]
        assert events.count("delivery.delivered") == 1


@pytest.mark.anyio
async def test_a_receipt_can_come_before_the_answer() -> None:
    """The answer then changes nothing."""
    async with started("12") as (one, name):
        await one.travel(1)
        assert await fates(one, name) == DELIVERED
        await one.travel(1)
        events = [line["event"] for line in (await one.get(name))["timeline"]]
        assert events == ["verification.created", "delivery.queued", "delivery.delivered"]


@pytest.mark.anyio
async def test_what_is_not_reported_when_the_process_ends_is_lost() -> None:
    """That is silence, and the cascade goes on."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **simulated()) as one:
        other = World(Service(one.service.config, client=redis, sleep=one.sleepers.sleep), one.gateway, one.clock)
        name = (await other.create("+447400123900"))["id"]
        assert await fates(one, name) == [("sms", "accepted", None)]
        await other.service.stop()
        await live(one, 30)
        assert await fates(one, name) == [*SILENT, ("whatsapp", "delivered", None)]


@pytest.mark.anyio
async def test_while_redis_is_away_nothing_is_taken_and_receipts_are_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A message is tried again as with any provider; a receipt is silence."""
    async with world(**simulated()) as one:
        run = one.service.store.run

        async def away(name: str, *given: Any) -> Any:
            if name.startswith("inbox_"):
                raise Unavailable("away")
            return await run(name, *given)

        monkeypatch.setattr(one.service.store, "run", away)
        first = await one.create("+447400123900")
        assert await fates(one, first["id"]) == [("sms", "queued", None)]
        monkeypatch.setattr(one.service.store, "run", run)
        await one.travel(1)
        assert await fates(one, first["id"]) == [("sms", "accepted", None)]
        monkeypatch.setattr(one.service.store, "run", away)
        await one.travel(1)
        assert await fates(one, first["id"]) == [("sms", "accepted", None)]
        assert "a receipt of the simulator is lost" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("is_open", [True, False])
async def test_messages_are_printed_where_it_is_open(is_open: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In the console's line; what was refused is not shown."""
    async with started("07", open=is_open) as (one, _):
        await one.travel(5)
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines] == (
            ["[shop] sms to +447400123907", "[shop] voice to +447400123907"] if is_open else []
        )


async def inbox(one: World, key: str = KEY) -> dict[str, Any]:
    """What is in the inbox."""
    answer = await one.ops.get("/inbox", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def played() -> Simulation:
    """What the simulator makes of a message that is delivered."""
    return SIMULATOR.request(message(Channel.SMS), NOW)


def test_a_simulation_hides_its_message() -> None:
    """Number, code and token; its receipts name the delivery by the token."""
    made = played()
    for secret in (NUMBER, CODE, TOKEN):
        assert secret not in repr(made)
    assert [(after, receipt.status, receipt.delivery) for after, receipt in made.receipts] == [
        (1, Status.DELIVERED, TOKEN)
    ]


def test_every_behaviour_can_be_had() -> None:
    """By some ending, over some channel."""
    numbers = [f"+4474001239{ending}" for ending in [*ENDINGS, "00"]]
    assert {behaviour(number, channel) for number in numbers for channel in Channel} == set(Behaviour)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"message_id": "ver_x.0"}', Accepted("ver_x.0")),
        (422, b'{"reason": "landline"}', Rejected("landline")),
        (429, b"", Rejected("rate_limited", 1.0)),
        (503, b"", Rejected("provider_error", 1.0)),
    ],
)
def test_its_answers_are_read(status: int, body: bytes, outcome: Accepted | Rejected) -> None:
    """A reason where there is one."""
    headers = {"retry-after": "1"} if status in {429, 503} else {}
    assert SIMULATOR.read(Response(played(), status, headers, body)) == outcome
    assert not isinstance(outcome, Rejected) or outcome.reason in REASONS


def test_nobody_can_post_its_receipts() -> None:
    """They come from within."""
    with pytest.raises(Forged):
        SIMULATOR.receipts(Webhook("https://otp.example.com/receipts/simulator", {}, b"{}"), NOW)
