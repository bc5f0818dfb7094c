"""What every request meets first and last: its id, its route, the limit of its body, its problems, its log line.

An endpoint finds the body that was read for it in `request.state.body`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from service import log
from service.api.problems import Problem, unavailable
from service.errors import Unavailable, Unreadable
from service.metrics import Metrics
from service.tracing import NOWHERE, OFF, Span, Tracing

logger = logging.getLogger(__name__)

MAX_BODY = 16 * 1024
MAX_WEBHOOK = 1024 * 1024
"""What a provider may post: an address for a whole account hears of many messages at once."""
SECONDS = 1.9
"""How long an answer may take: a caller hears within two seconds that Redis is away."""

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""

_SENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_CLOSE = {"connection": "close"}
"""Where a body is not read to its end the connection cannot go on, and where a replica ends it must not."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Listener:
    """The ASGI application of one listening address. While `draining` each answer ends its connection."""

    def __init__(self, routes: Sequence[Route], metrics: Metrics, tracing: Tracing = OFF) -> None:
        self.routes = tuple(routes)
        self.draining = False
        self._metrics = metrics
        self._tracing = tracing
        # Most requests go to a few paths without parameters: they are found without asking every route.
        self._plain = {route.path: route for route in reversed(routes) if "{" not in route.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        name = given if _SENT_ID.fullmatch(given) else secrets.token_hex(8)
        about = log.begin(name)
        began = time.perf_counter()
        route = self._route(scope)
        with self._span(request, route) as span:
            try:
                response = await self._answer(request, route)
            except ClientDisconnect:
                return
            response.headers["x-request-id"] = name
            if self.draining:
                response.headers.update(_CLOSE)
            took = time.perf_counter() - began
            path = route.path if isinstance(route, Route) else "none"
            self._metrics.http_seconds(path, str(response.status_code)).observe(took)
            span.answered(response.status_code, about)
            if logger.isEnabledFor(logging.INFO):
                about |= {
                    "method": scope["method"],
                    "route": path,
                    "status": response.status_code,
                    "ms": round(took * 1e3, 2),
                }
                logger.info("request", extra={"fields": about})
            await response(scope, receive, send)

    def _span(self, request: Request, route: Route | Problem) -> Span:
        """The span of a request; where nothing is, nothing is traced. A stranger's traces are no business of ours."""
        if isinstance(route, Problem):
            return NOWHERE
        return self._tracing.request(request.method, route.path, {} if _from_stranger(route) else request.headers)

    async def _answer(self, request: Request, route: Route | Problem) -> Response:
        try:
            if isinstance(route, Problem):
                raise route
            # Read before the clock runs: a slow caller is not a slow Redis.
            most = MAX_WEBHOOK if _from_stranger(route) else MAX_BODY
            request.state.body = await _body(request, most)
            async with asyncio.timeout(SECONDS):
                response: Response = await route.endpoint(request)
                return response
        except Problem as problem:
            return _told(problem)
        except Unavailable as error:
            logger.warning("Redis is away", extra={"fields": {"error": str(error)}})
            return _told(unavailable())
        except TimeoutError:
            logger.warning("an answer took too long")
            return _told(unavailable())
        except ClientDisconnect:
            raise
        except Unreadable as error:
            logger.error("a sealed value cannot be read", extra={"fields": {"error": str(error)}})
            return _told(Problem("internal_error", "this verification cannot be read here: the log says why"))
        except Exception:  # whatever broke, the caller gets a problem and the log the place
            logger.exception("a request failed")
            return _told(Problem("internal_error", "this is a defect of verifyd: the log has the request id"))

    def _route(self, scope: Scope) -> Route | Problem:
        plain = self._plain.get(scope["path"])
        allowed: set[str] = set()
        for route in (plain,) if plain is not None else self.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return route
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if allowed:
            methods = ", ".join(sorted(allowed))
            return Problem("method_not_allowed", f"use {methods}", headers={"allow": methods, **_CLOSE})
        return Problem("not_found", "there is nothing at this path", headers=_CLOSE)


def _from_stranger(route: Route) -> bool:
    """Whether it is a provider who calls, or somebody who poses as one."""
    return route.path.startswith(("/receipts/", "/inbound/"))


def _told(problem: Problem) -> Response:
    """The answer that tells of a problem, which the log line then names."""
    about = {"code": problem.code}
    if "id" in problem.more:
        about["verification"] = problem.more["id"]
    if "limit" in problem.more:
        about["limit"] = problem.more["limit"]
    log.note(**about)
    return problem.response()


async def _body(request: Request, most: int) -> bytes:
    """The body of a request, up to `most` bytes; raises Problem for more."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    raw = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > most:
                    raise _too_large(most)
    except TimeoutError:
        detail = f"send the whole body within {BODY_SECONDS:g} seconds"
        raise Problem("request_timeout", detail, headers={"connection": "close"}) from None
    return raw


def _too_large(most: int) -> Problem:
    return Problem("body_too_large", f"send at most {most} bytes", headers={"connection": "close"})
