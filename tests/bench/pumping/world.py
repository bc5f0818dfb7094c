"""The honest people: who asks for a code, when, from where, and what they do when it comes or does not.

A service with customers in sixty countries, busy by day and quiet by night in each. Some people come back, some share a
carrier's address with thousands, some mistype, some get no message at all, some give up.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.bench.pumping.plans import Plan, hash_digits

HOUR: Final = 3600.0
HOURS: Final = 72

# ISO 3166 alpha-2: (part of the traffic, hours that its clocks are ahead of UTC)
COUNTRIES: Final = {
    "ID": (170, 7), "US": (120, -6), "IN": (88, 5), "BR": (74, -3), "GB": (69, 0), "DE": (56, 1), "MX": (52, -6),
    "PH": (40, 8), "NG": (38, 1), "FR": (35, 1), "TR": (29, 3), "PK": (20, 5), "ES": (19, 1), "IT": (18, 1),
    "EG": (17, 2), "VN": (15, 7), "PL": (14, 1), "TH": (10, 7), "KE": (10, 3), "AE": (9, 4), "CA": (9, -5),
    "SA": (8, 3), "BD": (7, 6), "AU": (7, 10), "UA": (6, 2), "AR": (6, -3), "CO": (5, -5), "NL": (5, 1), "MA": (5, 1),
    "IL": (5, 2), "JP": (5, 9), "SE": (4, 1), "MY": (4, 8), "RO": (4, 2), "CL": (4, -4), "GH": (3, 0), "IQ": (3, 3),
    "PT": (3, 0), "KZ": (2, 5), "DZ": (2, 1), "LK": (2, 5), "KH": (2, 7), "UZ": (1.5, 5), "JO": (1.5, 3), "NP": (1, 5),
    "AZ": (1, 4), "TN": (1, 1), "GE": (1, 4), "LB": (1, 2), "MM": (0.8, 6), "PS": (0.6, 2), "TJ": (0.5, 5),
    "ZM": (0.5, 2), "CI": (0.4, 0), "MN": (0.4, 8), "SN": (0.3, 0), "MG": (0.3, 3), "RW": (0.2, 2), "LY": (0.2, 2),
    "KG": (0.2, 6),
}  # fmt: skip

MAIN: Final = ("ID", "US", "IN", "BR", "GB")
"""Where most of the honest traffic is."""

DEAR: Final = ("JO", "PK", "PS", "DZ", "ZM", "LB", "IQ", "LY", "CI", "TJ", "TN", "MG", "AZ", "BD", "LK", "UZ")
"""Where a text costs much, so that a part of its price is worth renting ranges for."""

_APPLICATIONS: Final = ("shop", "wallet")
_AGENTS: Final = ("android-app", "ios-app", "web-mobile", "web-desktop")
_RETURNING: Final = 0.12
_BEHIND_NAT: Final = 0.35
_IPV6: Final = 0.15
_NO_DEVICE: Final = 0.1
_REMEMBERED: Final = 20_000

_MULTIPLIER: Final = 6_364_136_223_846_793_005
_INCREMENT: Final = 1_442_695_040_888_963_407
_MASK: Final = (1 << 64) - 1


@dataclass(slots=True, eq=False)
class Sender:
    """Who asks for a code, honest or not; what they will do is fixed in advance, whatever the guard says."""

    to: str
    ip: str
    device: str | None
    agent: str
    application: str
    fate: int
    """The state of this sender's own dice, so that a refusal of one changes no other's luck."""
    country: str = ""
    channel: str = "sms"
    converts: float = 0.8
    """How probably a code that came is entered."""
    insists: float = 0.38
    """How probably a code that did not come, or was refused, is asked for again."""
    shrugs: float = 0.1
    """How probably one that came, and was not entered, is asked for again."""
    tries: int = 4
    """Most times that this sender asks."""
    asked: int = 0
    got_one: bool = False
    refused: bool = False
    attack: Campaign | None = None
    falls_back: bool = False
    """Whether a message that is not answered is followed by a call."""

    def roll(self) -> float:
        """The next of this sender's dice, from 0 to 1."""
        self.fate = (self.fate * _MULTIPLIER + _INCREMENT) & _MASK
        return (self.fate >> 11) / (1 << 53)


