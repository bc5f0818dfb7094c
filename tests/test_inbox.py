"""The simulator's inbox: who sees which messages, what Redis has of them, and how to decide what becomes of one."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from service import config, inbox
from service.api.auth import digest
from service.app import Service
from service.providers import KINDS
from service.store import connect
from tests.providers.test_simulator import CASCADE, fates, simulated
from tests.world import KEY, NEXT_SECRET_KEY, OTHER_KEY, READ_KEY, World, table, world

pytestmark = pytest.mark.anyio

NUMBER = "+447400123900"
SILENT_NUMBER = "+447400123903"


async def ask(one: World, path: str = "/inbox", body: object = None, key: str | None = KEY) -> httpx.Response:
    """Ask for the inbox, or decide about a message."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    if body is None:
        return await one.ops.get(path, headers=headers)
    return await one.ops.post(path, headers=headers, json=body)


async def messages(one: World, key: str | None = KEY) -> list[dict[str, Any]]:
    """The messages that a key sees."""
    found: list[dict[str, Any]] = (await ask(one, key=key)).json()["messages"]
    return found


async def test_the_latest_message_comes_first_with_its_code_and_a_masked_number() -> None:
    """And with what was reported of it."""
    async with world(**simulated()) as one:
        first = await one.create(NUMBER)
        second = await one.create(SILENT_NUMBER)
        await one.travel(1)
        later, earlier = await messages(one)
        assert (earlier["delivery"], later["delivery"]) == (f"{first['id']}.0", f"{second['id']}.0")
        assert (earlier["id"], later["id"]) == (1, 2)
        assert (earlier["status"], later["status"]) == ("delivered", "accepted")
        assert earlier["to"] == "+44******3900"
        assert earlier["channel"] == "sms"
        assert (earlier["application"], earlier["provider"]) == ("shop", "phone")
        code = earlier["text"].partition("code is ")[2][:6]
        assert (await one.check(first["id"], code))["valid"]


async def test_a_key_sees_the_messages_of_its_application() -> None:
    """With the scope to verify or to read; nobody else sees any, and no other listener has them."""
    guard = {"hash": digest("vk_guard"), "scopes": ["guard"]}
    keys = [digest(KEY), {"hash": digest(READ_KEY), "scopes": ["read"]}, guard]
    async with world(api_keys=keys, **simulated()) as one:
        await one.create(NUMBER)
        assert len(await messages(one, READ_KEY)) == 1
        assert await messages(one, OTHER_KEY) == []
        assert (await ask(one, key=None)).status_code == 401
        assert (await ask(one, key="vk_guard")).status_code == 403
        assert (await ask(one, "/inbox/1", {"receipt": "failed"}, key=READ_KEY)).status_code == 403
        assert (await ask(one, "/inbox/1", {"receipt": "failed"}, key=OTHER_KEY)).status_code == 404
        assert (await one.api.get("/inbox")).status_code == 404


async def test_an_open_simulator_shows_everything_to_everybody() -> None:
    """Whole numbers too."""
    async with world(**simulated(open=True)) as one:
        await one.create(NUMBER)
        (message,) = await messages(one, key=None)
        assert message["to"] == NUMBER
        assert (await ask(one, "/inbox/1", {"receipt": "none"}, key=None)).status_code == 200


async def test_one_closed_simulator_closes_the_inbox() -> None:
    """An open one beside it does not give its messages away."""
    changes = simulated(open=True)
    changes["_top"]["providers"]["closed"] = {"kind": "simulator"}
    async with world(**changes) as one:
        assert (await ask(one, key=None)).status_code == 401


async def test_without_a_simulator_there_is_no_inbox() -> None:
    """Not even with a key."""
    async with world() as one:
        assert (await ask(one)).status_code == 404
        assert (await ask(one, "/inbox/1", {"receipt": "none"})).status_code == 404


async def test_it_holds_the_latest_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go."""
    monkeypatch.setattr(inbox, "MOST", 2)
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **simulated()) as one:
        for n in range(3):
            await one.create(f"+44740012392{n}")
        assert [message["id"] for message in await messages(one)] == [3, 2]
        assert await redis.hlen(inbox.KEY) == 5
        assert 3_590_000 < await redis.pttl(inbox.KEY) <= inbox.TTL_MS
        await one.travel(3601)
        assert await messages(one) == []


async def test_it_is_read_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says where the next begins."""
    monkeypatch.setattr("service.api.inbox.PAGE", 2)
    async with world(**simulated()) as one:
        for n in range(3):
            await one.create(f"+44740012392{n}")
        first = (await ask(one)).json()
        second = (await ask(one, f"/inbox?before={first['before']}")).json()
        assert [[message["id"] for message in page["messages"]] for page in (first, second)] == [[3, 2], [1]]
        assert second["before"] is None
        assert (await ask(one, "/inbox?before=1")).json() == {"messages": [], "before": None}
        assert [message["id"] for message in (await ask(one, "/inbox?before=999")).json()["messages"]] == [3, 2]


