"""*Live*: the latest verifications, as they move through their timelines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.console.site import Site
from service.application import Application
from service.errors import Unreadable
from service.recent import Recent
from service.record import Verification
from service.verification import Verifications

PATH = "/console/live"
ROWS = 40


class LivePages:
    """The latest verifications of `applications`."""

    def __init__(
        self, site: Site, verifications: Verifications, recent: Recent, *, applications: Mapping[str, Application]
    ) -> None:
        self._site = site
        self._verifications = verifications
        self._recent = recent
        self._applications = applications

    def routes(self) -> list[Route]:
        """The routes of this page."""
        return [self._site.route(PATH, self.show)]

    async def show(self, request: Request) -> Response:
        """The latest, or the one that is asked for."""
        visitor = self._site.access.visitor(request)
        wanted = request.query_params.get("id", "").strip()
        of = [name for name in self._applications if visitor.application in {None, name}]
        listed = [[wanted]] * len(of) if wanted else await self._recent.read(of, "verifications", ROWS)
        reads = [self._read(application, name) for application, names in zip(of, listed, strict=True) for name in names]
        found = [one for one in await asyncio.gather(*reads) if one is not None]
        found.sort(key=lambda one: one.created_at, reverse=True)
        return self._site.page("live.html", "Live", visitor, verifications=found[:ROWS], wanted=wanted)

    async def _read(self, application: str, name: str) -> Verification | None:
        """A verification, None when it is gone or under a key that has left the ring."""
        try:
            found = await self._verifications.read(self._applications[application], name)
        except Unreadable:
            return None
        return found if isinstance(found, Verification) else None
