"""The guard in production: what is asked goes to scripts in Redis, what they find is judged by the rules.

A send on request takes one round trip, in which each script tests its own part and reserves it: the surroundings of the
number under the tag of its country, the address and the device under tags of their own; a second one starts the
verification and commits, or refunds. A process that dies in between gives back what it reserved: reservations lapse.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import orjson

from service import ids, phone
from service.answer import Answer, Fields
from service.errors import InvalidNumber
from service.guard.ask import Ask, Signals
from service.guard.charge import HASH, Charge
from service.guard.credit import Prefixes, Rules
from service.guard.decisions import Decisions
from service.guard.parts import (
    Caller,
    Hearing,
    Hold,
    Limited,
    Look,
    Money,
    Part,
    Send,
    Surroundings,
    country_tag,
    tag_of,
)
from service.guard.policy import Policy
from service.guard.prices import Prices
from service.guard.verdict import ALLOWED, Decision, judge
from service.phone import Number
from service.record import opened
from service.sealing import KeyRing
from service.store import Act, Store

_SAMPLE: Final = 100
"""One allowed send in so many has its decision kept too."""

_MARK: Final = 6
"""Characters by which the number that was sent to last, or the block approved last, is known again: 36 bits."""

AROUND: Final = ("country", "block3", "block4", "range")
"""The levels of the buckets around a number."""

_CONSTANTS: Final = (
    "payback",
    "history",
    "memory",
    "spread",
    "earning",
    "crowding",
    "again",
    "again_within",
    "proof",
    "vouching",
    "vouching_sends",
    "recently",
    "lone_block3",
    "lone_block4",
    "share_block3",
    "share_block4",
    "share_country",
)

_NUMBER_RULES: Final = (
    "burst",
    "pause",
    "unconverted",
    "unconverted_memory",
    "trust",
    "trusted_share",
    "ripe",
    "trust_memory",
    "number_keep",
)


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a send: whether it is refused, the decision with the name under which it is kept, what it holds.

    `charge` is what to keep with the verification, None where the guard is off; `beside` what the act answered that
    goes with a refusal.
    """

    refused: bool = False
    decision: Decision = ALLOWED
    name: str | None = None
    charge: Charge | None = None
    holds: tuple[Hold, ...] = ()
    beside: Answer | None = None