async def test_redis_has_neither_number_nor_code() -> None:
    """What it has of a message is sealed, and names nothing but when it came and what was reported."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **simulated()) as one:
        await one.create(NUMBER)
        (message,) = await messages(one)
        code = message["text"].partition("code is ")[2][:6]
        kept: dict[Any, Any] = await redis.hgetall(inbox.KEY)
        assert set(kept) == {b"last", b"m1", b"s1"}
        for secret in (NUMBER[1:], NUMBER[3:], code, "sign-in", "shop"):
            assert secret.encode() not in kept[b"m1"]
        assert kept[b"s1"].split(b" ")[1:] == [b"script", b"accepted"]


async def test_messages_under_a_key_that_was_dropped_are_left_out() -> None:
    """The others are shown all the same."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **simulated()) as one:
        await one.create(NUMBER)
        changed = simulated()
        changed["_top"]["secrets"] = {"keys": [NEXT_SECRET_KEY]}
        other = Service(config.check(table(**changed), KINDS, {}), client=redis, sleep=one.sleepers.sleep)
        later = World(other, one.gateway, one.clock)
        await later.create("+447400123920")
        assert [message["id"] for message in await messages(later)] == [2]
        assert [message["id"] for message in await messages(one)] == [1]
        assert (await ask(later, "/inbox/1", {"receipt": "failed"})).status_code == 404
        await one.travel(1)


@pytest.mark.parametrize(("receipt", "status", "channels"), [("failed", "failed", 2), ("delivered", "delivered", 1)])
async def test_whoever_takes_a_message_in_hand_decides_at_once(receipt: str, status: str, channels: int) -> None:
    """A failure moves the cascade; a delivery stops it; the script has nothing more to say."""
    async with world(**simulated(delay="10s")) as one:
        started = await one.create(NUMBER)
        answer = await ask(one, "/inbox/1", {"receipt": receipt})
        assert answer.json()["status"] == status
        await one.work()
        assert (await fates(one, started["id"]))[0][:2] == ("sms", status)
        await one.travel(15)
        assert (await fates(one, started["id"]))[0][:2] == ("sms", status)
        assert len(await fates(one, started["id"])) == channels


async def test_nothing_is_heard_any_more_of_a_message_that_is_let_fall_silent() -> None:
    """Whichever replica is told so: here not the one that sent it."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **simulated(delay="10s")) as one:
        other = World(Service(one.service.config, client=redis), one.gateway, one.clock)
        started = await one.create(NUMBER)
        assert (await ask(other, "/inbox/1", {"receipt": "none"})).json()["status"] == "accepted"
        await one.travel(21)
        assert (await fates(one, started["id"]))[0] == ("sms", "unknown", "silence")


async def test_a_message_that_fell_out_of_the_inbox_is_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inbox is for looking; the receipts come all the same."""
    monkeypatch.setattr(inbox, "MOST", 1)
    async with world(**simulated()) as one:
        first = await one.create(NUMBER)
        await one.create(SILENT_NUMBER)
        await one.travel(1)
        assert await fates(one, first["id"]) == [("sms", "delivered", None)]


@pytest.mark.parametrize("name", ["2", "0", "x", "01", "9" * 16])
async def test_a_message_that_is_not_there_cannot_be_taken(name: str) -> None:
    """404, whatever stands in its place."""
    async with world(**simulated()) as one:
        await one.create(NUMBER)
        assert (await ask(one, f"/inbox/{name}", {"receipt": "failed"})).status_code == 404


async def test_the_log_names_no_number_and_no_code(caplog: pytest.LogCaptureFixture) -> None:
    """Of a whole cascade with the inbox read."""
    with caplog.at_level("DEBUG"):
        async with world(**simulated()) as one:
            await one.create("+447400123907")
            await one.travel(10)
            found = await messages(one)
    code = found[-1]["text"].partition("code is ")[2][:6]
    logged = " ".join(f"{record.getMessage()} {json.dumps(getattr(record, 'fields', {}))}" for record in caplog.records)
    assert len(found) == len(CASCADE) - 1
    assert "receipt" in logged
    assert code not in logged
    assert "7400123907" not in logged


def test_a_simulator_is_warned_of() -> None:
    """Who sees its codes is told."""
    for is_open, seen in ((True, "whoever reaches server.ops"), (False, "the application's API keys")):
        warned = dict(config.worries(config.check(table(**simulated(open=is_open)), KINDS, {})))
        expected = f"the simulator sends nothing and shows codes to {seen}: for trying out only"
        assert warned["providers.phone"] == expected
