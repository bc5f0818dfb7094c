"""The parts of a decision: each is one script on one tag, what its answer says of the send, and what it then holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from service.answer import Answer
from service.guard.ask import Allowance
from service.guard.credit import Prefixes, Shortfall
from service.guard.limits import Rate, from_key, keys
from service.guard.verdict import Findings, Reason
from service.store import Act, Field

LEASE_MS: Final = 30_000
"""After this a reservation that was never committed is given back: its process is gone."""

MILLIONTHS: Final = 1_000_000
"""Money is counted in these."""

_LEARNED: Final = frozenset({"number", "unconverted", "ip", "device"})
"""Rules that look at what was sent before, over which trust by hand stands; limits and budgets hold."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What was taken for a send: how to make it last, and how to give it back before or after that."""

    commit: Act | None
    refund: Act
    refund_committed: Act

    @property
    def is_limit(self) -> bool:
        """Whether it was taken from a limit, which lasts at once and holds in every mode."""
        return self.commit is None


@dataclass(slots=True)
class Hearing:
    """What the parts say."""

    around: list[Reason] = field(default_factory=list)
    country: Reason | None = None
    others: list[Reason] = field(default_factory=list)
    denied: Reason | None = None
    trusted: bool = False
    vouched: bool = False
    vouches: bool = False
    repeated: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    marked: str = ""
    note: str = ""
    charged: tuple[str, ...] = ()
    alerts: list[str] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    @property
    def findings(self) -> Findings:
        """For the verdict. A mark of the number stands over a rule for its prefix, and over all that was learned."""
        others = [*([self.denied] if self.denied else []), *self.others]
        if self.marked == "trust":
            others = [one for one in self.others if one.rule not in _LEARNED]
        return Findings(
            around=self.around,
            country=self.country,
            others=others,
            trusted=self.trusted or self.marked == "trust",
            vouched=self.vouched,
        )


@dataclass(frozen=True, slots=True)
class Send:
    """What all buckets are told of a send.

    `mark` is a keyed hash of its number: each script weighs the send by whether its bucket saw the same one last.
    Its caps are multiplied by `proof`.
    """

    mark: str
    weight: float
    proof: float
    reservation: str

    @property
    def words(self) -> list[Field]:
        """As the scripts take them."""
        return [_text(self.weight), _text(self.proof), self.reservation, LEASE_MS, self.mark]

    def repeats(self, answer: Answer) -> bool:
        """Whether it was known as one that repeats the last."""
        return answer.fields.text("weight") != _text(self.weight)

    def hold(self, tag: str, names: Sequence[str], answer: Answer, rules: bytes, *, vouched: bool = False) -> Hold:
        """What the script that answered has reserved. Where it is `vouched` for, its blocks count it apart."""
        taken = " ".join([self.reservation, answer.fields.text("weight"), *names])
        pending, buckets = f"{tag}pending", [tag + name for name in names]
        commit = Act("credit_commit", [pending, buckets[0]], [taken, self.mark])
        if vouched:
            commit = Act("credit_vouch", [pending, *buckets[:2]], [taken, self.mark, rules])
        committed = ["1", _flag(vouched), _flag(not self.repeats(answer))]
        refund, undo = (
            Act("credit_refund", [pending, *buckets], [rules, taken, *words]) for words in (["", "", ""], committed)
        )
        return Hold(commit, refund, undo)


