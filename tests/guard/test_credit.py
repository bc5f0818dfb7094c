"""The arithmetic of the guard, as tables and as properties."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.guard import credit
from service.guard.credit import DEFAULTS, HOUR, UNKNOWN_NUMBER, Bucket, Level, Prefixes

LEVELS = [DEFAULTS.block3, DEFAULTS.block4, DEFAULTS.range, DEFAULTS.country, DEFAULTS.ip, DEFAULTS.device]

levels = st.sampled_from(LEVELS)
weights = st.sampled_from([0.25, 1.0, 2.0, 30.0])
times = st.integers(0, 40 * HOUR)
acts = st.lists(st.tuples(st.sampled_from(["send", "approve", "fail"]), times, weights), max_size=30)


def lived(level: Level, life: list[tuple[str, int, float]]) -> tuple[Bucket, int]:
    """A bucket after a life, and the time."""
    now = 0
    bucket = credit.fresh(now)
    for act, pause, weight in life:
        now += pause
        if act == "approve":
            bucket = credit.paid(DEFAULTS, level, bucket, now, weight)
        elif act == "fail":
            bucket = credit.relieved(DEFAULTS, level, bucket, now, weight)
        elif credit.test(DEFAULTS, level, bucket, now, weight, credit.cap(DEFAULTS, level, bucket)) is None:
            bucket = credit.charged(DEFAULTS, level, bucket, now, weight)
    return bucket, now


def counts(bucket: Bucket) -> tuple[float, ...]:
    """What is counted in a bucket."""
    return bucket.exposure, bucket.approvals, bucket.streak, bucket.recent, bucket.sends


@given(levels, acts, weights)
def test_an_exposure_is_never_negative_and_never_lifted_over_its_cap(
    level: Level, life: list[tuple[str, int, float]], weight: float
) -> None:
    """Whatever happened before."""
    bucket, now = lived(level, life)
    assert min(bucket.exposure, bucket.approvals, bucket.streak, bucket.recent, bucket.sends) >= 0
    most = credit.cap(DEFAULTS, level, bucket)
    if credit.test(DEFAULTS, level, bucket, now, weight, most) is None:
        assert credit.charged(DEFAULTS, level, bucket, now, weight).exposure <= most + credit.ROUNDING


@given(levels, acts, times, weights)
def test_a_refund_undoes_a_charge(level: Level, life: list[tuple[str, int, float]], pause: int, weight: float) -> None:
    """Exactly, within the same millisecond."""
    bucket, now = lived(level, life)
    now += pause
    settled = credit.settled(DEFAULTS, level, bucket, now)
    charged = credit.charged(DEFAULTS, level, bucket, now, weight)
    refunded = credit.refunded(DEFAULTS, level, charged, now, weight)
    assert counts(refunded or credit.fresh(now)) == pytest.approx(counts(settled), abs=1e-9)
    if refunded is not None:
        assert refunded[7:] == settled[7:]


def test_a_send_that_is_vouched_for_makes_room_for_one_from_elsewhere() -> None:
    """Where there would be a crowd, until it does not happen; in the long run it counts as any other."""
    level, bucket = DEFAULTS.block3, credit.fresh(0)._replace(recent=10.0, sends=10.0)
    charged = credit.charged(DEFAULTS, level, bucket, 0, 1, vouched=True)
    assert (charged.recent, charged.sends) == (9, 11)
    refunded = credit.refunded(DEFAULTS, level, charged, 0, 1, vouched=True)
    assert refunded is not None
    assert counts(refunded) == counts(bucket)
    assert credit.charged(DEFAULTS, level, credit.fresh(0), 0, 1, vouched=True).recent == 0


def test_an_address_vouches_for_the_block_in_which_it_used_its_last_code() -> None:
    """After five, and while that block has had few sends."""
    address = credit.fresh(0)
    for n in range(5):
        assert not credit.vouches(DEFAULTS, address, "44740012")
        address = credit.paid(DEFAULTS, DEFAULTS.ip, address, n, 1, "GB", "44740012")
    assert not credit.vouches(DEFAULTS, credit.settled(DEFAULTS, DEFAULTS.ip, address, 72 * HOUR), "44740012")
    address = credit.paid(DEFAULTS, DEFAULTS.ip, address, 5, 1, "GB", "44740012")
    assert credit.vouches(DEFAULTS, address, "44740012")
    assert not credit.vouches(DEFAULTS, address, "44740013")
    block = credit.fresh(0)._replace(sends=400.0)
    assert not credit.admits(DEFAULTS, block, 0)
    assert credit.admits(DEFAULTS, block, HOUR)
    assert credit.admits(DEFAULTS, block._replace(sends=399.0), 0)


@given(levels, acts, weights, st.floats(0.5, 100), st.floats(0, 50))
def test_more_cap_never_refuses_more(
    level: Level, life: list[tuple[str, int, float]], weight: float, most: float, more: float
) -> None:
    """The test is monotone."""
    bucket, now = lived(level, life)
    if credit.test(DEFAULTS, level, bucket, now, weight, most) is None:
        assert credit.test(DEFAULTS, level, bucket, now, weight, most + more) is None


@given(levels, acts, weights)
def test_who_comes_back_when_told_to_is_let_in(level: Level, life: list[tuple[str, int, float]], weight: float) -> None:
    """And not a minute before, unless the bucket is forgotten first."""
    bucket, now = lived(level, life)
    most = credit.cap(DEFAULTS, level, bucket)
    found = credit.test(DEFAULTS, level, bucket, now, weight, most)
    if found is not None and found.wait < bucket.at + level.keep - now:
        assert credit.test(DEFAULTS, level, bucket, now + found.wait, weight, most) is None
        if found.wait > HOUR:
            assert credit.test(DEFAULTS, level, bucket, now + found.wait - HOUR // 60, weight, most) is not None


@given(levels, acts)
def test_the_order_within_a_moment_makes_no_difference(level: Level, life: list[tuple[str, int, float]]) -> None:
    """To approvals of several weights at once."""
    bucket, now = lived(level, life)
    ends = set()
    for order in permutations([0.5, 1.0, 2.0]):
        after = bucket
        for weight in order:
            after = credit.paid(DEFAULTS, level, after, now, weight)
        ends.add((round(after.exposure, 6), round(after.approvals, 6), after.streak))
    assert len(ends) == 1


def test_a_bucket_that_only_takes_leaks_ever_slower() -> None:
    """By half for each cap's worth of sends without an approval; one approval makes it whole."""
    level = Level(cap=4, leak=0.25, room=0, keep=HOUR)
    streaks = [credit.fresh(0)._replace(streak=n) for n in (0.0, 4.0, 8.0, 12.0)]
    assert [credit.leak(DEFAULTS, level, bucket) for bucket in streaks] == [0.25, 0.25, 0.125, 0.0625]
    assert credit.leak(DEFAULTS, level, credit.paid(DEFAULTS, level, streaks[-1], 0, 1)) > 0.25


