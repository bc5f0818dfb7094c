"""What others do: the rules that are recommended, or built into other systems, with the constants usual for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

import phonenumbers

from tests.bench.pumping.judge import Event

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
MATURE: Final = 120.0
"""Seconds after which a code that was not entered counts as unconverted."""

_CODES: Final = frozenset(str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def calling_code(number: str) -> str:
    """The calling code of a number in E.164: these rules take it for the country."""
    return next(number[1:end] for end in (2, 3, 4) if number[1:end] in _CODES)


class Windows:
    """Counts in fixed windows: at most so many of each key in each so many seconds."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Hashable, float], tuple[float, int]] = {}

    def over(self, now: float, rules: Iterable[tuple[Hashable, int, float]]) -> str | None:
        """Name the first (key, most, seconds) that is used up; count towards all of them if none is."""
        found = []
        for key, most, seconds in rules:
            window = now // seconds
            since, count = self._counts.get((key, seconds), (window, 0))
            count = count if since == window else 0
            if count >= most:
                return f"{most} in {seconds / HOUR:g} h"
            found.append(((key, seconds), (window, count + 1)))
        self._counts.update(found)
        return None


class Open:
    """No guard at all: what an attack gets here is what others are measured by."""

    def create(self, event: Event) -> str | None:
        """Allow it."""
        del event
        return None

    def receipt(self, event: Event) -> None:
        """Ignore it."""

    def check(self, event: Event) -> None:
        """Ignore it."""


class PerNumber(Open):
    """Limits on the number alone, as otpgateway has them: five in ten minutes, ten a day."""

    def __init__(self) -> None:
        self._windows = Windows()

    def create(self, event: Event) -> str | None:
        """Count."""
        return self._windows.over(event["t"], ((event["to"], 5, HOUR / 6), (event["to"], 10, DAY)))


class CommonCaps(Open):
    """What guides recommend: five in ten minutes for a number, ten an hour for an address, 300 for a country."""

    def __init__(self) -> None:
        self._windows = Windows()

    def create(self, event: Event) -> str | None:
        """Count."""
        number = event["to"]
        return self._windows.over(
            event["t"], ((number, 5, HOUR / 6), (event["ip"], 10, HOUR), (calling_code(number), 300, HOUR))
        )


class PrefixWindow(Open):
    """A fixed window for each block of ten thousand numbers: ten an hour, and five in ten minutes for a number."""

    def __init__(self) -> None:
        self._windows = Windows()

    def create(self, event: Event) -> str | None:
        """Count."""
        number = event["to"]
        return self._windows.over(event["t"], ((number, 5, HOUR / 6), (number[:-4], 10, HOUR)))


@dataclass(slots=True)
class _Prefix:
    sends: deque[tuple[float, str]] = field(default_factory=deque)
    entered: deque[float] = field(default_factory=deque)
    blocked: float = 0.0


class _Learning(Open, ABC):
    """What all have in common that count conversion."""

    def __init__(self) -> None:
        self._pending: dict[str, str] = {}

    def check(self, event: Event) -> None:
        """Learn from the first right guess."""
        if event["correct"] and (number := self._pending.pop(event["ref"], None)) is not None:
            self.converted(number, event["t"])

    @abstractmethod
    def converted(self, number: str, now: float) -> None:
        """A code was entered."""


class ConversionThreshold(_Learning):
    """As vendors describe theirs: a prefix with 20 sends in an hour of which under 30 % convert rests for 12 hours.

    Blocks of ten thousand numbers and ranges of a million; a send counts once it had two minutes to convert.
    """

    def __init__(self) -> None:
        super().__init__()
        self._prefixes: dict[str, _Prefix] = {}

    def create(self, event: Event) -> str | None:
        """Judge both prefixes."""
        now, number = event["t"], event["to"]
        states = [self._prefixes.setdefault(prefix, _Prefix()) for prefix in (number[:-4], number[:-6])]
        for state in states:
            if now < state.blocked:
                return "blocked prefix"
            while state.sends and state.sends[0][0] < now - HOUR:
                state.sends.popleft()
            while state.entered and state.entered[0] < now - HOUR:
                state.entered.popleft()
            mature = 0
            for at, _ in state.sends:
                if at > now - MATURE:
                    break
                mature += 1
            if mature >= 20 and len(state.entered) < 0.3 * mature:
                state.blocked = now + 12 * HOUR
                return "blocked prefix"
        for state in states:
            state.sends.append((now, number))
        self._pending[event["ref"]] = number
        return None

    def converted(self, number: str, now: float) -> None:
        """Count it for both."""
        for prefix in (number[:-4], number[:-6]):
            if prefix in self._prefixes:
                self._prefixes[prefix].entered.append(now)


class UnverifiedBudget(_Learning):
    """As authgear has it: a country may have so many unverified codes as are a fifth of those verified in a day.

    At least 20 a day, a sixth of it in an hour; a code that is entered gives its unit back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, float], tuple[float, float]] = {}
        self._verified: dict[str, deque[float]] = {}

    def create(self, event: Event) -> str | None:
        """Leak both counts, and judge."""
        now, country = event["t"], calling_code(event["to"])
        verified = self._verified.setdefault(country, deque())
        while verified and verified[0] < now - DAY:
            verified.popleft()
        daily = max(20.0, 0.2 * len(verified))
        counts = []
        for seconds, most in ((HOUR, max(3.0, daily / 6)), (DAY, daily)):
            held, at = self._open.get((country, seconds), (0.0, now))
            held = max(0.0, held - (now - at) * most / seconds)
            if held + 1 > most:
                return f"unverified in {seconds / HOUR:g} h"
            counts.append((seconds, held + 1))
        for seconds, held in counts:
            self._open[country, seconds] = (held, now)
        self._pending[event["ref"]] = event["to"]
        return None

    def converted(self, number: str, now: float) -> None:
        """Give back."""
        country = calling_code(number)
        self._verified.setdefault(country, deque()).append(now)
        for seconds in (HOUR, DAY):
            if (country, seconds) in self._open:
                held, at = self._open[country, seconds]
                self._open[country, seconds] = (max(0.0, held - 1), at)


@dataclass(slots=True)
class _Belief:
    sent: float = 0.0
    entered: float = 0.0
    at: float = 0.0


class BetaBinomial(_Learning):
    """What a statistician would do: the expected conversion of a block of ten thousand, refused while under 30 %.

    Beta(3, 1) before anything is seen; what was seen has a half-life of six hours.
    """

    def __init__(self) -> None:
        super().__init__()
        self._beliefs: dict[str, _Belief] = {}

    def create(self, event: Event) -> str | None:
        """Judge the block, then count the send as unconverted until it converts."""
        now, number = event["t"], event["to"]
        belief = self._faded(number[:-4], now)
        if (3 + belief.entered) / (4 + belief.sent) < 0.3:
            return "expected conversion"
        belief.sent += 1
        self._pending[event["ref"]] = number
        return None

    def converted(self, number: str, now: float) -> None:
        """Count it."""
        self._faded(number[:-4], now).entered += 1

    def _faded(self, prefix: str, now: float) -> _Belief:
        belief = self._beliefs.setdefault(prefix, _Belief(at=now))
        left = 0.5 ** ((now - belief.at) / (6 * HOUR))
        belief.sent, belief.entered, belief.at = belief.sent * left, belief.entered * left, now
        return belief
