"""A send that the guard is asked about, and what can be said of it before anything is looked up."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from service.guard.credit import Prefixes
from service.guard.limits import Rate
from service.guard.policy import Policy
from service.guard.prices import Prices
from service.guard.verdict import Reason
from service.phone import Number, reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What the caller says of the person: only an authenticated caller is believed.

    `trusted`: this is a customer known to them; `challenge_passed`: they proved to be a person.
    """

    ip: str | None = None
    device: str | None = None
    session: str | None = None
    trusted: bool = False
    challenge_passed: bool = False
    limit_keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate that a send takes from: of what, and of which one."""

    scope: str
    value: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class Allowance:
    """Money for a window of time (ms): its name, whose it is, how much."""

    name: str
    whose: str
    window: int
    amount: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One send: to whom, for whom, over what, at what price. `weight` is in SMS to the same country."""

    policy: Policy
    number: Number
    channel: str
    signals: Signals
    price: float
    weight: float

    @classmethod
    def of(
        cls, policy: Policy, number: Number, channel: str, signals: Signals, prices: Prices, provider: str = ""
    ) -> Ask:
        """A send at the price of the list."""
        country = number.country
        price, weight = prices.price(country, channel, provider), prices.weight(country, channel, provider)
        return cls(policy, number, channel, signals, price, weight)

    @property
    def prefixes(self) -> Prefixes:
        """The prefixes that are charged."""
        return Prefixes.of(self.number.e164[1:])

    @property
    def callers(self) -> list[tuple[str, str]]:
        """The buckets of who asks: level and name."""
        signals = self.signals
        named = (("ip", network(signals.ip) if signals.ip else None), ("device", signals.device))
        return [(level, name) for level, name in named if name]

    @property
    def limits(self) -> list[Limit]:
        """The rates that it takes from."""
        limits, e164, signals = self.policy.limits, self.number.e164, self.signals
        named: list[tuple[str, str | None, Sequence[Rate]]] = [
            ("number", e164, limits.number),
            ("country", self.number.country, limits.country),
            ("application", self.policy.application, limits.application),
            ("ip", network(signals.ip) if signals.ip else None, limits.ip),
            ("device", signals.device, limits.device),
            ("session", signals.session, limits.session),
        ]
        named += [("prefix", prefix, rates) for prefix, rates in limits.prefix.items() if e164.startswith(prefix)]
        named += [(name, signals.limit_keys.get(name), rates) for name, rates in limits.keys.items()]
        return [Limit(scope, value, rate) for scope, value, rates in named if value for rate in rates]

    @property
    def allowances(self) -> list[Allowance]:
        """The budgets that it is paid from."""
        application = self.policy.application
        owners = {"country": f"{application} {self.number.country}", "application": application, "total": ""}
        bounds = [(whose, *bound) for scope, whose in owners.items() for bound in self.policy.budget.bounds(scope)]
        return [Allowance(name, whose, window, amount) for whose, name, window, amount in bounds]

    def refusal(self) -> Reason | None:
        """Why it may not happen, whatever was sent before."""
        if not reach(self.number.kind, self.policy.allow_types):
            return Reason(rule="type", what=self.number.kind.replace("_", " "))
        if self.policy.countries is not None and self.number.country not in self.policy.countries:
            return Reason(rule="countries", what=self.number.country)
        return None


@lru_cache(maxsize=65_536)
def network(ip: str) -> str:
    """What is held together for an address: an IPv4 address, or an IPv6 network of 64 bits. Raises ValueError."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
        address = address.ipv4_mapped
    return str(address)
