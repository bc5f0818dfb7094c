"""The whole guard in memory and in virtual time: the engine of `replay`, and what the scripts are held against.

Events are those of a traffic log: dictionaries with `t` (seconds), `type` and `ref`. Every rule is the one that
production obeys; only the storage is a dictionary and the clock is the event's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from service import phone
from service.errors import InvalidNumber
from service.guard import credit
from service.guard.credit import DAY, DEFAULTS, UNKNOWN_NUMBER, Bucket, Level, Number, Prefixes, Rules
from service.guard.limits import Rate, taken, wait
from service.guard.policy import Policy
from service.guard.prices import Prices, shipped
from service.guard.verdict import Decision, Findings, Reason, judge

Event = Mapping[str, Any]

REMEMBERED: Final = DAY
"""How long a send can still be approved, twice the longest life of a verification at most."""

_number = lru_cache(maxsize=65_536)(phone.parse)


@lru_cache(maxsize=65_536)
def network(ip: str) -> str:
    """What the guard holds for one address: an IPv4 address, or an IPv6 network of 64 bits. Raises ValueError."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


@dataclass(frozen=True, slots=True)
class _Send:
    """A send that was allowed, and the buckets that it was charged to."""

    at: int
    number: str
    country: str
    weight: float
    charged: Sequence[tuple[str, str]]


