"""Replicas killed under load: what was accepted is delivered, and a message comes twice only because of a kill."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count, cycle
from random import Random
from typing import Any

import httpx
import pytest

from service.schedule import LEASE_MS
from tests.faults.gateway import Gateway, Message
from tests.faults.processes import Process, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import KEY, table

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

REPLICAS = 3
KILLS = 6
CALLERS = 6
SEND = 0.2
"""Seconds that the gateway takes for a message: kills find some in hand."""
SLACK = 1.0
"""Seconds from a message's answer until Redis knows of it, on a busy machine."""
HANDS = 64
"""Messages that one replica sends at once: no kill can repeat more."""
SEED = 20_251_120


async def test_what_was_accepted_is_delivered_however_often_replicas_die(server: RedisServer) -> None:
    """SIGKILL at any moment, and again: nothing is lost, and each duplicate was in hand when its sender died."""
    configuration = table(countries=["GB"], _top={"redis": server.url, "shards": 8})
    with Gateway() as gateway, processes(configuration, gateway, REPLICAS) as replicas:
        gateway.delay = SEND
        async with load(replicas, map("+447401{:06d}".format, count())) as accepted:
            killed = await kill_and_restart(replicas, accepted)
        assert accepted

        async def delivered() -> bool:
            return {f"{verification}.0" for verification in accepted} <= gateway.answered

        await until(delivered, "every accepted verification is delivered", LEASE_MS / 1000 + 5)
        duplicates = repeated(gateway.messages)
        unexplained = [message for message in duplicates if not died_with(message, killed)]
        assert len(killed) == KILLS
        assert len(duplicates) <= KILLS * HANDS
        assert not unexplained, f"{len(unexplained)} of {len(duplicates)} duplicates were not in hand at a kill"
        # To be read with `pytest -rP`: how many messages come twice for so many deaths.
        sys.stdout.write(f"{len(accepted)} accepted, {len(killed)} kills, {len(duplicates)} duplicates\n")


async def test_every_cascade_ends_however_often_replicas_die(server: RedisServer) -> None:
    """What a dead one would have reported is silence; what comes twice was in hand; no step is taken twice."""
    channels = ("sms", "whatsapp", "voice")
    configuration = table(
        countries=["GB"],
        cascade=[{"channel": channel, "providers": ["simulator"], "wait": "3s"} for channel in channels],
        _top={"redis": server.url, "shards": 8, "providers": {"simulator": {"kind": "simulator", "slow": "1s"}}},
    )
    del configuration["applications"]["other"]
    endings = cycle(("02", "03", "06", "07", "09", "13", "14"))
    numbers = (f"+447401{n:04d}{next(endings)}" for n in count())
    with processes(configuration, None, REPLICAS) as replicas:
        async with load(replicas, numbers, pause=0.05) as accepted:
            killed = await kill_and_restart(replicas, accepted)
        async with replicas[0].client() as api, replicas[0].ops() as ops:
            going = set(accepted)

            async def over() -> bool:
                for name in sorted(going):
                    if not ended((await api.get(f"/verifications/{name}")).json(), channels):
                        return False
                    going.discard(name)
                return True

            assert accepted
            await until(over, "every cascade has ended", 2 * LEASE_MS / 1000 + 3 * 3 + 5)
            sent = await inbox(ops)
        copies = Counter(message["delivery"] for message in sent)
        duplicates = copies.total() - len(copies)
        assert {name for name in accepted if copies[f"{name}.0"] == 0} == set()
        assert max(copies.values()) <= 1 + KILLS
        assert duplicates <= KILLS * HANDS
        # To be read with `pytest -rP`, as above.
        sys.stdout.write(
            f"{len(accepted)} cascades, {len(sent)} messages, {len(killed)} kills, {duplicates} duplicates\n"
        )


def ended(found: dict[str, Any], channels: Sequence[str]) -> bool:
    """Whether a cascade came to its end: something was delivered, or all was tried; each channel once, in order."""
    deliveries = found["deliveries"]
    tried = [delivery["channel"] for delivery in deliveries]
    assert tried == list(channels[: len(tried)])
    last = deliveries[-1]["status"]
    return last == "delivered" or (len(tried) == len(channels) and last in {"failed", "unknown"})


async def inbox(ops: httpx.AsyncClient) -> list[dict[str, Any]]:
    """All that the simulator took."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"before": 0}
    while page["before"] is not None:
        query = {"before": page["before"]} if page["before"] else {}
        page = (await ops.get("/inbox", params=query, headers={"authorization": f"Bearer {KEY}"})).json()
        found += page["messages"]
    return found


@asynccontextmanager
async def load(replicas: Sequence[Process], numbers: Iterator[str], pause: float = 0.0) -> AsyncIterator[set[str]]:
    """Callers that create again and again while the context is entered; the ids of what was accepted."""
    accepted: set[str] = set()
    over = asyncio.Event()

    async def one_runs() -> bool:
        return any(replica.running for replica in replicas)

    async def call() -> None:
        async with AsyncExitStack() as stack:
            clients = cycle([await stack.enter_async_context(replica.client()) for replica in replicas])
            while not over.is_set():
                try:
                    answer = await next(clients).post("/verifications", json={"to": next(numbers)})
                except httpx.TransportError:  # that one is dead: what it did with the request, nobody knows
                    await until(one_runs, "a replica runs")
                    continue
                if answer.status_code == 201:
                    accepted.add(answer.json()["id"])
                await asyncio.sleep(pause)  # so that the load leaves time for what it sets in motion

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    try:
        yield accepted
    finally:
        over.set()
        await asyncio.gather(*callers)


async def kill_and_restart(replicas: Sequence[Process], accepted: set[str]) -> list[tuple[str, float]]:
    """Kill them in a random order, each after a random number more was accepted, and restart them; who died when."""
    random = Random(SEED)  # noqa: S311 - the same moments in every run
    order = random.sample(list(replicas) * (KILLS // REPLICAS), KILLS)
    killed = []
    for replica in order:
        enough = len(accepted) + random.randint(10, 60)

        async def loaded(enough: int = enough) -> bool:
            return len(accepted) >= enough

        await until(loaded, f"{enough} are accepted")
        replica.kill()
        killed.append((replica.name, time.monotonic()))
        replica.start()
        await asyncio.to_thread(replica.wait_until_ready)
    return killed


def repeated(messages: Sequence[Message]) -> list[Message]:
    """Every message that was sent again, but for its last sending."""
    sendings: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        sendings[message.delivery].append(message)
    return [message for each in sendings.values() for message in each[:-1]]


def died_with(message: Message, killed: Sequence[tuple[str, float]]) -> bool:
    """Whether its sender was killed while it had it in hand."""
    return any(
        sender == message.sender and message.at - SLACK < at < message.at + SEND + SLACK for sender, at in killed
    )
