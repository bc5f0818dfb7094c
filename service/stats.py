"""Numbers for the analyst: what was sent, arrived, was used, refused and paid, hour by hour, kept for 30 days.

What is counted is gathered in this process and taken to Redis every two seconds, at the end, and before this process
answers from it, so that no request waits for it. What a process that was killed had not taken there is lost; what Redis
may have got just before it went away is taken there again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Final, Literal, NamedTuple
from zlib import crc32

import orjson

from service.errors import Unavailable
from service.store import Store

logger = logging.getLogger(__name__)

HOUR: Final = 3600
MOST_HOURS: Final = 31 * 24
"""Hours that are added up for one answer at most."""
KEPT_MS: Final = MOST_HOURS * HOUR * 1000
"""A day more than is promised, so that the thirtieth is whole."""
PARTS: Final = 8
"""Hashes over which the prefixes of an hour are spread: Redis keeps small ones in a quarter of the memory."""
MOST_VALUES: Final = 250
"""Values that a hash has at most; those beyond are counted together."""
MOST_ROWS: Final = 1_000
"""Rows of an answer; those beyond are added up."""
OTHER: Final = "other"
"""What is counted or added up together because there was too much of it."""
NOBODY: Final = "-"
"""In place of a provider: none was asked."""

_FLUSH: Final = 2.0
_AT_ONCE: Final = 24
"""Hours that are read in one round trip."""

Group = Literal["country", "prefix", "channel", "provider", "application", "hour"]

_DIMENSIONS: Final = ("country", "prefix", "channel", "provider")
"""What is counted apart, and so kept; the other groups are the sums of the first."""


class Subject(NamedTuple):
    """What a count is about. `prefix` is the range of the number, the widest prefix that the guard looks at."""

    application: str
    country: str
    prefix: str
    channel: str
    provider: str = NOBODY


class Amounts(NamedTuple):
    """What is counted; `spend` and `saved` are money in millionths. In Redis they are in this order, rare ones last."""

    sends: int = 0
    delivered: int = 0
    approved: int = 0
    spend: int = 0
    advances: int = 0
    blocked: int = 0
    challenged: int = 0
    saved: int = 0

    def plus(self, more: Amounts) -> Amounts:
        """Both together."""
        return Amounts(*map(add, self, more))


class Row(NamedTuple):
    """The amounts of one group."""

    group: str
    amounts: Amounts


class Stats:
    """Counts, and adds up what was counted by all replicas."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counted: dict[tuple[str, int], dict[Subject, Amounts]] = {}
        self._flushing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def count(self, subject: Subject, amounts: Amounts) -> None:
        """Count for the hour that it is now, by Redis' clock."""
        self._keep(subject.application, int(self._store.clock() // HOUR), {subject: amounts})

    def start(self) -> None:
        """Begin to take to Redis what is counted."""
        self._tasks = [asyncio.get_running_loop().create_task(self._flush_forever())]

    async def stop(self) -> None:
        """Take what was counted to Redis, if that is there."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        with contextlib.suppress(Unavailable):
            await self.flush()

    async def flush(self) -> None:
        """Take what was counted to Redis; raises Unavailable, and keeps what could not be taken there."""
        async with self._flushing:
            counted, self._counted = self._counted, {}
            ended = await asyncio.gather(
                *[self._add(*hour, counts) for hour, counts in counted.items()], return_exceptions=True
            )
        for error in ended:
            if error is not None:
                raise error

    async def read(self, application: str, by: Group, first: int, end: int) -> list[Row]:
        """What all replicas counted in the hours (since 1970) from `first` to before `end`; raises Unavailable.

        Hours come in order, all else by how much there was of it.
        """
        await self.flush()
        sums: dict[str, Amounts] = {}
        for begin in range(first, end, _AT_ONCE):
            hours = range(begin, min(end, begin + _AT_ONCE))
            dimension = by if by in _DIMENSIONS else _DIMENSIONS[0]
            answers = await asyncio.gather(
                *[self._store.rows("stats_read", _keys(application, dimension, hour)) for hour in hours]
            )
            for hour, flat in zip(hours, answers, strict=True):
                fixed = {"application": application, "hour": str(hour)}.get(by)
                for value, packed in zip(flat[::2], flat[1::2], strict=True):
                    group, amounts = fixed or value.decode(), Amounts(*map(int, packed.split()))
                    sums[group] = sums.get(group, _NOTHING).plus(amounts)
                await asyncio.sleep(0)  # a long answer lets others have their turn
        rows = [Row(*item) for item in sums.items()]
        return rows if by == "hour" else _largest(rows)

    def _keep(self, application: str, hour: int, counts: Mapping[Subject, Amounts]) -> None:
        held = self._counted.setdefault((application, hour), {})
        for subject, amounts in counts.items():
            held[subject] = held.get(subject, _NOTHING).plus(amounts)

    async def _add(self, application: str, hour: int, counts: Mapping[Subject, Amounts]) -> None:
        """Add to the hour's hashes; raises Unavailable, and keeps the counts for the next time."""
        hashes: dict[str, dict[str, Amounts]] = {}
        for subject, amounts in counts.items():
            for dimension in _DIMENSIONS:
                value = str(getattr(subject, dimension))  # a channel may be a word of the enumeration
                keys = _keys(application, dimension, hour)
                sums = hashes.setdefault(keys[crc32(value.encode()) % len(keys)], {})
                sums[value] = sums.get(value, _NOTHING).plus(amounts)
        packed = [orjson.dumps({value: [*amounts] for value, amounts in sums.items()}) for sums in hashes.values()]
        try:
            await self._store.run("stats_add", [*hashes], [KEPT_MS, MOST_VALUES, *packed])
        except Unavailable:
            self._keep(application, hour, counts)
            raise

    async def _flush_forever(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH):
                    await self._stopping.wait()
            try:
                await self.flush()
            except Unavailable:
                continue  # what was counted is kept for the next time
            except Exception:  # a defect must not end the counting
                logger.exception("counts are lost")


def millionths(amount: float) -> int:
    """Money as it is counted: sums of whole numbers are the same in whatever order."""
    return round(amount * 1_000_000)


def total(rows: Iterable[Row]) -> Amounts:
    """The amounts of all rows together."""
    return reduce(Amounts.plus, (row.amounts for row in rows), _NOTHING)


_NOTHING: Final = Amounts()


def _largest(rows: Iterable[Row]) -> list[Row]:
    """The rows by how much there was of each, not too many; what stands for others comes last."""

    def rank(row: Row) -> tuple[bool, int, str]:
        asked = row.amounts.sends + row.amounts.blocked + row.amounts.challenged
        return row.group == OTHER, -asked, row.group

    ranked = sorted(rows, key=rank)
    if len(ranked) <= MOST_ROWS:
        return ranked
    return [*ranked[: MOST_ROWS - 1], Row(OTHER, total(ranked[MOST_ROWS - 1 :]))]


def _keys(application: str, dimension: str, hour: int) -> list[str]:
    """The hashes of a dimension in an hour. A value is in one of them, by its checksum."""
    parts = PARTS if dimension == "prefix" else 1
    return [f"{{s:{application}}}:{dimension}:{hour}:{part}" for part in range(parts)]
