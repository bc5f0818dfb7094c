"""`/verifications`: from JSON to the acts of a verification, and back."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import log, phone
from service.api import bodies
from service.api.auth import Gate
from service.api.problems import Problem, refused
from service.application import Application
from service.errors import InvalidNumber
from service.guard.ask import Signals
from service.guard.live import Guard
from service.idempotency import Idempotency
from service.phone import Number
from service.record import Verification, rfc3339
from service.requests import Check, Refusal, Start, Started, Transaction
from service.verification import Verifications
from service.verification.check import Checks
from service.verification.start import Starts

MAX_KEY = 255
"""Characters of an idempotency key."""


class VerificationsApi:
    """The endpoints of verifications."""

    def __init__(self, starts: Starts, checks: Checks, verifications: Verifications, gate: Gate, guard: Guard) -> None:
        self._starts = starts
        self._checks = checks
        self._verifications = verifications
        self._gate = gate
        self._guard = guard

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/verifications", self.create, methods=["POST"]),
            Route("/verifications/check", self.check, methods=["POST"]),
            Route("/verifications/{id}", self.get, methods=["GET"]),
            Route("/verifications/{id}/resend", self.resend, methods=["POST"]),
            Route("/verifications/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/verifications/{id}/feedback", self.feedback, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /verifications`."""
        application = self._gate.admit(request, "verify")
        wanted = bodies.read(bodies.CreateBody, request.state.body, _key_errors(request))
        number = await self._number(application, wanted.to, wanted.country)
        outcome = await self._starts.start(
            application,
            Start(
                number=number,
                channel=wanted.channel,
                cascade=wanted.cascade,
                locale=wanted.locale,
                purpose=wanted.purpose,
                email=wanted.email,
                code=wanted.code,
                transaction=_transaction(wanted.transaction),
                app_hash=wanted.app_hash,
                webotp_domain=wanted.webotp_domain,
                signals=_signals(wanted),
                metadata=wanted.metadata,
                idempotency=_idempotency(request, wanted),
            ),
        )
        log.note(to=number.masked)  # of what is refused as well
        return _started(outcome)

    async def resend(self, request: Request) -> Response:
        """`POST /verifications/{id}/resend`."""
        application = self._gate.admit(request, "verify")
        wanted = bodies.read(bodies.ResendBody, request.state.body)
        outcome = await self._starts.resend(application, request.path_params["id"], wanted.channel)
        return _started(outcome)

    async def check(self, request: Request) -> Response:
        """`POST /verifications/check`."""
        application = self._gate.admit(request, "verify")
        guess = bodies.read(bodies.CheckBody, request.state.body, _key_errors(request))
        outcome = await self._checks.check(
            application,
            Check(
                id=guess.id,
                number=None if guess.to is None else await self._number(application, guess.to, guess.country),
                code=guess.code,
                transaction=_transaction(guess.transaction),
                idempotency=_idempotency(request, guess),
            ),
        )
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        return _answer(shown(outcome.verification) | {"valid": outcome.valid})

    async def get(self, request: Request) -> Response:
        """`GET /verifications/{id}`, with the timeline."""
        application = self._gate.admit(request, "verify", "read")
        found = _found(await self._verifications.read(application, request.path_params["id"]))
        timeline = [
            {"at": rfc3339(event.at), "event": event.event, "n": event.n, "cause": event.cause}
            for event in found.timeline
        ]
        return _answer(shown(found) | {"timeline": timeline})

    async def cancel(self, request: Request) -> Response:
        """`POST /verifications/{id}/cancel`."""
        application = self._gate.admit(request, "verify")
        bodies.read(bodies.CancelBody, request.state.body)
        return _answer(shown(_found(await self._verifications.cancel(application, request.path_params["id"]))))

    async def feedback(self, request: Request) -> Response:
        """`POST /verifications/{id}/feedback`."""
        application = self._gate.admit(request, "verify")
        said = bodies.read(bodies.FeedbackBody, request.state.body)
        found = await self._verifications.feedback(application, request.path_params["id"], converted=said.converted)
        return _answer(shown(_found(found)))

    async def _number(self, application: Application, to: str, country: str | None) -> Number:
        reserved = phone.reserved(to, application.test_numbers) if application.test_numbers else None
        try:
            return reserved or await self._guard.number(to, country)
        except InvalidNumber as error:
            raise Problem("invalid_number", f"`to`: {error.detail}") from None


def shown(verification: Verification) -> dict[str, Any]:
    """A verification as callers see it."""
    return {
        "id": verification.id,
        "status": verification.status,
        "to": verification.to,
        "country": verification.country,
        "channel": verification.channel,
        "cascade": verification.cascade,
        "purpose": verification.purpose,
        "locale": verification.locale,
        "created_at": rfc3339(verification.created_at),
        "expires_at": rfc3339(verification.expires_at),
        "resend_at": rfc3339(verification.resend_at),
        "checks_remaining": verification.checks_remaining,
        "sends_remaining": verification.sends_remaining,
        "deliveries": [
            {
                "n": delivery.n,
                "channel": delivery.channel,
                "provider": delivery.provider,
                "status": delivery.status,
                "reason": delivery.reason,
                "queued_at": rfc3339(delivery.queued_at),
                "sent_at": rfc3339(delivery.sent_at),
                "delivered_at": rfc3339(delivery.delivered_at),
            }
            for delivery in verification.deliveries
        ],
        "metadata": verification.metadata,
    }


def _signals(wanted: bodies.CreateBody) -> Signals:
    given = wanted.signals or bodies.Signals()
    return Signals(
        ip=given.ip,
        device=given.device_id,
        session=given.session_id,
        trusted=given.trusted,
        challenge_passed=given.challenge_passed,
        limit_keys=wanted.limit_keys,
    )


def _transaction(given: bodies.TransactionBody | None) -> Transaction | None:
    return None if given is None else Transaction(given.amount, given.payee)


def _key_errors(request: Request) -> list[bodies.Error]:
    """What is wrong with the request's idempotency key."""
    key = request.headers.get("idempotency-key")
    if key is None or (1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        return []
    return [{"path": "header.Idempotency-Key", "message": f"write 1 to {MAX_KEY} printable ASCII characters"}]


def _idempotency(request: Request, given: bodies.Body) -> Idempotency | None:
    """The request's idempotency key with its body as understood, so that the order of fields makes no difference."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    return Idempotency(key, orjson.dumps(given.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS))


def _started(outcome: Started | Refusal) -> Response:
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return _answer(shown(outcome.verification), 200 if outcome.joined else 201)


def _found(outcome: Verification | Refusal) -> Verification:
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return outcome


def _answer(verification: dict[str, Any], status: int = 200) -> Response:
    log.note(verification=verification["id"], to=verification["to"])
    return Response(orjson.dumps(verification), status, media_type="application/json")
