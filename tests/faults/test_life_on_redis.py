"""The life of a verification on one Redis, under a sentinel, and on a cluster: the same everywhere."""

from __future__ import annotations

from datetime import datetime

import pytest

from service.store import connect
from tests.faults.waiting import until
from tests.providers.test_simulator import simulated
from tests.redis_server import RedisCluster, RedisServer
from tests.world import NEXT_SECRET_KEY, NUMBER, READ_KEY, SECRET_KEY, world, wrong

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.cluster]

FREE = {"guard": {"limits": {"number": []}}, "shards": 64}
"""No limits per number, so that a resend need not wait, and the shards of a real configuration."""


async def test_a_right_code_approves_once(url: str) -> None:
    """A wrong guess before it costs an attempt, the same code after it is not valid any more."""
    async with world(_top=FREE | {"redis": url}) as one:
        started = await one.create()
        code = one.gateway.last.code
        assert (await one.check(started["id"], wrong(code)))["checks_remaining"] == 4
        approved = await one.check(started["id"], code)
        assert (approved["valid"], approved["status"]) == (True, "approved")
        again = await one.check(started["id"], code)
        assert (again["valid"], again["status"]) == (False, "approved")


async def test_what_became_of_it_is_counted(url: str) -> None:
    """For the analyst, under a tag of the application's own."""
    async with world(_top=FREE | {"redis": url}) as one:
        started = await one.create()
        await one.report(one.gateway.last, "delivered")
        await one.check(started["id"], one.gateway.last.code)
        found = (await one.api.get("/stats?group_by=prefix", headers={"authorization": f"Bearer {READ_KEY}"})).json()
        [row] = found["rows"]
        assert [row[name] for name in ("group", "sends", "delivered", "approved")] == ["+447400", 1, 1, 1]


async def test_the_last_wrong_code_ends_it(url: str) -> None:
    """The right code is not taken any more, and its number may start anew."""
    async with world(_top=FREE | {"redis": url}, checks=2) as one:
        started = await one.create()
        code = one.gateway.last.code
        statuses = [(await one.check(started["id"], wrong(code)))["status"] for _ in range(2)]
        assert statuses == ["pending", "max_attempts_reached"]
        assert not (await one.check(started["id"], code))["valid"]
        assert (await one.create())["id"] != started["id"]


async def test_the_simulator_shows_what_it_took(url: str) -> None:
    """A cascade by its receipts, and its messages in the inbox."""
    async with world(**simulated(open=True) | {"_top": simulated(open=True)["_top"] | FREE | {"redis": url}}) as one:
        started = await one.create("+447400123907")
        await one.travel(5)
        statuses = [delivery["status"] for delivery in (await one.get(started["id"]))["deliveries"]]
        assert statuses == ["failed", "rejected", "delivered"]
        shown = (await one.ops.get("/inbox")).json()["messages"]
        assert [(message["channel"], message["status"]) for message in shown] == [
            ("voice", "delivered"),
            ("sms", "failed"),
        ]


async def test_a_resend_carries_the_same_code(url: str) -> None:
    """Asked for by id or by creating again, it is the next delivery of the same verification."""
    async with world(_top=FREE | {"redis": url}, resend_after=["0s"]) as one:
        started = await one.create()
        again = await one.post("/verifications", {"to": NUMBER})
        asked = await one.post(f"/verifications/{started['id']}/resend", {"channel": "voice"})
        assert (again.status_code, asked.status_code) == (200, 200)
        assert again.json()["id"] == asked.json()["id"] == started["id"]
        await one.work()
        assert len({sent.code for sent in one.gateway.sent}) == 1
        assert one.gateway.channels[0] == "sms"
        assert one.gateway.channels[-1] == "voice"
        assert (await one.check(started["id"], one.gateway.last.code))["valid"]


async def test_after_a_cancel_another_starts_at_once(url: str) -> None:
    """The canceled code is dead, the new one is alive."""
    async with world(_top={"redis": url, "shards": 64}) as one:
        started = await one.create()
        old = one.gateway.last.code
        canceled = await one.post(f"/verifications/{started['id']}/cancel")
        assert canceled.json()["status"] == "canceled"
        another = await one.create()
        assert another["id"] != started["id"]
        dead = await one.check(started["id"], old)
        assert (dead["valid"], dead["status"]) == (False, "canceled")
        alive = await one.post("/verifications/check", {"to": NUMBER, "code": one.gateway.last.code})
        assert alive.json()["valid"]


