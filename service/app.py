"""Builds the service once from its configuration, starts it, and lets it go. Only this file sees everything."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable, Sequence

import httpx
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
from service.api.receipts import ReceiptsApi
from service.api.stats import StatsApi
from service.api.verifications import VerificationsApi
from service.application import Application
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
from service.errors import Unavailable
from service.events import Events, Feed, Poster, Relay
from service.guard.controls import Controls
from service.guard.decisions import Decisions
from service.guard.live import Guard
from service.inbox import Inbox
from service.metrics import Metrics
from service.optout import OptOuts
from service.provider import Binds, Line, Mail, Receipt, Request, Simulation, Submit
from service.providers.simulator import Simulator
from service.receipts import Receipts
from service.recent import Recent
from service.replies import Replies
from service.schedule import Schedule
from service.sealing import KEY_BYTES, KeyRing
from service.stats import Stats
from service.store import Store, connect
from service.tally import Tally
from service.tracing import OFF, Tracing, to_collector
from service.verification import Verifications
from service.verification.check import Checks
from service.verification.draft import Drafts
from service.verification.lookup import Lookup
from service.verification.start import Starts
from service.waits import Waits

logger = logging.getLogger(__name__)


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
        applications = {name: settings.application(name, config) for name in config.settings.applications}
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
