"""A new version rolls out: replicas are replaced one after another while all are used, and nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count, cycle

import httpx
import pytest

from tests.faults.gateway import Gateway
from tests.faults.processes import Process, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import signed, table

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

GRACE, DRAIN = 10, 1
PATIENCE = 30
"""Seconds for what takes few of them where the machine is free."""
PROBE = 0.1
"""Seconds between two looks of the balancer at `/readyz`."""
CALLERS = 6
ENOUGH = 20
"""Requests that each replica answers before the next one is replaced."""


class Balancer:
    """Knows which replicas are ready, and names one of them after the other."""

    def __init__(self, replicas: Sequence[Process]) -> None:
        self.replicas = replicas
        self.answered: Counter[str] = Counter()
        self._ready = {replica.name for replica in replicas}
        self._turn = cycle(replica.name for replica in replicas)

    async def watch(self) -> None:
        """Ask all of them, again and again."""
        while True:
            statuses = await asyncio.gather(*[asyncio.to_thread(one.probe, "/readyz") for one in self.replicas])
            self._ready = {one.name for one, status in zip(self.replicas, statuses, strict=True) if status == 200}
            await asyncio.sleep(PROBE)

    def next(self) -> str:
        """A replica that is ready."""
        return next(name for name in self._turn if name in self._ready)

    async def all_ready(self) -> bool:
        """Whether there is none that is not."""
        return len(self._ready) == len(self.replicas)

    async def all_used(self) -> bool:
        """Whether each has answered enough since all had."""
        used = all(self.answered[replica.name] >= ENOUGH for replica in self.replicas)
        if used:
            self.answered.clear()
        return used


class Caller:
    """Calls a replica over connections that it keeps, and repeats nothing: what is not answered is lost.

    It is before a proxy, which has a ready replica for each request, or (`stays`) before a service of Kubernetes, which
    has one for each connection: until the replica ends it.
    """

    def __init__(self, balancer: Balancer, clients: Mapping[str, httpx.AsyncClient], *, stays: bool) -> None:
        self._balancer = balancer
        self._clients = clients
        self._stays = stays
        self._name = balancer.next()

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The answer to a request."""
        if not self._stays:
            self._name = self._balancer.next()
        answer = await self._clients[self._name].post(path, content=json.dumps(body), headers=headers)
        self._balancer.answered[self._name] += 1
        if answer.headers.get("connection") == "close":
            self._name = self._balancer.next()
        return answer


@asynccontextmanager
async def callers(replicas: Sequence[Process]) -> AsyncIterator[tuple[Balancer, list[tuple[Caller, Caller]]]]:
    """A balancer that watches these, and who calls through it: an application and its provider, several times."""
    async with AsyncExitStack() as stack:
        balancer = Balancer(replicas)
        found = []
        for n in range(CALLERS):
            api = {one.name: await stack.enter_async_context(one.client()) for one in replicas}
            receipts = {one.name: await stack.enter_async_context(one.receipts()) for one in replicas}
            stays = n % 2 == 0
            found.append((Caller(balancer, api, stays=stays), Caller(balancer, receipts, stays=stays)))
        watching = asyncio.create_task(balancer.watch())
        yield balancer, found
        watching.cancel()


async def test_replacing_every_replica_under_load_loses_nothing(server: RedisServer) -> None:
    """Each request is answered as it should be and each message sent once, while three replicas end and begin again."""
    configuration = table(countries=["GB"], _top={"redis": server.url, "shards": 8})
    configuration["server"] |= {"grace": f"{GRACE}s", "drain": f"{DRAIN}s"}
    over = asyncio.Event()
    with Gateway() as gateway, processes(configuration, gateway, 3) as replicas:
        gateway.delay = 0.1
        async with callers(replicas) as (balancer, calling):
            lives = [asyncio.create_task(verify(*who, gateway, n, over)) for n, who in enumerate(calling)]
            for replica in replicas:
                await until(balancer.all_used, "all replicas are used", PATIENCE)
                replica.terminate()
                assert await asyncio.to_thread(replica.wait, DRAIN + GRACE) == 0
                replica.start()
                await until(balancer.all_ready, "the new one is ready", PATIENCE)
            await until(balancer.all_used, "all new replicas are used", PATIENCE)
            over.set()
            verified = [verification for each in await asyncio.gather(*lives) for verification in each]
        assert Counter(message.delivery for message in gateway.messages) == Counter(f"{one}.0" for one in verified)
        for replica in replicas:
            assert '"level":"error"' not in replica.log
            assert replica.log.count('"stopped"') == 1


async def verify(api: Caller, provider: Caller, gateway: Gateway, caller: int, over: asyncio.Event) -> list[str]:
    """Verify one number after another until it is over: create, receive, report, check. The ids."""
    verified = []
    for n in count():
        if over.is_set():
            break
        answer = await api.post("/verifications", {"to": f"+44740{caller + 2}{n:06d}"})
        assert answer.status_code == 201, answer.text
        verification = answer.json()["id"]

        async def came(delivery: str = f"{verification}.0") -> bool:
            return delivery in gateway.answered

        await until(came, "the message has come")
        message = next(message for message in gateway.messages if message.verification == verification)
        data = {"message_id": message.delivery, "status": "delivered", "reason": None}
        receipt = {"type": "delivery.receipt", "timestamp": "2026-01-01T00:00:00Z", "data": data}
        assert (await provider.post(message.receipt, receipt, signed(json.dumps(receipt)))).is_success
        checked = (await api.post("/verifications/check", {"id": verification, "code": message.code})).json()
        assert (checked["valid"], checked["status"]) == (True, "approved")
        verified.append(verification)
    return verified
