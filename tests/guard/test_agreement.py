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
EVENTS = 400

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
    staff = 0
    for _ in range(count):
        if chance.random() < 0.2:  # an office enrols its staff, whose numbers follow one another
            staff += 1
            office = {"to": f"+447400555{staff:03}", "ip": "198.51.100.7", "channel": "sms"}
            yield office | {"pause": 30, "challenge_passed": False, "trusted": False, "converts": staff % 9 > 0}
            continue
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


async def test_the_scripts_decide_as_the_arithmetic_does() -> None:
    """Over days: addresses, devices, proofs, trust and voice in between."""
    async with world(**guarded()) as one:
        with time_machine.travel(time.time(), tick=False) as clock:
            found = await agree(one, stream(1, EVENTS), clock)
    assert min(found["allow"], found["challenge"], found["block"]) > EVENTS / 50, found
