"""Redis: the connection, the keys, and the scripts. Nothing else speaks to Redis.

The keys, all with a TTL but what is ruled by hand for good, all but the last written by the scripts in `lua/` (`<s>` is
a number's shard, `<h>` its keyed hash):

`{v<s>}:ver_…` (hash)
    A verification. Small values, so that Redis keeps it in its compact form: `app` `status` `created` `expires` `ended`
    (ms of Redis' clock), `checks` (allowed) `spent` (taken) `wrong` (settled) `spending` (when last taken), `sends`
    (allowed) `sent` (used) `resend` (when the next is allowed), `plan` `step` `try` `wait` `until` (the cascade and
    where it is), `n` (the current delivery), `d<n>` (a delivery in eight words), `m<n>` (a keyed hash of the provider's
    message id), `f<n>` (that id itself, where the provider wants to hear of approvals), `t<k>` `notes` (the timeline),
    `number` (the keyed hash), `bind` (a keyed hash of own code and transaction), `country` `purpose` `locale`,
    `feedback` `own` `test`, `ask` (the guard is asked before the current delivery goes out), `events` (whether they are
    wanted); the hashed `code`; and sealed, bound to the id: `to` (the masked number and its range), `meta` (the
    caller's metadata), `guard` (what was charged for it), `secret` (number and code) and `extra` (what else the text
    needs). The last three, `code` and `bind` go when the verification ends. It lives for twice its TTL.
`{v<s>}:number:<h>:<application>` (string)
    The id of the number's latest verification. Lives as long as that.
`{v<s>}:rates:<h>` (hash)
    The number's rate limits: a theoretical arrival time for each. Lives until the last of them has passed.
`{v<s>}:known:<h>` (hash)
    What the guard knows of a number: `f` when its burst is whole, `u` sends that came to nothing, `t` as of when, `m`
    sends and `a` approvals that fade, `b` its first approval, `l` its last. Lives while it is trusted, or a week.
`{v<s>}:hand:<h>` (string)
    A number's mark by hand, `trust` or `deny`, with author and reason sealed. Lives for as long as it was made for.
`{v<s>}:wrong:<h>:<application>` (string)
    Wrong guesses since the first of them. Lives for a day.
`{v<s>}:shut:<h>` (hash)
    The channels on which the number cannot be reached, each with the reason and until when (ms): for a day what a
    failure told of the recipient, for years what the person said (`service.optout`). Lives until the last of them.
`{v<s>}:idem:<f>` (list)
    The first answer to an idempotent request. `{i:<f>}:claim` (string) binds the key to its body. Both live for a day.
`{v<s>}:due` (sorted set)
    The jobs: ids of verifications by the time of their next waking. A claimed job is one whose time was moved by the
    lease. An id leaves it when its verification ends; each start gives the set two days more.
`{g:<country>}:country`, `:block3:<digits>`, `:block4:<digits>`, `:range:<digits>`, `{c:<f>}:ip`, `:device` (hashes)
    Buckets of the guard, addresses and devices by a keyed hash: `w` exposure, `t` as of when, `h` approvals, `m` `n`
    sends (in the long run, recently), `s` sends since the last approval, `f` seen first, `l` the country approved last,
    `p` `q` the number that was sent to last (36 bits of a keyed hash) and when, `u` a bound on what counts as history.
    Each lives for its `guard.rules.keep`. `{…}:pending` (sorted set) are reservations by when they lapse.
`{g:<country>}:hand` (hash), `:blocked`, `:ranges` (sorted sets)
    Rules by hand by their prefix; for those who look, what has no room by until when, ranges by when they were used.
`{b:<owner>}:spent` (hash), `{l:<f>}:rates` (hash)
    Budgets: window and millionths for each, for two days. Limits of what is no number, as `rates`.
`{d:<decision>}:decision` (string)
    A decision, sealed. Lives for a week.
`{changes}:stream` (stream)
    What was changed by hand; the last ten thousand.
`{r:<application>}:verifications`, `:decisions` (lists)
    For the console: the latest ids of each, the latest first. Live for a week after the last.
`{v<s>}:outbox` (stream)
    What happened to verifications of applications that want events, until a relay has moved it: a copy of the fields
    that tell of it, sealed ones as they are. Capped; lives for two days after the last. `{v<s>}:relay` (string) is the
    lease of the relay that moves it, for seconds.
`{e:<application>}:events` (stream)
    The application's events, sealed and bound to their ids. Capped; lives for three days after the last, and no event
    longer than that. `{e:<application>}:moved` (hash) is the last entry of each shard's outbox that is in it.
`{e:<application>}:lines` (sorted set)
    The verifications whose events wait to be posted, by when the first is due; `{e:<application>}:line:ver_…` (list)
    has the events of one in order, sealed, `{e:<application>}:tries` (hash) how often the first of each has failed. All
    live for two days after the last.
`{p:<provider>:<channel>}:circuit` (hash)
    A circuit breaker: `taken` and `failed` sends `since` a time, the `pause` (ms, 0 while closed) `until` when. Lives
    for ten minutes after the last word about it.
`{w:<provider>:<channel>:<country>}:waits` (hash)
    How long receipts took: counts `b<k>` of a histogram that fades with a half-life, as of `at`. Lives for a day.
`{s:<application>}:<dimension>:<hour>:<part>` (hash)
    What was counted in an hour (since 1970), `country`, `channel` and `provider` in one part, `prefix` in eight by a
    checksum: from each value to its amounts, in the order of `service.stats.Amounts`, without zeros at their end.
    Lives for 31 days.
`{m:<f>}:<provider>` (hash)
    Whose `delivery` a provider's message is, by a keyed hash of the provider's own id for it, where its receipts name
    nothing else; lives for two days. `early<n>` are receipts that came before; they wait for a minute.
`verifyd:inbox` (hash)
    The messages that the simulator took, for an hour after the latest: `last` (the id of the latest), `m<id>` (a
    message, sealed), `s<id>` (when it came, whether its script still reports on it, and its status).
`verifyd:probe` (string)
    What `/readyz` writes to see that Redis takes writes. Lives for a second.

Scripts are called by EVALSHA. The calls that are made in one turn of the
event loop travel together in one pipeline, in Cluster one for each node: that is where most of the speed comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis
from redis import exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.answer import Answer
from service.errors import Unavailable
from service.tracing import OFF, Span, Tracing

logger = logging.getLogger(__name__)

SECONDS = 0.9
"""How long one round trip may take. Two of them fit into the two seconds within which a caller gets a 503."""

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

Field = str | bytes | int | float
Command = tuple[Field, ...]
Observe = Callable[[str, float], None]


class Act(NamedTuple):
    """A script to run, with what it is given."""

    script: str
    keys: Sequence[str]
    args: Sequence[Field] = ()


class Script:
    """One atomic act: its file in `lua/`, behind the parts in `lua/parts/` that it needs."""

    def __init__(self, name: str) -> None:
        folder = Path(__file__).parent.with_name("lua")
        act = (folder / f"{name}.lua").read_text()
        needs = re.search(r"^-- NEEDS (.*)$", act, re.MULTILINE)
        parts = [(folder / "parts" / f"{part}.lua").read_text() for part in (needs[1].split() if needs else ())]
        self.name = name
        self.text = "\n".join([*parts, act])
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def _script(name: str) -> Script:
    return Script(name)


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
        script = _script(name)
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


def connect(url: str) -> Redis | RedisCluster:
    """A client for `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://` or `memory://`.

    `redis+sentinel://[user:password@]host:port[,host:port…]/<master>[/<db>]`, `redis+cluster://host:port[,host:port…]`;
    with `rediss+…` both speak TLS. Raises ValueError for anything else.
    """
    # Scripts are not repeated behind our back: what takes an attempt must not take two. Time is kept for a whole round
    # trip, not for each of its reads.
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": SECONDS,
    }
    parts = urlsplit(url)
    scheme, _, mode = parts.scheme.partition("+")
    if parts.scheme == "memory":
        from fakeredis import FakeAsyncRedis

        return FakeAsyncRedis()
    if scheme not in {"redis", "rediss"} or mode not in {"", "sentinel", "cluster"} or not parts.netloc:
        raise ValueError("write redis://, rediss://, redis+sentinel://, redis+cluster:// or memory://")
    if not mode:
        return _single(url, options)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if scheme == "rediss":
        options["ssl"] = True
    places = [_host_port(place, 26379 if mode == "sentinel" else 6379) for place in hosts.split(",")]
    if mode == "cluster":
        nodes = [ClusterNode(host, port) for host, port in places]
        return RedisCluster(startup_nodes=nodes, **options)
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("name the master: redis+sentinel://host:26379/mymaster")
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves this constructor without types
        places, sentinel_kwargs={"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    )
    client: Redis = sentinel.master_for(master, db=int(db or 0), **options)
    return client


def _single(url: str, options: dict[str, Any]) -> Redis:
    if not re.fullmatch(r"/?\d*", urlsplit(url).path):
        raise ValueError("write the database as a number: redis://host:6379/0")
    strange = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)} - _OPTIONS
    if strange:
        raise ValueError(f"behind the ? there may be {', '.join(sorted(_OPTIONS))}")
    client: Redis = Redis.from_url(url, **options)
    return client


_OPTIONS = {"client_name", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}


def _host_port(place: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(f"{place!r} is not host:port")
    return parts.hostname, parts.port or default
