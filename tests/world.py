"""A whole verifyd in this process, with a gateway at its other end: what most tests talk to.

The service is the real one with its real scripts, on the embedded store unless a Redis is given. What it sends goes to
`Gateway`, which keeps every message and answers as it is told. Time is travelled by `World.travel`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import time_machine
from redis.asyncio import Redis, RedisCluster
from standardwebhooks import Webhook

from service import config
from service.api.auth import digest
from service.app import Service
from service.providers import KINDS
from service.tracing import Tracing

NUMBER = "+447400123456"
OTHER_NUMBER = "+447400123457"
KEY = "vk_test"
OTHER_KEY = "vk_other"
READ_KEY = "vk_read"
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
NEXT_SECRET_KEY = "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg="
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLIC_URL = "https://otp.example.com"
SUBSCRIBER = "shop.example"

PATIENCE = 60.0
"""Seconds that an answer may take here."""
_LIMITS = ("service.api.listener.SECONDS", "service.store.connection.SECONDS", "service.store.pipelines.SECONDS")
"""What verifyd gives an answer, in all and from Redis."""

Table = dict[str, Any]


def table(**changes: object) -> Table:
    """A configuration as read from TOML: one gateway `gw` for sms and whatsapp, another `voice` for voice.

    `changes` go over the application `shop`; `_top` goes over the whole.
    """
    top = changes.pop("_top", {})
    assert isinstance(top, dict)
    shop = {
        "brand": "Shop",
        "api_keys": [digest(KEY), {"hash": digest(READ_KEY), "scopes": ["read"]}],
        "cascade": [
            {"channel": "sms", "providers": ["gw"], "wait": "20s"},
            {"channel": "whatsapp", "providers": ["gw"], "wait": "20s"},
            {"channel": "voice", "providers": ["voice"], "wait": "40s"},
        ],
    }
    other = {
        "brand": "Other",
        "api_keys": [digest(OTHER_KEY)],
        "cascade": [{"channel": "sms", "providers": ["gw"], "wait": "20s"}],
    }
    return {
        "redis": "memory://",
        "shards": 4,
        "server": {
            "api": "127.0.0.1:8080",
            "receipts": "127.0.0.1:8081",
            "ops": "127.0.0.1:9090",
            "public_url": PUBLIC_URL,
        },
        "secrets": {"keys": [SECRET_KEY]},
        "providers": {
            "gw": {
                "kind": "webhook",
                "url": "https://gw.example/send",
                "secret": WEBHOOK_SECRET,
                "channels": ["sms", "whatsapp", "voice", "telegram", "email"],
            },
            "voice": {
                "kind": "webhook",
                "url": "https://voice.example/send",
                "secret": WEBHOOK_SECRET,
                "channels": ["sms", "voice"],
            },
        },
        "applications": {"shop": shop | changes, "other": other},
        **top,
        # Most tests send many codes to few numbers, which is what the guard is there to refuse.
        "guard": {"mode": "off"} | top.get("guard", {}),
    }


@dataclass
class Sent:
    """One message that reached the gateway."""

    host: str
    data: dict[str, Any]

    @property
    def code(self) -> str:
        """The code in it."""
        return str(self.data["code"])

    @property
    def channel(self) -> str:
        """The channel it was for."""
        return str(self.data["channel"])


Answer = Callable[[Sent], httpx.Response | Awaitable[httpx.Response]]


@dataclass
class Gateway:
    """The operator's gateway: keeps what it is sent; `answer` may be replaced. `vendors` have other hosts."""

    sent: list[Sent] = field(default_factory=list)
    answer: Answer = lambda sent: httpx.Response(200, json={"message_id": sent.data["delivery"]})
    vendors: dict[str, Callable[[httpx.Request], Awaitable[httpx.Response]]] = field(default_factory=dict)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Take a message, once its signature holds."""
        if vendor := self.vendors.get(request.url.host):
            return await vendor(request)
        Webhook(WEBHOOK_SECRET).verify(request.content, dict(request.headers))
        body = json.loads(request.content)
        assert body["type"] == "delivery.send"
        message = Sent(request.url.host, body["data"])
        self.sent.append(message)
        answer = self.answer(message)
        return answer if isinstance(answer, httpx.Response) else await answer

    def refuse(self, reason: str, *channels: str) -> None:
        """Refuse messages on these channels (all, when none is named) for good."""
        self.answer = lambda sent: (
            httpx.Response(422, json={"reason": reason})
            if not channels or sent.channel in channels
            else httpx.Response(200, json={"message_id": sent.data["delivery"]})
        )

    @property
    def last(self) -> Sent:
        """The latest message."""
        return self.sent[-1]

    @property
    def channels(self) -> list[str]:
        """The channels of all messages in order."""
        return [message.channel for message in self.sent]


@dataclass
class Subscriber:
    """The URL of an application that wants events: keeps all `requests`, and of those that it takes the events."""

    secrets: list[str] = field(default_factory=lambda: [WEBHOOK_SECRET])
    requests: list[httpx.Request] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], int] = lambda _: 204

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Take an event, once its signature holds under each of the secrets."""
        for secret in self.secrets:
            Webhook(secret).verify(request.content, dict(request.headers))
        event = json.loads(request.content)
        self.requests.append(request)
        status = self.answer(event)
        if httpx.codes.is_success(status):
            self.taken.append(event)
        return httpx.Response(status)

    @property
    def ids(self) -> list[str]:
        """The ids of all events that came, also of those that it did not take."""
        return [request.headers["webhook-id"] for request in self.requests]


