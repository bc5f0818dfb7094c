"""The whole guard in memory and in virtual time: the engine of `replay`, and what the scripts are held against.

Events are those of a traffic log: dictionaries with `t` (seconds), `type` and `ref`. Every rule is the one that
production obeys; only the storage is a dictionary and the clock is the event's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from service import phone
from service.errors import InvalidNumber
from service.guard import credit
from service.guard.ask import Allowance, Ask, Limit, Signals
from service.guard.credit import DAY, DEFAULTS, UNKNOWN_NUMBER, Bucket, Level, Number, Rules
from service.guard.limits import taken, wait
from service.guard.policy import Policy
from service.guard.prices import Prices, shipped
from service.guard.verdict import Decision, Findings, Reason, judge

Event = Mapping[str, Any]

REMEMBERED: Final = DAY
"""How long (ms) a send can still be approved: as long as a verification lives at most."""

_parse = lru_cache(maxsize=65_536)(phone.parse)


@dataclass(frozen=True, slots=True)
class _Send:
    """A send that was allowed, and the buckets that it was charged to."""

    at: int
    number: str
    block: str
    """The ten thousand numbers around it."""
    charged: Sequence[tuple[str, str, float]]
    """Level, key, what it weighed there."""
    decision: Decision


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
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._numbers: dict[str, Number] = {}
        self._due: dict[Limit, float] = {}
        self._spent: dict[tuple[Allowance, int], float] = {}
        self._sends: dict[str, _Send] = {}
        self._failed: set[str] = set()

    def create(self, event: Event) -> Decision:
        """Decide on a send, and charge it if it may happen. Raises KeyError, TypeError, ValueError for a bad event."""
        now = round(event["t"] * 1000)
        policy = self._policies.get(str(event.get("application")), self._first)
        if event["to"] in policy.test_numbers:
            return Decision("allow")
        try:
            number = _parse(event["to"])
        except InvalidNumber as fault:
            return Decision("block", (Reason(rule="type", what=fault.detail),))
        ask = Ask.of(policy, number, str(event.get("channel") or "sms"), _signals(event), self.prices)
        if (outright := ask.refusal()) is not None:
            decision, around, full = Decision("block", (outright,)), True, True
        else:
            found = self._findings(ask, now)
            decision = judge(found, challenges=policy.challenges, proven=ask.signals.challenge_passed)
            around, full = bool(found.around), found.country is not None
        decision = replace(decision, country=number.country, range=f"+{ask.prefixes.range}", price=ask.price)
        if decision.verdict == "allow":
            charged = [*ask.callers]
            if not around:
                charged += _blocks(ask)
                charged += [] if full else [("country", number.country)]
            weighed = [(level, key, self._weight(ask, level, now)) for level, key in charged]
            self._charge(ask, now, weighed)
            self._remember(event["ref"], _Send(now, number.e164, ask.prefixes.block4, weighed, decision))
        return decision

    def check(self, event: Event) -> Decision | None:
        """Take a guess: a right one pays back, once. Returns the decision on the send that it approved."""
        now = round(event["t"] * 1000)
        if not event["correct"] or (send := self._sends.pop(event["ref"], None)) is None:
            return None
        for level, key, weight in send.charged:
            country = send.decision.country if level in {"ip", "device"} else ""
            block = send.block if level == "ip" else ""
            bucket = self._bucket(level, key, now)
            self._buckets[level, key] = credit.paid(
                self._rules, self._level(level), bucket, now, weight, country, block
            )
        self._bound({level: (level, key) for level, key, _ in send.charged})
        self._numbers[send.number] = credit.approved(self._rules, self._known(send.number, now), now)
        return send.decision

    def receipt(self, event: Event) -> None:
        """Take a receipt: for a send that failed nobody was paid, so it gives its weight back, once."""
        now = round(event["t"] * 1000)
        ref = event["ref"]
        if event["status"] != "failed" or ref in self._failed or (send := self._sends.get(ref)) is None:
            return
        self._failed.add(ref)
        for level, key, weight in send.charged:
            bucket = self._bucket(level, key, now)
            self._buckets[level, key] = credit.relieved(self._rules, self._level(level), bucket, now, weight)

    def exposure(self, level: str, key: str, t: float) -> float:
        """What a bucket holds at a time (seconds). The key of a prefix is `GB:447400123`, others are as they are."""
        now = round(t * 1000)
        return credit.exposure(self._rules, self._level(level), self._bucket(level, key, now), now)

    def _level(self, name: str) -> Level:
        level: Level = getattr(self._rules, name)
        return level

    def _bucket(self, level: str, key: str, now: int) -> Bucket:
        """A bucket, forgotten when its time is over."""
        bucket = self._buckets.get((level, key))
        if bucket is None or now >= bucket.at + self._level(level).keep:
            return credit.fresh(now)
        return bucket

    def _known(self, number: str, now: int) -> Number:
        state = self._numbers.get(number, UNKNOWN_NUMBER)
        return state if now < state.at + credit.kept(self._rules, state) else UNKNOWN_NUMBER

    def _findings(self, ask: Ask, now: int) -> Findings:
        """What every rule says of a send."""
        state, country = self._known(ask.number.e164, now), ask.number.country
        proof = self._rules.proof if ask.signals.challenge_passed else 1.0
        callers = [self._full(level, key, now, self._weight(ask, level, now), proof) for level, key in ask.callers]
        others = (*self._number(state, now), *self._limited(ask, now), *self._overspent(ask, now), *callers)
        return Findings(
            around=list(self._around(ask, now, proof)),
            country=self._full("country", country, now, self._weight(ask, "country", now), proof, what=country),
            others=[reason for reason in others if reason],
            trusted=credit.trusted(self._rules, state, now) or ask.signals.trusted,
            vouched=any(self._bucket(*caller, now).country == country for caller in ask.callers),
        )

    def _around(self, ask: Ask, now: int, proof: float) -> Iterator[Reason]:
        """What speaks against a send around its number."""
        rules = self._rules
        own3, own4, wide = [self._bucket(level, key, now) for level, key in _blocks(ask)]
        whole = self._bucket("country", ask.number.country, now)
        block3, block4, across = [f"+{key.partition(':')[2]}" for _, key in _blocks(ask)]
        spread, weight = rules.spread * credit.rate(rules, wide), self._weight(ask, "block3", now)
        vouched = self._vouched(ask, own4, now)
        for rule, level, prefix, bucket, most in (
            ("block3", rules.block3, block3, own3, rules.block3.cap + spread / 1000),
            ("block4", rules.block4, block4, own4, rules.block4.cap + spread / 100),
            ("range", rules.range, across, wide, credit.cap(rules, rules.range, wide)),
        ):
            allowed = most * max(proof, rules.proof if vouched and rule != "range" else 1.0)
            if found := credit.test(rules, level, bucket, now, weight, allowed):
                yield Reason.short(rule, found, prefix=prefix)
        if vouched:
            return
        sends3, sends4, sends, total = [credit.recent(rules, bucket, now) for bucket in (own3, own4, wide, whole)]
        if found := credit.concentrated(rules, rules.lone_block3, sends3, ((rules.share_block3, sends4),), proof):
            yield Reason.short("concentration", found, prefix=block3)
        surroundings = ((rules.share_block4, sends), (rules.share_country, total))
        if found := credit.concentrated(rules, rules.lone_block4, sends4, surroundings, proof):
            yield Reason.short("concentration", found, prefix=block4)

    def _weight(self, ask: Ask, level: str, now: int) -> float:
        """What a send weighs in the bucket of a level: those of the country go by its block of a thousand."""
        holder = next(((name, key) for name, key in ask.callers if name == level), _blocks(ask)[0])
        return credit.weighed(self._rules, self._bucket(*holder, now), ask.number.e164, now, ask.weight)

    def _vouched(self, ask: Ask, block4: Bucket, now: int) -> bool:
        """Whether the address stands for the number."""
        callers = [self._bucket(*caller, now) for caller in ask.callers]
        stands = any(credit.vouches(self._rules, caller, ask.prefixes.block4) for caller in callers)
        return stands and credit.admits(self._rules, block4, now)

    def _full(self, rule: str, key: str, now: int, weight: float, proof: float, what: str = "") -> Reason | None:
        """Why a country, an address or a device has no room."""
        level, bucket = self._level(rule), self._bucket(rule, key, now)
        most = credit.cap(self._rules, level, bucket) * proof
        found = credit.test(self._rules, level, bucket, now, weight, most)
        return Reason.short(rule, found, what=what) if found else None

    def _number(self, state: Number, now: int) -> Iterator[Reason]:
        if found := credit.hurried(self._rules, state, now):
            yield Reason.short("number", found)
        if found := credit.exhausted(self._rules, state, now):
            yield Reason.short("unconverted", found)

    def _limited(self, ask: Ask, now: int) -> Iterator[Reason]:
        for limit in ask.limits:
            if ahead := wait(limit.rate, self._due.get(limit, 0), now):
                yield Reason(rule="limit", what=f"{limit.scope} {limit.rate}", wait=ahead)

    def _overspent(self, ask: Ask, now: int) -> Iterator[Reason]:
        for one in ask.allowances:
            window = now // one.window
            spent = self._spent.get((one, window), 0)
            if spent + ask.price > one.amount + credit.ROUNDING:
                yield Reason(
                    rule="budget", what=one.name, exposure=spent, cap=one.amount, wait=(window + 1) * one.window - now
                )

    def _charge(self, ask: Ask, now: int, charged: Sequence[tuple[str, str, float]]) -> None:
        rules, number = self._rules, ask.number.e164
        _, block4, _ = _blocks(ask)
        vouched = self._vouched(ask, self._bucket(*block4, now), now)
        for level, key, weight in charged:
            bucket = self._bucket(level, key, now)
            apart = vouched and level in {"block3", "block4"}
            after = credit.charged(rules, self._level(level), bucket, now, weight, apart)
            self._buckets[level, key] = after._replace(last=number, last_at=now)
        self._numbers[number] = credit.sent(self._rules, self._known(number, now), now)
        for limit in ask.limits:
            self._due[limit] = taken(limit.rate, self._due.get(limit, 0), now)
        for one in ask.allowances:
            window = one, now // one.window
            self._spent[window] = self._spent.get(window, 0) + ask.price

    def _bound(self, paid: Mapping[str, tuple[str, str]]) -> None:
        """Bound what counts as the history of blocks that were paid by that of their range."""
        if "range" in paid:
            usual = self._rules.crowding * credit.rate(self._rules, self._buckets[paid["range"]])
            for level, size in (("block3", 1000), ("block4", 100)):
                self._buckets[paid[level]] = self._buckets[paid[level]]._replace(usual=usual / size)

    def _remember(self, ref: str, send: _Send) -> None:
        self._sends[ref] = send
        while (oldest := next(iter(self._sends))) and self._sends[oldest].at < send.at - REMEMBERED:
            del self._sends[oldest]
            self._failed.discard(oldest)


def _blocks(ask: Ask) -> list[tuple[str, str]]:
    """The buckets of the prefixes, narrow to wide."""
    prefixes, country = ask.prefixes, ask.number.country
    named = (("block3", prefixes.block3), ("block4", prefixes.block4), ("range", prefixes.range))
    return [(level, f"{country}:{prefix}") for level, prefix in named]


def _signals(event: Event) -> Signals:
    texts = {name: event.get(name) for name in ("ip", "device_id", "session_id")}
    if strange := [name for name, value in texts.items() if not isinstance(value, str | None)]:
        raise TypeError(f"`{strange[0]}` is a text")
    return Signals(
        ip=texts["ip"],
        device=texts["device_id"],
        session=texts["session_id"],
        trusted=bool(event.get("trusted")),
        challenge_passed=bool(event.get("challenge_passed")),
        limit_keys=event.get("limit_keys") or {},
    )
