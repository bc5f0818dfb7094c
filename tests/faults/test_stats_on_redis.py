"""The numbers of `/stats` on real Redis: what several replicas count is one sum, and all of it adds up."""

from __future__ import annotations

import asyncio
import random
from functools import reduce
from typing import get_args

import pytest

from service import stats
from service.stats import Amounts, Group, Stats, Subject
from service.store import Store, connect
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.test_stats import KEYS, asked
from tests.world import NUMBER, OTHER_NUMBER, world

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_replicas_count_for_one_sum(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One takes its counts to Redis by and by, and at its end; the other answers with its own at once."""
    monkeypatch.setattr(stats, "_FLUSH", 0.01)
    top = {"redis": server.url}
    async with world(api_keys=KEYS, _top=top) as one:
        async with world(api_keys=KEYS, _top=top) as other:
            other.service.stats.start()
            await other.create(NUMBER)
            await one.create(OTHER_NUMBER)

            async def both() -> bool:
                return bool((await asked(one))["total"]["sends"] == 2)

            await until(both, "both are counted")
            await other.service.stats.stop()
            await other.create("+447400123458")
        assert (await asked(one))["total"]["sends"] == 3


async def test_whatever_is_counted_at_once_adds_up(server: RedisServer) -> None:
    """By four replicas, of random subjects, in random portions: each group has the sum of all that was counted."""
    chance = random.Random(1)  # noqa: S311 - the same every time, and no secret
    stores = [Store(connect(server.url)) for _ in range(4)]
    replicas = [Stats(store) for store in stores]
    counted: list[Amounts] = []
    for _ in range(20):
        for replica in replicas:
            for _ in range(chance.randrange(40)):
                prefix = f"+{chance.randrange(3000)}"
                subject = Subject("shop", chance.choice("ABC"), prefix, chance.choice("sv"), chance.choice("tx-"))
                counted.append(Amounts(*(chance.randrange(3) * chance.randrange(1_000_000) for _ in Amounts._fields)))
                replica.count(subject, counted[-1])
        await asyncio.gather(*[replica.flush() for replica in replicas])
    total = reduce(Amounts.plus, counted)
    hour = int(stores[0].clock() // stats.HOUR)
    for by in get_args(Group):
        rows = await replicas[0].read("shop", by, hour - 1, hour + 1)
        assert stats.total(rows) == total
        assert len(rows) <= stats.MOST_ROWS
    for store in stores:
        await store.close()
