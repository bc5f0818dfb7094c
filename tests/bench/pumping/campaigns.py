"""The attackers: where their numbers come from, how fast they go, behind which addresses, what a refusal tells them.

Each aims for a number of sends in a span of time, of its own choice and the same at every volume of honest traffic: who
rents a range does not ask how large the victim is. What is refused is a send lost; they do not come back for it.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.pumping.plans import premium
from tests.bench.pumping.world import HOUR, HOURS, Campaign, Sender, World, address


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers that begin alike: the digits that they share, and how many follow."""

    prefix: str
    free: int

    def number(self, tail: int) -> str:
        """One of them."""
        return f"{self.prefix}{tail % 10**self.free:0{self.free}d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much of an attack there is, and how well it hides."""

    start: float
    """Hours from the beginning."""
    hours: float
    sends: int
    machines: int = 0
    """Rented machines that send it. None: households that do not know, one or two sends from each."""
    converts: float = 0.0
    falls_back: bool = False
    """Whether it waits for the call that follows an unanswered message."""


class Pump(Campaign):
    """Sends at random times, to numbers that the kinds of attack choose."""

    def __init__(self, world: World, name: str, effort: Effort) -> None:
        self.dice = random.Random(f"{name} {world.seed}")
        self._world, self._effort = world, effort
        self._now = effort.start * HOUR
        self._end = min(float(HOURS), effort.start + effort.hours) * HOUR
        nets = [f"45.{self.dice.randrange(256)}.{self.dice.randrange(256)}" for _ in range(3)]
        self._machines = [f"{nets[i % 3]}.{10 + i}" for i in range(effort.machines)]
        self._last: tuple[str, str | None] | None = None

    def next(self) -> float | None:
        """When it sends next."""
        self._now += self.dice.expovariate(self._effort.sends / (self._effort.hours * HOUR))
        return self._now if self._now < self._end else None

    @abstractmethod
    def number(self, now: float) -> str:
        """Whom to send to now."""

    def send(self, now: float) -> Sender:
        """Who asks now."""
        ip, device = self._place()
        return Sender(
            to=self.number(now),
            ip=ip,
            device=device,
            agent="android-app" if self.dice.random() < 0.7 else "web-mobile",
            application="shop" if self.dice.random() < 0.6 else "wallet",
            fate=int(self.dice.random() * 2**64),
            converts=self._effort.converts,
            insists=0.1,
            shrugs=0.1,
            tries=3,
            attack=self,
            falls_back=self._effort.falls_back,
        )

    def told(self, sender: Sender, allowed: bool) -> None:
        """Go on all the same."""

    def _place(self) -> tuple[str, str | None]:
        dice = self.dice
        if self._machines:
            return dice.choice(self._machines), self._device()
        if self._last is not None and dice.random() < 0.4:
            last, self._last = self._last, None
            return last
        if dice.random() < 0.2:  # a household behind a carrier's address
            pools = list(self._world.nat.values())
            ip = dice.choice(dice.choices(pools, [len(pool) for pool in pools])[0])
        else:
            ip = address(dice)
        self._last = (ip, self._device())
        return self._last

    def _device(self) -> str | None:
        return None if self.dice.random() < 0.15 else f"{int(self.dice.random() * 2**64):016x}"


class Ranges(Pump):
    """Numbers of rented ranges, each time of any one."""

    def __init__(self, world: World, name: str, effort: Effort, ranges: Sequence[Range]) -> None:
        super().__init__(world, name, effort)
        self.ranges = list(ranges)

    def number(self, now: float) -> str:
        """Any of any range."""
        return self.dice.choice(self.ranges).number(self.dice.randrange(10**6))


class Consecutive(Ranges):
    """One number after the other."""

    def __init__(self, world: World, name: str, effort: Effort, ranges: Sequence[Range]) -> None:
        super().__init__(world, name, effort, ranges)
        self._tail = self.dice.randrange(10**6)

    def number(self, now: float) -> str:
        """The next one."""
        self._tail += 1
        return self.ranges[0].number(self._tail)


class Rotation(Ranges):
    """A range for some minutes, then another; sooner when it is refused."""

    def __init__(
        self, world: World, name: str, effort: Effort, ranges: Sequence[Range], *, minutes: float, patience: int
    ) -> None:
        super().__init__(world, name, effort, ranges)
        self._stay, self._patience = minutes * 60, patience
        self._current, self._until, self._refused = -1, 0.0, 0

    def number(self, now: float) -> str:
        """Any of the range whose turn it is."""
        if now >= self._until or self._refused >= self._patience:
            self._current = (self._current + 1) % len(self.ranges)
            self._until, self._refused = now + self._stay, 0
        return self.ranges[self._current].number(self.dice.randrange(10**6))

    def told(self, sender: Sender, allowed: bool) -> None:
        """Count refusals in a row."""
        self._refused = 0 if allowed else self._refused + 1


class Adaptation(Pump):
    """Has many ranges and tries them; comes back soon to those that worked and late, after an hour, to others.

    While little gets through it also slows each range down, as if it were a few customers.
    """

    def __init__(self, world: World, name: str, effort: Effort, ranges: Sequence[Range]) -> None:
        super().__init__(world, name, effort)
        self._rest = dict.fromkeys(ranges, 0.0)
        self._pause = dict.fromkeys(ranges, 30.0)
        self._of: dict[str, Range] = {}

    def number(self, now: float) -> str:
        """One of the range that has rested longest."""
        chosen = min(self._rest, key=self._rest.__getitem__)
        self._rest[chosen] = max(now, self._rest[chosen]) + self._pause[chosen]
        number = chosen.number(self.dice.randrange(10**6))
        self._of[number] = chosen
        return number

    def told(self, sender: Sender, allowed: bool) -> None:
        """Learn from it."""
        asked = self._of.pop(sender.to, None)
        if asked is None:
            return
        if allowed:
            self._pause[asked] = max(30.0, self._pause[asked] * 0.8)
        else:
            self._pause[asked] = min(4 * HOUR, self._pause[asked] * 2)
            self._rest[asked] += HOUR


class Anywhere(Pump):
    """Numbers from all over some countries."""

    def __init__(self, world: World, name: str, effort: Effort, countries: Sequence[str]) -> None:
        super().__init__(world, name, effort)
        self._plans = [world.plan(country) for country in countries]

    def number(self, now: float) -> str:
        """Any."""
        return self.dice.choice(self._plans).anyone(self.dice)


class Cards(Pump):
    """A box of SIM cards, each used again and again."""

    def __init__(self, world: World, name: str, effort: Effort, ranges: Sequence[Range], *, cards: int) -> None:
        super().__init__(world, name, effort)
        self._numbers = [self.dice.choice(ranges).number(self.dice.randrange(10**6)) for _ in range(cards)]
        self._turns = self._turn()

    def number(self, now: float) -> str:
        """The card whose turn it is."""
        return next(self._turns)

    def _turn(self) -> Iterator[str]:
        while True:
            self.dice.shuffle(self._numbers)
            yield from list(self._numbers)


class Calls(Ranges):
    """Numbers whose calls are dear, and some that are premium-rate outright."""

    def __init__(
        self, world: World, name: str, effort: Effort, ranges: Sequence[Range], countries: Sequence[str]
    ) -> None:
        super().__init__(world, name, effort, ranges)
        self._premium = [found for country in countries if (found := premium(country, self.dice))]

    def number(self, now: float) -> str:
        """Mostly a mobile that passes for one."""
        if self._premium and self.dice.random() < 0.1:
            return self.dice.choice(self._premium)
        return super().number(now)
