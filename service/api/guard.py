"""`/guard` and `/numbers`: why somebody got no code, and how to let them in."""

from __future__ import annotations

import math
from typing import Any, get_args

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import phone
from service.api import bodies
from service.api.auth import Gate
from service.api.problems import Problem
from service.application import Application
from service.errors import InvalidNumber
from service.guard.ask import Ask, Signals
from service.guard.controls import Controls, Note, PrefixView, State
from service.guard.prices import Prices
from service.guard.verdict import sentence
from service.phone import Number
from service.record import rfc3339
from service.segments import measure

NOBODY = "api"
"""The author of a change that does not name one."""


class GuardApi:
    """What an analyst asks of the guard."""

    def __init__(self, controls: Controls, gate: Gate, prices: Prices) -> None:
        self._controls = controls
        self._gate = gate
        self._prices = prices

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/guard/decisions/{id}", self.decision, methods=["GET"]),
            Route("/guard/prefixes", self.prefixes, methods=["GET"]),
            Route("/guard/prefixes/{prefix}", self.mark_prefix, methods=["PUT"]),
            Route("/guard/prefixes/{prefix}", self.unmark_prefix, methods=["DELETE"]),
            Route("/guard/numbers/{number}", self.mark_number, methods=["PUT"]),
            Route("/guard/numbers/{number}", self.unmark_number, methods=["DELETE"]),
            Route("/numbers/{number}", self.number, methods=["GET"]),
        ]

    async def decision(self, request: Request) -> Response:
        """`GET /guard/decisions/{id}`."""
        application = self._gate.admit(request, "guard", "read")
        found = await self._controls.decision(application.name, request.path_params["id"])
        if found is None:
            raise Problem("not_found", "this application has no such decision, or no longer")
        return _answer(found)

    async def prefixes(self, request: Request) -> Response:
        """`GET /guard/prefixes?country=GB&state=blocked`."""
        self._gate.admit(request, "guard", "read")
        query = request.query_params
        country, state = query.get("country", ""), query.get("state")
        errors = bodies.strange(query, "country", "state")
        if country not in phone.COUNTRIES:
            errors.append({"path": "query.country", "message": "write an ISO 3166-1 alpha-2 code in capitals"})
        if state is not None and state not in get_args(State):
            errors.append({"path": "query.state", "message": f"write one of {', '.join(get_args(State))}"})
        if errors:
            raise bodies.invalid(errors)
        found = await self._controls.prefixes(country, next((one for one in get_args(State) if one == state), None))
        return _answer({"country": country, "prefixes": [_shown(view) for view in found]})

    async def mark_prefix(self, request: Request) -> Response:
        """`PUT /guard/prefixes/{prefix}`."""
        application = self._gate.admit(request, "guard")
        wanted = bodies.read(bodies.PrefixBody, request.state.body)
        prefix = read_prefix(request.path_params["prefix"])
        await self._controls.mark_prefix(application.name, prefix, wanted.action, _note(wanted))
        return _answer({"prefix": prefix, **_told(wanted)})

    async def unmark_prefix(self, request: Request) -> Response:
        """`DELETE /guard/prefixes/{prefix}`."""
        application = self._gate.admit(request, "guard")
        wanted = bodies.read(bodies.UnmarkBody, request.state.body)
        prefix = read_prefix(request.path_params["prefix"])
        if not await self._controls.unmark_prefix(application.name, prefix, _parting(wanted)):
            raise Problem("not_found", "there is no rule for this prefix")
        return _answer({"prefix": prefix})

    async def mark_number(self, request: Request) -> Response:
        """`PUT /guard/numbers/{number}`."""
        application = self._gate.admit(request, "guard")
        wanted = bodies.read(bodies.NumberBody, request.state.body)
        number = await read_number(self._controls, request.path_params["number"])
        await self._controls.mark_number(application.name, number, wanted.action, _note(wanted))
        return _answer({"number": number.masked, **_told(wanted)})

    async def unmark_number(self, request: Request) -> Response:
        """`DELETE /guard/numbers/{number}`."""
        application = self._gate.admit(request, "guard")
        wanted = bodies.read(bodies.UnmarkBody, request.state.body)
        number = await read_number(self._controls, request.path_params["number"])
        if not await self._controls.unmark_number(application.name, number, _parting(wanted)):
            raise Problem("not_found", "there is no mark on this number")
        return _answer({"number": number.masked})

    async def number(self, request: Request) -> Response:
        """`GET /numbers/{number}`: what is known of it, and what the guard would say now."""
        application = self._gate.admit(request, "guard", "read")
        number = await read_number(self._controls, request.path_params["number"], possible=True)
        return _answer(await known_of(self._controls, application, number, self._prices))