class Sleepers:
    """Those in the service who let time pass: they wake when `World.travel` comes to their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._asleep: dict[asyncio.Task[Any], tuple[float, asyncio.Future[None]]] = {}

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds were travelled."""
        task = asyncio.current_task()
        if seconds <= 0 or task is None:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asleep[task] = self.now + seconds, woken
        try:
            await woken
        finally:
            self._asleep.pop(task, None)

    @property
    def next(self) -> float:
        """When the first of them wakes."""
        return min((at for at, _ in self._asleep.values()), default=float("inf"))

    async def wake(self, now: float) -> None:
        """It is `now`: return when all who woke sleep again, or have done what they slept for."""
        self.now = now
        due = [(task, woken) for task, (at, woken) in self._asleep.items() if at <= now]
        for task, woken in due:
            del self._asleep[task]
            woken.set_result(None)
        while any(not task.done() and task not in self._asleep for task, _ in due):  # noqa: ASYNC110 - nobody signals it
            await asyncio.sleep(0)


class World:
    """A service, its gateway, the URL for events, and the clock."""

    def __init__(
        self,
        service: Service,
        gateway: Gateway,
        clock: time_machine.Traveller,
        sleepers: Sleepers | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        self.service = service
        self.gateway = gateway
        self.subscriber = subscriber or Subscriber()
        self.clock = clock
        self.sleepers = sleepers or Sleepers()
        server = service.config.settings.server
        self.api = self._client(server.api, KEY)
        self.receipts = self._client(server.receipts, None)
        self.ops = self._client(server.ops, None)

    def _client(self, address: str, key: str | None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.service.listeners[address])
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=transport, base_url="http://verifyd", headers=headers)

    async def post(self, path: str, body: object = None, *, key: str = KEY, **headers: str) -> httpx.Response:
        """Call the API."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"authorization": f"Bearer {key}"}
        return await self.api.post(path, json={} if body is None else body, headers=sent)

    async def create(self, to: str = NUMBER, **fields: object) -> dict[str, Any]:
        """Start a verification that must start, and let its first message go out."""
        answer = await self.post("/verifications", {"to": to, **fields})
        assert answer.status_code == 201, answer.text
        await self.work()
        found: dict[str, Any] = answer.json()
        return found

    async def check(self, name: str, code: str, **fields: object) -> dict[str, Any]:
        """Make a guess that must be taken."""
        answer = await self.post("/verifications/check", {"id": name, "code": code, **fields})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def get(self, name: str) -> dict[str, Any]:
        """The verification with its timeline."""
        answer = await self.api.get(f"/verifications/{name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def report(self, sent: Sent, status: str, reason: str | None = None, **data: object) -> httpx.Response:
        """Send a receipt for a message, as the gateway would."""
        receipt = {"message_id": sent.data["delivery"], "status": status, "reason": reason, **data}
        body = json.dumps({"type": "delivery.receipt", "timestamp": "2026-01-01T00:00:00Z", "data": receipt})
        path = sent.data["receipt_url"].removeprefix(PUBLIC_URL)
        answer = await self.receipts.post(path, content=body, headers=signed(body))
        await self.work()
        return answer

    async def work(self) -> None:
        """Let the worker do all that is due."""
        await self.service.schedule.drain()
        await self.service.events.drain()

    async def travel(self, seconds: float) -> None:
        """Let time pass, and whoever waits for it do what has become due."""
        end = self.sleepers.now + seconds
        while (at := self.sleepers.next) <= end:
            self.clock.shift(at - self.sleepers.now)
            await self.sleepers.wake(at)
            await self.work()
        self.clock.shift(end - self.sleepers.now)
        self.sleepers.now = end
        await self.work()

    async def stop(self) -> None:
        """End the service, and who calls it."""
        for http in (self.api, self.receipts, self.ops):
            await http.aclose()
        await self.service.stop()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 when it was never touched."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


def signed(
    body: str, *, secret: str = WEBHOOK_SECRET, name: str = "msg_1", at: datetime | None = None
) -> Mapping[str, str]:
    """The headers of Standard Webhooks for a body."""
    when = at or datetime.now(UTC)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": Webhook(secret).sign(name, when, body),
    }


def wrong(code: str) -> str:
    """A code that is not this one."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


@asynccontextmanager
async def world(
    *,
    client: Redis | RedisCluster | None = None,
    tracing: Tracing | None = None,
    vendor: Callable[[httpx.Request], httpx.Response] | None = None,
    patient: bool = True,
    **changes: object,
) -> AsyncIterator[World]:
    """A running world; `changes` as for `table`, `client` in place of the embedded store, `vendor` of the gateway.

    A `patient` one gives all answers their time: that the machine is busy does not mean that Redis is away.
    """
    subscriber = Subscriber()
    gateway = Gateway(vendors={SUBSCRIBER: subscriber})
    checked = config.check(table(**changes), KINDS, {})
    sleepers = Sleepers()
    transport = httpx.MockTransport(vendor or gateway)
    with pytest.MonkeyPatch.context() as limits, time_machine.travel(datetime.now(UTC), tick=True) as clock:
        for limit in _LIMITS if patient else ():
            limits.setattr(limit, PATIENCE)
        service = Service(checked, client=client, transport=transport, sleep=sleepers.sleep, tracing=tracing)
        one = World(service, gateway, clock, sleepers, subscriber)
        try:
            yield one
        finally:
            await one.stop()
