"""The scripts in Redis and the arithmetic in memory come to the same decisions, one by one, on a long random stream."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine

from service.config import policy
from service.guard.oracle import Oracle
from tests.world import World, world

pytestmark = pytest.mark.anyio

CODE = "123456"
EVENTS = 320

BLOCKS = ["+447400123", "+44740012", "+4479117", "+20101234"]
"""What numbers begin with: few blocks, so that they fill up."""


def numbers(chance: random.Random) -> str:
    """A number of one of the blocks; few in some, so that they come again."""
    block = chance.choice(BLOCKS)
    rest = 13 - len(block)
    if chance.random() < 0.5:
        return block + str(chance.randrange(2)).zfill(rest)
    return block + str(chance.randrange(10**rest)).zfill(rest)


def stream(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Creates by few addresses and devices, with what they have with them."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible stream, not a secret
    for _ in range(count):
        create: dict[str, Any] = {"to": numbers(chance), "pause": chance.choice([0, 0, 0.25, 1, 5, 60, 1800])}
        if chance.random() < 0.8:
            create["ip"] = chance.choice(["192.0.2.1", "192.0.2.2", f"2001:db8:0:{chance.randrange(99)}::1"])
        if chance.random() < 0.5:
            create["device_id"] = f"device-{chance.randrange(60)}"
        create["channel"] = "voice" if chance.random() < 0.2 else "sms"
        create["challenge_passed"] = chance.random() < 0.4
        create["trusted"] = chance.random() < 0.02
        create["converts"] = chance.random() < (0.7 if create["to"].startswith("+4479") else 0.2)
        yield create


def enrolment(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Creates for the staff of an office, whose numbers follow one another, and for guests; some are at home."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible stream, not a secret
    for n in range(count):
        guest = chance.random() < 0.1
        create: dict[str, Any] = {"to": f"+447911{n:03}900" if guest else f"+447400555{n:03}", "channel": "sms"}
        if chance.random() < 0.7:
            create["ip"] = chance.choice(["198.51.100.7", "198.51.100.8"])
        yield create | {"pause": chance.choice([5, 30, 90]), "converts": chance.random() < 0.92}


async def ask(one: World, create: dict[str, Any]) -> tuple[str, set[str], str]:
    """What the service answers: verdict, rules, id."""
    answer = await one.post(
        "/verifications",
        {
            "to": create["to"],
            "code": CODE,
            "channel": create["channel"],
            "signals": {
                name: create[name] for name in ("ip", "device_id", "challenge_passed", "trusted") if name in create
            },
        },
    )
    body = answer.json()
    if answer.status_code == 201:
        return "allow", set(), body["id"]
    assert answer.status_code == 403, body
    verdict = "challenge" if body["code"] == "challenge_required" else "block"
    return verdict, {reason["rule"] for reason in body["reasons"]}, ""


async def agree(one: World, events: Iterator[dict[str, Any]], clock: time_machine.Traveller | None) -> dict[str, int]:
    """Drive both with the same stream; how often each verdict came."""
    config = one.service.config
    guard = config.settings.guard
    oracle = Oracle([policy("shop", config)], guard.rules.rules, guard.price_list)
    verdicts = {"allow": 0, "challenge": 0, "block": 0}
    for n, create in enumerate(events):
        if clock is not None:
            clock.shift(create.pop("pause"))
        event = create | {"t": time.time(), "ref": str(n)}
        expected = oracle.create(event)
        verdict, rules, name = await ask(one, create)
        assert (n, verdict, rules) == (n, expected.verdict, {reason.rule for reason in expected.reasons})
        verdicts[verdict] += 1
        if verdict == "allow" and create["converts"]:
            assert (await one.check(name, CODE))["valid"]
            oracle.check({"t": time.time(), "ref": str(n), "correct": True})
        elif verdict == "allow":
            assert (await one.post(f"/verifications/{name}/cancel")).status_code == 200
    return verdicts


def guarded(**top: object) -> dict[str, Any]:
    """An application that may choose codes, with the guard on."""
    budget = {"country_hour": 4.0, "total_day": 40.0}
    guard = {"mode": "enforce", "challenge": True, "limits": {"number": []}, "budget": budget}
    return {"own_code": True, "sends": 20, "_top": {"guard": guard, **top}}


def vouching(**top: object) -> dict[str, Any]:
    """One where addresses vouch for few, so that their end is seen too."""
    guard = {"mode": "enforce", "limits": {"number": []}, "rules": {"vouching_sends": 60.0}}
    return {"own_code": True, "_top": {"guard": guard, **top}}


async def test_the_scripts_decide_as_the_arithmetic_does() -> None:
    """Over days: addresses, devices, proofs, trust and voice in between."""
    async with world(**guarded()) as one:
        with time_machine.travel(time.time(), tick=False) as clock:
            found = await agree(one, stream(1, EVENTS), clock)
    assert min(found["allow"], found["challenge"], found["block"]) > EVENTS / 50, found


async def test_they_agree_on_an_office_that_enrols_its_staff() -> None:
    """Until it is known, while it vouches, and when it has vouched for enough."""
    async with world(**vouching()) as one:
        with time_machine.travel(time.time(), tick=False) as clock:
            found = await agree(one, enrolment(2, 140), clock)
    assert found["allow"] > 60, found
    assert found["block"] > 5, found
