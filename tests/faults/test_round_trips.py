"""How often Redis is asked: each trip is time that a caller waits, and load that all replicas share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.redis_server import RedisServer
from tests.test_model import AFRICAS_TALKING
from tests.world import (
    NEXT_SECRET_KEY,
    NUMBER,
    OTHER_NUMBER,
    PUBLIC_URL,
    SECRET_KEY,
    Sent,
    World,
    signed,
    table,
    world,
    wrong,
)

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

ON = {"mode": "enforce"}
"""The guard of an application."""


@asynccontextmanager
async def warm(server: RedisServer, *keys: str, **changes: Any) -> AsyncIterator[World]:
    """A world whose Redis has met every script already, with this ring of keys, and whose schedule rests.

    Without a console, for which it would tell Redis something once a second, in the midst of anything.
    """
    secrets, listeners = {"keys": list(keys or [SECRET_KEY])}, table()["server"] | {"console": False}
    providers = table()["providers"] | {"at": AFRICAS_TALKING}
    top = {"redis": server.url, "server": listeners, "secrets": secrets, "providers": providers}
    async with world(_top=top, **changes) as one:
        await one.post("/verifications", {"to": OTHER_NUMBER}, idempotency_key="warm")
        await one.work()
        await one.report(one.gateway.last, "sent")
        await one.post("/verifications/check", {"to": OTHER_NUMBER, "code": one.gateway.last.code})
        yield one


async def trips(one: World, act: Awaitable[object]) -> int:
    """How many round trips an act takes."""
    before = one.service.store.round_trips
    await act
    return one.service.store.round_trips - before


async def receipt(one: World, sent: Sent, status: str = "delivered") -> None:
    """A receipt alone: the worker does not look around after it."""
    data = {"message_id": sent.data["delivery"], "status": status, "reason": None}
    body = json.dumps({"type": "delivery.receipt", "timestamp": "2026-01-01T00:00:00Z", "data": data})
    path = sent.data["receipt_url"].removeprefix(PUBLIC_URL)
    assert (await one.receipts.post(path, content=body, headers=signed(body))).status_code == 200


async def test_a_life_takes_the_fewest_trips(server: RedisServer) -> None:
    """A create takes two, its delivery two, a receipt one, a check two, and a check of what is over one."""
    async with warm(server, guard=ON) as one:
        create = asyncio.ensure_future(one.post("/verifications", {"to": NUMBER}))
        assert await trips(one, create) == 2
        found = create.result().json()["id"]
        assert await trips(one, one.service.deliveries.run(found)) == 2
        sent = one.gateway.last
        assert await trips(one, receipt(one, sent)) == 1
        assert await trips(one, one.check(found, wrong(sent.code))) == 2
        assert await trips(one, one.check(found, sent.code)) == 2
        assert await trips(one, one.check(found, sent.code)) == 1


async def test_without_the_guard_a_create_takes_one_trip(server: RedisServer) -> None:
    """There is nothing to reserve before it starts."""
    async with warm(server, guard={"mode": "off"}) as one:
        assert await trips(one, one.post("/verifications", {"to": NUMBER})) == 1


async def test_an_idempotency_key_costs_no_trip_beside_the_guard(server: RedisServer) -> None:
    """The key's claim lives elsewhere than the number: a create asks for it and for the guard's credit at once."""
    async with warm(server, guard=ON) as one:
        create = one.post("/verifications", {"to": NUMBER}, idempotency_key="a")
        assert await trips(one, create) == 2
        await one.work()
        guess = {"to": NUMBER, "code": one.gateway.last.code}
        assert await trips(one, one.post("/verifications/check", guess, idempotency_key="b")) == 2
        assert await trips(one, one.post("/verifications/check", guess, idempotency_key="b")) == 1


async def test_a_second_key_in_the_ring_costs_no_trip_beside_the_guard(server: RedisServer) -> None:
    """While keys are rotated, a number is looked for under the older one first, a check asks under both at once."""
    async with warm(server, NEXT_SECRET_KEY, SECRET_KEY) as one:
        create = one.post("/verifications", {"to": NUMBER}, idempotency_key="a")
        assert await trips(one, create) == 2
        await one.work()
        guess = {"to": NUMBER, "code": one.gateway.last.code}
        assert await trips(one, one.post("/verifications/check", guess)) == 2


async def test_a_receipt_is_answered_after_one_trip_whatever_comes_of_it(server: RedisServer) -> None:
    """Some vendors wait two seconds for that; the message that it sets in motion comes after the answer."""
    async with warm(server) as one:
        await one.create(NUMBER)
        sent = one.gateway.last
        for status in ("sent", "failed", "failed", "delivered", "read"):
            assert await trips(one, receipt(one, sent, status)) == 1
        assert one.gateway.last is sent
        await one.work()
        assert one.gateway.last is not sent


async def test_a_wait_that_is_learned_costs_a_delivered_receipt_one_trip(server: RedisServer) -> None:
    """And no other receipt."""
    async with warm(server, cascade=[{"channel": "sms", "providers": ["gw"], "wait": "auto"}]) as one:
        await one.report(one.gateway.last, "delivered")
        await one.create(NUMBER)
        sent = one.gateway.last
        assert await trips(one, receipt(one, sent, "sent")) == 1
        assert await trips(one, receipt(one, sent, "delivered")) == 2
        assert await trips(one, receipt(one, sent, "read")) == 1


async def test_a_receipt_by_the_vendors_own_id_takes_one_trip_more_to_find_its_delivery(server: RedisServer) -> None:
    """One of a stranger's message ends there."""
    async with warm(server, cascade_by_prefix={"+49": [{"channel": "sms", "providers": ["at"]}]}) as one:
        asked: list[str] = []

        async def vendor(_request: httpx.Request) -> httpx.Response:
            asked.append(f"m{len(asked)}")
            taken = {"statusCode": 101, "messageId": asked[-1]}
            return httpx.Response(200, json={"SMSMessageData": {"Recipients": [taken]}})

        async def reported(message_id: str, word: str) -> None:
            path = f"/receipts/at?secret={AFRICAS_TALKING['webhook_secret']}"
            assert (await one.receipts.post(path, content=f"id={message_id}&status={word}")).status_code == 200

        one.gateway.vendors["at.example"] = vendor
        await one.create("+4915123456788")
        await reported("m0", "Sent")
        started = (await one.post("/verifications", {"to": "+4915123456789"})).json()["id"]
        assert await trips(one, one.service.deliveries.run(started)) == 2
        for word in ("Sent", "Success", "Success", "Failed"):
            assert await trips(one, reported("m1", word)) == 2
        assert await trips(one, reported("somebody-elses", "Success")) == 1
        assert [d["status"] for d in (await one.get(started))["deliveries"]] == ["delivered"]
