"""Limits as text: `"5/10m"` is five in ten minutes, refilled evenly (GCRA, ITU-T I.371), all five at once if unused."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ROUNDING = 0.5
_DURATION = re.compile(r"(\d{1,6})([smhd])", re.ASCII)


def seconds(text: str) -> int:
    """The seconds in a duration such as `"30s"`, `"10m"`, `"24h"` or `"7d"`; raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError('write a duration as a number and a unit, for example "30s", "10m", "24h" or "7d"')
    return int(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period of so many seconds. `str` gives the text that it was made from."""

    count: int
    period: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read `"5/10m"`; raises ValueError."""
        count, slash, period = text.partition("/")
        if not slash or not (count.isascii() and count.isdigit()) or not 0 < int(count) <= 1_000_000:
            raise ValueError('write a limit as a count and a duration, for example "5/10m"')
        length = seconds(period)
        if not length:
            raise ValueError("a limit needs a duration above zero")
        return cls(int(count), length)

    def __str__(self) -> str:
        unit = next(u for u, size in reversed(_UNITS.items()) if self.period % size == 0)
        return f"{self.count}/{self.period // _UNITS[unit]}{unit}"

    @property
    def key(self) -> str:
        """The rate as the scripts take it: count per milliseconds."""
        return f"{self.count}/{self.period * 1000}"


def wait(rate: Rate, due: float, now: int) -> int:
    """The milliseconds until a rate has room, 0 where it has; `due` is its theoretical arrival time (ms)."""
    ahead = max(0.0, due - now) + rate.period * 1000 / rate.count - rate.period * 1000
    return math.ceil(ahead) if ahead > _ROUNDING else 0


def taken(rate: Rate, due: float, now: int) -> float:
    """The theoretical arrival time after one more was taken, as the scripts keep it."""
    return round(max(due, now) + rate.period * 1000 / rate.count, 3)


def keys(rates: Sequence[Rate]) -> str:
    """Rates as the scripts take them."""
    return " ".join(rate.key for rate in rates)


def from_key(key: str) -> Rate:
    """The rate that a script named."""
    count, _, period = key.partition("/")
    return Rate(int(count), int(period) // 1000)
