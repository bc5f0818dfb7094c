"""The arithmetic of the guard: what a send costs its buckets, what an approval pays back, what time forgives.

Each prefix of a number, its country, an address and a device is a **bucket** with an *exposure*: sends that no approval
has paid for yet. A send adds its weight, an approval takes some back, time leaks it away; a send that would lift an
exposure over its cap is refused. This is Page's one-sided CUSUM for a Bernoulli rate, in units of one send that never
converts: a pending send simply is exposure, so nothing has to mature before a burst is seen.

Everything here is pure: a bucket goes in, another comes out. `lua/parts/credit.lua` does the same inside Redis, and the
tests hold the two together. Times and half-lives are milliseconds, rates are per hour, weights are in sends of one SMS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR

ROUNDING: Final = 1e-6
"""By how much a cap may be missed: who comes back exactly when told to must not fail by the last bit of a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What all buckets of one kind have in common.

    `cap` is the exposure that a bucket without history may have, `leak` what time forgives per hour, `room` by how many
    times its usual traffic the cap grows, `keep` (ms) how long a bucket stays after its last change, `earned` what its
    approvals may add to the cap.
    """

    cap: float
    leak: float
    room: float
    keep: int
    earned: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Every constant of the guard. The defaults serve two thousand sends a day as well as two hundred thousand."""

    block3: Level = Level(cap=2.5, leak=0.2, room=0, keep=2 * DAY)
    """A thousand numbers: all but the last three digits."""
    block4: Level = Level(cap=2.5, leak=0.2, room=0, keep=2 * DAY)
    """Ten thousand numbers."""
    range: Level = Level(cap=12, leak=1, room=4, keep=30 * DAY)
    """A million numbers; of short ones those that share their first four digits."""
    country: Level = Level(cap=20, leak=1, room=2, keep=30 * DAY, earned=20)
    ip: Level = Level(cap=9, leak=1, room=3, keep=14 * DAY)
    """An IPv4 address, or an IPv6 network of 64 bits."""
    device: Level = Level(cap=4, leak=0.5, room=0, keep=2 * DAY)

    payback: float = 2.5
    """What one approval takes back, in sends: 2.57 tells conversion of 75 % from 10 %."""
    history: float = 0.75
    """How many sends a bucket forgets for each that it converted in the long run."""
    earning: float = 0.25
    """What each approval adds to a cap that is earned."""
    crowding: float = 8
    """By how much a block may be fuller than others of its range, when its own history forgives it."""
    again: float = 0.25
    """What a send weighs that repeats the last one to the same number: a person who asks again, not another one."""
    again_within: int = HOUR
    memory: int = 72 * HOUR
    """Half-life of the approvals behind a bucket's rate."""
    spread: float = 32
    """What the blocks of a range may have on top: so many times their even share of its approvals per hour."""
    recently: int = 12 * HOUR
    """Half-life of the sends that are weighed against those of the surroundings."""
    lone_block4: float = 40
    """Recent sends that ten thousand numbers may have whatever their surroundings have."""
    lone_block3: float = 40
    share_block4: float = 0.1
    """Of the recent sends of its range, what such a block may have on top."""
    share_block3: float = 0.1
    share_country: float = 0.003

    burst: int = 4
    """Sends that a number may have at once; one more after each pause (ms)."""
    pause: int = HOUR // 6
    unconverted: float = 6
    """Sends to a number that came to nothing."""
    unconverted_memory: int = 12 * HOUR
    """Half-life of those."""
    trust: int = 90 * DAY
    """How long after an approval a number is trusted, while at least `trusted_share` of its sends are approved."""
    ripe: int = DAY
    """How long after its first approval a number can be trusted: a day's farming gains nothing by it."""
    trusted_share: float = 0.5
    trust_memory: int = 7 * DAY
    """Half-life of a number's sends and approvals."""
    proof: float = 3
    """By what a passed challenge multiplies the caps."""

    vouching: float = 5
    """Approvals of an address that vouches for the numbers around its last one: an office that enrols its staff."""
    vouching_sends: float = 400
    """Sends, with the half-life of `memory`, that ten thousand numbers may have before no address vouches for more."""

    number_keep: int = 7 * DAY
    """How long a number that was never approved is remembered after its last send."""


class Bucket(NamedTuple):
    """The state of a bucket, as of its last change."""

    exposure: float
    at: int
    """When it changed last."""
    approvals: float
    """With a half-life of `memory`."""
    since: int
    """When it was seen first."""
    streak: float
    """Sends since the last approval."""
    recent: float
    """Sends with a half-life of `recently`."""
    sends: float
    """With a half-life of `memory`: beside the approvals they say how well a bucket converts."""
    country: str = ""
    """The country that was approved last, of an address or a device."""
    block: str = ""
    """The ten thousand numbers of which one was approved last, of an address."""
    last: str = ""
    """The number that was sent to last, of a block of a thousand, an address or a device."""
    last_at: int = 0
    usual: float = math.inf
    """The most approvals per hour that count as the history of a block: after those of its range at its last one."""


