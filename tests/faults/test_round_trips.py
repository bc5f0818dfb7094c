"""How often Redis is asked: each trip is time that a caller waits, and load that all replicas share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from tests.redis_server import RedisServer
from tests.world import (
    NEXT_SECRET_KEY,
    NUMBER,
    OTHER_NUMBER,
    PUBLIC_URL,
    SECRET_KEY,
    Sent,
    World,
    signed,
    world,
    wrong,
)

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@asynccontextmanager
async def warm(server: RedisServer, *keys: str) -> AsyncIterator[World]:
    """A world whose Redis has met every script already, with this ring of keys, and whose schedule rests."""
    secrets = {"keys": list(keys or [SECRET_KEY])}
    async with world(_top={"redis": server.url, "secrets": secrets}) as one:
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


async def receipt(one: World, sent: Sent) -> None:
    """A receipt alone: the worker does not look around after it."""
    data = {"message_id": sent.data["delivery"], "status": "delivered", "reason": None}
    body = json.dumps({"type": "delivery.receipt", "timestamp": "2026-01-01T00:00:00Z", "data": data})
    path = sent.data["receipt_url"].removeprefix(PUBLIC_URL)
    assert (await one.receipts.post(path, content=body, headers=signed(body))).status_code == 200


async def test_a_life_takes_the_fewest_trips(server: RedisServer) -> None:
    """A create takes one, its delivery two, a receipt one, a check two, and a check of what is over one."""
    async with warm(server) as one:
        assert await trips(one, one.post("/verifications", {"to": NUMBER})) == 1
        found = (await one.post("/verifications", {"to": NUMBER})).json()["id"]
        assert await trips(one, one.service.deliveries.run(found)) == 2
        sent = one.gateway.last
        assert await trips(one, receipt(one, sent)) == 1
        assert await trips(one, one.check(found, wrong(sent.code))) == 2
        assert await trips(one, one.check(found, sent.code)) == 2
        assert await trips(one, one.check(found, sent.code)) == 1


async def test_an_idempotency_key_costs_a_create_one_trip_and_a_check_none(server: RedisServer) -> None:
    """The key's claim lives elsewhere than the number: a create waits for it, a check asks for both at once."""
    async with warm(server) as one:
        create = one.post("/verifications", {"to": NUMBER}, idempotency_key="a")
        assert await trips(one, create) == 2
        await one.work()
        guess = {"to": NUMBER, "code": one.gateway.last.code}
        assert await trips(one, one.post("/verifications/check", guess, idempotency_key="b")) == 2
        assert await trips(one, one.post("/verifications/check", guess, idempotency_key="b")) == 1


async def test_a_second_key_in_the_ring_costs_a_create_one_trip_and_a_check_none(server: RedisServer) -> None:
    """While keys are rotated, a number is looked for under the older one first; a check asks under both at once."""
    async with warm(server, NEXT_SECRET_KEY, SECRET_KEY) as one:
        create = one.post("/verifications", {"to": NUMBER}, idempotency_key="a")
        assert await trips(one, create) == 2
        await one.work()
        guess = {"to": NUMBER, "code": one.gateway.last.code}
        assert await trips(one, one.post("/verifications/check", guess)) == 2
