"""`/inbox`: the messages that the simulator took, for whoever tries verifyd out."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import phone
from service.api import bodies
from service.api.auth import Gate
from service.api.problems import Problem
from service.inbox import Entry, Inbox
from service.provider import Status
from service.record import rfc3339

PAGE = 100
"""Messages in one answer."""

_NAME = re.compile(r"[1-9][0-9]{0,14}")
_BY_HAND = {"delivered": (Status.DELIVERED, None), "failed": (Status.FAILED, "unreachable"), "none": (None, None)}
"""What can be let happen to a message, with the reason for a failure."""


class InboxApi:
    """The inbox holds codes. A key sees the messages of its application; `is_open`: everybody sees all, and numbers."""

    def __init__(self, inbox: Inbox, gate: Gate, *, is_open: bool) -> None:
        self._inbox = inbox
        self._gate = gate
        self._open = is_open

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/inbox", self.read, methods=["GET"]),
            Route("/inbox/{id}", self.take, methods=["POST"]),
        ]

    async def read(self, request: Request) -> Response:
        """`GET /inbox`: a page of messages, the newest first."""
        sees = self._admit(request, "verify", "read")
        before = request.query_params.get("before", "")
        if "before" in request.query_params and not _NAME.fullmatch(before):
            errors = [{"path": "query.before", "message": "write the id of a message"}]
            raise Problem("invalid_request", "query.before: write the id of a message", {"errors": errors})
        found, more = await self._inbox.read(int(before or 0), PAGE)
        messages = [self._shown(one) for one in found if sees in {None, one.application}]
        return _answer({"messages": messages, "before": more})

    async def take(self, request: Request) -> Response:
        """`POST /inbox/{id}`: what its script has not reported yet is not reported; this is."""
        sees = self._admit(request, "verify")
        status, reason = _BY_HAND[bodies.read(bodies.InboxBody, request.state.body).receipt]
        name = request.path_params["id"]
        entry = await self._inbox.find(int(name)) if _NAME.fullmatch(name) else None
        if entry is None or sees not in {None, entry.application}:
            raise Problem("not_found", "there is no such message in the inbox, or no longer")
        return _answer(self._shown(await self._inbox.take(entry, status, reason)))

    def _admit(self, request: Request, *scopes: str) -> str | None:
        """The application whose messages the caller sees, None for all; raises Problem."""
        return None if self._open else self._gate.admit(request, *scopes).name

    def _shown(self, entry: Entry) -> dict[str, Any]:
        return {
            "id": entry.id,
            "at": rfc3339(entry.at),
            "application": entry.application,
            "channel": entry.channel,
            "provider": entry.provider,
            "delivery": entry.delivery,
            "to": entry.to if self._open else phone.masked(entry.to),
            "text": entry.text,
            "status": entry.status,
        }


def _answer(said: dict[str, Any]) -> Response:
    return Response(orjson.dumps(said), media_type="application/json")
