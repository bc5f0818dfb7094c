"""The cascade: which steps a verification goes through, who carries each, and what a failure means. Pure.

A plan is written into the verification when it starts (`"sms:20000 whatsapp:20000 voice:40000"`: channels with their
waits in milliseconds), so that a change of the configuration does not touch what is under way. Which provider carries
a step is chosen when it is sent, from the configuration of that moment.

A step's providers are tried in the order in which they are listed. Those with a weight come before the others, drawn by
it for each verification anew; those with countries or prefixes carry numbers of these only, and a step that nobody
carries for a number is left out.

The silence of a step is kept by Redis: the script that wakes a verification after its wait moves it to the next step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.provider import REASONS, Channel

TAKEN = "duplicate"
"""The reason of a provider that has the message already, from a try whose answer was lost."""
BACKOFF_FIRST = 1.0
BACKOFF_MOST = 15.0


@dataclass(frozen=True, slots=True)
class Route:
    """A provider of a step, by its name; with a weight, or for numbers of some countries or with some prefixes only."""

    provider: str
    weight: int | None = None
    countries: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def serves(self, number: str, country: str) -> bool:
        """Whether it carries messages to this E.164 number of this country."""
        if not self.countries and not self.prefixes:
            return True
        return country in self.countries or number.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a channel, the ways that it may go in order, and how long to wait (seconds).

    With `bounds` (least and most, seconds) the wait is learned from receipts; `wait` is where that begins.
    """

    channel: Channel
    routes: tuple[Route, ...]
    wait: float
    bounds: tuple[float, float] | None = None

    def providers(self, number: str, country: str, seed: str) -> tuple[str, ...]:
        """The providers for a number in the order to try them; the same for the same `seed`, which draws by weight."""
        routes = [route for route in self.routes if route.serves(number, country)]
        draw = random.Random(seed)  # noqa: S311 - it shares out traffic, nothing depends on its being guessed
        # Efraimidis and Spirakis, Weighted random sampling with a reservoir (2006): the root orders by weight.
        drawn = [(draw.random() ** (1 / route.weight), route) for route in routes if route.weight]
        drawn.sort(key=lambda pair: -pair[0])
        first = [route.provider for _, route in drawn]
        return (*first, *(route.provider for route in routes if not route.weight))


@dataclass(frozen=True, slots=True)
class Cascade:
    """The steps that an application declares, in order."""

    steps: tuple[Step, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels in order."""
        return tuple(step.channel for step in self.steps)

    def plan(
        self, number: str, country: str, reach: Collection[str], wanted: Sequence[Channel] | None = None
    ) -> tuple[Step, ...]:
        """The steps for a number that can be reached on `reach`; `wanted` overrides the order and leaves steps out.

        Empty when no step of the cascade can reach the number.
        """
        steps = self.steps if wanted is None else [step for one in wanted for step in self.steps if step.channel is one]
        return tuple(
            step
            for step in steps
            if step.channel in reach and any(route.serves(number, country) for route in step.routes)
        )

    def providers(self, channel: Channel, number: str, country: str, seed: str) -> tuple[str, ...]:
        """The providers of a channel for a number, as `Step.providers`; empty when there are none any more."""
        steps = (step for step in self.steps if step.channel is channel)
        return next((step.providers(number, country, seed) for step in steps), ())


def written(plan: Sequence[Step], wait: Callable[[Step], float] = lambda step: step.wait) -> str:
    """A plan as it is kept in Redis, each step with its `wait`."""
    return " ".join(f"{step.channel}:{round(wait(step) * 1000)}" for step in plan)


def refusal(provider: str, reason: str) -> str:
    """A refusal as its step remembers it: by whom, with a `!` where asking again is of no use."""
    return provider if REASONS.get(reason, REASONS["unknown"]).retry else f"{provider}!"


def in_turn(providers: Sequence[str], refusals: Sequence[str]) -> list[str]:
    """Who of a step's `providers` may be asked after these refusals, in order: each in turn, then around again."""
    left = [one for one in providers if f"{one}!" not in refusals]
    return sorted(left, key=refusals.count)


class Next(StrEnum):
    """What follows a send."""

    WAIT = "wait"
    """It was accepted: its receipt, or silence."""
    RETRY = "retry"
    """The same delivery again, with the same provider."""
    SWITCH = "switch"
    """A new delivery in the same step, with the next provider."""
    ADVANCE = "advance"
    """The next step."""
    LEAVE = "leave"
    """The next step if there is one, else the same delivery again."""


@dataclass(frozen=True, slots=True)
class Move:
    """What follows a send: how, after how many seconds, and which channels have become pointless."""

    next: Next
    delay: float = 0.0
    pointless: frozenset[Channel] = frozenset()


def after_rejection(reason: str, providers: int, attempt: int, retry_after: float | None = None) -> Move:
    """What to do when attempt number `attempt` (from 0) at the `providers` that a step has left was rejected.

    Transient reasons try each provider once at once, then go around again with a back-off that doubles, or that the
    provider asked for; the script turns it into an advance when it would end after the step's wait. Reasons that
    another provider may not share try the providers that are left. Whoever has the message already has taken it. All
    others advance.
    """
    if reason == TAKEN:
        return Move(Next.WAIT)
    known = REASONS.get(reason, REASONS["unknown"])
    fresh = attempt + 1 < providers
    if known.next_provider and fresh:
        return Move(Next.SWITCH)
    if known.retry and not known.recipient:
        around = (attempt + 1) // providers - 1
        delay = max(retry_after or 0.0, min(BACKOFF_FIRST * 2**around, BACKOFF_MOST))
        return Move(Next.RETRY if providers == 1 else Next.SWITCH, delay)
    return Move(Next.ADVANCE, pointless=pointless(reason))


_MOBILE_ONLY = frozenset({Channel.SMS, Channel.WHATSAPP, Channel.TELEGRAM})


NOBODY = Move(Next.LEAVE, 2.0)
"""What to do when none of a step's providers may be called: their circuits are open."""


def pointless(reason: str) -> frozenset[Channel]:
    """The channels on which nothing more can be expected after this reason (that of the failed step is behind us)."""
    known = REASONS.get(reason, REASONS["unknown"])
    if not known.next_channel:
        return frozenset(Channel)
    return _MOBILE_ONLY if reason == "landline" else frozenset()
