"""Redis gone, hanging, full or read-only: callers hear of it in time, nothing is sent, and nobody restarts anything."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from redis.crc import key_slot

from service import ids
from service.sealing import KeyRing
from tests.faults.waiting import until
from tests.redis_server import SLOTS, RedisCluster, RedisSentinel, RedisServer
from tests.world import SECRET_KEY, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

PATIENCE = 4.0
"""Seconds within which a caller hears that Redis is away: two by verifyd's own clock, and what a busy machine adds."""
SHARDS = 64
FREE = {"guard": {"limits": {"number": []}}, "shards": SHARDS}
NUMBERS = [f"+44740030{n:04d}" for n in range(60)]


def node_of(to: str) -> int:
    """On which of three masters the data of a number is."""
    shard = KeyRing([base64.b64decode(SECRET_KEY)]).writer.place(to, SHARDS).shard
    slot = key_slot(ids.tag(shard).encode())
    return next(i for i in range(3) if slot < SLOTS * (i + 1) // 3)


DEAD = [to for to in NUMBERS if node_of(to) == 0]
ALIVE = [to for to in NUMBERS if node_of(to) != 0]


@asynccontextmanager
async def serving(url: str, **changes: Any) -> AsyncIterator[World]:
    """A world that works by itself, as a process does."""
    async with world(_top=FREE | {"redis": url}, patient=False, **changes) as one:
        await one.service.start()
        yield one


async def create(one: World, to: str) -> httpx.Response:
    """Ask for a verification; the answer must be in time."""
    return await in_time(one, "/verifications", {"to": to})


async def check(one: World, verification: str) -> httpx.Response:
    """Make a guess that is wrong in nearly every case; the answer must be in time."""
    return await in_time(one, "/verifications/check", {"id": verification, "code": "000000"})


async def in_time(one: World, path: str, body: object) -> httpx.Response:
    """The answer to a call, which must come while its caller still waits."""
    began = time.perf_counter()
    answer = await one.post(path, body)
    assert time.perf_counter() - began < PATIENCE
    return answer


def assert_away(*answers: httpx.Response) -> None:
    """Each says that Redis is away, and when to come again."""
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert int(answer.headers["retry-after"]) >= 1


async def works_again(one: World, to: str) -> str:
    """Wait until creates are taken again; the id of one whose message has come."""
    answer = await create(one, to)

    async def taken() -> bool:
        nonlocal answer
        if answer.status_code != 201:
            answer = await create(one, to)
        return answer.status_code == 201

    await until(taken, "creates are taken")
    verification: str = answer.json()["id"]
    await until(lambda: came(one, to), "the message has come")
    return verification


async def came(one: World, to: str) -> bool:
    """Whether a message for a number has come."""
    return any(sent.data["to"] == to for sent in one.gateway.sent)


async def probe(one: World, path: str) -> int:
    """The status of a probe."""
    return (await one.ops.get(path)).status_code


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_without_redis_nothing_is_sent_and_with_it_all_goes_on(end: str) -> None:
    """Ended in order or killed; the service is alive all the time, and ready when it can work."""
    with RedisServer() as server:
        async with serving(server.url) as one:
            pending = await works_again(one, NUMBERS[0])
            assert await probe(one, "/readyz") == 200
            getattr(server, end)()
            assert_away(*await asyncio.gather(create(one, NUMBERS[1]), check(one, pending)))
            assert await probe(one, "/readyz") == 503
            assert await probe(one, "/healthz") == 200
            server.start()
            await works_again(one, NUMBERS[2])
            assert await probe(one, "/readyz") == 200
            assert (await check(one, pending)).json()["checks_remaining"] == 4
            assert not await came(one, NUMBERS[1])


@pytest.mark.parametrize("probes", [1, 3])
async def test_what_redis_reads_after_its_caller_gave_up_is_not_sent(probes: int) -> None:
    """A paused Redis finds the requests in its sockets when it wakes up, soon or late: each probe waits for it."""
    with RedisServer() as server:
        async with serving(server.url) as one:
            pending = await works_again(one, NUMBERS[0])
            server.pause()
            late = NUMBERS[1:5]
            answers = await asyncio.gather(*[create(one, to) for to in late], check(one, pending))
            assert_away(*answers)
            assert {await probe(one, "/readyz") for _ in range(probes)} == {503}
            assert await probe(one, "/healthz") == 200
            server.resume()
            await works_again(one, NUMBERS[5])
            assert await probe(one, "/readyz") == 200
            assert not [to for to in late if await came(one, to)]
            keys = server.command("KEYS", "*}:ver_*")
            assert isinstance(keys, list)
            assert len(keys) == 2


async def test_scripts_that_redis_forgot_are_told_again() -> None:
    """SCRIPT FLUSH, a restart or a failover forgets them."""
    with RedisServer() as server:
        async with serving(server.url) as one:
            pending = await works_again(one, NUMBERS[0])
            server.command("SCRIPT", "FLUSH")
            answers = await asyncio.gather(create(one, NUMBERS[1]), check(one, pending))
            assert [answer.status_code for answer in answers] == [201, 200]
            await until(lambda: came(one, NUMBERS[1]), "the message has come")


async def test_a_full_redis_takes_nothing_and_loses_nothing() -> None:
    """With noeviction it refuses writes: that is no fault of ours, and pending verifications are there after it."""
    with RedisServer() as server:
        async with serving(server.url) as one:
            pending = await works_again(one, NUMBERS[0])
            server.command("CONFIG", "SET", "maxmemory", "100kb")
            assert_away(await create(one, NUMBERS[1]), await check(one, pending))
            server.command("CONFIG", "SET", "maxmemory", "0")
            await works_again(one, NUMBERS[2])
            assert (await check(one, pending)).json()["checks_remaining"] == 4
            assert not await came(one, NUMBERS[1])


async def test_a_read_only_replica_is_as_good_as_none(sentinel: RedisSentinel) -> None:
    """It answers, but cannot take a write."""
    async with serving(sentinel.replica.url) as one:
        assert_away(await create(one, NUMBERS[0]))
        assert not one.gateway.sent


async def test_a_failover_is_survived() -> None:
    """The sentinel promotes the replica: what was pending is pending there, and nobody restarts the service."""
    with RedisSentinel() as group:
        async with serving(group.url) as one:
            pending = await works_again(one, NUMBERS[0])

            async def replicated() -> bool:
                return bool(group.replica.command("KEYS", f"*{pending}"))

            await until(replicated, "the replica has it")
            group.master.kill()
            assert_away(await create(one, NUMBERS[1]))
            await works_again(one, NUMBERS[2])

            async def found() -> bool:
                answer = await one.api.get(f"/verifications/{pending}")
                return answer.status_code == 200 and answer.json()["status"] == "pending"

            await until(found, "the pending verification is read from the new master")
            assert await probe(one, "/readyz") == 200


@asynccontextmanager
async def one_master_dead(**changes: Any) -> AsyncIterator[tuple[World, RedisServer]]:
    """A world on a cluster that goes without its first master, and that master.

    The cluster is told to serve the slots that are left, as Redis does not unless it is told to.
    """
    with RedisCluster() as cluster:
        for node in cluster.nodes:
            node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with serving(cluster.url, **changes) as one:
            for to in (ALIVE[0], DEAD[0]):
                await works_again(one, to)
            cluster.nodes[0].kill()
            yield one, cluster.nodes[0]


@pytest.mark.cluster
async def test_with_one_master_of_a_cluster_dead_the_shards_of_the_others_work() -> None:
    """Creates, messages and checks, while others ask for what is on the dead one; that works when it is back."""
    async with one_master_dead() as (one, master):
        for mine, lost in zip(ALIVE[1:9], DEAD[1:9], strict=True):
            taken, away = await asyncio.gather(create(one, mine), create(one, lost))
            assert_away(away)
            assert taken.status_code == 201, taken.text
            await until(partial(came, one, mine), "the message has come")
            checked = await check(one, taken.json()["id"])
            assert (checked.status_code, checked.json()["checks_remaining"]) == (200, 4)
        master.start()
        await works_again(one, DEAD[9])
        assert await probe(one, "/readyz") == 200
        assert not [to for to in DEAD[1:9] if await came(one, to)]


@pytest.mark.cluster
async def test_with_one_master_of_a_cluster_dead_the_cascades_of_the_others_go_on() -> None:
    """What is due on a living shard is done, though the worker gets no answer from the dead one."""
    steps = [{"channel": channel, "providers": ["gw"], "wait": "1s"} for channel in ("sms", "voice")]
    async with one_master_dead(cascade=steps) as (one, _):
        await until(lambda: called(one, ALIVE[0]), "the cascade has reached voice", 5)


async def called(one: World, to: str) -> bool:
    """Whether a number has been called."""
    return any(sent.data["to"] == to and sent.channel == "voice" for sent in one.gateway.sent)
