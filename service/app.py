"""Builds the service once from its configuration, starts it, and shuts it down. Only this file sees everything."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import uvicorn
from redis.asyncio import Redis, RedisCluster
from starlette import routing

from service import config as settings
from service import phone
from service.api.auth import ApiKey, Gate
from service.api.events import EventsApi
from service.api.guard import GuardApi
from service.api.inbox import InboxApi
from service.api.listener import Listener
from service.api.ops import OpsApi
from service.api.protocol import BoundedProtocol
from service.api.receipts import ReceiptsApi
from service.api.stats import StatsApi
from service.api.verifications import VerificationsApi
from service.application import Application, Subscription
from service.cascade import Cascade, Route, Step
from service.changes import Changes
from service.circuit import Circuits
from service.code import PROFILES, Hasher
from service.config import Config
from service.conversion import Conversions
from service.delivery import Deliveries
from service.door import Door
from service.door.http import Http
from service.door.mail import Smtp
from service.door.simulator import Player
from service.door.smpp import Smpp
from service.door.terminal import Terminal
from service.errors import ConfigError, Unavailable
from service.events import Events, Feed, Poster, Relay
from service.guard.controls import Controls
from service.guard.decisions import Decisions
from service.guard.live import Guard
from service.guard.policy import Policy
from service.inbox import Inbox
from service.metrics import Metrics
from service.optout import OptOuts
from service.provider import Binds, Line, Mail, Receipt, Request, Simulation, Submit
from service.providers.settings import plain
from service.providers.simulator import Simulator
from service.receipts import Receipts
from service.recent import Recent
from service.replies import Replies
from service.schedule import Schedule
from service.sealing import KEY_BYTES, KeyRing
from service.stats import Stats
from service.store import Store, connect
from service.tally import Tally
from service.texts import Texts
from service.tracing import OFF, Tracing, to_collector
from service.verification import Verifications
from service.verification.check import Checks
from service.verification.draft import Drafts
from service.verification.lookup import Lookup
from service.verification.start import Starts
from service.waits import Waits

logger = logging.getLogger(__name__)

_AUTO_START = 20.0
"""Seconds that a step with `wait = "auto"` waits before it has learned."""


class Service:
    """Everything, built and connected.

    `client`, `transport`, `sleep` and `tracing` replace Redis, the network, the passing of the simulator's time and the
    collector in tests.
    """

    def __init__(
        self,
        config: Config,
        *,
        client: Redis | RedisCluster | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tracing: Tracing | None = None,
    ) -> None:
        self.config = config
        server, shards = config.settings.server, config.settings.shards
        applications = {name: application(name, config) for name in config.settings.applications}
        public_url = server.public_url or f"http://{server.receipts}"
        self.metrics = Metrics()
        traces = config.settings.tracing
        self._tracing = tracing or to_collector(traces.endpoint, service=traces.service, ratio=traces.ratio)
        redis = client or connect(config.settings.redis.get_secret_value())
        self.store = Store(redis, self.metrics.observe_script, tracing=self._tracing, embedded=config.embedded)
        ring = KeyRing(_ring_keys(config))
        self._hasher = Hasher(ring, PROFILES[config.settings.secrets.argon2])
        self.stats = Stats(self.store)
        self.recent = Recent(self.store, enabled=server.console)
        tally = Tally(self.metrics, self.stats, self.recent, ring, tracing=self._tracing)
        guard = config.settings.guard
        decisions = Decisions(self.store, ring, self.metrics, self.stats, self.recent)
        self.guard = Guard(self.store, ring, decisions, rules=guard.rules.rules, prices=guard.price_list, shards=shards)
        inbox, terminal = Inbox(self.store, ring, self._receive), Terminal()
        self._smpp = Smpp()
        self._door = Door(
            {
                Request: Http(transport),
                Line: terminal,
                Mail: Smtp(),
                Submit: self._smpp,
                Simulation: Player(inbox, terminal, sleep),
            },
            self._tracing,
        )
        steps = {step for one in applications.values() for step in one.steps}
        self.circuits = Circuits(
            self.store, self.metrics, {(route.provider, step.channel) for step in steps for route in step.routes}
        )
        self._waits = Waits(
            self.store, {(route.provider, step.channel) for step in steps if step.bounds for route in step.routes}
        )
        self.receipts = Receipts(
            self.store,
            ring,
            self._door,
            self.guard,
            tally,
            self._waits,
            providers=config.providers,
            url=public_url,
        )
        self.deliveries = Deliveries(
            self.store,
            ring,
            self._door,
            self.guard,
            self.receipts,
            self.circuits,
            tally,
            applications=applications,
            providers=config.providers,
        )
        self.conversions = Conversions(self.store, ring, self._door, providers=config.providers)
        self.schedule = Schedule(
            self.store, self.metrics, shards=shards, run=self.deliveries.run, tracing=self._tracing
        )
        optouts = OptOuts(self.store, ring, shards=shards)
        feed = Feed(self.store, ring, self.metrics, applications=applications)
        lookup = Lookup(self.store, ring, shards=shards)
        self.starts = Starts(
            self.store,
            ring,
            self.guard,
            lookup,
            Drafts(ring, self._hasher, self._waits),
            optouts,
            tally,
            nudge=self.schedule.nudge,
            blocked=feed.blocked,
        )
        used = self.conversions.tell
        self.checks = Checks(self.store, ring, self._hasher, self.guard, lookup, tally, used=used)
        self.verifications = Verifications(self.store, self.guard, tally, used=used)
        self.events = Events(
            Relay(self.store, ring, feed, shards=shards),
            Poster(self.store, ring, self._door, self.metrics),
            applications.values(),
        )
        gate = Gate(_api_keys(config, applications))
        api = VerificationsApi(self.starts, self.checks, self.verifications, gate, self.guard)
        self.changes = Changes(self.store)
        controls = Controls(self.store, ring, self.guard, self.changes, shards=shards)
        guarding = GuardApi(controls, gate, self.guard.prices)
        events = EventsApi(feed, gate)
        stats = StatsApi(self.stats, gate, clock=self.store.clock, currency=self.guard.prices.currency)
        replies = Replies(self.store, optouts, self.metrics, providers=config.providers)
        receipts = ReceiptsApi(self.receipts, replies, self.metrics, public_url=public_url, nudge=self.schedule.nudge)
        self._ops = OpsApi(self.store, self.schedule, self.metrics, self.circuits, decisions)
        ops = self._ops.routes()
        if simulators := [one for one in config.providers.values() if isinstance(one, Simulator)]:
            ops += InboxApi(inbox, gate, is_open=all(one.open for one in simulators)).routes()
        if server.console:
            from service.api.console import Access, ConsoleApi

            # Where all providers are simulators that show their messages to everybody, nothing is real.
            is_open = len(simulators) == len(config.providers) and all(one.open for one in simulators)
            ops += ConsoleApi(
                Access(gate, ring, is_open=is_open),
                self.verifications,
                self.recent,
                controls,
                self.changes,
                self.circuits,
                self.metrics,
                self.stats,
                applications=applications,
                prices=self.guard.prices,
                messages=inbox if simulators else None,
                api=server.api,
                started=self.store.now(),
                clock=self.store.clock,
            ).routes()
        routes: dict[str, list[routing.Route]] = {}
        for address, some in (
            (server.api, [*api.routes(), *guarding.routes(), *stats.routes(), *events.routes()]),
            (server.receipts, receipts.routes()),
            (server.ops, ops),
        ):
            routes.setdefault(address, []).extend(some)
        self.listeners = {
            # Probes come every few seconds: a trace of each would bury the others.
            address: Listener(some, self.metrics, self._tracing if address in {server.api, server.receipts} else OFF)
            for address, some in routes.items()
        }

    async def _receive(self, provider: str, receipts: Sequence[Receipt]) -> None:
        """Take receipts from within; raises Unavailable."""
        for verification in await self.receipts.reported(provider, receipts):
            self.schedule.nudge(verification)

    def warm(self) -> None:
        """Load what the first requests would wait for: the numbering plans of the countries that are served."""
        countries = [given.countries for given in self.config.settings.applications.values()]
        if None in countries:
            phone.warm()
        else:
            phone.warm({country for some in countries for country in some or ()})

    async def start(self) -> None:
        """Begin to work: claim jobs, open sessions, say what stands in the way of durability."""
        self.schedule.start()
        self.stats.start()
        bound = {name: one for name, one in self.config.providers.items() if isinstance(one, Binds)}
        self._smpp.start(bound, self._receive)
        self.events.start()
        try:
            worries = await self.store.durability()
            self.metrics.redis_durable.set(not worries)
            # Of the embedded store the configuration's own warnings tell.
            for worry in () if self.config.settings.embedded else worries:
                logger.warning(worry)
        except Unavailable:
            logger.warning("Redis is away: starting without it, ready when it is back")

    def drain(self) -> None:
        """Go on to serve, and tell all who route to this replica to go elsewhere."""
        self._ops.draining = True
        for listener in self.listeners.values():
            listener.draining = True

    async def stop(self, seconds: float = 10.0) -> None:
        """Finish what is under way, for so long at most, and let everything go."""
        try:
            async with asyncio.timeout(seconds):
                await self.schedule.stop()
                await self.conversions.stop()
                await self.stats.stop()
                await self._waits.stop()
                await self.events.stop()
                await self._tracing.stop()
                await self.recent.stop()
        except TimeoutError:
            logger.warning("the grace period is over: deliveries are left to their leases, feedback untold")
        await self._door.close()
        await self.store.close()
        self._hasher.close()


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, drain, then stop accepting, finish, and return within the grace period.

    Only SIGTERM drains, until a second signal: who types Ctrl-C waits for it.
    Raises ConfigError when an address cannot be listened on.
    """
    service = Service(config)
    server = config.settings.server
    sockets = _listen_all(service.listeners)
    service.warm()
    # What is loaded by now stays: the collector need not walk it again and again.
    gc.freeze()
    servers = {address: _Server(_uvicorn(listener, server.grace)) for address, listener in service.listeners.items()}
    for warning in settings.worries(config):
        logger.warning("%s: %s", *warning)
    stopping, drained = asyncio.Event(), asyncio.Event()

    def end(number: signal.Signals) -> None:
        if stopping.is_set() or number == signal.SIGINT:
            drained.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    await service.start()
    running = {address: loop.create_task(one.serve(sockets=[sockets[address]])) for address, one in servers.items()}
    logger.info("serving", extra={"fields": {"api": server.api, "receipts": server.receipts, "ops": server.ops}})
    await stopping.wait()
    logger.info("stopping")
    service.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(drained.wait(), server.drain)
    # Half of the grace is for requests (uvicorn keeps that time), half for deliveries. Probes and metrics are answered
    # until the end, unless they share an address with what must stop first.
    shared = server.ops in {server.api, server.receipts}
    first = [address for address in running if shared or address != server.ops]
    for address in first:
        servers[address].should_exit = True
    await asyncio.gather(*[running[address] for address in first])
    await service.stop(server.grace / 2)
    for one in servers.values():
        one.should_exit = True
    await asyncio.gather(*running.values())
    _remove_sockets(sockets)
    logger.info("stopped")