class Part(Protocol):
    """One script and its reader."""

    def act(self) -> Act:
        """The script."""

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """Take what it answered."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the number itself. `counted` is for the first send: of others on request the script does it."""

    tag: str
    hash: str
    rules: bytes
    counted: bool

    def act(self) -> Act:
        """Nothing is taken: the script that sends does that."""
        return Act("number_look", [f"{self.tag}known:{self.hash}", f"{self.tag}hand:{self.hash}"], [self.rules])

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """Trust, mark, and what the number has used up."""
        hearing.trusted |= answer.outcome == "trusted"
        hearing.marked, _, hearing.note = answer.fields.text("hand").partition(" ")
        if hearing.marked == "deny":
            hearing.denied = Reason(rule="denied", what="this number")
        for rule in ("number", "unconverted") if self.counted else ():
            if found := _shortfall(answer, rule):
                hearing.others.append(Reason.short(rule, found))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The prefixes of the number, and its country; `vouched` where the address is known to stand for the number."""

    country: str
    number: str
    send: Send
    rules: bytes
    vouched: bool = False

    @staticmethod
    def names(number: str) -> tuple[str, ...]:
        """The buckets around a number in E.164: its country, then its prefixes narrow to wide."""
        prefixes = Prefixes.of(number[1:])
        return "country", f"block3:{prefixes.block3}", f"block4:{prefixes.block4}", f"range:{prefixes.range}"

    def act(self) -> Act:
        """All of them, or all but a full country, or none."""
        tag = country_tag(self.country)
        buckets = [tag + name for name in self.names(self.number)]
        return Act(
            "surroundings_reserve",
            [f"{tag}pending", *buckets, f"{tag}hand", f"{tag}ranges"],
            [self.rules, *self.send.words, self.number[1:], _flag(self.vouched)],
        )

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """What has no room, the rule by hand, and what was charged."""
        _, *narrow = self.names(self.number)
        block3, block4, across = narrow
        for rule, field_, name in (
            ("block3", "block3", block3),
            ("block4", "block4", block4),
            ("range", "range", across),
            ("concentration", "concentration3", block3),
            ("concentration", "concentration4", block4),
        ):
            if found := _shortfall(answer, field_):
                hearing.around.append(Reason.short(rule, found, prefix=f"+{name.partition(':')[2]}"))
        if found := _shortfall(answer, "country"):
            hearing.country = Reason.short("country", found, what=self.country)
        prefix, _, action = answer.fields.text("hand").partition(" ")
        if action == "block" and hearing.denied is None:
            hearing.denied = Reason(rule="denied", prefix=f"+{prefix}", what=f"+{prefix}")
        hearing.trusted |= action == "allow"
        hearing.vouches &= answer.fields.text("admits") == "1"
        if answer.outcome != "refused":
            hearing.charged = (*narrow,) if answer.outcome == "part" else (*narrow, "country")
            tag = country_tag(self.country)
            hearing.holds.append(self.send.hold(tag, hearing.charged, answer, self.rules, vouched=hearing.vouches))
            if self.send.repeats(answer):
                hearing.repeated.add("around")


@dataclass(frozen=True, slots=True)
class Caller:
    """An address or a device that asks; `block` is a keyed hash of the ten thousand numbers around the one."""

    key: str
    country: str
    block: str
    send: Send
    rules: bytes

    def act(self) -> Act:
        """Its bucket."""
        return Act(
            "caller_reserve",
            [f"{self._tag}pending", self.key],
            [self.rules, *self.send.words, self.country, self.block],
        )

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """Whether it has room, and whether it stands for the country or even for the number."""
        name = self.key.removeprefix(self._tag)
        hearing.vouched |= answer.fields.text("country") == "1"
        hearing.vouches |= answer.fields.text("vouches") == "1"
        if found := _shortfall(answer, name):
            hearing.others.append(Reason.short(name, found))
            hearing.full.add(name)
        else:
            hearing.holds.append(self.send.hold(self._tag, (name,), answer, self.rules))
            if self.send.repeats(answer):
                hearing.repeated.add(name)

    @property
    def _tag(self) -> str:
        return tag_of(self.key)


@dataclass(frozen=True, slots=True)
class Limited:
    """The limits of one number, address, key …, as text."""

    scope: str
    key: str
    rates: Sequence[Rate]

    def act(self) -> Act:
        """All of its rates."""
        return Act("limit_take", [self.key], [keys(self.rates)])

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """Which of them is used up."""
        if answer.outcome == "limited":
            what = f"{self.scope} {from_key(answer.detail)}"
            hearing.others.append(Reason(rule="limit", what=what, wait=answer.number))
        else:
            back = Act("limit_return", [self.key], [keys(self.rates)])
            hearing.holds.append(Hold(None, back, back))


@dataclass(frozen=True, slots=True)
class Money:
    """The budgets of one owner."""

    owner: str
    allowances: Sequence[Allowance]
    price: float
    alert: float
    reservation: str

    def act(self) -> Act:
        """All of them."""
        named = [(one.name, one.window, _millionths(one.amount)) for one in self.allowances]
        bounds = [word for budget in named for word in budget]
        price = _millionths(self.price)
        return Act("budget_take", self._keys, [price, self.reservation, LEASE_MS, _text(self.alert), *bounds])

    def hear(self, answer: Answer, hearing: Hearing) -> None:
        """Which of them are spent, and which are about to be."""
        hearing.alerts += answer.fields.text("alerts").split()
        for one in self.allowances:
            if found := _shortfall(answer, one.name):
                euros = Shortfall(found.exposure / MILLIONTHS, found.cap / MILLIONTHS, found.wait)
                hearing.others.append(Reason.short("budget", euros, what=one.name))
        if answer.outcome == "taken":
            taken = answer.fields.text("reservation")
            commit = Act("credit_commit", self._keys[:1], [taken])
            refund, committed = (Act("budget_return", self._keys, [taken, word]) for word in ("", "1"))
            hearing.holds.append(Hold(commit, refund, committed))

    @property
    def _keys(self) -> list[str]:
        return [f"{{b:{self.owner}}}:pending", f"{{b:{self.owner}}}:spent"]


def country_tag(country: str) -> str:
    """The beginning of the keys of a country and its prefixes."""
    return f"{{g:{country}}}:"


def tag_of(key: str) -> str:
    """The beginning that all keys beside this one share."""
    return key[: key.index("}") + 2]


def _shortfall(answer: Answer, rule: str) -> Shortfall | None:
    words = answer.fields.text(rule).split()
    return Shortfall(float(words[0]), float(words[1]), int(words[2])) if words else None


def _millionths(amount: float) -> int:
    return round(amount * MILLIONTHS)


def _flag(there: bool) -> str:
    return "1" if there else ""


def _text(number: float) -> str:
    return f"{number:.10g}"
