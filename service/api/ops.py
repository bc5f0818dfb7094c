"""Probes, metrics, and the description of the API."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.circuit import Circuits, Degraded
from service.errors import Unavailable
from service.guard.decisions import Decisions
from service.metrics import CONTENT_TYPE, Metrics
from service.schedule import Schedule
from service.store import Store

_PACKAGE = Path(__file__).resolve().parent.parent


class OpsApi:
    """What the platform asks. While `draining` it is told to send nothing here any more."""

    def __init__(
        self, store: Store, schedule: Schedule, metrics: Metrics, circuits: Circuits, decisions: Decisions
    ) -> None:
        self._store = store
        self._schedule = schedule
        self._metrics = metrics
        self._circuits = circuits
        self._decisions = decisions
        self.draining = False
        self._description = description()

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.yaml", self.openapi, methods=["GET"]),
        ]

    async def healthz(self, _request: Request) -> Response:
        """Whether the process answers at all; it does not depend on Redis."""
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")

    async def readyz(self, _request: Request) -> Response:
        """Whether this replica should get requests: Redis takes writes, the worker comes around, and it stays."""
        worries: list[str] = []
        degraded: list[Degraded] = []
        try:
            await self._store.probe()
            worries = await self._store.durability()
            self._metrics.redis_durable.set(not worries)
            degraded = await self._circuits.degraded()
            reachable = True
        except Unavailable:
            reachable = False
        stuck = self._schedule.stuck()
        ready = reachable and not stuck and not self.draining
        answer = {
            "status": "ready" if ready else "not_ready",
            "redis": {"reachable": reachable, "worries": worries},
            "worker": {"stuck": stuck},
            "draining": self.draining,
            "degraded": [
                {"provider": one.provider, "channel": one.channel, "probe_in": round(one.seconds, 1)}
                for one in degraded
            ],
        }
        return Response(orjson.dumps(answer), 200 if ready else 503, media_type="application/json")

    async def metrics(self, _request: Request) -> Response:
        """Everything for Prometheus, written in a thread: it takes milliseconds."""
        with contextlib.suppress(Unavailable):
            await self._circuits.degraded()  # what another replica found out is up to date here as well
            await self._decisions.refresh()
        return Response(await asyncio.to_thread(self._metrics.exposition), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _request: Request) -> Response:
        """The description of this API."""
        return Response(self._description, media_type="application/yaml")


def description() -> bytes:
    """`openapi.yaml`: inside the package once installed, beside it in a checkout."""
    packed = _PACKAGE / "openapi.yaml"
    return (packed if packed.exists() else _PACKAGE.parent / "openapi.yaml").read_bytes()
