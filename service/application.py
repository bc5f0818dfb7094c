"""An application: a caller of verifyd, with its brand and its policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.cascade import Cascade, Step
from service.guard.limits import Rate, keys
from service.guard.policy import Policy
from service.texts import Texts


@dataclass(frozen=True, slots=True)
class Subscription:
    """How an application learns of events: `keep` of them can be read; those of `types` are posted to `url`, if any.

    Each of `secrets` signs what is posted.
    """

    url: str
    secrets: tuple[str, ...] = field(repr=False)
    types: frozenset[str]
    keep: int

    def posts(self, event: str) -> bool:
        """Whether an event of this type is to be posted."""
        return bool(self.url) and event in self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """The policy that a verification is made under. Times are in seconds."""

    name: str
    brand: str
    texts: Texts
    cascade: Cascade
    cascade_by_prefix: Mapping[str, Cascade]
    code_length: int
    ttl: int
    checks: int
    wrong_checks_per_day: int
    sends: int
    resend_after: tuple[int, ...]
    countries: frozenset[str] | None
    allow_types: frozenset[str]
    own_code: bool
    locale: str
    number_rates: tuple[Rate, ...]
    policy: Policy
    test_numbers: Mapping[str, str] = field(repr=False)
    events: Subscription | None = None
    """None: no event is kept or posted."""

    def cascade_for(self, number: str) -> Cascade:
        """The cascade for an E.164 number: that of the longest prefix it begins with, else the general one."""
        for length in range(len(number), 1, -1):
            if (cascade := self.cascade_by_prefix.get(number[:length])) is not None:
                return cascade
        return self.cascade

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all its cascades."""
        return tuple(step for one in (self.cascade, *self.cascade_by_prefix.values()) for step in one.steps)

    @property
    def resend_pauses(self) -> str:
        """The pauses between sends as the scripts take them."""
        return " ".join(str(pause * 1000) for pause in self.resend_after)

    @property
    def rates(self) -> str:
        """The limits of a number as the scripts take them."""
        return keys(self.number_rates)

    @property
    def spacing(self) -> str:
        """Those limits that space sends out (one per period), as the scripts take them."""
        return keys([rate for rate in self.number_rates if rate.count == 1])
