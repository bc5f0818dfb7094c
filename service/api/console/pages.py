"""The pages, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.console import guard, inbox, live, providers
from service.api.console.access import Access
from service.api.console.site import Site, see
from service.application import Application
from service.changes import Changes
from service.circuit import Circuits
from service.guard.controls import Controls
from service.guard.prices import Prices
from service.inbox import Inbox
from service.metrics import Metrics
from service.recent import Recent
from service.stats import Stats
from service.verification import Verifications


class ConsoleApi:
    """The endpoints of the console.

    `messages`: the simulator's inbox, None where there is no simulator; `api`: where callers find the service;
    `started`: since when this replica has counted; `clock` tells the seconds since 1970.
    """

    def __init__(
        self,
        access: Access,
        verifications: Verifications,
        recent: Recent,
        controls: Controls,
        changes: Changes,
        circuits: Circuits,
        metrics: Metrics,
        stats: Stats,
        *,
        applications: Mapping[str, Application],
        prices: Prices,
        messages: Inbox | None,
        api: str,
        started: datetime,
        clock: Callable[[], float],
    ) -> None:
        first = {"Inbox": inbox.PATH} if messages else {}
        names = {**first, "Live": live.PATH, "Guard": guard.PATH, "Providers": providers.PATH}
        self._site = Site(access, names)
        self._routes = [
            *live.LivePages(self._site, verifications, recent, applications=applications).routes(),
            *guard.GuardPages(
                self._site,
                controls,
                recent,
                changes,
                stats,
                applications=applications,
                prices=prices,
                clock=clock,
            ).routes(),
            *providers.ProvidersPages(self._site, circuits, metrics, started=started).routes(),
        ]
        if messages is not None:
            self._routes += inbox.InboxPages(self._site, messages, changes, api=api).routes()

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        ours = [self._site.route("/", self.home), self._site.route("/console/assets/{name}", self.asset)]
        return [*ours, *self._routes]

    async def home(self, _request: Request) -> Response:
        """To the first page."""
        return see(next(iter(self._site.pages.values())))

    async def asset(self, request: Request) -> Response:
        """What pages need."""
        return self._site.looks.asset(request.path_params["name"])
