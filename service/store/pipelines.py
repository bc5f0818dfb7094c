"""Scripts are run, gathered into pipelines.

They are called by EVALSHA. The calls that are made in one turn of the event loop travel together in one pipeline, in
Cluster one for each node: that is where most of the speed comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import hiredis
from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from service.answer import Answer
from service.errors import Unavailable
from service.store.connection import SECONDS
from service.store.scripts import Act, Field, Script, load
from service.tracing import OFF, Span, Tracing

logger = logging.getLogger(__name__)

_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.ClusterError,
    exceptions.MasterDownError,
    exceptions.NoPermissionError,
    exceptions.OutOfMemoryError,
    exceptions.RedisClusterException,
    exceptions.TryAgainError,
    OSError,
    TimeoutError,
)
_REFUSALS = ("MISCONF", "NOREPLICAS", "LOADING", "BUSY", "UNBLOCKED", "READONLY", "OOM", "NOPERM")
"""What Redis' answers begin with when it is there but cannot now."""
_IN_FLIGHT = 4

Command = tuple[Field, ...]
Observe = Callable[[str, float], None]


class _Call:
    __slots__ = ("began", "command", "future", "script", "span")

    def __init__(self, script: Script, command: Command, future: asyncio.Future[list[Any]], span: Span) -> None:
        self.script = script
        self.command = command
        self.future = future
        self.span = span
        self.began = time.perf_counter()


class _Lane:
    """The calls that wait to travel together, to one server: a node of a cluster, or the only one."""

    __slots__ = ("ahead", "in_flight", "node", "waiting")

    def __init__(self, node: Any) -> None:
        self.node = node
        self.ahead = 0.0
        self.waiting: list[_Call] = []
        self.in_flight = 0