async def test_silence_and_refusals_move_through_the_cascade(url: str) -> None:
    """A refusal at once, silence after the step's wait, and a late receipt for an old step moves nothing."""
    steps = [{"channel": channel, "providers": ["gw"], "wait": "1s"} for channel in ("sms", "whatsapp", "voice")]
    async with world(_top=FREE | {"redis": url}, cascade=steps) as one:
        one.gateway.refuse("opted_out", "sms")
        started = await one.create()
        assert one.gateway.channels == ["sms", "whatsapp"]

        async def called() -> bool:
            await one.work()
            return "voice" in one.gateway.channels

        await until(called, "the cascade has reached voice")
        assert one.gateway.channels == ["sms", "whatsapp", "voice"]
        await one.report(one.gateway.sent[1], "delivered")
        await one.report(one.gateway.last, "delivered")
        found = await one.get(started["id"])
        assert [delivery["status"] for delivery in found["deliveries"]] == ["rejected", "delivered", "delivered"]
        assert len(one.gateway.sent) == 3


async def test_idempotent_requests_are_answered_again(url: str) -> None:
    """The key's claim and the number's records are in different slots of a cluster."""
    async with world(_top=FREE | {"redis": url}) as one:
        creates = [await one.post("/verifications", {"to": NUMBER}, idempotency_key="a") for _ in range(2)]
        assert creates[0].status_code == 201
        assert creates[0].text == creates[1].text
        conflict = await one.post("/verifications", {"to": NUMBER, "purpose": "signup"}, idempotency_key="a")
        assert conflict.json()["code"] == "idempotency_conflict"
        await one.work()
        guess = {"to": NUMBER, "code": one.gateway.last.code}
        checks = [await one.post("/verifications/check", guess, idempotency_key="b") for _ in range(2)]
        assert checks[0].json()["valid"]
        assert checks[0].text == checks[1].text
        assert len(one.gateway.sent) == 1


async def test_a_pending_verification_survives_a_new_key_in_the_ring(url: str) -> None:
    """Under the new key its number has another shard; it is found under the old one."""
    async with world(_top=FREE | {"redis": url}) as before:
        started = await before.create()
        code = before.gateway.last.code
    ring = {"secrets": {"keys": [NEXT_SECRET_KEY, SECRET_KEY]}}
    async with world(_top=FREE | ring | {"redis": url}, resend_after=["0s"]) as after:
        assert (await after.post("/verifications", {"to": NUMBER})).json()["id"] == started["id"]
        checked = await after.post("/verifications/check", {"to": NUMBER, "code": code})
        assert (checked.json()["valid"], checked.json()["id"]) == (True, started["id"])


async def test_a_cluster_shares_the_verifications_among_its_masters(cluster: RedisCluster) -> None:
    """Every master has some of them, and all of them are sent."""
    async with world(_top=FREE | {"redis": cluster.url}) as one:
        for k in range(30):
            assert (await one.post("/verifications", {"to": f"+4474002100{k:02d}"})).status_code == 201
        await one.work()
        assert len(one.gateway.sent) == 30
    each = [_verifications(node) for node in cluster.nodes]
    assert sum(each) == 30
    assert 0 not in each


def _verifications(node: RedisServer) -> int:
    keys = node.command("KEYS", "*}:ver_*")
    assert isinstance(keys, list)
    return len(keys)


@pytest.mark.parametrize("minutes", [-4, 4])
async def test_a_replica_whose_clock_is_off_changes_nothing(server: RedisServer, minutes: int) -> None:
    """Redis says when: codes live, pauses end and jobs come by its clock, whatever the process believes."""
    cascade = [{"channel": channel, "providers": ["gw"], "wait": "1s"} for channel in ("sms", "voice")]
    async with world(_top=FREE | {"redis": server.url}, cascade=cascade, resend_after=["1s"], ttl="60s") as one:
        seconds, _ = await redis_time(server)
        one.clock.shift(minutes * 60)
        started = await one.create()
        assert datetime.fromisoformat(started["created_at"]).timestamp() == pytest.approx(seconds, abs=10)
        assert (await one.post("/verifications", {"to": NUMBER})).status_code == 429

        async def went_on() -> bool:
            await one.work()
            return one.gateway.channels == ["sms", "voice"]

        await until(went_on, "the cascade to go on")
        assert "1 min" in one.gateway.last.data["text"]
        assert (await one.check(started["id"], one.gateway.last.code))["valid"]


async def redis_time(server: RedisServer) -> tuple[int, int]:
    """The clock of the server."""
    client = connect(server.url)
    now: tuple[int, int] = await client.time()
    await client.aclose()
    return now
