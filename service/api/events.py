"""`/events`: what happened to the verifications of an application."""

from __future__ import annotations

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api import bodies
from service.api.auth import Gate
from service.api.problems import Problem
from service.events import Feed

MOST = 1_000
"""Events in one answer."""
_FIRST = "0-0"


class EventsApi:
    """The event feed."""

    def __init__(self, feed: Feed, gate: Gate) -> None:
        self._feed = feed
        self._gate = gate

    def routes(self) -> list[Route]:
        """The routes of this endpoint."""
        return [Route("/events", self.read, methods=["GET"])]

    async def read(self, request: Request) -> Response:
        """`GET /events?after=&limit=`."""
        application = self._gate.admit(request, "verify", "read")
        if application.events is None:
            raise Problem("forbidden", f"write [applications.{application.name}.events] to keep this one's events")
        after, limit = _asked(request)
        page = await self._feed.read(application.name, after, limit)
        return Response(orjson.dumps({"events": page.events, "next": page.next}), media_type="application/json")


def _asked(request: Request) -> tuple[str, int]:
    """The cursor and the limit of a request; raises Problem."""
    query = request.query_params
    after, limit = query.get("after", _FIRST), query.get("limit", "100")
    errors = bodies.strange(query, "after", "limit")
    if not re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", after):
        errors.append({"path": "query.after", "message": "write the `next` of an earlier answer"})
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MOST:
        errors.append({"path": "query.limit", "message": f"write 1 to {MOST}"})
    if errors:
        raise bodies.invalid(errors)
    return after, int(limit)
