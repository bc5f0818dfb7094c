"""Events: an application learns what happened to its verifications, by webhook and by asking."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from service.events import TYPES
from service.events.feed import MOST_LINES
from tests.world import (
    KEY,
    NEXT_SECRET_KEY,
    NUMBER,
    OTHER_KEY,
    OTHER_NUMBER,
    READ_KEY,
    SECRET_KEY,
    SUBSCRIBER,
    WEBHOOK_SECRET,
    World,
    world,
    wrong,
)

pytestmark = pytest.mark.anyio

NEW_SECRET = "whsec_bmV3IHNlY3JldCBmb3IgdGhlIGV2ZW50cw"
POSTED = {"url": f"https://{SUBSCRIBER}/otp", "secret": WEBHOOK_SECRET}
DAY = 24 * 3600
TEST_NUMBER = "+447700900123"


async def feed(one: World, key: str = KEY, **query: str | int) -> dict[str, Any]:
    """What `GET /events` answers."""
    answer = await one.api.get("/events", params=query, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def told(one: World) -> list[str]:
    """The types of all events in the feed."""
    return [event["type"] for event in (await feed(one))["events"]]


def named(*words: str) -> list[str]:
    """Types by what is behind their dot."""
    return [f"verification.{word}" for word in words]


def by_verification(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The types of the events of each verification, in order."""
    found = defaultdict(list)
    for event in events:
        found[event["data"]["id"]].append(event["type"])
    return dict(found)


@asynccontextmanager
async def two(
    *, keys: tuple[list[str], list[str]] = ([SECRET_KEY], [SECRET_KEY])
) -> AsyncIterator[tuple[World, World]]:
    """Two replicas on one embedded store, with these rings of keys and one clock."""
    client: Any = FakeAsyncRedis()
    one_ring, other_ring = ({"secrets": {"keys": ring}} for ring in keys)
    async with (
        world(client=client, events=POSTED, _top=one_ring) as one,
        world(client=client, events=POSTED, _top=other_ring) as other,
    ):
        one.clock = other.clock
        yield one, other


async def test_a_life_is_told_from_its_start_to_its_approval() -> None:
    """By webhook and in the feed alike; the number is masked, and the metadata is echoed."""
    async with world(events=POSTED) as one:
        started = await one.create(metadata={"user": "4711"}, purpose="signup")
        one.gateway.refuse("opted_out", "none")
        await one.report(one.gateway.last, "failed", "carrier_blocked")
        await one.report(one.gateway.last, "delivered")
        await one.check(started["id"], one.gateway.last.code)
        await one.work()
        events = (await feed(one))["events"]
        assert [event["type"] for event in events] == named("created", "advanced", "delivered", "approved")
        assert [
            {"id": name, **event} for name, event in zip(one.subscriber.ids, one.subscriber.taken, strict=True)
        ] == events
        assert events[1]["data"] == {
            "id": started["id"],
            "application": "shop",
            "to": "+44******3456",
            "country": "GB",
            "purpose": "signup",
            "n": 1,
            "channel": "whatsapp",
            "provider": None,
            "cause": "carrier_blocked",
            "test": False,
            "metadata": {"user": "4711"},
        }
        timeline = {event["event"]: event["at"] for event in (await one.get(started["id"]))["timeline"]}
        assert events[0]["timestamp"] == timeline["verification.created"]
        assert [events[0]["data"][name] for name in ("n", "channel", "provider")] == [None, None, None]
        assert [events[3]["data"][name] for name in ("n", "channel", "provider")] == [1, "whatsapp", "gw"]
        assert len({event["id"] for event in events}) == len(events)


async def _cancel(one: World, started: dict[str, Any]) -> None:
    await one.post(f"/verifications/{started['id']}/cancel")


async def _exhaust(one: World, started: dict[str, Any]) -> None:
    for _ in range(5):
        await one.check(started["id"], wrong(one.gateway.last.code))


async def _expire(one: World, _: dict[str, Any]) -> None:
    await one.travel(700)


