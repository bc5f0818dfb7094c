"""Numbers that exist: which leading digits a country has given to mobiles, and how subscribers are spread over them.

From libphonenumber's numbering plans. Subscribers crowd into some ranges and are rare in others, as they are in life; a
quarter of what a plan allows is in nobody's hands.
"""

from __future__ import annotations

import random
import re
from bisect import bisect
from functools import cache
from itertools import accumulate, product

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberType

_TRIES = 24
"""Random numbers under some digits: all valid, and the digits count as a range; none valid, and nothing is there."""
_MOST_RANGES = 4_000
_CROWDING = 1.4
"""Exponent of how subscribers crowd within a range: 1 is evenly; at 1.4 the fullest of 100 blocks holds 4 %."""
_IN_NOBODYS_HANDS = 0.25


@cache
def _mobile(country: str) -> tuple[str, int, re.Pattern[str], tuple[str, ...]]:
    """The calling code, the digits of a national number, what they match, and the ranges of a million that exist."""
    example = phonenumbers.example_number_for_type(country, PhoneNumberType.MOBILE)
    metadata = PhoneMetadata.metadata_for_region(country)
    if example is None or metadata is None or metadata.mobile is None:
        raise ValueError(f"{country} has no mobiles")
    length = len(phonenumbers.national_significant_number(example))
    pattern = re.compile(metadata.mobile.national_number_pattern or "")
    dice = random.Random(country)
    ranges: list[str] = []

    def explore(digits: str) -> None:
        rest = length - len(digits)
        hits = sum(bool(pattern.fullmatch(digits + _digits(dice, rest))) for _ in range(_TRIES))
        if hits == _TRIES:
            ranges.extend(digits + "".join(more) for more in product("0123456789", repeat=max(0, rest - 6)))
        elif rest > 6 and (hits or len(digits) < 3):  # three digits may be the code of a single city
            for digit in "0123456789":
                explore(digits + digit)

    explore("")
    if len(ranges) > _MOST_RANGES:
        ranges = sorted(dice.sample(ranges, _MOST_RANGES))
    return f"+{example.country_code}", length, pattern, tuple(ranges)


def _digits(dice: random.Random, count: int) -> str:
    return f"{int(dice.random() * 10**count):0{count}d}" if count else ""


class Plan:
    """The mobiles of one country, with the ranges in which this world's subscribers are."""

    def __init__(self, country: str, dice: random.Random) -> None:
        self.country = country
        self._code, self._length, self._pattern, self._ranges = _mobile(country)
        self._cumulative = list(
            accumulate(
                0.0 if dice.random() < _IN_NOBODYS_HANDS else dice.lognormvariate(0, 1) for _ in self._ranges[1:]
            )
        )
        self._cumulative.append(self._cumulative[-1] + 1.0 if self._cumulative else 1.0)

    def subscriber(self, dice: random.Random) -> str:
        """The E.164 number of some subscriber."""
        while True:
            chosen = bisect(self._cumulative, dice.random() * self._cumulative[-1])
            block = (int(100 * dice.random() ** _CROWDING) * 37 + chosen * 11) % 100
            number = f"{self._ranges[chosen]}{block:02d}{int(dice.random() * 10_000):04d}"
            if self._pattern.fullmatch(number):
                return self._code + number

    def anyone(self, dice: random.Random) -> str:
        """Any E.164 number that the plan allows, in anybody's hands or not."""
        while True:
            number = dice.choice(self._ranges) + _digits(dice, 6)
            if self._pattern.fullmatch(number):
                return self._code + number

    def rented(self, dice: random.Random, free: int) -> str:
        """The leading digits of a range that can be rented: all but the last `free` digits of its numbers."""
        while True:
            digits = (dice.choice(self._ranges) + _digits(dice, 6))[:-free]
            if all(self._pattern.fullmatch(digits + _digits(dice, free)) for _ in range(_TRIES)):
                return self._code + digits

    def carrier(self, number: str) -> int:
        """Which of ten carriers runs the number: by its range, so that an outage hits whole ranges."""
        return hash_digits(number[:-6]) % 10


def hash_digits(digits: str) -> int:
    """A number that looks random but is always the same for these digits."""
    return int(digits) * 2_654_435_761 % 4_294_967_291 >> 7


def premium(country: str, dice: random.Random) -> str | None:
    """A premium-rate number of the country, if it has any."""
    example = phonenumbers.example_number_for_type(country, PhoneNumberType.PREMIUM_RATE)
    if example is None:
        return None
    written = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for _ in range(100):
        number = written[:-3] + _digits(dice, 3)
        if phonenumbers.number_type(phonenumbers.parse(number)) == PhoneNumberType.PREMIUM_RATE:
            return number
    return written