async def known_of(controls: Controls, application: Application, number: Number, prices: Prices) -> dict[str, Any]:
    """What is known of a number, and what the guard would say now; raises Unavailable."""
    ask = Ask.of(application.policy, number, application.cascade.channels[0], Signals(), prices)
    return {
        "number": number.masked,
        "valid": number.valid,
        "country": number.country,
        "region": phone.region(number) or None,
        "type": number.kind,
        "carrier": phone.carrier(number) or None,
        "prefixes": [f"+{one}" for one in (ask.prefixes.range, ask.prefixes.block4, ask.prefixes.block3)],
        "channels": sorted(_channels(application, number)),
        "segments": _segments(application, number),
        "price": ask.price,
        "guard": await controls.number(ask),
    }


def _segments(application: Application, number: Number) -> int:
    """How many SMS the application's text takes in the language of the number's country."""
    locale = application.texts.locale(None, number.country, application.locale)
    code, minutes = "0" * application.code_length, math.ceil(application.ttl / 60)
    text = application.texts.render("sms", "default", locale, code=code, brand=application.brand, minutes=minutes)
    return measure(text).count


def _channels(application: Application, number: Number) -> frozenset[str]:
    return frozenset(str(channel) for channel in application.cascade.channels) & phone.reach(
        number.kind, application.allow_types
    )


def read_prefix(written: str) -> str:
    """The first digits of numbers, with or without the plus; raises Problem."""
    prefix = "+" + written.removeprefix("+")
    if not (prefix[1:].isascii() and prefix[1:].isdigit() and len(prefix) <= 1 + phone.E164_DIGITS):
        message = "write the first digits of numbers in E.164, as +4474"
        raise bodies.invalid([{"path": "path.prefix", "message": message}])
    if not phone.countries_of(prefix):
        raise bodies.invalid([{"path": "path.prefix", "message": "write at least a whole calling code"}])
    return prefix


async def read_number(controls: Controls, written: str, *, possible: bool = False) -> Number:
    """A number in E.164, with or without the plus; raises Problem, Unavailable.

    So is one that no plan has, where a rule by hand lets it through, or where being `possible` is enough.
    """
    e164 = "+" + written.removeprefix("+")
    try:
        return await controls.read_number(e164)
    except InvalidNumber as error:
        if possible and (found := phone.possible(e164)) is not None:
            return found
        raise Problem("invalid_number", f"`number`: {error.detail}") from None


def _note(wanted: bodies.HandBody) -> Note:
    return Note(reason=wanted.reason, author=wanted.author or NOBODY, until=wanted.until)


def _parting(wanted: bodies.UnmarkBody) -> Note:
    return Note(reason=wanted.reason or "", author=wanted.author or NOBODY)


def _told(wanted: bodies.PrefixBody | bodies.NumberBody) -> dict[str, Any]:
    return {
        "action": wanted.action,
        "reason": wanted.reason,
        "author": wanted.author or NOBODY,
        "until": rfc3339(wanted.until),
    }


def _shown(view: PrefixView) -> dict[str, Any]:
    note = view.note
    # The guard's own reason where nobody gave one.
    reason = sentence(view.level or "") if view.state == "blocked" else None
    return {
        "prefix": view.prefix,
        "level": view.level,
        "state": view.state,
        "exposure": round(view.exposure, 3),
        "cap": None if view.cap is None else round(view.cap, 3),
        "recent_sends": round(view.recent, 3),
        "sends": round(view.sends, 3),
        "conversions": round(view.approvals, 3),
        "since": rfc3339(view.since),
        "until": rfc3339(view.until),
        "reason": note.reason if note else reason,
        "author": note.author if note else None,
    }


def _answer(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
