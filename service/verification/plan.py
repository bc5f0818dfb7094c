"""Which steps a new verification goes through."""

from __future__ import annotations

from service.application import Application
from service.cascade import Step
from service.phone import reach
from service.provider import Channel
from service.requests import Refusal, Start
from service.verification.refusals import forbidden


def plan(application: Application, wanted: Start) -> tuple[Step, ...] | Refusal:
    """The steps for what is wanted, or why there are none."""
    number = wanted.number
    test = number.e164 in application.test_numbers
    cascade = application.cascade_for(number.e164)
    asked = wanted.channels
    if wanted.code is not None and not application.own_code:
        return forbidden("`code`: this application may not choose its own codes")
    if application.countries is not None and number.country not in application.countries and not test:
        return forbidden(f"`to`: {number.country} is not among this application's countries")
    if strange := [channel for channel in asked if channel not in cascade.channels]:
        have = ", ".join(cascade.channels)
        return forbidden(f"{', '.join(strange)}: this application sends over {have} only")
    reached = frozenset(Channel) if test else reach(number.kind, application.allow_types)
    reached = reached if wanted.email else reached - {Channel.EMAIL}
    steps = cascade.plan(number.e164, number.country, reached, asked or None)
    if not steps:
        kind = number.kind.replace("_", " ")
        return Refusal(code="invalid_number", detail=f"`to`: no step of the cascade reaches a number of type {kind}")
    return steps
