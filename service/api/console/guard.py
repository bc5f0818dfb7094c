"""*Guard*: how countries and prefixes stand and why, what was refused, and what people rule by hand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import phone
from service.api import bodies
from service.api.console.access import Visitor, form
from service.api.console.site import Site, see
from service.api.guard import known_of, read_number, read_prefix
from service.api.problems import Problem
from service.application import Application
from service.changes import Change, Changes
from service.guard.controls import Controls, Note
from service.guard.prices import Prices
from service.recent import Recent
from service.record import moment
from service.stats import HOUR, Amounts, Group, Row, Stats

PATH = "/console/guard"
DECISIONS = 30
CHANGES = 30
DAY = 24
"""Hours that are shown."""

LASTS = {"": "for good", "3600": "for an hour", "86400": "for a day", "604800": "for a week", "2592000": "for 30 days"}
"""For how long (s) a rule by hand can hold, with the words for it."""

Hand = TypeVar("Hand", bodies.PrefixBody, bodies.NumberBody)


class GuardPages:
    """What an analyst sees and does. `clock` tells the seconds since 1970."""

    def __init__(
        self,
        site: Site,
        controls: Controls,
        recent: Recent,
        changes: Changes,
        stats: Stats,
        *,
        applications: Mapping[str, Application],
        prices: Prices,
        clock: Callable[[], float],
    ) -> None:
        self._site = site
        self._controls = controls
        self._recent = recent
        self._changes = changes
        self._stats = stats
        self._applications = applications
        self._prices = prices
        self._clock = clock

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        route = self._site.route
        return [
            route(PATH, self.overview),
            route(f"{PATH}/countries/{{country}}", self.country),
            route(f"{PATH}/decisions", self.decision),
            route(f"{PATH}/numbers", self.number, "POST"),
            route(f"{PATH}/numbers/marks", self.mark_number, "POST"),
            route(f"{PATH}/prefixes/rules", self.mark_prefix, "POST"),
        ]

    async def overview(self, request: Request) -> Response:
        """The countries, the latest refusals, the latest changes, and the forms to make some."""
        visitor, application = self._analyst(request)
        counted, hours, [names], changes = await asyncio.gather(
            self._day(application, "country"),
            self._day(application, "hour"),
            self._recent.read([application.name], "decisions", DECISIONS),
            self._changes.read(CHANGES),
        )
        amounts = {row.group: row.amounts for row in counted if row.group in phone.COUNTRIES}
        views, decisions = await asyncio.gather(
            asyncio.gather(*[self._controls.country(one) for one in amounts]),
            asyncio.gather(*[self._controls.decision(application.name, one) for one in names]),
        )
        return self._page(
            "guard.html",
            visitor,
            application,
            countries=sorted(views, key=lambda one: -one.exposure / (one.cap or 1.0)),
            amounts=amounts,
            hours=self._each_hour(hours),
            decisions=[one for one in decisions if one is not None],
            changes=[one for one in changes if _concerns(one, application.name)],
            prefix=request.query_params.get("prefix", ""),
            lasts=LASTS,
        )

    async def country(self, request: Request) -> Response:
        """The prefixes of a country."""
        visitor, application = self._analyst(request)
        name = request.path_params["country"]
        if name not in phone.COUNTRIES:
            raise Problem("not_found", "there is no such country")
        view, prefixes, counted = await asyncio.gather(
            self._controls.country(name), self._controls.prefixes(name), self._day(application, "prefix")
        )
        order = {"blocked": 0, "denied": 1, "allowed": 2, "open": 3}
        ranked = sorted(prefixes, key=lambda one: (order[one.state], -one.exposure / (one.cap or 1.0)))
        return self._page("country.html", visitor, application, country=view, prefixes=ranked, amounts=dict(counted))

    async def decision(self, request: Request) -> Response:
        """One decision by its id."""
        visitor, application = self._analyst(request)
        found = await self._controls.decision(application.name, request.query_params.get("id", "").strip())
        if found is None:
            raise Problem("not_found", "this application has no such decision, or no longer")
        return self._page("decision.html", visitor, application, decision=found)

    async def number(self, request: Request) -> Response:
        """What is known of a number, which is in no address or log for that reason."""
        visitor, application = self._analyst(request)
        number = await read_number(self._controls, form(request).get("number", ""), possible=True)
        found = await known_of(self._controls, application, number, self._prices)
        return self._page("number.html", visitor, application, number=found)

    async def mark_prefix(self, request: Request) -> Response:
        """A rule over a prefix is made or taken away."""
        actor, sent = self._actor(request)
        prefix = read_prefix(sent.get("prefix", ""))
        application = actor.application or ""
        if sent.get("action") == "forget":
            if not await self._controls.unmark_prefix(application, prefix, _parting(actor, sent)):
                raise Problem("not_found", "there is no rule for this prefix")
        else:
            wanted = _wanted(bodies.PrefixBody, actor, sent)
            await self._controls.mark_prefix(application, prefix, wanted.action, _note(wanted))
        return see(f"{PATH}/countries/{phone.countries_of(prefix)[0]}")

    async def mark_number(self, request: Request) -> Response:
        """A number is trusted or denied, or its mark taken away."""
        actor, sent = self._actor(request)
        number = await read_number(self._controls, sent.get("number", ""))
        application = actor.application or ""
        if sent.get("action") == "forget":
            if not await self._controls.unmark_number(application, number, _parting(actor, sent)):
                raise Problem("not_found", "there is no mark on this number")
        else:
            wanted = _wanted(bodies.NumberBody, actor, sent)
            await self._controls.mark_number(application, number, wanted.action, _note(wanted))
        return see(PATH)

    def _analyst(self, request: Request) -> tuple[Visitor, Application]:
        visitor = self._site.access.known(request)
        return visitor, self._applications[visitor.application or ""]

    def _actor(self, request: Request) -> tuple[Visitor, Mapping[str, str]]:
        sent, access = form(request), self._site.access
        actor = access.actor(request, access.known(request), sent)
        if not actor.name:
            raise Problem("invalid_request", "sign in with your name as the user: it stands in the record")
        return actor, sent

    def _page(self, template: str, visitor: Visitor, application: Application, **values: Any) -> Response:
        about = {"mode": application.policy.mode, "prices": self._prices, **values}
        return self._site.page(template, "Guard", visitor, **about)

    async def _day(self, application: Application, by: Group) -> list[Row]:
        """What all replicas counted in this hour and the 23 before it; raises Unavailable."""
        end = self._end()
        return await self._stats.read(application.name, by, end - DAY, end)

    def _end(self) -> int:
        """The hour that comes after this one, in hours since 1970."""
        return math.floor(self._clock() / HOUR) + 1

    def _each_hour(self, rows: Sequence[Row]) -> list[tuple[datetime, Amounts]]:
        """All hours of the day, those too in which there was nothing."""
        counted, end = dict(rows), self._end()
        hours = range(end - DAY, end)
        return [(moment(hour * HOUR * 1000), counted.get(str(hour), Amounts())) for hour in hours]


def _concerns(change: Change, application: str) -> bool:
    """Whether a change is about an application: rules over prefixes hold for all."""
    return change.application == application or change.change.startswith("prefix.")


def _wanted(body: type[Hand], actor: Visitor, sent: Mapping[str, str]) -> Hand:
    """What a form wants, by the rules of the API; raises Problem."""
    lasts = sent.get("lasts", "")
    if lasts not in LASTS:
        raise Problem("invalid_request", "lasts: choose one of the list")
    until = (datetime.now(UTC) + timedelta(seconds=int(lasts))).isoformat() if lasts else None
    said = {"action": sent.get("action"), "reason": sent.get("reason"), "author": actor.name, "until": until}
    return bodies.read(body, orjson.dumps(said))


def _parting(actor: Visitor, sent: Mapping[str, str]) -> Note:
    """Why and by whom a rule is taken away; raises Problem."""
    wanted = bodies.read(bodies.HandBody, orjson.dumps({"reason": sent.get("reason"), "author": actor.name}))
    return _note(wanted)


def _note(wanted: bodies.HandBody) -> Note:
    return Note(reason=wanted.reason, author=wanted.author or "", until=wanted.until)
