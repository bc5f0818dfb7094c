"""Why something was not done with a verification, in words for its caller."""

from __future__ import annotations

from service.answer import Answer
from service.guard.limits import from_key
from service.guard.live import Heard
from service.record import Verification
from service.requests import Refusal

NOT_FOUND = Refusal(code="not_found", detail="this application has no such verification, or no longer")
CONFLICT = Refusal(code="idempotency_conflict", detail="this Idempotency-Key came before with another body")


def forbidden(detail: str) -> Refusal:
    """The application may not do this."""
    return Refusal(code="forbidden", detail=detail)


def not_pending(found: Verification) -> Refusal:
    """It is over."""
    return Refusal(code="not_pending", detail=f"the verification is {found.status}", id=found.id, status=found.status)


def other_channels(found: Verification) -> Refusal:
    """It does not go over the channel that was asked for."""
    detail = f"this verification goes over {', '.join(found.cascade)} only"
    return Refusal(code="forbidden", detail=detail, id=found.id)


def locked(wait_ms: int) -> Refusal:
    """The number had its wrong guesses for today."""
    detail = "too many wrong codes for this number: let it rest until retry_after"
    return _limited("wrong_checks", detail, wait_ms)


def guarded(heard: Heard) -> Refusal:
    """The guard refused the send."""
    decision = heard.decision
    if (limit := decision.limited) is not None:
        return _limited(limit.what, limit.detail, limit.wait or 0)
    return Refusal(
        code="challenge_required" if decision.verdict == "challenge" else "blocked",
        detail=decision.reasons[0].detail,
        retry_after=decision.retry_after,
        reasons=decision.reasons,
        decision=heard.name,
    )


def waiting(verification: str, wait_ms: int) -> Refusal:
    """The pending verification may not be sent again yet."""
    detail = "a code was sent just now: go on with the pending verification, or wait until resend_at"
    return _limited("resend", detail, wait_ms, verification)


def unsent(answer: Answer) -> Refusal | None:
    """The script refused the send for a reason that is in the answer alone; None where it is the verification's."""
    name = answer.fields.text("id")
    match answer.outcome:
        case "gone":
            return NOT_FOUND
        case "conflict":
            return CONFLICT
        case "limited":
            if answer.detail == "guard":
                return _limited("number", "this number has had its sends for now", answer.number, name)
            rate = from_key(answer.detail)
            return _limited(f"number {rate}", f"this number has had its {rate}", answer.number, name)
        case "wait":
            return waiting(name, answer.number)
        case "exhausted":
            detail = "every send of this verification is used: cancel it, or wait until it expires"
            return _limited("sends", detail, answer.number, name)
    return None


def _limited(limit: str, detail: str, wait_ms: int, pending: str = "") -> Refusal:
    wait = max(1, wait_ms) / 1000
    return Refusal(code="rate_limited", detail=detail, limit=limit, retry_after=wait, id=pending or None)
