"""A load generator: HTTP/1.1 on kept connections, and nothing else, so that it is faster than what it measures.

Without a rate each connection asks again when it is answered. With a rate requests have their turns in time, and one
takes as long as it is from its turn to its answer: a server that stalls pays for all who had to wait.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

PATIENCE = 10.0
"""Seconds for the answers that are under way when the time is over."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_STATUS = slice(len("HTTP/1.1 "), len("HTTP/1.1 200"))

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a right answer has: this status, and this text in its body."""

    status: bytes
    text: bytes


@dataclass
class Load:
    """What came of a load. Times are those of `time.monotonic`, which all processes of a machine share."""

    began: float
    ended: float = 0.0
    sent: list[float] = field(default_factory=list)
    """When each request went out or, at a rate, had its turn; in the order of the requests."""
    took: list[float] = field(default_factory=list)
    """Seconds that each answer took, in the order of the answers."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """The statuses of answers that were not as expected."""

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return len(self.took) / (self.ended - self.began)

    def percentile(self, percent: float) -> float:
        """The seconds within which so many percent were answered."""
        return percentile(self.took, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed (the nearest rank); not a number when there are none."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def drive(
    addresses: Sequence[Address],
    requests: Iterator[bytes],
    expected: Expected,
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
) -> Load:
    """Ask for so many seconds, or until there are no more requests, over connections spread over the addresses.

    Raises ConnectionError when a connection is lost, TimeoutError when answers stay away.
    """
    return uvloop.run(_drive(addresses, requests, expected, connections, seconds, rate))


async def _drive(
    addresses: Sequence[Address],
    requests: Iterator[bytes],
    expected: Expected,
    connections: int,
    seconds: float,
    rate: float,
) -> Load:
    loop = asyncio.get_running_loop()
    load = Load(began=time.monotonic())
    all_of_them: list[_Connection] = []
    try:
        for i in range(connections):
            host, port = addresses[i % len(addresses)]
            _, one = await loop.create_connection(partial(_Connection, load, requests, expected, rate), host, port)
            all_of_them.append(one)
        load.began = time.monotonic()
        for one in all_of_them:
            one.ask(load.began + seconds)
        async with asyncio.timeout(seconds + PATIENCE):
            await asyncio.gather(*[one.done for one in all_of_them])
        load.ended = time.monotonic()
    finally:
        for one in all_of_them:
            one.close()
    return load


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load, requests: Iterator[bytes], expected: Expected, rate: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load = load
        self._requests = requests
        self._expected = expected
        self._rate = rate
        self._until = 0.0
        self._sent = 0.0
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server closed a connection: {error}"))

    def ask(self, until: float) -> None:
        self._until = until
        self._next()

    def close(self) -> None:
        self.done.cancel()
        self._transport.abort()

    def _next(self) -> None:
        now = time.monotonic()
        turn = self._load.began + len(self._load.sent) / self._rate if self._rate else now
        request = next(self._requests, None) if turn < self._until else None
        if request is None:
            self.done.set_result(None)
            return
        self._load.sent.append(turn)
        self._sent = turn
        if turn > now:
            asyncio.get_running_loop().call_later(turn - now, self._transport.write, request)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head = self._unread.find(_HEAD_END)
        found = _LENGTH.search(self._unread, 0, head) if head >= 0 else None
        if head >= 0 and found is None:
            self._transport.abort()
        if found is None or len(self._unread) < head + len(_HEAD_END) + int(found[1]):
            return
        answer, self._unread = self._unread, b""
        self._load.took.append(time.monotonic() - self._sent)
        if answer[_STATUS] != self._expected.status or self._expected.text not in answer:
            self._load.unexpected[answer[_STATUS].decode()] += 1
        self._next()
