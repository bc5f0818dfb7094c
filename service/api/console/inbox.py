"""*Inbox*: a phone that shows the simulator's messages, and lets people decide what becomes of them."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import phone
from service.api.console.access import form
from service.api.console.site import Site, see
from service.api.problems import Problem
from service.changes import Changes
from service.inbox import Entry, Inbox
from service.provider import Status
from service.providers.simulator import ENDINGS

PATH = "/console/inbox"
MESSAGES = 30
"""Messages on the phone."""

_NAME = re.compile(r"[1-9][0-9]{0,14}")
_RECEIPTS = {"delivered": (Status.DELIVERED, None), "failed": (Status.FAILED, "unreachable"), "none": (None, None)}


class InboxPages:
    """The phone. `api`: where callers find the service."""

    def __init__(self, site: Site, inbox: Inbox, changes: Changes, *, api: str) -> None:
        self._site = site
        self._inbox = inbox
        self._changes = changes
        self._api = api

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        return [self._site.route(PATH, self.show), self._site.route(f"{PATH}/{{id}}", self.take, "POST")]

    async def show(self, request: Request) -> Response:
        """The messages, the newest first."""
        visitor = self._site.access.visitor(request)
        found, _ = await self._inbox.read(0, MESSAGES)
        messages = [self._message(one) for one in found if visitor.application in {None, one.application}]
        values = {"messages": messages, "endings": ENDINGS, "api": self._api}
        return self._site.page("inbox.html", "Inbox", visitor, **values)

    async def take(self, request: Request) -> Response:
        """A message is taken in hand."""
        sent, access = form(request), self._site.access
        visitor = access.actor(request, access.visitor(request), sent)
        if (receipt := sent.get("receipt", "")) not in _RECEIPTS:
            raise Problem("invalid_request", f"receipt: write one of {', '.join(_RECEIPTS)}")
        name = request.path_params["id"]
        entry = await self._inbox.find(int(name)) if _NAME.fullmatch(name) else None
        if entry is None or visitor.application not in {None, entry.application}:
            raise Problem("not_found", "there is no such message in the inbox, or no longer")
        await self._inbox.take(entry, *_RECEIPTS[receipt])
        change = f"receipt.{receipt}"
        await self._changes.note(entry.application, change, entry.delivery, reason="", author=visitor.name)
        return see(PATH)

    def _message(self, entry: Entry) -> dict[str, Any]:
        number = entry.to if self._site.access.is_open else phone.masked(entry.to)
        return {"entry": entry, "to": number, "final": entry.status not in {Status.ACCEPTED, Status.SENT}}
