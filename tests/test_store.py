"""The store: calls travel together, and what goes wrong has a name."""

from __future__ import annotations

import asyncio
import hashlib

import fakeredis
import pytest
from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from service.errors import Unavailable
from service.store import Script, Store, connect
from tests.listening import listening

pytestmark = pytest.mark.anyio


def embedded() -> tuple[Store, fakeredis.FakeAsyncRedis]:
    """A store on an embedded Redis."""
    client = fakeredis.FakeAsyncRedis()
    return Store(client, embedded=True), client


async def test_calls_of_one_turn_travel_in_one_round_trip() -> None:
    """A script that Redis does not know yet costs one more, once."""
    store, _ = embedded()
    await asyncio.gather(*[store.rows("jobs_claim", [f"{{v{n}}}:due"], [1000, 1]) for n in range(2)])
    before = store.round_trips
    answers = await asyncio.gather(*[store.rows("jobs_claim", [f"{{v{n}}}:due"], [1000, 1]) for n in range(50)])
    assert store.round_trips == before + 1
    assert [answer[:2] for answer in answers] == [[0, -1]] * 50
    await store.close()


async def test_a_forgotten_script_is_told_again() -> None:
    """SCRIPT FLUSH, or a replica that took over: nobody notices."""
    store, client = embedded()
    await store.rows("jobs_claim", ["{v0}:due"], [1000, 1])
    await client.script_flush()
    assert (await store.rows("jobs_claim", ["{v0}:due"], [1000, 1]))[:2] == [0, -1]
    await store.close()


async def test_every_call_is_observed() -> None:
    """By the name of its script."""
    seen: list[str] = []
    store = Store(fakeredis.FakeAsyncRedis(), lambda script, _seconds: seen.append(script), embedded=True)
    await store.rows("jobs_claim", ["{v0}:due"], [1000, 1])
    assert seen == ["jobs_claim"]
    await store.close()


async def test_a_defect_is_no_unavailability() -> None:
    """A script that fails is ours to mend: it is not reported as Redis being away."""
    store, client = embedded()
    await client.set("{v0}:due", "not a sorted set")
    with pytest.raises(exceptions.ResponseError):
        await store.rows("jobs_claim", ["{v0}:due"], [1000, 1])
    await store.close()


async def test_a_caller_who_gives_up_harms_nobody_else() -> None:
    """The call goes on and its neighbours get their answers."""
    store, _ = embedded()
    calls = [asyncio.ensure_future(store.rows("jobs_claim", [f"{{v{n}}}:due"], [1000, 1])) for n in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    assert (await calls[0])[:2] == (await calls[2])[:2] == [0, -1]
    await store.close()


async def test_a_redis_that_is_not_there_is_unavailable_at_once() -> None:
    """Nothing listens on port 1."""
    store = Store(connect("redis://127.0.0.1:1/0"))
    with pytest.raises(Unavailable):
        await store.rows("jobs_claim", ["{v0}:due"], [1000, 1])
    with pytest.raises(Unavailable):
        await store.probe()
    await store.close()


async def test_a_redis_that_is_silent_is_unavailable_in_time() -> None:
    """Something listens and never answers."""

    async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(hold) as port:
        store = Store(connect(f"redis://127.0.0.1:{port}"))
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await store.rows("jobs_claim", ["{v0}:due"], [1000, 1])
        await store.close()


def test_a_script_is_itself_behind_the_parts_that_it_needs() -> None:
    """Called by the hash of the whole."""
    script = Script("jobs_claim")
    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
    assert "local function clock()" in script.text
    assert "local function queue(" not in script.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "rediss://user:pass%2Fword@localhost:6380/2",
        "redis+sentinel://one:26379,two/mymaster/1",
        "rediss+sentinel://user:secret@one/mymaster",
        "redis+cluster://one:7000,two:7001,[::1]:7002",
        "memory://",
    ],
)
async def test_every_form_of_url_makes_a_client(url: str) -> None:
    """None connects before it is asked to."""
    client = connect(url)
    assert isinstance(client, RedisCluster) == ("cluster" in url)
    assert isinstance(client, (Redis, RedisCluster))
    if not isinstance(client, RedisCluster):
        await client.aclose()


@pytest.mark.parametrize("url", ["", "http://x", "redis://", "redis+sentinel://one", "redis+raft://x", "redis://h/abc"])
def test_other_urls_are_refused_with_the_forms_that_work(url: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match="redis"):
        connect(url)