def test_a_history_of_approvals_makes_room_and_forgives() -> None:
    """Ten an hour for three days."""
    level, bucket, now = DEFAULTS.country, credit.fresh(0), 0
    for _ in range(720):
        now += HOUR // 10
        bucket = credit.charged(DEFAULTS, level, bucket, now, 1)
        bucket = credit.paid(DEFAULTS, level, bucket, now, 1)
    assert credit.rate(DEFAULTS, bucket) == pytest.approx(10, rel=0.05)
    assert credit.leak(DEFAULTS, level, bucket) == pytest.approx(8.5, rel=0.05)
    assert credit.cap(DEFAULTS, level, bucket) == pytest.approx(55, rel=0.05)


def test_a_country_earns_its_cap() -> None:
    """Half of it is there from the first; approvals bring the rest."""
    level, bucket = DEFAULTS.country, credit.fresh(0)
    assert credit.cap(DEFAULTS, level, bucket) == 20
    some = credit.cap(DEFAULTS, level, bucket._replace(approvals=40.0))
    most = credit.cap(DEFAULTS, level, bucket._replace(approvals=400.0))
    assert 30 < some < 40 < most


def test_a_repeated_send_weighs_less_for_an_hour() -> None:
    """To the number that was sent to last, and no other."""
    bucket = credit.fresh(0)._replace(last="+447400123456")
    assert credit.weighed(DEFAULTS, bucket, "+447400123456", HOUR - 1, 2) == 0.5
    assert credit.weighed(DEFAULTS, bucket, "+447400123456", HOUR, 2) == 2
    assert credit.weighed(DEFAULTS, bucket, "+447400123457", 0, 2) == 2