class Oracle:
    """Decides on a stream of events. An unknown `application` counts as the first of `policies`."""

    def __init__(
        self,
        policies: Sequence[Policy] = (Policy(application="default"),),
        rules: Rules = DEFAULTS,
        prices: Prices | None = None,
    ) -> None:
        self.prices = prices or shipped()
        self._rules = rules
        self._policies = {policy.application: policy for policy in policies}
        self._first = policies[0]
        self._levels: dict[str, Level] = {
            "block3": rules.block3,
            "block4": rules.block4,
            "range": rules.range,
            "country": rules.country,
            "ip": rules.ip,
            "device": rules.device,
        }
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._numbers: dict[str, Number] = {}
        self._rates: dict[tuple[str, str, Rate], float] = {}
        self._spent: dict[tuple[str, int], float] = {}
        self._sends: dict[str, _Send] = {}
        self._failed: set[str] = set()

    def create(self, event: Event) -> Decision:
        """Decide on a send, and charge it if it may happen. Raises KeyError, TypeError, ValueError for a bad event."""
        now = round(event["t"] * 1000)
        policy = self._policies.get(str(event.get("application")), self._first)
        try:
            number = _number(event["to"])
        except InvalidNumber as fault:
            return Decision("block", (Reason(rule="type", what=fault.detail),))
        if not phone.reach(number.kind, policy.allow_types):
            return Decision("block", (Reason(rule="type", what=number.kind.replace("_", " ")),))
        if policy.countries is not None and number.country not in policy.countries:
            return Decision("block", (Reason(rule="countries", what=number.country),))
        channel = event.get("channel") or "sms"
        weight = self.prices.weight(number.country, channel)
        price = self.prices.price(number.country, channel)
        proven = bool(event.get("challenge_passed"))
        proof = self._rules.proof if proven else 1.0
        prefixes = Prefixes.of(number.e164[1:])
        callers = list(_callers(event))
        state = self._known(number.e164, now)
        limits = list(_limits(policy, event, number.e164, number.country))
        around = list(self._around(number.country, prefixes, now, weight, proof))
        full = self._full("country", number.country, now, weight, proof, what=number.country)
        others = [
            *self._number(state, now),
            *self._limited(limits, now),
            *self._overspent(policy, number.country, now, price),
        ]
        others += [reason for level, key in callers if (reason := self._full(level, key, now, weight, proof))]
        found = Findings(
            around=around,
            country=full,
            others=others,
            trusted=credit.trusted(self._rules, state, now) or bool(event.get("trusted")),
            vouched=any(self._bucket(*caller, now).country == number.country for caller in callers),
        )
        decision = judge(found, challenges=policy.challenges, proven=proven)
        if decision.verdict != "allow":
            return decision
        charged = list(callers)
        if not around:
            charged += [(level, f"{number.country}:{prefix}") for level, prefix in _blocks(prefixes)]
            charged += [] if full else [("country", number.country)]
        for level, key in charged:
            bucket = self._bucket(level, key, now)
            self._buckets[level, key] = credit.charged(self._rules, self._levels[level], bucket, now, weight)
        self._numbers[number.e164] = credit.sent(self._rules, state, now)
        for scope, value, rate in limits:
            self._rates[scope, value, rate] = taken(rate, self._rates.get((scope, value, rate), 0), now)
        for window, _, _ in _budgets(policy, number.country, now):
            self._spent[window] = self._spent.get(window, 0) + price
        self._remember(event["ref"], _Send(now, number.e164, number.country, weight, charged))
        return decision

    def check(self, event: Event) -> None:
        """Take a guess: a right one pays back, once."""
        now = round(event["t"] * 1000)
        if not event["correct"] or (send := self._sends.pop(event["ref"], None)) is None:
            return
        for level, key in send.charged:
            country = send.country if level in {"ip", "device"} else ""
            bucket = self._bucket(level, key, now)
            self._buckets[level, key] = credit.paid(self._rules, self._levels[level], bucket, now, send.weight, country)
        self._numbers[send.number] = credit.approved(self._rules, self._known(send.number, now), now)

    def receipt(self, event: Event) -> None:
        """Take a receipt: for a send that failed nobody was paid, so it gives its weight back, once."""
        now = round(event["t"] * 1000)
        ref = event["ref"]
        if event["status"] != "failed" or ref in self._failed or (send := self._sends.get(ref)) is None:
            return
        self._failed.add(ref)
        for level, key in send.charged:
            bucket = self._bucket(level, key, now)
            self._buckets[level, key] = credit.relieved(self._rules, self._levels[level], bucket, now, send.weight)

    def exposure(self, level: str, key: str, t: float) -> float:
        """What a bucket holds at a time (seconds); its key is a country, an address, a device, a prefix as `GB:447400123`."""
        now = round(t * 1000)
        return credit.exposure(self._rules, self._levels[level], self._bucket(level, key, now), now)

    def _bucket(self, level: str, key: str, now: int) -> Bucket:
        """A bucket, forgotten when its time is over."""
        bucket = self._buckets.get((level, key))
        if bucket is None or now >= bucket.at + self._levels[level].keep:
            return credit.fresh(now)
        return bucket

    def _known(self, number: str, now: int) -> Number:
        state = self._numbers.get(number, UNKNOWN_NUMBER)
        return state if now < state.at + credit.kept(self._rules, state) else UNKNOWN_NUMBER

    def _around(self, country: str, prefixes: Prefixes, now: int, weight: float, proof: float) -> Iterator[Reason]:
        """What speaks against a send around its number."""
        rules = self._rules
        own3, own4, wide = [self._bucket(level, f"{country}:{prefix}", now) for level, prefix in _blocks(prefixes)]
        spread = rules.spread * credit.rate(rules, wide)
        for rule, level, prefix, bucket, most in (
            ("block3", rules.block3, prefixes.block3, own3, rules.block3.cap + spread / 1000),
            ("block4", rules.block4, prefixes.block4, own4, rules.block4.cap + spread / 100),
            ("range", rules.range, prefixes.range, wide, credit.cap(rules, rules.range, wide)),
        ):
            if found := credit.test(rules, level, bucket, now, weight, most * proof):
                yield Reason.short(rule, found, prefix=f"+{prefix}")
        sends = [
            credit.recent(rules, bucket, now) for bucket in (own3, own4, wide, self._bucket("country", country, now))
        ]
        if found := credit.concentrated(rules, rules.lone_block3, sends[0], ((rules.share_block3, sends[1]),), proof):
            yield Reason.short("concentration", found, prefix=f"+{prefixes.block3}")
        surroundings = ((rules.share_block4, sends[2]), (rules.share_country, sends[3]))
        if found := credit.concentrated(rules, rules.lone_block4, sends[1], surroundings, proof):
            yield Reason.short("concentration", found, prefix=f"+{prefixes.block4}")

    def _full(self, rule: str, key: str, now: int, weight: float, proof: float, what: str = "") -> Reason | None:
        """Why a country, an address or a device has no room."""
        level, bucket = self._levels[rule], self._bucket(rule, key, now)
        most = credit.cap(self._rules, level, bucket) * proof
        found = credit.test(self._rules, level, bucket, now, weight, most)
        return Reason.short(rule, found, what=what) if found else None

    def _number(self, state: Number, now: int) -> Iterator[Reason]:
        if found := credit.hurried(self._rules, state, now):
            yield Reason.short("number", found)
        if found := credit.exhausted(self._rules, state, now):
            yield Reason.short("unconverted", found)

    def _limited(self, limits: Sequence[tuple[str, str, Rate]], now: int) -> Iterator[Reason]:
        for scope, value, rate in limits:
            if ahead := wait(rate, self._rates.get((scope, value, rate), 0), now):
                yield Reason(rule="limit", what=f"{scope} {rate}", wait=ahead)

    def _overspent(self, policy: Policy, country: str, now: int, price: float) -> Iterator[Reason]:
        for (name, window), size, amount in _budgets(policy, country, now):
            spent = self._spent.get((name, window), 0)
            if spent + price > amount + credit.ROUNDING:
                wait_for = (window + 1) * size - now
                yield Reason(rule="budget", what=name, exposure=spent, cap=amount, wait=wait_for)

    def _remember(self, ref: str, send: _Send) -> None:
        self._sends[ref] = send
        while (oldest := next(iter(self._sends))) and self._sends[oldest].at < send.at - REMEMBERED:
            del self._sends[oldest]
            self._failed.discard(oldest)


