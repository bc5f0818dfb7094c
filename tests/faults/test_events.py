"""Events on real servers: on one Redis, under a sentinel and on a cluster; by replicas that race or are killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.faults.gateway import Gateway
from tests.faults.processes import Process, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import SUBSCRIBER, WEBHOOK_SECRET, World, table, world

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.cluster]

POSTED = {"url": f"https://{SUBSCRIBER}", "secret": WEBHOOK_SECRET}
FREE = {"guard": {"limits": {"number": []}}, "shards": 4}
KILLS = 2


async def read(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """All events of the feed, page by page."""
    events: list[dict[str, Any]] = []
    after = "0-0"
    while True:
        page = (await http.get("/events", params={"after": after, "limit": 50})).json()
        if not page["events"]:
            return events
        events += page["events"]
        after = page["next"]


async def test_two_replicas_tell_every_event_once_and_in_order(url: str) -> None:
    """Both move and post at the same time, whatever kind of Redis it is."""
    top = FREE | {"redis": url}
    async with world(_top=top, events=POSTED) as one, world(_top=top, events=POSTED) as other:
        started = [await _life((one, other), 0), await _life((other, one), 1)]  # by now both know their servers
        pairs = [(one, other), (other, one)] * 4
        started += await asyncio.gather(*[_life(pair, n) for n, pair in enumerate(pairs, 2)])
        await asyncio.gather(*[replica.service.events.drain() for replica in (one, other)] * 3)
        kept = await read(one.api)
        assert Counter(event["data"]["id"] for event in kept) == dict.fromkeys(started, 2)
        assert len({event["id"] for event in kept}) == len(kept)
        assert sorted([*one.subscriber.ids, *other.subscriber.ids]) == sorted(event["id"] for event in kept)
        for name in started:
            found = [event["type"] for event in kept if event["data"]["id"] == name]
            assert found == ["verification.created", "verification.canceled"]


async def _life(pair: tuple[World, World], n: int) -> str:
    """A verification that one replica starts and the other ends, each of which then works; its id."""
    begins, ends = pair
    answer = await begins.post("/verifications", {"to": f"+4474002100{n:02d}"})
    name: str = answer.json()["id"]
    await begins.service.events.drain()
    assert (await ends.post(f"/verifications/{name}/cancel")).status_code == 200
    await ends.service.events.drain()
    return name


async def test_events_go_on_when_redis_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """The worker of events outlives that it was away, and says so."""
    with RedisServer() as server:
        async with world(_top=FREE | {"redis": server.url}, events=POSTED) as one:
            await one.post("/verifications", {"to": "+447400210099"})
            server.stop()
            one.service.events.start()

            async def said() -> bool:
                return "events wait: Redis is away" in caplog.messages

            await until(said, "the worker tells")
            server.start()

            async def told() -> bool:
                return len(one.subscriber.taken) == 1

            await until(told, "the event is told")


async def test_replicas_that_are_killed_lose_no_event_and_repeat_none(server: RedisServer) -> None:
    """What was started is in the feed once, however often those who move it die."""
    configuration = table(countries=["GB"], events={}, _top={"redis": server.url, "shards": 4})
    accepted: set[str] = set()
    with Gateway() as gateway, processes(configuration, gateway, 2) as replicas:
        for n in range(KILLS):
            accepted |= await _started(replicas[(n + 1) % 2], n)
            replicas[n % 2].kill()
            accepted |= await _started(replicas[(n + 1) % 2], KILLS + n)
            replicas[n % 2].start()
            await asyncio.to_thread(replicas[n % 2].wait_until_ready)

        async with replicas[0].client() as http:

            async def told() -> bool:
                return accepted <= {event["data"]["id"] for event in await read(http)}

            await until(told, "every verification is told")
            found = await read(http)
        assert len(accepted) == 2 * KILLS * 25
        created = [event["data"]["id"] for event in found if event["type"] == "verification.created"]
        assert Counter(created) == dict.fromkeys(accepted, 1)


async def _started(replica: Process, n: int) -> set[str]:
    async with replica.client() as http:
        calls = [http.post("/verifications", json={"to": f"+447401{n:02d}{k:04d}"}) for k in range(25)]
        return {answer.json()["id"] for answer in await asyncio.gather(*calls)}