def test_what_a_block_forgets_is_bounded_by_its_range() -> None:
    """However many codes its owner uses there."""
    busy = credit.fresh(0)._replace(approvals=200.0)
    assert credit.leak(DEFAULTS, DEFAULTS.block3, busy) > 5
    bounded = busy._replace(usual=0.08)
    assert credit.leak(DEFAULTS, DEFAULTS.block3, bounded) == pytest.approx(0.26)


def test_a_block_may_not_have_far_more_than_its_part() -> None:
    """Forty, and a tenth of its surroundings; when it fades there is room again."""
    assert credit.concentrated(DEFAULTS, 40, 39, ((0.1, 39),), 1) is None
    found = credit.concentrated(DEFAULTS, 40, 40, ((0.1, 40),), 1)
    assert found is not None
    fading = credit.halved(found.wait, DEFAULTS.recently)
    assert credit.concentrated(DEFAULTS, 40, 40 * fading, ((0.1, 40 * fading),), 1) is None
    assert credit.concentrated(DEFAULTS, 40, 40, ((0.1, 140),), 1) is None
    assert credit.concentrated(DEFAULTS, 40, 40, ((0.1, 40),), 3) is None


def test_a_number_has_a_burst_and_an_end() -> None:
    """Four at once, one more each ten minutes, six that come to nothing."""
    number, now = UNKNOWN_NUMBER, HOUR
    for _ in range(4):
        assert credit.hurried(DEFAULTS, number, now) is None
        number = credit.sent(DEFAULTS, number, now)
    found = credit.hurried(DEFAULTS, number, now)
    assert found is not None
    assert found.wait == HOUR // 6
    for _ in range(2):
        now += HOUR // 6
        assert credit.hurried(DEFAULTS, number, now) is None
        assert credit.exhausted(DEFAULTS, number, now) is None
        number = credit.sent(DEFAULTS, number, now)
    end = credit.exhausted(DEFAULTS, number, now)
    assert end is not None
    assert credit.exhausted(DEFAULTS, number, now + end.wait) is None
    assert credit.exhausted(DEFAULTS, credit.approved(DEFAULTS, number, now), now) is None


def test_a_number_is_trusted_while_it_uses_its_codes() -> None:
    """At least half of them, one in the last ninety days, and the first a day ago."""
    number, ripe = credit.approved(DEFAULTS, credit.sent(DEFAULTS, UNKNOWN_NUMBER, 1), 1), 1 + DEFAULTS.ripe
    assert not credit.trusted(DEFAULTS, number, ripe - 1)
    assert credit.trusted(DEFAULTS, number, ripe)
    assert credit.trusted(DEFAULTS, number, DEFAULTS.trust)
    assert not credit.trusted(DEFAULTS, number, DEFAULTS.trust + 1)
    assert credit.trusted(DEFAULTS, credit.sent(DEFAULTS, number, 1), ripe)
    assert not credit.trusted(DEFAULTS, credit.sent(DEFAULTS, credit.sent(DEFAULTS, number, 1), 1), ripe)
    assert not credit.trusted(DEFAULTS, credit.sent(DEFAULTS, UNKNOWN_NUMBER, 1), ripe)


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("447400123456", Prefixes("447400123", "44740012", "447400")),
        ("2902345", Prefixes("2902", "290", "2902")),
    ],
)
def test_a_number_is_in_three_blocks(digits: str, expected: Prefixes) -> None:
    """Of a thousand, ten thousand and a million; short numbers share four digits."""
    assert Prefixes.of(digits) == expected
