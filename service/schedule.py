"""The durable queue: jobs that are only names, leased while they run.

A job is the id of a verification in its shard's sorted set, by the time at which it must be woken (`lua/jobs_claim`).
Whoever claims it moves that time by the lease, so that a worker that dies loses its jobs to the others, and running a
job twice is harmless. Work that this process made itself is leased to it from the start and comes by `nudge`, so that
the first message leaves within milliseconds. Each worker remembers when a shard's next job is due, and looks at every
shard once a second for what others left behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service import ids
from service.errors import VerifydError
from service.metrics import Metrics
from service.store import Store
from service.tracing import OFF, Tracing

logger = logging.getLogger(__name__)

LEASE_MS = 15_000
"""Longer than a send may take with its two round trips, short enough that a death delays little."""
SWEEP = 1.0
STUCK = 10.0
_CONCURRENCY = 256
"""Jobs under way at once: more than one provider may have (`delivery.MOST_AT_ONCE`), so that a slow one leaves room."""
_BACKLOG = 1_000
"""Jobs that may wait here; those beyond are left to other replicas, or to later."""
_LEASE_MARGIN = 12.0
"""Seconds of its lease that a job must still have when it starts: a whole send."""

Run = Callable[[str], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class _Job:
    """A job that is leased to this process until soon after `latest`, and what was traced when it was set in motion."""

    verification: str
    latest: float
    cause: object


_END = _Job("", 0.0, None)


class Schedule:
    """Claims jobs and runs them. `run(id)` returns in how many seconds that verification is due next, if it is."""

    def __init__(self, store: Store, metrics: Metrics, *, shards: int, run: Run, tracing: Tracing = OFF) -> None:
        self._store = store
        self._metrics = metrics
        self._run = run
        self._tracing = tracing
        self._ready: asyncio.Queue[_Job] = asyncio.Queue()
        self._overflow: list[str] = []
        self._shards = shards
        self._soon: dict[int, float] = {}
        self._sweep_at = 0.0
        self._stir = asyncio.Event()
        self._claimed = time.monotonic()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def nudge(self, verification: str) -> None:
        """A job was leased for this process: run it as soon as there is a free hand."""
        if self._ready.qsize() >= _BACKLOG or self._stopping:
            self._overflow.append(verification)  # the next sweep gives it back
        else:
            latest = time.monotonic() + LEASE_MS / 1000 - _LEASE_MARGIN
            self._ready.put_nowait(_Job(verification, latest, self._tracing.here()))

    def start(self) -> None:
        """Begin to work."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._claim_forever())]
        self._tasks += [loop.create_task(self._work_forever()) for _ in range(_CONCURRENCY)]

    async def stop(self) -> None:
        """Finish what runs, give back what waits."""
        self._stopping = True
        self._stir.set()
        while not self._ready.empty():
            self._overflow.append(self._ready.get_nowait().verification)
        for _ in range(_CONCURRENCY):
            self._ready.put_nowait(_END)
        await self._give_back()
        await asyncio.gather(*self._tasks)
        await self._give_back()

    async def drain(self) -> None:
        """Claim and run all that is due, here and now: for a worker that is driven by hand. Raises Unavailable."""
        while True:
            self._sweep_at = 0.0
            await self._claim_due()
            if self._ready.empty():
                return
            while not self._ready.empty():
                job = self._ready.get_nowait()
                with self._tracing.job(job.verification, job.cause):
                    await self._run(job.verification)

    def stuck(self) -> bool:
        """Whether the loop that looks for jobs has not come around for too long, though Redis may be there."""
        return time.monotonic() - self._claimed > STUCK

    async def _claim_forever(self) -> None:
        while not self._stopping:
            self._stir.clear()
            try:
                await self._give_back()
                await self._claim_due()
            except VerifydError as error:
                logger.warning("jobs are not claimed: Redis is away", extra={"fields": {"error": str(error)}})
                self._soon.clear()
                self._sweep_at = time.monotonic() + SWEEP
            except Exception:  # a defect must not end the worker
                logger.exception("jobs are not claimed")
                self._sweep_at = time.monotonic() + SWEEP
            self._claimed = time.monotonic()
            try:
                async with asyncio.timeout(min([self._sweep_at, *self._soon.values()]) - time.monotonic()):
                    await self._stir.wait()
            except TimeoutError:
                continue

    async def _claim_due(self) -> None:
        now = time.monotonic()
        if self._ready.qsize() >= _BACKLOG:
            self._soon.clear()
            self._sweep_at = now + SWEEP
            return
        sweep = now >= self._sweep_at
        shards = list(range(self._shards)) if sweep else [shard for shard, at in self._soon.items() if at <= now]
        if sweep:
            self._sweep_at = now + SWEEP
        for shard in shards:
            self._soon.pop(shard, None)
        room = max(1, (_BACKLOG - self._ready.qsize()) // max(1, len(shards)))
        answers = await asyncio.gather(
            *[self._claim(f"{ids.tag(shard)}due", room) for shard in shards], return_exceptions=True
        )
        if sweep:
            self._metrics.due_jobs.set(sum(answer[0] for answer in answers if isinstance(answer, list)))
        for shard, answer in zip(shards, answers, strict=True):
            if isinstance(answer, list):
                self._take(shard, answer)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer  # once the jobs of the other shards are in hand

    def _take(self, shard: int, answer: list[Any]) -> None:
        _, next_due, _, *jobs = answer
        for verification, late in zip(jobs[::2], jobs[1::2], strict=True):
            self._metrics.job_lag.observe(float(late) / 1000)
            self.nudge(verification.decode())
        if next_due >= 0:
            self._expect(shard, next_due / 1000)

    async def _claim(self, due: str, room: int) -> list[Any]:
        answer = await self._store.rows("jobs_claim", [due], [LEASE_MS, room])
        self._store.learn_time(due, answer[2])
        return answer

    def _expect(self, shard: int, seconds: float) -> None:
        """A job of this shard is due in so many seconds: be there, unless the next sweep is earlier anyway."""
        at = time.monotonic() + seconds
        if at < min(self._sweep_at, self._soon.get(shard, at + 1)):
            self._soon[shard] = at
            self._stir.set()

    async def _work_forever(self) -> None:
        while True:
            job = await self._ready.get()
            if job is _END:
                return
            if (left := job.latest - time.monotonic()) < 0:
                # Too little is left of the lease for a whole send; what is left of it is enough to give the job back.
                if left + _LEASE_MARGIN > 1:
                    self._overflow.append(job.verification)
                continue
            await self._do(job)

    async def _do(self, job: _Job) -> None:
        about = {"verification": job.verification}
        with self._tracing.job(job.verification, job.cause) as span:
            try:
                soon = await self._run(job.verification)
            except VerifydError as error:
                span.failed(error)
                logger.warning("a job is left to its lease", extra={"fields": about | {"error": str(error)}})
            except Exception as error:  # one broken job must not end the worker; its lease brings it back
                span.failed(error)
                logger.exception("a job failed", extra={"fields": about})
            else:
                shard = ids.shard_of(job.verification)
                if soon is not None and shard is not None:
                    self._expect(shard, soon)

    async def _give_back(self) -> None:
        overflow, self._overflow = self._overflow, []
        by_tag: dict[str, list[str]] = {}
        for verification in overflow:
            by_tag.setdefault(ids.tag_of(verification) or "", []).append(verification)
        try:
            for tag, jobs in by_tag.items():
                await self._store.rows("jobs_release", [f"{tag}due"], jobs)
        except VerifydError as error:
            logger.warning(
                "jobs are left to their leases", extra={"fields": {"jobs": len(overflow), "error": str(error)}}
            )