def _blocks(prefixes: Prefixes) -> tuple[tuple[str, str], ...]:
    return ("block3", prefixes.block3), ("block4", prefixes.block4), ("range", prefixes.range)


def _callers(event: Event) -> Iterator[tuple[str, str]]:
    """The buckets of who asks."""
    if ip := event.get("ip"):
        yield "ip", network(ip)
    if device := event.get("device_id"):
        yield "device", str(device)


def _limits(policy: Policy, event: Event, e164: str, country: str) -> Iterator[tuple[str, str, Rate]]:
    """The rates that a send takes from: scope, value, rate."""
    limits = policy.limits
    named: list[tuple[str, str, Sequence[Rate]]] = [
        ("number", e164, limits.number),
        ("country", country, limits.country),
        ("application", policy.application, limits.application),
    ]
    if ip := event.get("ip"):
        named.append(("ip", network(ip), limits.ip))
    named += [
        (scope, str(event[key]), rates)
        for scope, key, rates in (("device", "device_id", limits.device), ("session", "session_id", limits.session))
        if event.get(key)
    ]
    named += [(f"prefix {prefix}", prefix, rates) for prefix, rates in limits.prefix.items() if e164.startswith(prefix)]
    keys = event.get("limit_keys") or {}
    named += [(name, str(keys[name]), rates) for name, rates in limits.keys.items() if name in keys]
    return ((scope, value, rate) for scope, value, rates in named for rate in rates)


def _budgets(policy: Policy, country: str, now: int) -> Iterator[tuple[tuple[str, int], int, float]]:
    """The budgets that a send is paid from: name with window, size of the window (ms), amount."""
    scopes = (
        ("country", f"{policy.application} {country}"),
        ("application", policy.application),
        ("total", "all"),
    )
    for scope, whose in scopes:
        for name, size, amount in policy.budget.bounds(scope):
            yield (f"{whose} {name.rpartition('_')[2]}", now // size), size, amount
