"""What one application lets the guard do: its mode, its limits, its budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from service.guard.limits import Rate
from service.guard.verdict import Mode

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits as text, by what they count. Those of a prefix are by the prefix (`+4474`), keys by the caller's name."""

    number: tuple[Rate, ...] = ()
    ip: tuple[Rate, ...] = ()
    device: tuple[Rate, ...] = ()
    session: tuple[Rate, ...] = ()
    country: tuple[Rate, ...] = ()
    application: tuple[Rate, ...] = ()
    prefix: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)
    keys: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Money that may be spent, in the price list's currency; None for no bound.

    `country` is for each country of an application, `application` for all of one, `total` for everything.
    """

    country_hour: float | None = None
    country_day: float | None = None
    application_hour: float | None = None
    application_day: float | None = None
    total_hour: float | None = None
    total_day: float | None = None
    alert: float = 0.8

    def bounds(self, scope: str) -> list[tuple[str, int, float]]:
        """The bounds of a scope: name, window (ms), amount."""
        windows = (("hour", HOUR_MS), ("day", DAY_MS))
        found = [(f"{scope}_{name}", size, getattr(self, f"{scope}_{name}")) for name, size in windows]
        return [(name, size, amount) for name, size, amount in found if amount is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one application."""

    application: str
    mode: Mode = "enforce"
    challenges: bool = False
    countries: frozenset[str] | None = None
    allow_types: frozenset[str] = frozenset()
    test_numbers: frozenset[str] = frozenset()
    limits: Limits = Limits()
    budget: Budget = Budget()