ENDS = {"canceled": _cancel, "max_attempts_reached": _exhaust, "expired": _expire}


@pytest.mark.parametrize("end", ENDS)
async def test_every_other_end_is_told(end: str) -> None:
    """Whoever brings it about."""
    steps = [{"channel": "sms", "providers": ["gw"], "wait": "20s"}]
    async with world(events=POSTED, cascade=steps) as one:
        await ENDS[end](one, await one.create())
        await one.work()
        assert (await told(one))[-1] == f"verification.{end}"


async def test_an_undeliverable_verification_is_told_and_what_revives_it() -> None:
    """A receipt that says `read` alone says that it was delivered."""
    async with world(events=POSTED, cascade=[{"channel": "sms", "providers": ["gw"]}]) as one:
        await one.create()
        await one.report(one.gateway.last, "failed", "unreachable")
        await one.report(one.gateway.last, "read")
        await one.report(one.gateway.last, "read")
        assert await told(one) == named("created", "undeliverable", "delivered")


async def test_what_the_guard_refused_is_told_by_some_of_it() -> None:
    """It belongs to no verification. An attack leaves room for other events."""
    guard = {"guard": {"mode": "enforce", "limits": {"number": []}}}
    async with world(events=POSTED | {"types": ["verification.blocked"]}, _top=guard) as one:
        answers = [await one.post("/verifications", {"to": f"+447400123{n:03}"}) for n in range(2)]
        assert {answer.status_code for answer in answers} == {201}
        body = {"to": "+447400123999", "channel": "voice", "purpose": "signup", "metadata": {"user": "4711"}}
        problem = (await one.post("/verifications", body)).json()
        await one.work()
        [event] = one.subscriber.taken
        assert event["type"] == "verification.blocked"
        assert event["data"] == {
            "id": None,
            "application": "shop",
            "to": "+44******3999",
            "country": "GB",
            "purpose": "signup",
            "n": None,
            "channel": "voice",
            "provider": None,
            "cause": problem["reasons"][0]["rule"],
            "decision_id": problem["decision_id"],
            "test": False,
            "metadata": {"user": "4711"},
        }
        for n in range(69):
            assert (await one.post("/verifications", {"to": f"+447400123{n + 100}"})).status_code == 403
        await one.work()
        assert len(one.subscriber.taken) == 60
        labels = {"application": "shop", "event": "verification.blocked"}
        assert one.metric("otp_events_total", **labels, result="full") == 10
        await one.travel(61)
        await one.post("/verifications", {"to": "+447400123998"})
        await one.work()
        assert len(one.subscriber.taken) == 61


async def test_every_type_has_been_seen() -> None:
    """The tests above name each."""
    seen = {*named("blocked", "created", "advanced", "delivered", "approved", "undeliverable"), *named(*ENDS)}
    assert seen == set(TYPES)


async def test_no_event_holds_a_code_or_a_whole_number() -> None:
    """Nor does the store have the masked one, or the metadata, in the clear."""
    client: Any = FakeAsyncRedis()
    async with world(client=client, events=POSTED) as one:
        one.subscriber.answer = lambda _: 500
        await one.create(metadata={"user": "user-4711"})
        code = one.gateway.last.code
        kept = [await client.lrange(key, 0, -1) for key in await client.keys("{e:shop}:line:*")]
        kept += [await client.xrange(key) for key in await client.keys("{e:shop}:events")]
        assert len(kept) == 2
        for piece in (NUMBER[5:], "+44******3456", "user-4711", code):
            assert piece not in str(kept)
        assert code not in str(await feed(one))
        assert NUMBER[5:-4] not in str(await feed(one))


