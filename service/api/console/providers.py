"""*Providers*: their circuits, which all replicas share, and what this replica has counted of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.console.site import Site
from service.circuit import Circuits, Degraded
from service.errors import Unavailable
from service.metrics import Metrics
from service.provider import Channel, Status

PATH = "/console/providers"


class ProvidersPages:
    """How providers do. `started`: since when this replica has counted."""

    def __init__(self, site: Site, circuits: Circuits, metrics: Metrics, *, started: datetime) -> None:
        self._site = site
        self._circuits = circuits
        self._metrics = metrics
        self._started = started

    def routes(self) -> list[Route]:
        """The routes of this page."""
        return [self._site.route(PATH, self.show)]

    async def show(self, request: Request) -> Response:
        """All of them; what this replica counted is there even without Redis."""
        visitor = self._site.access.visitor(request)
        degraded, away = [], False
        try:
            degraded = await self._circuits.degraded()
        except Unavailable:
            away = True
        found = health(self._metrics, self._circuits.pairs, degraded)
        values = {"providers": found, "away": away, "started": self._started, "bound": bound}
        return self._site.page("providers.html", "Providers", visitor, **values)


@dataclass(slots=True)
class Health:
    """A provider on a channel. `open_for`: the seconds until it is tried again, None while it is called.

    `within` are receipts by the seconds that they took at most; the last bound is infinite.
    """

    provider: str
    channel: str
    open_for: float | None = None
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    within: list[tuple[float, int]] = field(default_factory=list)

    @property
    def receipts(self) -> int:
        """How many receipts were timed."""
        return sum(count for _, count in self.within)

    @property
    def refused(self) -> int:
        """How many messages it did not take, or reported as failed."""
        return self.counts[Status.REJECTED] + self.counts[Status.FAILED]

    def share(self, part: float) -> float | None:
        """The seconds within which this part of the receipts came, None for no receipts."""
        came = 0
        for bound, count in self.within:
            came += count
            if count and came >= part * self.receipts:
                return bound
        return None


def health(metrics: Metrics, pairs: Sequence[tuple[str, Channel]], degraded: Sequence[Degraded]) -> list[Health]:
    """Every provider on every channel that cascades use, in order."""
    found = {pair: Health(*pair) for pair in pairs}
    for circuit in degraded:
        found[circuit.provider, circuit.channel].open_for = circuit.seconds
    for name, labels, value in metrics.samples("otp_deliveries_total", "otp_receipt_seconds_bucket"):
        one = found.get((labels["provider"], Channel(labels["channel"])))
        if one is None:
            continue
        if name == "otp_receipt_seconds_bucket":
            one.within.append((float(labels["le"]), round(value) - one.receipts))
            continue
        one.counts[labels["status"]] += round(value)
        if labels["reason"]:
            one.reasons[labels["reason"]] += round(value)
    return list(found.values())


def bound(seconds: float) -> str:
    """A bound as people read it."""
    if math.isinf(seconds):
        return "more"
    return f"{seconds:g} s" if seconds % 60 else f"{seconds / 60:g} min"