class Number(NamedTuple):
    """The state of one number, as of its last change."""

    full: int
    """When the burst is whole again."""
    unconverted: float
    at: int
    sends: float
    approvals: float
    approved: int
    """When it was approved last, 0 for never."""
    first: int = 0
    """When it was approved first, 0 for never."""


UNKNOWN_NUMBER: Final = Number(0, 0.0, 0, 0.0, 0.0, 0)


class Shortfall(NamedTuple):
    """Why a send has no room: what there is, what there may be, and in how many ms there will be room."""

    exposure: float
    cap: float
    wait: int


def fresh(now: int) -> Bucket:
    """A bucket that nothing is known of."""
    return Bucket(0.0, now, 0.0, now, 0.0, 0.0, 0.0)


def halved(time: float, half_life: float) -> float:
    """What is left of one after so long."""
    return float(0.5 ** (time / half_life))


def rate(rules: Rules, bucket: Bucket) -> float:
    """Approvals per hour in the long run, as of the bucket's last change; corrected for a short history."""
    age = max(DAY, bucket.at - bucket.since)
    return bucket.approvals * math.log(2) / (rules.memory / HOUR) / (1 - halved(age, rules.memory))


def leak(rules: Rules, level: Level, bucket: Bucket) -> float:
    """What time forgives per hour: ever less to a bucket that only takes, more to one that has always converted."""
    strain = max(0.0, bucket.streak - level.cap) / level.cap
    return float(level.leak * 0.5**strain) + rules.history * min(rate(rules, bucket), bucket.usual)


def cap(rules: Rules, level: Level, bucket: Bucket) -> float:
    """The exposure that a bucket may have, with room for what it is used to."""
    earned = min(level.earned, rules.earning * bucket.approvals)
    return level.cap + earned + level.room * rules.history * rate(rules, bucket)


def weighed(rules: Rules, bucket: Bucket, number: str, now: int, weight: float) -> float:
    """What a send to a number weighs in this bucket."""
    again = bucket.last == number and now - bucket.last_at < rules.again_within
    return weight * rules.again if again else weight


def vouches(rules: Rules, bucket: Bucket, block: str) -> bool:
    """Whether an address vouches for the numbers of a block of ten thousand, of which it used the last of its codes.

    For no others: those who share a carrier's address would inherit what its customers are good for.
    """
    return bucket.block == block and bucket.approvals >= rules.vouching


def admits(rules: Rules, block4: Bucket, now: int) -> bool:
    """Whether a block of ten thousand has had so few sends that an address may vouch for one more.

    It is the block that is bounded, since who rents one can have as many addresses as he likes.
    """
    sends = block4.sends * halved(now - block4.at, rules.memory)
    return sends + 1 - rules.vouching_sends <= ROUNDING


def exposure(rules: Rules, level: Level, bucket: Bucket, now: int) -> float:
    """The exposure that is left now."""
    return max(0.0, bucket.exposure - leak(rules, level, bucket) * (now - bucket.at) / HOUR)


def burden(level: Level, weight: float) -> float:
    """What a send adds to a bucket. However dear it is, an empty bucket has room for one."""
    return min(weight, level.cap)


def test(rules: Rules, level: Level, bucket: Bucket, now: int, weight: float, most: float) -> Shortfall | None:
    """Why a send does not fit under the cap `most`, None when it does."""
    held = exposure(rules, level, bucket, now)
    over = held + burden(level, weight) - most
    if over <= ROUNDING:
        return None
    # The bucket is forgotten `keep` after its last change, and a refusal changes nothing.
    forgotten = bucket.at + level.keep - now
    return Shortfall(held, most, min(forgotten, math.ceil(over / leak(rules, level, bucket) * HOUR)))


def settled(rules: Rules, level: Level, bucket: Bucket, now: int) -> Bucket:
    """The bucket as it is now."""
    passed = now - bucket.at
    return Bucket(
        exposure(rules, level, bucket, now),
        now,
        bucket.approvals * halved(passed, rules.memory),
        bucket.since,
        bucket.streak,
        bucket.recent * halved(passed, rules.recently),
        bucket.sends * halved(passed, rules.memory),
        bucket.country,
        bucket.block,
        bucket.last,
        bucket.last_at,
        bucket.usual,
    )


def charged(rules: Rules, level: Level, bucket: Bucket, now: int, weight: float, vouched: bool = False) -> Bucket:
    """The bucket after a send; one that is `vouched` for adds to no crowd, and lets one from elsewhere be in it."""
    then = settled(rules, level, bucket, now)
    added = burden(level, weight)
    return then._replace(
        exposure=then.exposure + added,
        streak=then.streak + added,
        recent=max(0.0, then.recent + (-1 if vouched else 1)),
        sends=then.sends + 1,
    )


