"""What the numbers of `/stats` take in Redis: `python -m tests.bench.stats` counts some hours and tells the bytes.

Countries are as many as the price list has, and each has a thousand ranges in use, both by rank (Zipf). Seven in ten
verifications are approved; one in ten goes on to a second channel.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice

import time_machine

from service.guard.prices import shipped
from service.stats import Amounts, Stats, Subject, millionths
from service.store import Store, connect
from tests.redis_server import RedisServer

DAYS = 30
HOURS = 4
"""Hours that are counted; those of a month are as many times as much."""
RANGES = 1_000
AT_ONCE = 500
"""Verifications after which the counts are taken to Redis."""


def verifications() -> Iterator[list[tuple[Subject, Amounts]]]:
    """What one verification after the other counts, always the same."""
    chance = random.Random(1)  # noqa: S311 - the same numbers every time, and no secret
    prices = shipped()
    countries = sorted(prices.countries)
    by_rank = list(accumulate(1 / rank for rank in range(1, RANGES + 1)))
    while True:
        [place] = chance.choices(range(len(countries)), cum_weights=by_rank[: len(countries)])
        [block] = chance.choices(range(RANGES), cum_weights=by_rank)
        country, prefix = countries[place], f"+{100 + place}{block:03}"
        sms = Subject("shop", country, prefix, "sms", "twilio")
        counted = [(sms, Amounts(sends=1, delivered=1, spend=millionths(prices.price(country))))]
        if chance.random() < 0.7:
            counted.append((sms, Amounts(approved=1)))
        if chance.random() < 0.1:
            voice = Subject("shop", country, prefix, "voice", "vonage")
            counted.append((sms, Amounts(advances=1)))
            counted.append((voice, Amounts(sends=1, spend=millionths(prices.price(country, "voice")))))
        yield counted


async def taken(server: RedisServer, each_hour: int) -> float:
    """The bytes that an hour with so many verifications takes, as Redis counts its keys."""
    server.command("FLUSHALL")
    store = Store(connect(server.url))
    stats, made = Stats(store), verifications()
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        for _ in range(HOURS):
            for done, counted in enumerate(islice(made, each_hour), 1):
                for subject, amounts in counted:
                    stats.count(subject, amounts)
                if done % AT_ONCE == 0 or done == each_hour:
                    await stats.flush()
            clock.shift(timedelta(hours=1))
    await store.close()
    keys = server.command("KEYS", "*")
    assert isinstance(keys, list)
    return sum(int(str(server.command("MEMORY", "USAGE", key, "SAMPLES", "0"))) for key in keys) / HOURS


def main() -> None:
    """Tell it for a million verifications in thirty days, for ten, and for a million a day."""
    sys.stdout.write("| verifications a day | MB in 30 days | MB for each million |\n|---|---|---|\n")
    with RedisServer() as server:
        for daily in (1_000_000 // DAYS, 10_000_000 // DAYS, 1_000_000):
            megabytes = 24 * DAYS * asyncio.run(taken(server, daily // 24)) / 1e6
            sys.stdout.write(f"| {daily:,} | {megabytes:.0f} | {megabytes / (daily * DAYS / 1e6):.1f} |\n")


if __name__ == "__main__":
    main()
