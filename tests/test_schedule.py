"""The queue: what is leased runs once, what is too much goes back, and a stuck worker is seen."""

from __future__ import annotations

import asyncio

import fakeredis
import pytest

from service import ids, schedule
from service.metrics import Metrics
from service.schedule import Schedule
from service.store import Store
from tests.faults.waiting import until

pytestmark = pytest.mark.anyio

SHARDS = 2


class Bench:
    """A schedule over an embedded store, whose runs are noted."""

    def __init__(self) -> None:
        self.client = fakeredis.FakeAsyncRedis()
        self.store = Store(self.client, embedded=True)
        self.ran: list[str] = []
        self.one_ran = asyncio.Event()
        self.metrics = Metrics()
        self.schedule = Schedule(self.store, self.metrics, shards=SHARDS, run=self.run)
        self.again: float | None = None
        self.broken: set[str] = set()

    async def run(self, verification: str) -> float | None:
        """A job."""
        self.ran.append(verification)
        self.one_ran.set()
        if verification in self.broken:
            raise RuntimeError
        return self.again

    async def put(self, *, late: float = 0, shard: int = 0) -> str:
        """A job that is due since `late` seconds."""
        name = ids.new(shard)
        seconds, micros = await self.client.time()
        await self.client.zadd(f"{ids.tag(shard)}due", {name: (seconds - late) * 1000 + micros / 1000})
        return name

    async def until(self, count: int) -> None:
        """Wait until so many jobs ran."""
        async with asyncio.timeout(30):
            while len(self.ran) < count:
                self.one_ran.clear()
                await self.one_ran.wait()


async def test_due_jobs_of_every_shard_run_and_their_lag_is_seen() -> None:
    """Those that are not due yet wait."""
    bench = Bench()
    jobs = {await bench.put(late=3), await bench.put(late=1, shard=1)}
    await bench.put(late=-100)
    bench.schedule.start()
    await bench.until(2)
    await bench.schedule.stop()
    assert set(bench.ran) == jobs
    assert bench.metrics.registry.get_sample_value("otp_job_lag_seconds_sum") == pytest.approx(4, abs=1)
    await bench.store.close()


async def test_a_claimed_job_is_nobody_elses_until_its_lease_ends() -> None:
    """Two workers share the jobs, and neither gets one of the other's."""
    bench = Bench()
    jobs = {await bench.put(late=1) for _ in range(20)}
    other = Schedule(bench.store, Metrics(), shards=SHARDS, run=bench.run)
    await asyncio.gather(bench.schedule.drain(), other.drain())
    assert sorted(bench.ran) == sorted(jobs)
    await bench.store.close()


async def test_a_job_that_fails_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    """Its lease brings it back; the others run."""
    bench = Bench()
    bench.broken.add(await bench.put(late=2))
    await bench.put(late=1)
    bench.schedule.start()
    await bench.until(2)
    await bench.schedule.stop()
    assert [record.message for record in caplog.records] == ["a job failed"]
    assert await bench.client.zcard("{v0}:due") == 2
    await bench.store.close()


async def test_a_job_that_is_due_soon_is_met_without_waiting_for_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker remembers when it must be where."""
    monkeypatch.setattr(schedule, "SWEEP", 60.0)
    bench = Bench()
    bench.schedule.start()
    await bench.put(late=-0.2)
    bench.again = 0.3
    bench.schedule.nudge(await bench.put(late=-100))
    await bench.until(2)
    await bench.schedule.stop()
    await bench.store.close()


async def test_what_waits_is_given_back_when_the_worker_stops() -> None:
    """Another one can take it at once instead of after the lease."""
    bench = Bench()
    name = await bench.put(late=-15)
    bench.schedule.nudge(name)
    await bench.schedule.stop()
    assert bench.ran == []
    other = Schedule(bench.store, Metrics(), shards=SHARDS, run=bench.run)
    await other.drain()
    assert bench.ran == [name]
    await bench.store.close()


async def test_more_than_a_worker_can_hold_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, and memory stays bounded."""
    monkeypatch.setattr(schedule, "_BACKLOG", 5)
    bench = Bench()
    names = [await bench.put(late=-15) for _ in range(12)]
    for name in names:
        bench.schedule.nudge(name)
    bench.schedule.start()
    await bench.until(12)
    await bench.schedule.stop()
    assert sorted(bench.ran) == sorted(names)
    await bench.store.close()


async def test_a_lease_that_is_nearly_over_is_not_begun_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes back, so that it is not sent by two workers at once."""
    monkeypatch.setattr(schedule, "_LEASE_MARGIN", 15.0)
    bench = Bench()
    name = await bench.put(late=-15)
    bench.schedule.nudge(name)
    bench.schedule.start()
    for _ in range(10):
        await asyncio.sleep(0)
    await bench.schedule.stop()
    assert bench.ran == []
    monkeypatch.undo()
    other = Schedule(bench.store, Metrics(), shards=SHARDS, run=bench.run)
    await other.drain()
    assert bench.ran == [name]
    await bench.store.close()


async def test_a_worker_is_stuck_until_it_comes_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that did not for too long."""
    monkeypatch.setattr(schedule, "STUCK", 0.1)
    monkeypatch.setattr(schedule, "SWEEP", 0.01)
    bench = Bench()
    assert not bench.schedule.stuck()

    async def stuck() -> bool:
        return bench.schedule.stuck()

    async def works() -> bool:
        return not bench.schedule.stuck()

    await until(stuck, "it is stuck")
    bench.schedule.start()
    await until(works, "it has come around")
    await bench.schedule.stop()
    await bench.store.close()