def application(name: str, config: Config) -> Application:
    """An application as the rest of the service knows it."""
    given = config.settings.applications[name]
    return Application(
        name=name,
        brand=given.brand,
        texts=Texts(given.texts),
        cascade=_cascade(given.cascade),
        cascade_by_prefix={prefix: _cascade(steps) for prefix, steps in given.cascade_by_prefix.items()},
        code_length=given.code_length,
        ttl=given.ttl,
        checks=given.checks,
        wrong_checks_per_day=given.wrong_checks_per_day,
        sends=given.sends,
        resend_after=given.resend_after,
        countries=None if given.countries is None else frozenset(given.countries),
        allow_types=frozenset(given.allow_types),
        own_code=given.own_code,
        locale=given.locale,
        number_rates=config.settings.guard.limits.number,
        policy=policy(name, config),
        test_numbers=given.test_numbers,
        events=None if given.events is None else _subscription(given.events),
    )


def policy(name: str, config: Config) -> Policy:
    """What the guard holds for an application.

    Without limits that only space sends out: who asks too soon just goes on with the code that is pending.
    """
    given, guard = config.settings.applications[name], config.settings.guard
    limits = guard.limits.limits
    return Policy(
        application=name,
        mode=given.guard.mode or guard.mode,
        challenges=guard.challenge if given.guard.challenge is None else given.guard.challenge,
        countries=None if given.countries is None else frozenset(given.countries),
        allow_types=frozenset(given.allow_types),
        test_numbers=frozenset(given.test_numbers),
        limits=replace(limits, number=tuple(rate for rate in limits.number if rate.count > 1)),
        budget=guard.budget.budget,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`, which has several of them to stop in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def _uvicorn(listener: Listener, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        listener,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, grace // 2),
    )


def _listen_all(addresses: Iterable[str]) -> dict[str, socket.socket]:
    """Listen on every address, or on none; raises ConfigError."""
    listening: dict[str, socket.socket] = {}
    try:
        for address in addresses:
            listening[address] = _listen(address)
    except OSError as error:
        for one in listening.values():
            one.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError([("server", f"cannot listen on {address}: {reason}")]) from None
    return listening


def _listen(address: str) -> socket.socket:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        _remove_dead_socket(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        path.chmod(0o660)
    else:
        host, _, port = address.rpartition(":")
        bare = host.strip("[]")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        listening = socket.create_server((bare, int(port)), family=family, backlog=2048)
    listening.setblocking(False)
    return listening


def _remove_sockets(addresses: Iterable[str]) -> None:
    for address in addresses:
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    """Make room where a process that was killed left its socket; a living one, or another file, is in the way."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        if caller.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink(missing_ok=True)


def _subscription(given: settings.EventsTable) -> Subscription:
    secrets = tuple(plain(given.secret, given.old_secret))
    return Subscription(given.url or "", secrets, frozenset(given.types), given.keep)


def _cascade(steps: settings.Steps) -> Cascade:
    return Cascade(tuple(_step(step) for step in steps))


def _step(given: settings.CascadeStep) -> Step:
    routes = tuple(Route(one.provider, one.weight, frozenset(one.countries), one.prefixes) for one in given.providers)
    if given.wait is None:
        start = min(max(_AUTO_START, given.wait_least), given.wait_most)
        return Step(given.channel, routes, start, (given.wait_least, given.wait_most))
    return Step(given.channel, routes, given.wait)


def _api_keys(config: Config, applications: dict[str, Application]) -> dict[str, ApiKey]:
    return {
        key.hash: ApiKey(
            applications[name],
            frozenset(key.scopes),
            tuple(ipaddress.ip_network(network) for network in key.allow_from),
        )
        for name, given in config.settings.applications.items()
        for key in given.api_keys
    }


def _ring_keys(config: Config) -> list[bytes]:
    """The key ring; the embedded store, which ends with the process, may do with a random key."""
    return settings.key_bytes(config) or [os.urandom(KEY_BYTES)]