async def test_who_wants_no_events_gets_none_and_pays_for_none() -> None:
    """Not for one entry in Redis."""
    client: Any = FakeAsyncRedis()
    async with world(client=client) as one:
        await one.create()
        assert not [key for key in await client.keys("*") if b"outbox" in key or key.startswith(b"{e:")]
        answer = await one.api.get("/events")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_feed_alone_needs_no_url() -> None:
    """It is read by the scopes `verify` and `read`, each application its own."""
    async with world(events={}) as one:
        await one.create()
        assert [event["type"] for event in (await feed(one, READ_KEY))["events"]] == named("created")
        assert one.subscriber.ids == []
        refused = await one.api.get("/events", headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert refused.status_code == 403
        assert (await one.api.get("/events", headers={"authorization": ""})).status_code == 401


async def test_the_feed_is_read_on_from_its_cursor() -> None:
    """Nothing is missed and nothing comes twice, also of what happens meanwhile."""
    async with world(events={}) as one:
        for n in range(5):
            await one.create(f"+4474001234{n:02d}")
        first = await feed(one, limit=2)
        second = await feed(one, after=first["next"], limit=2)
        await one.create(OTHER_NUMBER)
        rest = await feed(one, after=second["next"])
        found = [event["id"] for page in (first, second, rest) for event in page["events"]]
        assert found == [event["id"] for event in (await feed(one))["events"]]
        assert len(found) == 6
        assert await feed(one, after=rest["next"]) == {"events": [], "next": rest["next"]}


@pytest.mark.parametrize("query", [{"after": "x"}, {"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"since": "1"}])
async def test_a_query_that_means_nothing_is_refused(query: dict[str, str]) -> None:
    """With the parameter that is wrong."""
    async with world(events={}) as one:
        answer = await one.api.get("/events", params=query)
        assert answer.status_code == 422
        assert [error["path"] for error in answer.json()["errors"]] == [f"query.{name}" for name in query]


async def test_the_feed_keeps_so_many_and_for_three_days() -> None:
    """As Redis trims streams in pieces, it may keep some more."""
    async with world(
        events={"keep": 100}, sends=20, resend_after=["0s"], _top={"guard": {"limits": {"number": []}}}
    ) as one:
        for n in range(160):
            await one.post("/verifications", {"to": f"+447400{n:06d}"})
        await one.service.events.drain()
        assert 100 <= len((await feed(one, limit=1000))["events"]) <= 150
        one.clock.shift(3 * DAY + 60)
        await one.create(OTHER_NUMBER)
        await one.create("+447400999999")
        kept = (await feed(one, limit=1000))["events"]
        assert len([event for event in kept if event["data"]["to"].endswith("9999")]) == 1
        assert len(kept) < 100


async def test_only_the_types_that_are_asked_for_are_posted() -> None:
    """The feed has them all."""
    async with world(events=POSTED | {"types": ["verification.approved"]}) as one:
        started = await one.create()
        await one.check(started["id"], one.gateway.last.code)
        await one.work()
        assert [event["type"] for event in one.subscriber.taken] == named("approved")
        assert await told(one) == named("created", "approved")


async def test_test_numbers_are_told_apart() -> None:
    """By `test`."""
    async with world(events=POSTED, test_numbers={TEST_NUMBER: "424242"}) as one:
        await one.create(TEST_NUMBER)
        assert [(event["type"], event["data"]["test"]) for event in one.subscriber.taken] == [
            ("verification.created", True),
            ("verification.delivered", True),
        ]


async def test_while_a_secret_is_changed_both_sign() -> None:
    """Whoever verifies by the new one or by the old one takes what comes."""
    async with world(events=POSTED | {"secret": NEW_SECRET, "old_secret": WEBHOOK_SECRET}) as one:
        one.subscriber.secrets = [WEBHOOK_SECRET, NEW_SECRET]
        await one.create()
        assert len(one.subscriber.taken) == 1


async def test_an_event_that_is_not_taken_holds_back_its_verification_only() -> None:
    """It comes again under the same id, and those behind it follow in order."""
    async with world(events=POSTED) as one:
        dead = await one.create()
        one.subscriber.answer = lambda event: 500 if event["data"]["id"] == dead["id"] else 200
        other = await one.create(OTHER_NUMBER)
        await one.check(dead["id"], one.gateway.sent[0].code)
        await one.check(other["id"], one.gateway.sent[1].code)
        await one.report(one.gateway.sent[0], "delivered")
        assert by_verification(one.subscriber.taken) == {
            dead["id"]: named("created"),
            other["id"]: named("created", "approved"),
        }
        failed = one.subscriber.ids[-1]
        one.subscriber.answer = lambda _: 200
        await one.travel(6)
        assert by_verification(one.subscriber.taken)[dead["id"]] == named("created", "approved", "delivered")
        assert one.subscriber.ids.count(failed) == 2
        labels = {"application": "shop", "event": "verification.approved"}
        assert one.metric("otp_events_total", **labels, result="failed") == 1
        assert one.metric("otp_events_total", **labels, result="taken") == 2


async def test_an_event_is_posted_again_for_a_day_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """Then it is given up, and the next of its verification has its own turn."""
    caplog.set_level(logging.WARNING)
    async with world(events=POSTED, ttl="24h") as one:
        one.subscriber.answer = lambda _: 503
        started = await one.create()
        await one.check(started["id"], one.gateway.last.code)
        tries: list[float] = []
        for pause in (4, 2, 31, 121, 601, 1801, *[3601] * 30):
            before = len(one.subscriber.ids)
            await one.travel(pause)
            tries += [pause] * (len(one.subscriber.ids) > before)
        assert tries[:6] == [2, 31, 121, 601, 1801, 3601]
        first = one.subscriber.ids[0]
        assert one.subscriber.ids.count(first) == 29
        assert set(one.subscriber.ids[:29]) == {first}
        assert [event["data"]["id"] for event in one.subscriber.taken] == []
        lost = named("created", "approved")
        for event in lost:
            assert one.metric("otp_events_total", application="shop", event=event, result="dropped") == 1
        given_up = [record for record in caplog.records if record.message == "an event is given up"]
        assert len(given_up) == 2
        assert one.metric("otp_events_waiting", application="shop") == 0
        assert await told(one) == lost
        one.subscriber.answer = lambda _: 200
        await one.create(OTHER_NUMBER)
        assert [event["type"] for event in one.subscriber.taken] == named("created")


@pytest.mark.parametrize(
    "broken", [lambda _: 301, lambda _: 400, lambda _: 410, lambda _: (_ for _ in ()).throw(httpx.ConnectError("away"))]
)
async def test_whatever_is_no_success_is_tried_again(broken: Callable[[dict[str, Any]], int]) -> None:
    """A redirect too: it is not followed."""
    async with world(events=POSTED) as one:
        one.subscriber.answer = broken
        await one.create()
        assert one.subscriber.taken == []
        one.subscriber.answer = lambda _: 202
        await one.travel(6)
        assert len(one.subscriber.taken) == 1


async def test_a_dead_url_does_not_fill_redis() -> None:
    """Beyond so many verifications events are only kept, and those of verifications in line still follow in it."""
    client: Any = FakeAsyncRedis()
    async with world(client=client, events=POSTED) as one:
        one.subscriber.answer = lambda _: 500
        started = await one.create()
        later = one.service.store.clock() * 1000 + DAY
        await client.zadd("{e:shop}:lines", {f"ver_{n}": later for n in range(MOST_LINES)})
        await one.create(OTHER_NUMBER)
        await one.check(started["id"], one.gateway.sent[0].code)
        await one.work()
        assert len(set(one.subscriber.ids)) == 1
        assert await told(one) == named("created", "created", "approved")
        assert one.metric("otp_events_total", application="shop", event="verification.created", result="full") == 1
        one.subscriber.answer = lambda _: 200
        await one.travel(6)
        assert [event["type"] for event in one.subscriber.taken] == named("created", "approved")


async def test_a_relay_that_died_after_it_appended_repeats_nothing() -> None:
    """What it left in the outbox is known to the stream and to the line."""
    client: Any = FakeAsyncRedis()
    async with world(client=client, events=POSTED, _top={"shards": 1}) as one:
        await one.post("/verifications", {"to": NUMBER})
        await one.post("/verifications", {"to": OTHER_NUMBER})
        left = await client.xrange("{v0}:outbox")
        await one.work()
        # As if it had not come to trim: the entries are there again, and a younger one behind them.
        for entry, fields in left:
            await client.delete("{v0}:outbox")
            await client.xadd("{v0}:outbox", fields, entry)
            await one.post("/verifications", {"to": f"+4474006543{len(one.subscriber.taken):02d}"})
            await one.work()
        assert await told(one) == named("created") * 4
        assert len(one.subscriber.ids) == len(set(one.subscriber.ids)) == 4


async def test_what_a_dead_relay_had_in_hand_is_moved_after_its_lease() -> None:
    """It died before it appended."""
    async with two() as (one, other):
        await one.post("/verifications", {"to": NUMBER})
        shards = range(one.service.config.settings.shards)
        keys = [[f"{{v{shard}}}:outbox", f"{{v{shard}}}:relay"] for shard in shards]
        taken = [await other.service.store.rows("outbox_read", pair, [5_000, 100]) for pair in keys]
        assert sum(map(len, taken)) == 1
        await one.work()
        assert await told(one) == []
        await one.travel(6)
        assert await told(one) == named("created")


async def test_what_a_dead_poster_had_in_hand_is_posted_after_its_lease() -> None:
    """By another replica, in order."""
    async with two() as (one, other):
        await one.post("/verifications", {"to": NUMBER})
        one.subscriber.answer = lambda _: 500
        await one.work()
        one.clock.shift(6)
        keys = ["{e:shop}:lines", "{e:shop}:tries"]
        assert len(await one.service.store.rows("events_take", keys, [15_000, 10])) == 4
        await other.service.events.drain()
        assert other.subscriber.ids == []
        one.clock.shift(16)
        await other.service.events.drain()
        assert other.subscriber.ids == one.subscriber.ids
        assert len(other.subscriber.taken) == 1


async def test_two_replicas_tell_each_event_once() -> None:
    """Whichever of them moves and posts it."""
    async with two() as (one, other):
        for n in range(20):
            await (one, other)[n % 2].post("/verifications", {"to": f"+4474001234{n:02d}"})
            if n % 7 == 0:
                await one.work()
        await other.work()
        ids = [*one.subscriber.ids, *other.subscriber.ids]
        assert len(ids) == len(set(ids)) == 20
        assert sorted(ids) == sorted(event["id"] for event in (await feed(other))["events"])


async def test_events_outlive_a_change_of_keys() -> None:
    """They are read and posted while the key is in the ring; after that they are passed over."""
    async with two(keys=([SECRET_KEY], [NEXT_SECRET_KEY, SECRET_KEY])) as (old, new):
        await old.post("/verifications", {"to": NUMBER})
        await new.work()
        assert len(new.subscriber.taken) == 1
        old.subscriber.answer = lambda _: 500
        await old.post("/verifications", {"to": OTHER_NUMBER})
        await old.work()
        assert [event["type"] for event in (await feed(new))["events"]] == named("created", "created")
    client: Any = FakeAsyncRedis()
    async with world(client=client, events=POSTED) as one:
        one.subscriber.answer = lambda _: 500
        await one.create()
        await one.post("/verifications", {"to": OTHER_NUMBER})
    async with world(client=client, events=POSTED, _top={"secrets": {"keys": [NEXT_SECRET_KEY]}}) as one:
        one.clock.shift(10)
        await one.service.events.drain()
        assert one.subscriber.ids == []
        assert (await feed(one))["events"] == []
        labels = {"application": "shop", "event": "verification.created"}
        assert one.metric("otp_events_total", **labels, result="dropped") == 1


async def test_the_worker_tells_by_itself() -> None:
    """Beside the schedule, and the lag is measured; it stops when it is told to."""
    async with world(events=POSTED) as one:
        await one.service.start()
        await one.post("/verifications", {"to": NUMBER})
        for _ in range(2000):
            if one.subscriber.taken:
                break
            await one.api.get("/events")
        assert [event["type"] for event in one.subscriber.taken] == named("created")
        await one.service.events.stop()
        assert one.metric("otp_event_lag_seconds_count", application="shop") == 1
