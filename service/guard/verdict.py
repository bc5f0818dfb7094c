"""The verdict on a send, and the reasons for it: what every rule found goes in, one answer comes out. Pure.

A person at a form either gets the code, proves to be one first, or is told when to come back. What a rule finds is
*soft* where a proof can help (prefixes, concentration, address, device) and *hard* where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from service.guard.credit import Shortfall

Word = Literal["allow", "challenge", "block"]
Mode = Literal["off", "monitor", "enforce"]

SOFT: Final = frozenset({"block3", "block4", "range", "country", "concentration", "ip", "device"})
"""Rules that a proof may lift."""

_PREFIXES: Final = frozenset({"block3", "block4", "range"})

_SENTENCES: Final = {
    "type": "numbers of this type are refused: {what}",
    "countries": "{what} is not among this application's countries",
    "denied": "denied by hand: {what}",
    "number": "this number has had its sends for now",
    "unconverted": "too many codes for this number were never used",
    "block3": "too many codes for these thousand numbers were never used",
    "block4": "too many codes for these ten thousand numbers were never used",
    "range": "too many codes for this range were never used",
    "country": "too many codes for this country were never used",
    "concentration": "too many of the recent sends around it go to this block",
    "ip": "too many codes asked for from this address were never used",
    "device": "too many codes asked for from this device were never used",
    "limit": "the limit {what} is used up",
    "budget": "the budget {what} is spent",
}

RULES: Final = frozenset(_SENTENCES)
"""Every rule that can refuse a send."""

_LIFTS: Final = {
    "type": "allow the type for the application",
    "countries": "the country has to be added to the application",
    "denied": "the hand rule has to be deleted",
    "budget": "the budget has to be raised",
}


def sentence(rule: str) -> str:
    """What a rule that looks at a bucket holds against it."""
    return _SENTENCES[rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a send is refused: the rule, the prefix that it looked at (None for none), what is used and what there is.

    `wait` is the time (ms) until there is room, None where time does not help.
    """

    rule: str
    prefix: str | None = None
    what: str = ""
    exposure: float | None = None
    cap: float | None = None
    wait: int | None = None

    @classmethod
    def short(cls, rule: str, found: Shortfall, *, prefix: str | None = None, what: str = "") -> Reason:
        """A reason that time lifts."""
        return cls(rule=rule, prefix=prefix, what=what, exposure=found.exposure, cap=found.cap, wait=found.wait)

    @property
    def detail(self) -> str:
        """The reason in a sentence, with what would lift it."""
        sentence = _SENTENCES[self.rule].format(what=self.what)
        if self.exposure is not None and self.cap is not None:
            sentence += f" ({self.exposure:.1f} of {self.cap:.1f})"
        lift = _LIFTS[self.rule] if self.wait is None else f"room again in {_roughly(self.wait)}"
        sooner = ", or sooner as codes are used" if self.rule in SOFT else ""
        return f"{sentence}; {lift}{sooner}"

    @property
    def bucket(self) -> str | None:
        """The name of the bucket of a prefix that has no room; None for all other reasons."""
        return f"{self.rule}:{self.prefix[1:]}" if self.prefix and self.rule in _PREFIXES else None

    def shown(self) -> dict[str, object]:
        """The reason as callers see it."""
        return {
            "rule": self.rule,
            "prefix": self.prefix,
            "detail": self.detail,
            "exposure": None if self.exposure is None else round(self.exposure, 3),
            "cap": None if self.cap is None else round(self.cap, 3),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one send. `range` is the widest prefix of the number that was looked at, `price` what it costs."""

    verdict: Word
    reasons: tuple[Reason, ...] = ()
    country: str = ""
    range: str = ""
    price: float = 0.0

    @property
    def retry_after(self) -> float | None:
        """When to come back, in seconds; None when it was allowed, or when time does not help."""
        waits = [reason.wait for reason in self.reasons]
        known = [wait for wait in waits if wait is not None]
        return max(known) / 1000 if known and len(known) == len(waits) else None

    @property
    def limited(self) -> Reason | None:
        """The limit that is used up, which the operator has set as one and which holds in every mode."""
        return next((reason for reason in self.reasons if reason.rule == "limit"), None)


ALLOWED: Final = Decision("allow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the rules found about one send.

    `around` is about the number's surroundings, `country` only that its country is full, `others` everything else.
    `trusted` is whether number, caller or a hand rule stand for the person, `vouched` whether the address or the device
    was approved for this very country.
    """

    around: Sequence[Reason] = ()
    country: Reason | None = None
    others: Sequence[Reason] = ()
    trusted: bool = False
    vouched: bool = False


def judge(found: Findings, *, challenges: bool, proven: bool) -> Decision:
    """Answer a send. `challenges` is whether the application can ask for a proof, `proven` whether there was one."""
    reasons = list(found.others)
    if not found.trusted:
        reasons += found.around
        if found.country is not None and not found.vouched:
            reasons.append(found.country)
    if not reasons:
        return ALLOWED
    soft = all(reason.rule in SOFT for reason in reasons)
    return Decision("challenge" if soft and challenges and not proven else "block", tuple(reasons))


def _roughly(wait: int) -> str:
    seconds = wait / 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