class Campaign(ABC):
    """An attack. It chooses each number when its time has come, and is told what became of it."""

    @abstractmethod
    def next(self) -> float | None:
        """When it sends next, in seconds; None when it is over."""

    @abstractmethod
    def send(self, now: float) -> Sender:
        """Who asks now."""

    def told(self, sender: Sender, allowed: bool) -> None:  # noqa: B027 - an attack need not listen
        """The answer to a request of this campaign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surge:
    """More people than on other days: `count` of them from `start`, at a rate that decays within `seconds`."""

    start: float
    seconds: float
    count: int
    country: str
    steady: bool = False
    """Evenly over `seconds`, not fading."""
    addresses: tuple[str, ...] = ()
    """Where they sit; otherwise everybody is at home."""
    at_home: float = 0.0
    """What part of them is at home all the same."""
    numbers: tuple[str, ...] = ()
    """What they all have, in this order; otherwise anybody's."""
    strangers: float = 0.0
    """What part of them has a number from abroad."""
    converts: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Messages to some people that get lost for a while."""

    country: str
    start: float
    end: float
    lost: float
    carriers: frozenset[int] = frozenset(range(10))


@dataclass(slots=True)
class Day:
    """What is special about the 72 hours."""

    surges: list[Surge] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    crowded: dict[str, int] = field(default_factory=dict)
    """Countries where nearly everybody shares so few addresses."""
    calls: bool = False
    """Whether a message that is not answered is followed by a call, to everybody."""


def poisson(dice: random.Random, mean: float) -> int:
    """How many events there are where so many are expected."""
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, dice.random()
    while product > limit:
        count += 1
        product *= dice.random()
    return count


class World:
    """The honest people of one seed, at so many sends a day."""

    def __init__(self, seed: int, volume: int) -> None:
        self.seed, self.volume = seed, volume
        dice = random.Random(f"world {seed}")
        self._plans = {country: Plan(country, dice) for country in COUNTRIES}
        self.share = {country: part for country, (part, _) in COUNTRIES.items()}
        whole = sum(self.share.values()) * 1.13  # what people ask again comes on top
        self.per_day = {country: volume * part / whole for country, part in self.share.items()}
        self.nat = {
            country: [address(dice) for _ in range(math.ceil(0.6 * daily**0.6))]
            for country, daily in self.per_day.items()
        }
        self._dice = random.Random(f"launch {seed}")

    def plan(self, country: str) -> Plan:
        """The plan of a country, launched or not."""
        if country not in self._plans:
            self._plans[country] = Plan(country, random.Random(f"{country} {self.seed}"))
            self.nat[country] = [address(self._dice) for _ in range(math.ceil(0.6 * (0.4 * self.volume) ** 0.6))]
        return self._plans[country]

    def people(self, day: Day) -> Iterator[tuple[float, Sender]]:
        """Everybody who comes of themselves, in order of time."""
        dice = random.Random(f"people {self.seed} {self.volume}")
        known: list[Sender] = []
        surges = sorted((at, i) for i, surge in enumerate(day.surges) for at in _times(surge, self.seed, i))
        surging = random.Random(f"surging {self.seed} {self.volume}")
        taken = [0] * len(day.surges)
        upcoming = iter([*surges, (math.inf, 0)])
        at, which = next(upcoming)
        for time, country in self._arrivals(dice):
            while at < time:
                surge = day.surges[which]
                yield at, self._surger(surge, taken[which], surging)
                taken[which] += 1
                at, which = next(upcoming)
            if known and dice.random() < _RETURNING:
                old = dice.choice(known)
                sender = self._again(old, dice)
            else:
                sender = self.person(country, dice, day.crowded.get(country))
                if len(known) < _REMEMBERED:
                    known.append(sender)
                else:
                    known[int(dice.random() * _REMEMBERED)] = sender
            yield time, sender

    def person(self, country: str, dice: random.Random, crowded: int | None = None) -> Sender:
        """Somebody of this country, at home."""
        plan, pool = self.plan(country), self.nat[country]
        shared = _BEHIND_NAT
        if crowded is not None:
            pool, shared = pool[:crowded], 0.9
        ip = pool[int(dice.random() * len(pool))] if dice.random() < shared else address(dice)
        hopeless = dice.random() < 0.03  # a number mistyped, or lent
        return Sender(
            to=plan.subscriber(dice),
            ip=ip,
            device=None if dice.random() < _NO_DEVICE else f"{int(dice.random() * 2**64):016x}",
            agent=_AGENTS[int(dice.random() * 4)],
            application=_APPLICATIONS[int(dice.random() * 2)],
            fate=int(dice.random() * 2**64),
            country=country,
            converts=0.0 if hopeless else 0.82,
        )

    def _again(self, old: Sender, dice: random.Random) -> Sender:
        moved = dice.random() < 0.3
        return Sender(
            to=old.to,
            ip=address(dice) if moved else old.ip,
            device=old.device if dice.random() < 0.9 else f"{int(dice.random() * 2**64):016x}",
            agent=old.agent,
            application=old.application,
            fate=int(dice.random() * 2**64),
            country=old.country,
            converts=old.converts,
        )

    def _surger(self, surge: Surge, number: int, dice: random.Random) -> Sender:
        country = surge.country
        if dice.random() < surge.strangers:
            country = dice.choices(list(self.share), list(self.share.values()))[0]
        sender = self.person(country, dice)
        sender.converts = surge.converts
        if surge.addresses and dice.random() >= surge.at_home:
            sender.ip = surge.addresses[int(dice.random() * len(surge.addresses))]
        if surge.numbers:
            sender.to = surge.numbers[number]
        return sender

    def _arrivals(self, dice: random.Random) -> Iterator[tuple[float, str]]:
        for hour in range(HOURS):
            some: list[tuple[float, str]] = []
            for country, (_, ahead) in COUNTRIES.items():
                mean = self.per_day[country] / 24 * busy(hour + ahead)
                some += [((hour + dice.random()) * HOUR, country) for _ in range(poisson(dice, mean))]
            some.sort()
            yield from some


def _times(surge: Surge, seed: int, number: int) -> list[float]:
    dice = random.Random(f"surge {seed} {number}")
    spans = (
        dice.random() * surge.seconds if surge.steady else dice.expovariate(3 / surge.seconds)
        for _ in range(surge.count)
    )
    return sorted(at for span in spans if (at := surge.start + span) < HOURS * HOUR)


def busy(hour: float) -> float:
    """How busy an hour of the day is where it is, 1 on average: quietest at four, busiest at four in the afternoon."""
    return 1 + 0.6 * math.sin((hour - 10) * math.pi / 12)


def address(dice: random.Random) -> str:
    """Some address of a household."""
    if dice.random() < _IPV6:
        words = [f"{int(dice.random() * 65536):x}" for _ in range(7)]
        return f"2a{int(dice.random() * 256):02x}:" + ":".join(words)
    first = 11 + int(dice.random() * 89)
    return f"{first}.{int(dice.random() * 256)}.{int(dice.random() * 256)}.{int(dice.random() * 254) + 1}"


def lost(troubles: list[Trouble], sender: Sender, now: float) -> bool:
    """Whether a message to this sender gets lost on its way now."""
    return any(
        trouble.country == sender.country
        and trouble.start <= now < trouble.end
        and hash_digits(sender.to[:-6]) % 10 in trouble.carriers
        and sender.roll() < trouble.lost
        for trouble in troubles
    )
