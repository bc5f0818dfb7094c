"""The applications of the file, as the rest of the service knows them."""

from __future__ import annotations

from dataclasses import replace

from service.application import Application, Subscription
from service.cascade import Cascade, Route, Step
from service.config.tables import CascadeStep, Config, EventsTable, Steps
from service.guard.policy import Policy
from service.providers.settings import plain
from service.texts import Texts

_AUTO_START = 20.0
"""Seconds that a step with `wait = "auto"` waits before it has learned."""


def application(name: str, config: Config) -> Application:
    """An application as the rest of the service knows it."""
    given = config.settings.applications[name]
    return Application(
        name=name,
        brand=given.brand,
        texts=Texts(given.texts),
        cascade=_cascade(given.cascade),
        cascade_by_prefix={prefix: _cascade(steps) for prefix, steps in given.cascade_by_prefix.items()},
        code_length=given.code_length,
        ttl=given.ttl,
        checks=given.checks,
        wrong_checks_per_day=given.wrong_checks_per_day,
        sends=given.sends,
        resend_after=given.resend_after,
        countries=None if given.countries is None else frozenset(given.countries),
        allow_types=frozenset(given.allow_types),
        own_code=given.own_code,
        locale=given.locale,
        number_rates=config.settings.guard.limits.number,
        policy=policy(name, config),
        test_numbers=given.test_numbers,
        events=None if given.events is None else _subscription(given.events),
    )


def policy(name: str, config: Config) -> Policy:
    """What the guard holds for an application.

    Without limits that only space sends out: who asks too soon just goes on with the code that is pending.
    """
    given, guard = config.settings.applications[name], config.settings.guard
    limits = guard.limits.limits
    return Policy(
        application=name,
        mode=given.guard.mode or guard.mode,
        challenges=guard.challenge if given.guard.challenge is None else given.guard.challenge,
        countries=None if given.countries is None else frozenset(given.countries),
        allow_types=frozenset(given.allow_types),
        test_numbers=frozenset(given.test_numbers),
        limits=replace(limits, number=tuple(rate for rate in limits.number if rate.count > 1)),
        budget=guard.budget.budget,
    )


def _subscription(given: EventsTable) -> Subscription:
    secrets = tuple(plain(given.secret, given.old_secret))
    return Subscription(given.url or "", secrets, frozenset(given.types), given.keep)


def _cascade(steps: Steps) -> Cascade:
    return Cascade(tuple(_step(step) for step in steps))


def _step(given: CascadeStep) -> Step:
    routes = tuple(Route(one.provider, one.weight, frozenset(one.countries), one.prefixes) for one in given.providers)
    if given.wait is None:
        start = min(max(_AUTO_START, given.wait_least), given.wait_most)
        return Step(given.channel, routes, start, (given.wait_least, given.wait_most))
    return Step(given.channel, routes, given.wait)
