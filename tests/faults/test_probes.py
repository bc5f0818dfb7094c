"""What a platform asks a process: it is alive whatever Redis does, and ready when it can work."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.processes import Process, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import table

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_process_is_ready_while_redis_is_there_and_alive_all_the_time() -> None:
    """Gone or hanging: the platform neither restarts it nor sends it anything, until Redis is back."""
    with RedisServer() as server, processes(table(_top={"redis": server.url}), None, 1) as (one,):
        for leave, come_back in ((server.kill, server.start), (server.pause, server.resume)):
            assert await probed(one) == (200, 200)
            leave()
            assert await probed(one) == (503, 200)
            come_back()
            await until(lambda: ready(one), "it is ready again")


async def probed(one: Process) -> tuple[int, int]:
    """What readiness and liveness answer."""
    return await asyncio.to_thread(one.probe, "/readyz"), await asyncio.to_thread(one.probe, "/healthz")


async def ready(one: Process) -> bool:
    """Whether it is."""
    return await probed(one) == (200, 200)