class Guard:
    """Decides on sends, and keeps the credit that they are decided by."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        decisions: Decisions,
        *,
        rules: Rules,
        prices: Prices,
        shards: int,
    ) -> None:
        self._store = store
        self._ring = ring
        self._decisions = decisions
        self._shards = shards
        self._proof = rules.proof
        self._again = rules.again
        self.rules = _written(rules, AROUND)
        self._caller_rules = _written(rules, ("ip", "device"))
        number_rules = {name: getattr(rules, name) for name in _NUMBER_RULES}
        self._number_rules = orjson.dumps(number_rules)
        self._lenient_rules = orjson.dumps(number_rules | {"lenient": True})
        self.prices = prices

    async def number(self, text: str, country: str | None = None) -> Number:
        """Read a number as `phone.parse` does; raises InvalidNumber, Unavailable.

        One that no plan has yet counts as a mobile one where a rule by hand allows its prefix, whatever the mode is.
        """
        try:
            return phone.parse(text, country)
        except InvalidNumber:
            found = phone.possible(text, country)
            if found is None or not await self._allowed(found):
                raise
            return replace(found, kind="mobile")

    async def _allowed(self, number: Number) -> bool:
        answer = await self._store.run("prefix_read", [f"{country_tag(number.country)}hand"], [number.e164[1:]])
        return answer.fields.text("hand").endswith(" allow")

    async def hear(
        self,
        ask: Ask,
        *,
        first: Charge | None = None,
        requested: bool = True,
        beside: Callable[[], Act] | None = None,
    ) -> Heard:
        """Decide on a send, and hold its credit until `commit` or `drop`; raises Unavailable.

        `first` is the charge of the verification's first send, for those after it: the signals are not there any more,
        and nobody can be asked for a proof. Limits are for sends that were `requested`, not for steps of a cascade.
        `beside` makes an act that the caller needs after a refusal, which then costs no round trip of its own.
        """
        callers = [self._caller(*caller) for caller in ask.callers] if first is None else list(first.callers)
        parts = list(self._parts(ask, callers, counted=first is None, limited=requested))
        if not parts:
            return Heard()
        hearing = await self._listen(ask, parts)
        decision = judge(
            hearing.findings,
            challenges=ask.policy.challenges and first is None,
            proven=ask.signals.challenge_passed,
        )
        refused = decision.verdict != "allow" and (ask.policy.mode == "enforce" or decision.limited is not None)
        name = f"dec_{os.urandom(10).hex()}" if decision.verdict != "allow" or secrets.randbelow(_SAMPLE) == 0 else None
        if ask.policy.mode == "off" and decision.verdict == "allow":
            return Heard(holds=tuple(hearing.holds))
        self._decisions.tell(ask, decision, hearing.alerts, name)
        allowed = decision.verdict == "allow"
        holds = [] if refused else [hold for hold in hearing.holds if allowed or hold.is_limit]
        found: list[Answer] = []
        if not allowed:
            extra = [beside()] if refused and beside is not None else []
            extra += [hold.refund for hold in hearing.holds if hold not in holds]
            found = await self._decisions.refuse(ask, decision, name or "", extra)
        elif name is not None:
            self._store.tell(self._decisions.keep(ask, decision, name))
        charge = Charge(
            number=ask.number.e164,
            country=ask.number.country,
            # Where a mark by hand stood over one that is full, that one was not charged.
            callers=tuple(key for key in callers if not allowed or key.rpartition(":")[2] not in hearing.full),
            around=allowed and bool(hearing.charged),
            whole=allowed and "country" in hearing.charged,
            who=allowed,
            trusted=ask.signals.trusted,
            proven=ask.signals.challenge_passed,
            repeated=frozenset(hearing.repeated),
        )
        kept = charge if ask.policy.mode != "off" else None
        return Heard(refused, decision, name, kept, tuple(holds), found[0] if refused and beside is not None else None)

    def charge(self, fields: Fields) -> Charge | None:
        """What was charged for a verification, None where the guard was off; raises Unreadable."""
        packed = opened(self._ring, fields, "guard")
        return None if packed is None else Charge.unpacked(packed, fields.text("country"))

    async def look(self, ask: Ask) -> tuple[Hearing, Decision]:
        """What would be answered to a send now, without any trace of it; raises Unavailable."""
        parts = list(self._parts(ask, [self._caller(*caller) for caller in ask.callers], counted=True, limited=True))
        hearing = await self._listen(ask, parts)
        await self._store.together(hold.refund for hold in hearing.holds)
        return hearing, judge(hearing.findings, challenges=ask.policy.challenges, proven=ask.signals.challenge_passed)

    async def hear_again(
        self, policy: Policy, charge: Charge, channel: str, provider: str = "", *, requested: bool = False
    ) -> Heard:
        """Decide on a further send of a verification: one more on request, or a step of its cascade."""
        number = Number(charge.number, charge.country, "")
        signals = Signals(trusted=charge.trusted, challenge_passed=charge.proven)
        ask = Ask.of(policy, number, channel, signals, self.prices, provider)
        return await self.hear(ask, first=charge, requested=requested)

    def commit(self, heard: Heard) -> None:
        """The send happens: with whatever is asked of Redis next, what it holds is made to last."""
        for hold in heard.holds:
            if hold.commit is not None:
                self._store.tell(hold.commit)

    def drop(self, heard: Heard) -> None:
        """The send does not happen, and was not committed."""
        for hold in heard.holds:
            self._store.tell(hold.refund)

    def give_back(self, heard: Heard) -> None:
        """The send was committed and did not happen."""
        for hold in heard.holds:
            self._store.tell(hold.refund_committed)

    def paying(self, charge: Charge, channels: Sequence[str]) -> list[Act]:
        """The acts by which an approval pays back for the dearest of the sends over these channels, in their order."""
        return [
            Act(
                "credit_pay",
                buckets,
                [
                    self._rules_of(tag),
                    max((self._weighed(charge, buckets[0], *send) for send in enumerate(channels)), default=1.0),
                    "" if _is_country(tag) else charge.country,
                    self._block(charge.number) if buckets[0].endswith(":ip") else "",
                ],
            )
            for tag, buckets in _by_tag(charge.charged)
        ]

    def unpay(self, paid: Sequence[Answer]) -> None:
        """Undo what `paying` did, of which these are the answers."""
        for answer in paid:
            keys, amounts = zip(*answer.fields.items(), strict=True)
            self._store.tell(Act("credit_unpay", keys, [self._rules_of(keys[0]), *amounts]))

    def relieve(self, charge: Charge, n: int, channel: str) -> None:
        """The send `n` of a verification, over this channel, failed, so that nobody was paid for it."""
        for tag, buckets in _by_tag(charge.charged):
            weight = self._weighed(charge, buckets[0], n, channel)
            self._store.tell(Act("credit_relieve", buckets, [self._rules_of(tag), weight]))

    def _weighed(self, charge: Charge, key: str, n: int, channel: str) -> float:
        """What the send `n` of a verification weighed in a bucket: those after the first repeat it."""
        name = "around" if _is_country(key) else key.rpartition(":")[2]
        weight = self.prices.weight(charge.country, channel)
        return weight * self._again if n > 0 or name in charge.repeated else weight

    def _rules_of(self, key: str) -> bytes:
        """The rules for the buckets under the tag of a key."""
        return self.rules if _is_country(key) else self._caller_rules

    def number_rules(self, policy: Policy) -> bytes:
        """What the scripts that send and approve need to count for a number; empty where the guard is off."""
        return {"off": b"", "monitor": self._lenient_rules, "enforce": self._number_rules}[policy.mode]

    def _parts(self, ask: Ask, callers: Sequence[str], *, counted: bool, limited: bool) -> Iterator[Part]:
        """What has something to say of a send, in the order in which its reasons are told."""
        policy, number, signals = ask.policy, ask.number, ask.signals
        judged = policy.mode != "off"
        if judged:
            place = self._ring.writer.place(number.e164, self._shards)
            yield Look(ids.tag(place.shard), place.hash, self._number_rules, counted)
        # Those of the number itself are taken by the script that sends, on its own tag.
        named = [one for one in ask.limits if one.scope != "number"] if limited else []
        for (scope, value), limits in groupby(named, lambda one: (one.scope, one.value)):
            hashed = self._ring.writer.fingerprint(b"limit", scope.encode(), value.encode())
            yield Limited(scope, f"{{l:{hashed}}}:rates", [limit.rate for limit in limits])
        if not judged:
            return
        reservation = os.urandom(8).hex()
        for whose, allowances in groupby(ask.allowances, lambda one: one.whose):
            yield Money(whose, list(allowances), ask.price, policy.budget.alert, reservation)
        proof = self._proof if signals.challenge_passed else 1.0
        mark = self._ring.writer.fingerprint(b"again", number.e164.encode())[:_MARK]
        send = Send(mark, ask.weight, proof, reservation)
        for key in callers:
            yield Caller(key, number.country, self._block(number.e164), send, self._caller_rules)
        yield Surroundings(number.country, number.e164, send, self.rules)

    async def _listen(self, ask: Ask, parts: Sequence[Part]) -> Hearing:
        """What the parts say. Prefixes without room are asked again where the address stands for the number."""
        hearing = Hearing(trusted=ask.signals.trusted)
        for part, answer in zip(parts, await self._store.together(part.act() for part in parts), strict=True):
            part.hear(answer, hearing)
        for part in parts if hearing.around and hearing.vouches else ():
            if isinstance(part, Surroundings):
                vouched = replace(part, vouched=True)
                hearing.around, hearing.country = [], None
                vouched.hear(await self._store.run(*vouched.act()), hearing)
        return hearing

    def _block(self, number: str) -> str:
        """A keyed hash of the ten thousand numbers around one, by which an address knows them again."""
        return self._ring.writer.fingerprint(b"block", Prefixes.of(number[1:]).block4.encode())[:_MARK]

    def _caller(self, level: str, name: str) -> str:
        hashed = self._ring.writer.fingerprint(level.encode(), name.encode())
        return f"{{c:{hashed[:HASH]}}}:{level}"


def _written(rules: Rules, levels: Sequence[str]) -> bytes:
    """The rules as the scripts take them."""
    return orjson.dumps({name: getattr(rules, name) for name in (*_CONSTANTS, *levels)})


def _is_country(key: str) -> bool:
    return key.startswith("{g:")


def _by_tag(keys: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for tag, some in groupby(keys, tag_of):
        yield tag, list(some)
