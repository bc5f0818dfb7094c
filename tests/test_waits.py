"""Adaptive waits: a step waits for as long as receipts take, within its bounds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.world import World, world

pytestmark = pytest.mark.anyio

STEPS = [
    {"channel": "sms", "providers": ["gw"], "wait": "auto", "wait_least": "4s", "wait_most": "40s"},
    {"channel": "voice", "providers": ["voice"], "wait": "20s"},
]


def number(n: int, country: str = "44") -> str:
    """One of many numbers of a country."""
    return {"44": f"+4474001{n:05d}", "49": f"+4915112{n:06d}"}[country]


async def learn(one: World, seconds: float, times: int = 25, begin: int = 0) -> None:
    """Let so many receipts come after so many seconds."""
    for n in range(begin, begin + times):
        await one.create(number(n))
        sent = one.gateway.last
        one.clock.shift(seconds)
        await one.report(sent, "delivered")


async def waited(one: World, to: str) -> float:
    """After how many whole seconds of silence the first step is left, by a clock that goes on by travelling only."""
    one.clock.move_to(datetime.now(UTC), tick=False)
    await one.create(to)
    before = len(one.gateway.sent)
    for seconds in range(1, 60):
        await one.travel(1)
        if len(one.gateway.sent) > before:
            return seconds
    return 60


async def test_without_receipts_it_begins_with_twenty_seconds() -> None:
    """Or with the bound that is nearest."""
    async with world(cascade=STEPS) as one:
        assert await waited(one, number(1)) == 20
    async with world(cascade=[STEPS[0] | {"wait_most": "15s"}, STEPS[1]]) as one:
        assert await waited(one, number(1)) == 15


async def test_it_waits_as_long_as_receipts_take() -> None:
    """Where they are quick, a silent message moves on soon; a few quick ones are no evidence."""
    async with world(cascade=STEPS) as one:
        await learn(one, 6, times=15)
        assert await waited(one, number(900)) == 20
        await learn(one, 6, times=15, begin=100)
        assert 6 <= await waited(one, number(901)) <= 8


@pytest.mark.parametrize(("seconds", "bound"), [(0.2, 4), (55, 40)])
async def test_it_keeps_its_bounds(seconds: float, bound: int) -> None:
    """However quick or slow receipts are; a slow one that came after the step was left counts too."""
    async with world(cascade=STEPS) as one:
        await learn(one, seconds)
        assert await waited(one, number(900)) == bound


async def test_each_country_has_a_wait_of_its_own() -> None:
    """Carriers differ."""
    async with world(cascade=STEPS) as one:
        await learn(one, 6)
        assert await waited(one, number(900, "49")) == 20


async def test_what_was_learned_fades() -> None:
    """After half a day without receipts nothing is left to believe."""
    async with world(cascade=STEPS) as one:
        await learn(one, 6)
        await one.travel(12 * 3600)
        await waited(one, number(900))  # it is read anew behind the first that asks
        assert await waited(one, number(901)) == 20


async def test_another_replica_learns_within_a_minute() -> None:
    """What one learned is in Redis; the first to ask there reads it behind the scenes."""
    async with world(cascade=STEPS) as one:
        await learn(one, 6)
        one.service._waits._known.clear()  # noqa: SLF001 - a replica that has just begun
        await waited(one, number(900))
        assert 6 <= await waited(one, number(901)) <= 8
