"""`/stats`: what became of an application's sends, added up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, get_args

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api import bodies
from service.api.auth import Gate
from service.record import moment, rfc3339
from service.stats import HOUR, MOST_HOURS, Amounts, Group, Stats, total

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_USUAL = 24
"""Hours up to `to` where `from` is not given."""


class StatsApi:
    """Numbers for the analyst. `clock` tells the seconds since 1970, `currency` what money is in."""

    def __init__(self, stats: Stats, gate: Gate, *, clock: Callable[[], float], currency: str) -> None:
        self._stats = stats
        self._gate = gate
        self._clock = clock
        self._currency = currency

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [Route("/stats", self.stats, methods=["GET"])]

    async def stats(self, request: Request) -> Response:
        """`GET /stats?from=&to=&group_by=country`: whole hours, from that of `from` to that of `to`."""
        application = self._gate.admit(request, "guard", "read")
        errors = bodies.strange(request.query_params, "from", "to", "group_by")
        by = next((one for one in get_args(Group) if one == request.query_params.get("group_by", "country")), None)
        if by is None:
            errors.append(_error("group_by", f"write one of {', '.join(get_args(Group))}"))
        to = _seconds(request, "to", self._clock(), errors)
        end = math.ceil(to / HOUR)
        first = math.floor(_seconds(request, "from", to - _USUAL * HOUR, errors) / HOUR)
        if not errors and first > end:
            errors.append(_error("from", "write a time that is not after `to`"))
        if not errors and end - first > MOST_HOURS:
            errors.append(_error("from", f"write a time at most {MOST_HOURS // 24} days before `to`"))
        if errors or by is None:
            raise bodies.invalid(errors)
        rows = await self._stats.read(application.name, by, first, end)
        answer = {
            "from": _hour(first),
            "to": _hour(end),
            "group_by": by,
            "currency": self._currency,
            "total": _shown(total(rows)),
            "rows": [
                {"group": _hour(int(row.group)) if by == "hour" else row.group, **_shown(row.amounts)} for row in rows
            ],
        }
        return Response(orjson.dumps(answer), media_type="application/json")


def _seconds(request: Request, name: str, default: float, errors: list[bodies.Error]) -> float:
    """A time of the query in seconds since 1970; what is wrong with it is added to `errors`."""
    written = request.query_params.get(name)
    if written is None:
        return default
    try:
        if _TIME.fullmatch(written):
            return datetime.fromisoformat(written).timestamp()
    except ValueError:
        pass  # a month 13, or the like
    errors.append(_error(name, "write a time as 2026-01-31T12:00:00Z"))
    return default


def _error(name: str, message: str) -> bodies.Error:
    return {"path": f"query.{name}", "message": message}


def _hour(hour: int) -> str | None:
    return rfc3339(moment(hour * HOUR * 1000))


def _shown(amounts: Amounts) -> dict[str, Any]:
    return {
        "sends": amounts.sends,
        "delivered": amounts.delivered,
        "approved": amounts.approved,
        "conversion": round(amounts.approved / amounts.sends, 4) if amounts.sends else None,
        "advances": amounts.advances,
        "blocked": amounts.blocked,
        "challenged": amounts.challenged,
        "spend": amounts.spend / 1_000_000,
        "saved": amounts.saved / 1_000_000,
    }