def refunded(
    rules: Rules, level: Level, bucket: Bucket, now: int, weight: float, vouched: bool = False
) -> Bucket | None:
    """The bucket after a send that was charged and did not happen, None where nothing is left to remember."""
    then = settled(rules, level, bucket, now)
    added = burden(level, weight)
    left = then._replace(
        exposure=max(0.0, then.exposure - added),
        streak=max(0.0, then.streak - added),
        recent=max(0.0, then.recent + (1 if vouched else -1)),
        sends=max(0.0, then.sends - 1),
    )
    return left if left.exposure or left.approvals or left.streak or left.recent or left.sends else None


def relieved(rules: Rules, level: Level, bucket: Bucket, now: int, weight: float) -> Bucket:
    """The bucket after a receipt said that a send failed: nobody was paid for it."""
    then = settled(rules, level, bucket, now)
    return then._replace(exposure=max(0.0, then.exposure - burden(level, weight)))


def paid(
    rules: Rules, level: Level, bucket: Bucket, now: int, weight: float, country: str = "", block: str = ""
) -> Bucket:
    """The bucket after an approval of a send of this weight.

    An address and a device remember to which country it was, an address also to which block of ten thousand.
    """
    then = settled(rules, level, bucket, now)
    return then._replace(
        exposure=max(0.0, then.exposure - rules.payback * max(1.0, burden(level, weight))),
        streak=0.0,
        approvals=then.approvals + 1,
        country=country,
        block=block,
    )


def recent(rules: Rules, bucket: Bucket | None, now: int) -> float:
    """The recent sends of a bucket, converted or not."""
    return 0.0 if bucket is None else bucket.recent * halved(now - bucket.at, rules.recently)


def concentrated(
    rules: Rules, lone: float, own: float, parts: tuple[tuple[float, float], ...], proof: float
) -> Shortfall | None:
    """Why a block has more than its part of the recent sends around it, None when it has not.

    `own` are its recent sends, `parts` the shares that it may have of others'. All of them fade alike, which says when
    there will be room.
    """
    around = sum(share * max(0.0, total - own) for share, total in parts)
    most = (lone + around) * proof
    if own + 1 - most <= ROUNDING:
        return None
    fading = (own - around * proof) / (lone * proof - 1)
    return Shortfall(own, most, math.ceil(rules.recently * math.log2(fading)))


def lapsed(rules: Rules, number: Number, now: int) -> Number:
    """The number's state as it is now."""
    passed = now - number.at
    faded = halved(passed, rules.trust_memory)
    return Number(
        number.full,
        number.unconverted * halved(passed, rules.unconverted_memory),
        now,
        number.sends * faded,
        number.approvals * faded,
        number.approved,
        number.first,
    )


def hurried(rules: Rules, number: Number, now: int) -> Shortfall | None:
    """Why a number has to wait for its next send, None when it has not."""
    ahead = max(0, number.full - now)
    if ahead + rules.pause <= rules.burst * rules.pause:
        return None
    return Shortfall(ahead / rules.pause, rules.burst, ahead - (rules.burst - 1) * rules.pause)


def exhausted(rules: Rules, number: Number, now: int) -> Shortfall | None:
    """Why a number has had too many sends that came to nothing, None when it has not."""
    held = lapsed(rules, number, now).unconverted
    if held + 1 - rules.unconverted <= ROUNDING:
        return None
    wait = math.ceil(rules.unconverted_memory * math.log2(held / (rules.unconverted - 1)))
    return Shortfall(held, rules.unconverted, wait)


def trusted(rules: Rules, number: Number, now: int) -> bool:
    """Whether a number has shown that it is a person's: such a one passes where its neighbours are refused."""
    then = lapsed(rules, number, now)
    recently_approved = then.approved > 0 and now - then.approved < rules.trust
    ripe = then.first > 0 and now - then.first >= rules.ripe
    return ripe and recently_approved and then.approvals >= rules.trusted_share * then.sends - ROUNDING


def kept(rules: Rules, number: Number) -> int:
    """How long (ms) a number is remembered after its last change."""
    return rules.trust if number.approved else rules.number_keep


def sent(rules: Rules, number: Number, now: int) -> Number:
    """The number's state after a send."""
    then = lapsed(rules, number, now)
    return then._replace(
        full=max(now, then.full) + rules.pause,
        unconverted=then.unconverted + 1,
        sends=then.sends + 1,
    )


def approved(rules: Rules, number: Number, now: int) -> Number:
    """The number's state after an approval."""
    then = lapsed(rules, number, now)
    return then._replace(unconverted=0.0, approvals=then.approvals + 1, approved=now, first=number.first or now)


DEFAULTS: Final = Rules()


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefixes of a number (digits, without `+`) that have buckets, narrow to wide."""

    block3: str
    block4: str
    range: str

    @classmethod
    def of(cls, digits: str) -> Prefixes:
        """Those of a number in E.164, without its `+`."""
        return cls(digits[:-3], digits[:-4], digits[:-6] if len(digits) >= 10 else digits[:4])
