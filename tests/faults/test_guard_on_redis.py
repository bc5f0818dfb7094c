"""The guard on real Redis: the same decisions, and no more credit than there is, whoever asks and whoever dies."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.guard.parts import LEASE_MS
from tests.faults.gateway import Gateway
from tests.faults.processes import processes
from tests.faults.test_round_trips import trips
from tests.faults.waiting import until
from tests.guard.test_agreement import agree, enrolment, guarded, stream, vouching
from tests.guard.test_guard import PLAIN
from tests.redis_server import RedisCluster, RedisServer
from tests.world import World, table, world

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

ON: dict[str, Any] = {"mode": "enforce", "limits": {"number": []}, "rules": PLAIN}


async def test_real_redis_decides_as_the_arithmetic_does(server: RedisServer) -> None:
    """While its clock goes on by itself."""
    async with world(**guarded(redis=server.url)) as one:
        found = await agree(one, stream(2, 400), None)
    assert min(found["allow"], found["challenge"], found["block"]) > 5, found


async def test_real_redis_knows_an_office_as_the_arithmetic_does(server: RedisServer) -> None:
    """Until it has vouched for enough."""
    async with world(**vouching(redis=server.url)) as one:
        found = await agree(one, enrolment(3, 140), None)
    assert min(found["allow"], found["block"]) > 5, found


async def test_a_cluster_decides_as_the_arithmetic_does(cluster: RedisCluster) -> None:
    """No script touches two tags."""
    async with world(**guarded(redis=cluster.url)) as one:
        found = await agree(one, stream(3, 200), None)
    assert found["allow"] > 5


async def test_two_processes_hammering_one_bucket_never_exceed_its_cap(server: RedisServer) -> None:
    """Not by one: of a hundred at once four get through, and of a budget for seven, seven."""
    guard = ON | {"budget": {"total_day": 7 * 0.06}}
    configuration = table(countries=["GB"], _top={"redis": server.url, "guard": guard})
    configuration["applications"]["other"]["countries"] = ["GB"]
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(Gateway())
        running = stack.enter_context(processes(configuration, gateway, 2))
        clients = [await stack.enter_async_context(process.client()) for process in running]

        async def sent(numbers: list[str]) -> int:
            answers = await asyncio.gather(
                *[clients[n % 2].post("/verifications", json={"to": number}) for n, number in enumerate(numbers)]
            )
            assert {answer.status_code for answer in answers} <= {201, 403}
            return [answer.status_code for answer in answers].count(201)

        async def all_sent(numbers: list[str]) -> int:
            """The last ten after the others: who is refused by one bucket has held credit of another for a moment."""
            return await sent(numbers[:-10]) + sum([await sent([number]) for number in numbers[-10:]])

        assert await all_sent([f"+447400123{n:03}" for n in range(100)]) == 4
        assert await all_sent([f"+4474{n}900100" for n in range(10, 60)]) == 3


async def test_a_process_killed_between_reserve_and_commit_gives_its_credit_back(server: RedisServer) -> None:
    """Its block stays full for the lease, and not for longer: all of it can be used by others then."""
    guard = ON | {"rules": PLAIN | {"cap": {"block3": 4.0, "block4": 5.0, "country": 1000.0}}}
    configuration = table(countries=["GB"], _top={"redis": server.url, "guard": guard})
    configuration["secrets"] |= {"argon2": "owasp"}  # two at a time: the last of many waits between the two acts
    others = [f"+4474{n}900100" for n in range(10, 60)]
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(Gateway())
        doomed, survivor = stack.enter_context(processes(configuration, gateway, 2))
        asking, client = [await stack.enter_async_context(one.client()) for one in (doomed, survivor)]
        asked = [
            asyncio.ensure_future(asking.post("/verifications", json={"to": number}))
            for number in [*others, *[f"+447400123{n:03}" for n in range(4)]]
        ]

        async def reserved() -> bool:
            return len(held(server)) == 4

        await until(reserved, "four sends to the block are reserved")
        doomed.kill()
        await asyncio.gather(*asked, return_exceptions=True)
        assert len(held(server)) == 4

        async def create(n: int) -> int:
            return (await client.post("/verifications", json={"to": f"+447400123{n}"})).status_code

        assert await create(900) == 403
        assert max(held(server).values()) <= time.time() * 1000 + LEASE_MS
        for one in held(server):
            server.command("ZINCRBY", PENDING, -LEASE_MS, one)  # as if so much time had passed
        assert [await create(n) for n in range(901, 906)] == [201] * 4 + [403]
    assert held(server) == {}


PENDING = "{g:GB}:pending"


def held(server: RedisServer) -> dict[str, float]:
    """The reservations in the block, by when they lapse."""
    words = server.command("ZRANGE", PENDING, 0, -1, "WITHSCORES")
    assert isinstance(words, list)
    found = zip(words[::2], words[1::2], strict=True)
    return {one: float(at) for one, at in found if "block3:447400123" in one}


async def filled(one: World, count: int) -> None:
    """Codes to as many numbers of as many blocks, by as many addresses; a few of them are used."""
    for n in range(count):
        signals = {"ip": f"192.0.{n // 250}.{n % 250}"}
        answer = await one.post("/verifications", {"to": f"+9198{n:03}12345", "code": "123456", "signals": signals})
        assert answer.status_code == 201, answer.text
        if n % 3 == 0:
            await one.check(answer.json()["id"], "123456")


async def test_a_bucket_takes_little_memory(server: RedisServer) -> None:
    """All counted by Redis; the README quotes these bounds."""
    wide = ON | {"rules": {"cap": {"country": 1000.0}}}
    async with world(own_code=True, _top={"redis": server.url, "guard": wide}) as one:
        await filled(one, 50)
    names = server.command("KEYS", "*")
    assert isinstance(names, list)
    found: dict[str, list[int]] = {}
    for name in names:
        kind = re.sub(r"^{(.).*?}:([a-z0-9]+).*$", r"\1 \2", name)
        used = server.command("MEMORY", "USAGE", name)
        assert isinstance(used, int)
        found.setdefault(kind, []).append(used)
        if kind in {"g block3", "g block4", "g range", "c ip", "v known"}:
            assert server.command("PTTL", name) != -1
    assert max(found["g block3"] + found["g block4"] + found["g range"]) <= 256
    assert max(found["c ip"]) <= 256
    assert max(found["v known"]) <= 256
    assert max(found["v ver"]) <= 1400
    assert "c pending" not in found


async def test_a_dump_holds_no_whole_number_no_address_and_no_device(server: RedisServer) -> None:
    """Prefixes are under the tag of their country, without the last three digits; nothing links them to a number."""
    async with world(_top={"redis": server.url, "guard": ON | {"mode": "monitor"}}) as one:
        for n in range(7):
            signals = {"ip": "192.0.2.77", "device_id": "a-device", "session_id": "a-session"}
            await one.post("/verifications", {"to": f"+44740012390{n}", "signals": signals})
        await one.work()
        used = {"to": one.gateway.last.data["to"], "code": one.gateway.last.code}
        assert (await one.post("/verifications/check", used)).json()["valid"]
    names = server.command("KEYS", "*")
    assert isinstance(names, list)
    readers: dict[str, list[str | int]] = {
        "hash": ["HGETALL"],
        "string": ["GET"],
        "zset": ["ZRANGE", 0, -1],
        "list": ["LRANGE", 0, -1],
    }
    said = ""
    for name in names:
        command = readers[str(server.command("TYPE", name))]
        value = (
            str(server.command(str(command[0]), str(name), *command[1:])) if not name.startswith(("{v", "{d")) else ""
        )
        said += f"{name} {value} "
        if not name.startswith("{g:"):
            assert "4474001" not in f"{name} {value}"
    assert "block3:447400123" in said
    assert re.search("447400123[0-9]", said) is None
    assert re.search("192.0.2|a-device|a-session", said) is None


async def test_the_guard_takes_one_trip_more(server: RedisServer) -> None:
    """A create two, refused or not, a check two, a first delivery two."""
    async with world(_top={"redis": server.url, "guard": ON}) as one:
        signals = {"ip": "192.0.2.1", "device_id": "d"}
        for n in range(6):  # Redis meets each script, of refusals too
            await one.post("/verifications", {"to": f"+44740012390{n}", "signals": {"ip": f"192.0.2.{n}"}})
        await one.post("/verifications", {"to": "+445012345678"})
        await one.work()
        code = one.gateway.sent[0].code
        number = one.gateway.sent[0].data["to"]
        await one.post("/verifications/check", {"to": number, "code": code})
        await one.work()
        assert await trips(one, one.post("/verifications", {"to": "+447911234567", "signals": signals})) == 2
        found = (await one.post("/verifications", {"to": "+447911234567"})).json()["id"]
        assert await trips(one, one.service.deliveries.run(found)) == 2
        assert await trips(one, one.check(found, one.gateway.last.code)) == 2
        assert await trips(one, one.post("/verifications", {"to": "+445012345678"})) == 1  # no plan has it
        await one.post("/verifications", {"to": "+447400123910"})
        await one.post("/verifications", {"to": "+447400123911"})
        await one.post("/verifications", {"to": "+447400123912"})
        assert await trips(one, one.post("/verifications", {"to": "+447400123913"})) == 2