class Store:
    """Runs scripts, gathered into pipelines. `round_trips` and `calls` count what was sent.

    `observe(script, seconds)` is told how long each call took, its waiting included.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        observe: Observe = lambda _script, _seconds: None,
        *,
        tracing: Tracing = OFF,
        embedded: bool = False,
    ) -> None:
        self._client = client
        # Asked once: redis-py's classes make `isinstance` slow.
        self._cluster = client if isinstance(client, RedisCluster) else None
        self._pool: Any = client.connection_pool if isinstance(client, Redis) else None
        self._embedded = embedded
        self._observe = observe
        self._tracing = tracing
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked = 0.0
        self.round_trips = 0
        self.calls = 0

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Field] = ()) -> Answer:
        """Run a script of `lua/`. Raises Unavailable when Redis is away, too slow, or cannot write."""
        return Answer(await self.rows(name, keys, args))

    async def rows(self, name: str, keys: Sequence[str], args: Sequence[Field] = ()) -> list[Any]:
        """Run a script that answers with a list of its own; as `run` otherwise."""
        return await self._end(self._begin(name, keys, args))

    async def together(self, acts: Iterable[Act]) -> list[Answer]:
        """Run several scripts in one round trip; raises Unavailable, once all of them ended, when one could not run."""
        answers, failed = [], None
        for call in [self._begin(*act) for act in acts]:
            try:
                answers.append(Answer(await self._end(call)))
            except Unavailable as error:
                failed = error
        if failed is not None:
            raise failed
        return answers

    def tell(self, act: Act) -> None:
        """Run a script whose answer nobody waits for; when Redis is away it is lost."""
        call = self._begin(*act)
        with call.span:  # which lasts while anybody waits
            call.future.add_done_callback(_lost)

    def _begin(self, name: str, keys: Sequence[str], args: Sequence[Field]) -> _Call:
        script = load(name)
        loop = asyncio.get_running_loop()
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        call = _Call(script, command, loop.create_future(), self._tracing.script(name))
        lane = self._lane(keys[0])
        lane.waiting.append(call)
        if len(lane.waiting) == 1 and lane.in_flight < _IN_FLIGHT:
            loop.call_soon(self._depart, lane)
        return call

    async def _end(self, call: _Call) -> list[Any]:
        with call.span:
            answer = await call.future
        self._observe(call.script.name, time.perf_counter() - call.began)
        return answer

    def not_after(self, key: str) -> int:
        """When a call made now is given up, by the clock (ms) of the server that has this key; 0 while it is not known.

        A script that would send something refuses to run later: its caller was told that nothing was sent.
        """
        ahead = self._lane(key).ahead
        return round((ahead + time.monotonic() + SECONDS) * 1000) if ahead else 0

    def now(self) -> datetime:
        """The time of Redis' clock as far as it is known, else our own: for signatures, which have to be fresh."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def clock(self) -> float:
        """The same in seconds."""
        ahead = next((lane.ahead for lane in self._lanes.values() if lane.ahead), 0.0)
        return ahead + time.monotonic() if ahead else time.time()

    def learn_time(self, key: str, now: int) -> None:
        """The server that has this key said just now that it is `now` (ms), so `not_after` needs no clock of ours."""
        self._lane(key).ahead = now / 1000 - time.monotonic()

    async def probe(self) -> None:
        """Raises Unavailable unless Redis takes a write: a replica, or one that is full, does not."""
        await self._guarded(self._client.set("verifyd:probe", 1, px=1000))

    async def durability(self) -> list[str]:
        """What stands in the way of keeping data through a restart, in sentences; raises Unavailable."""
        if self._embedded:
            return ["memory:// forgets everything when the process ends"]
        wanted = ("appendonly", "maxmemory-policy")
        try:
            if self._cluster is None:
                servers = {"Redis": await self._guarded(self._client.config_get(*wanted))}
            else:
                primaries = RedisCluster.PRIMARIES
                servers = await self._guarded(self._cluster.config_get(*wanted, target_nodes=primaries))
        except exceptions.ResponseError:
            return ["Redis does not show its configuration: see that appendonly is yes and maxmemory-policy noeviction"]
        worries = []
        for name, found in servers.items():
            if found.get("appendonly", "no") != "yes":
                worries.append(f"{name} has appendonly off: a restart forgets pending verifications")
            if (policy := found.get("maxmemory-policy", "noeviction")) != "noeviction":
                worries.append(f"{name} has maxmemory-policy {policy}: under pressure it forgets pending verifications")
        return worries

    async def close(self) -> None:
        """Close the connections, after what is under way."""
        while under_way := [task for task in self._tasks if not task.done()]:
            await asyncio.gather(*under_way)
        await self._client.aclose()
        sentinels = getattr(self._pool, "sentinel_manager", None)
        for sentinel in sentinels.sentinels if sentinels else ():
            await sentinel.aclose()  # the library closes what they found, not them

    def _lane(self, key: str) -> _Lane:
        """The lane to the server that has this key."""
        node = None
        if self._cluster is not None:
            # Before the first call the slots are not known yet: the library's own pipeline then finds the way.
            with contextlib.suppress(exceptions.SlotNotCoveredError):
                node = self._cluster.get_node_from_key(key)
        name = "" if node is None else str(node.name)
        lane = self._lanes.get(name)
        if lane is None or lane.node is not node:
            lane = self._lanes[name] = _Lane(node)
        return lane

    def _depart(self, lane: _Lane) -> None:
        if not lane.waiting or lane.in_flight >= _IN_FLIGHT:
            return
        batch, lane.waiting = lane.waiting, []
        lane.in_flight += 1
        task = asyncio.get_running_loop().create_task(self._travel(lane, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _travel(self, lane: _Lane, batch: list[_Call]) -> None:
        try:
            answers = await self._exchange(lane, [call.command for call in batch])
            for call, answer in zip(batch, answers, strict=True):
                if isinstance(answer, exceptions.NoScriptError):
                    text = ("EVAL", call.script.text, *call.command[2:])
                    answer = (await self._exchange(lane, [text]))[0]  # noqa: PLW2901 - the same call, told in full
                _settle(call.future, answer)
        except BaseException as error:
            for call in batch:
                _settle(call.future, error)
            if not isinstance(error, Exception):
                raise
        finally:
            lane.in_flight -= 1
            self._depart(lane)

    async def _exchange(self, lane: _Lane, commands: Sequence[Command]) -> Sequence[Any]:
        """One round trip; an error stands where its answer would be."""
        self.round_trips += 1
        self.calls += len(commands)
        try:
            async with asyncio.timeout(SECONDS):
                if self._embedded or (self._cluster is not None and lane.node is None):
                    answers = await self._library_pipeline(commands)
                else:
                    answers = await self._pipeline(lane, commands)
                if self._cluster is not None:
                    answers = [await self._redirected(*pair) for pair in zip(commands, answers, strict=True)]
        except _AWAY as error:
            await self._look_again()
            return [error] * len(commands)
        return answers

    async def _library_pipeline(self, commands: Sequence[Command]) -> Sequence[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _pipeline(self, lane: _Lane, commands: Sequence[Command]) -> Sequence[Any]:
        """What the library's pipeline does, in a fifth of its time: packed in C, without its bookkeeping."""
        pack: Any = hiredis.pack_command  # the types it comes with know of one part only
        packed = b"".join([pack(command) for command in commands])
        connection = lane.node.acquire_connection() if lane.node else await self._pool.get_connection()
        try:
            await connection.send_packed_command(packed, check_health=False)
            return [await _read(connection) for _ in commands]
        finally:
            if lane.node:
                lane.node.release(connection)
            else:
                await self._pool.release(connection)

    async def _redirected(self, command: Command, answer: Any) -> Any:
        """The answer, asked for again where the cluster says: a call that was sent elsewhere was not run."""
        if not isinstance(answer, (exceptions.MovedError, exceptions.AskError, exceptions.TryAgainError)):
            return answer
        try:
            return await self._client.execute_command(*command)
        except exceptions.ResponseError as error:
            return error

    async def _look_again(self) -> None:
        """A node of the cluster is away: learn who has its slots now, at most once a second."""
        if self._cluster is None or time.monotonic() < self._looked + SECONDS:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(*_AWAY):
            async with asyncio.timeout(SECONDS):
                await self._cluster.nodes_manager.initialize()

    async def _guarded(self, command: Any) -> Any:
        try:
            async with asyncio.timeout(SECONDS):
                return await command
        except _AWAY as error:
            raise Unavailable(type(error).__name__) from error
        except exceptions.ResponseError as error:
            if _refuses(error):
                raise Unavailable(type(error).__name__) from error
            raise


async def _read(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except exceptions.ResponseError as error:
        return error


def _settle(future: asyncio.Future[list[Any]], answer: Any) -> None:
    if future.done():
        return
    if not isinstance(answer, BaseException):
        future.set_result(answer)
    elif isinstance(answer, _AWAY) or _refuses(answer):
        future.set_exception(Unavailable(type(answer).__name__))
    else:
        future.set_exception(answer)


def _lost(future: asyncio.Future[list[Any]]) -> None:
    """Look at what became of an act that nobody waited for."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, Unavailable):
        logger.error("a script failed", exc_info=error)


def _refuses(error: BaseException) -> bool:
    """Whether Redis says that it cannot now; before Redis 7 it says so of a script in the midst of a sentence."""
    return any(re.search(rf"(^|-){word}\b", str(error)) for word in _REFUSALS)
