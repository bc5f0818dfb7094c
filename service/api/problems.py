"""Answers that say no: RFC 9457 problem details."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response

from service.requests import Refusal

CODES: Mapping[str, tuple[int, str]] = {
    "invalid_http": (400, "The request is not HTTP"),
    "invalid_json": (400, "The body is not JSON"),
    "malformed_receipt": (400, "The receipt or reply is not what this provider documents"),
    "unauthorized": (401, "No or unknown API key"),
    "forged_receipt": (401, "The receipt or reply is not from this provider"),
    "blocked": (403, "This send looks like fraud"),
    "challenge_required": (403, "Ask for a proof that this is a person"),
    "forbidden": (403, "Not allowed for this application"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "The request did not arrive in time"),
    "idempotency_conflict": (409, "The idempotency key was used with another body"),
    "not_pending": (409, "The verification has ended"),
    "body_too_large": (413, "The body is too large"),
    "invalid_request": (422, "The request is not valid"),
    "invalid_number": (422, "The number cannot be used"),
    "rate_limited": (429, "Too early or too often"),
    "headers_too_large": (431, "The headers are too large"),
    "internal_error": (500, "Something broke here"),
    "unavailable": (503, "Redis is away"),
}
"""Every `code` of a problem, with its HTTP status and its title."""


@dataclass(frozen=True)
class Problem(Exception):
    """Ends a request with a problem. `more` are members beside the standard ones, `headers` go with the answer."""

    code: str
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CODES[self.code][0]

    @property
    def title(self) -> str:
        """What it is, in general."""
        return CODES[self.code][1]

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": f"urn:verifyd:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.more,
        }
        return Response(
            orjson.dumps(body), self.status, headers=dict(self.headers), media_type="application/problem+json"
        )


def refused(refusal: Refusal) -> Problem:
    """The problem that tells of a refusal."""
    more: dict[str, Any] = {}
    headers = {}
    if refusal.id is not None:
        more["id"] = refusal.id
    if refusal.status is not None:
        more["state"] = refusal.status
    if refusal.limit is not None:
        more["limit"] = refusal.limit
    if refusal.decision is not None:
        more["decision_id"] = refusal.decision
        more["reasons"] = [reason.shown() for reason in refusal.reasons]
    if refusal.retry_after is not None:
        wait = max(1, math.ceil(refusal.retry_after))
        more["retry_after"] = wait
        headers["retry-after"] = str(wait)
    return Problem(refusal.code, refusal.detail, more, headers)


def unavailable() -> Problem:
    """Redis is away: nothing was sent."""
    return Problem("unavailable", "nothing was sent: try again shortly", headers={"retry-after": "1"})
