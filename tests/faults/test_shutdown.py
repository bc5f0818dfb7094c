"""A replica that is asked to end while it is used: what it took it finishes, and the others go on with the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count

import httpx
import pytest

from tests.faults.gateway import Gateway
from tests.faults.processes import Process, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import table

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

GRACE = 10
CALLERS = 8
SEND = 0.5
"""Seconds that the gateway takes for a message: there are always some in hand."""


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_a_replica_that_ends_under_load_loses_nothing(server: RedisServer, keep_alive: bool) -> None:
    """What was answered is sent once, what was not answered is not sent, and it ends well within its grace."""
    configuration = table(countries=["GB"], _top={"redis": server.url, "shards": 8})
    configuration["server"]["grace"] = f"{GRACE}s"
    with Gateway() as gateway, processes(configuration, gateway, 2) as (leaving, staying):
        gateway.delay = SEND
        callers = [asyncio.create_task(create_until_refused(leaving, n, keep_alive)) for n in range(CALLERS)]
        await until(lambda: has_sent(gateway, 30), "the load is on")
        leaving.terminate()
        accepted = {verification for each in await asyncio.gather(*callers) for verification in each}
        assert await asyncio.to_thread(leaving.wait, GRACE) == 0

        async def delivered() -> bool:
            return {f"{verification}.0" for verification in accepted} <= gateway.answered

        await until(delivered, "every accepted verification is delivered", 5)
        await until(lambda: recorded(staying, accepted), "every delivery is recorded", 5)
        assert Counter(message.verification for message in gateway.messages) == Counter(accepted)
        for replica in (leaving, staying):
            assert '"level":"error"' not in replica.log
            assert not any(message.to[1:] in replica.log for message in gateway.messages)


async def create_until_refused(replica: Process, caller: int, keep_alive: bool) -> list[str]:
    """Create without a pause until nobody listens any more; the ids of what was accepted."""
    accepted = []
    async with replica.client() as client:
        if not keep_alive:
            client.headers["connection"] = "close"
        for n in count():
            try:
                answer = await client.post("/verifications", json={"to": f"+44740{caller + 2}{n:06d}"})
            except httpx.TransportError:
                break
            assert answer.status_code == 201, answer.text
            accepted.append(answer.json()["id"])
    return accepted


async def has_sent(gateway: Gateway, many: int) -> bool:
    """Whether so many messages have come."""
    return len(gateway.messages) >= many


async def recorded(replica: Process, verifications: set[str]) -> bool:
    """Whether the first delivery of each is known to be accepted."""
    async with replica.client() as client:
        for verification in verifications:
            found = (await client.get(f"/verifications/{verification}")).json()
            if found["deliveries"][0]["status"] != "accepted":
                return False
    return True
