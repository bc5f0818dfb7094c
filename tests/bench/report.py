"""What was measured, and how it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import orjson

VERIFYD = "verifyd"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One act at one number of connections: the median round. What cannot be known is not a number."""

    service: str
    act: str
    connections: int
    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    unexpected: Mapping[str, int]
    """How many answers of which status were not as they should be: none, or the other figures mean nothing."""
    messages_per_second: float = math.nan
    """Of a create: messages at the gateway, from the first request until the last message."""
    pending_bytes: float = math.nan
    """Of a create: Redis memory for each pending verification, all keys counted."""
    cpu_us: float = math.nan
    """CPU of the service for each request; of a create with its message."""
    redis_us: float = math.nan
    """CPU of Redis, in the same way."""
    scripts: Mapping[str, float] = field(default_factory=dict)
    """Calls of scripts for each request; what comes around every second is left out."""
    commands: float = math.nan
    """Commands that Redis ran for each request, those inside scripts included."""
    reads: float = math.nan
    """Times that Redis had something to read for each request, which is about its round trips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From the turn of a create to its message at the gateway, at half of the sustained messages a second."""

    service: str
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascades:
    """Cascades from SMS over WhatsApp to voice, by the simulator, at so many a minute."""

    per_minute: float
    started: int
    ended: int
    p50_ms: float
    """Of the due jobs, so many percent were late by no more than this: an edge of the histogram's buckets."""
    p99_ms: float
    cpu_us: float
    """CPU of the service for each cascade, the simulator's part and what comes around every second included."""


@dataclass(kw_only=True)
class Report:
    """A whole run."""

    machine: Mapping[str, str]
    ceiling: float
    """Requests a second of the load generator against a server that does nothing."""
    start_seconds: float
    memory_idle: float
    memory_after: float = math.nan
    figures: list[Figures] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    cascades: Cascades | None = None
    two: list[Figures] = field(default_factory=list)
    """The acts with two replicas."""

    def figure(self, service: str, act: str, connections: int) -> Figures:
        """One of the figures; raises KeyError when it was not measured."""
        return {(one.service, one.act, one.connections): one for one in self.figures}[service, act, connections]

    @property
    def clean(self) -> bool:
        """Whether every answer was as it should be, and every cascade came to its end."""
        lost = self.cascades is not None and self.cascades.ended < self.cascades.started
        return not lost and not any(one.unexpected for one in (*self.figures, *self.two))

    def json(self) -> bytes:
        """The report for machines; what is not a number is null."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    def text(self) -> str:
        """The report for people."""
        return "\n".join([*self._head(), "", *_table(self.figures), "", *self._costs(), *self._comparisons()]) + "\n"

    def _head(self) -> Iterator[str]:
        for name, value in self.machine.items():
            yield f"{name + ':':<16}{value}"
        yield f"{'ceiling:':<16}{self.ceiling:,.0f} requests/s of the load generator, by a server that does nothing"

    def _costs(self) -> Iterator[str]:
        for latency in self.latencies:
            yield (
                f"{latency.service}: create to message at the gateway, {latency.rate:,.0f}/s (half load): "
                f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms"
            )
        if (one := self.cascades) is not None:
            yield (
                f"cascades: {one.per_minute:,.0f} a minute, {one.ended} of {one.started} ended; due jobs late by "
                f"p50 {one.p50_ms:g} ms, p99 {one.p99_ms:g} ms at most; {_number(one.cpu_us)} us of CPU each, which is "
                f"{one.per_minute / 60 * one.cpu_us / 1e6:.0%} of the core"
            )
        yield f"memory: {_number(self.memory_idle / _MIB)} MiB idle, {_number(self.memory_after / _MIB)} MiB after"
        yield f"start to ready: {self.start_seconds:.2f} s"
        for (service, act), mine in {(each.service, each.act): each for each in self.figures if each.scripts}.items():
            scripts = ", ".join(f"{name} {calls:.2f}" for name, calls in mine.scripts.items())
            yield f"{service}: scripts per {act}: {scripts}"
            if act == "create":
                yield f"Redis memory per pending verification: {_number(mine.pending_bytes)} bytes"
        if not self.clean:
            yield "THE FIGURES ABOVE MEAN NOTHING where answers were unexpected."

    def _comparisons(self) -> Iterator[str]:
        if self.two:
            yield from ["", *_table(self.two)]
        for one in self.two:
            ratio = one.per_second / self.figure(VERIFYD, one.act, one.connections).per_second
            yield f"two replicas to one, {one.act}, {one.connections} connections: {ratio:.2f}"
        for peer in [one for one in self.figures if one.service != VERIFYD]:
            mine = self.figure(VERIFYD, peer.act, peer.connections)
            ratio = mine.per_second / peer.per_second
            line = f"{VERIFYD} to {peer.service}, {peer.act}, {peer.connections} connections: {ratio:.2f}"
            if not math.isnan(peer.messages_per_second):
                line += f", messages {mine.messages_per_second / peer.messages_per_second:.2f}"
            yield line


_COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("", lambda one: f"{one.service} {one.act}"),
    ("conns", lambda one: str(one.connections)),
    ("requests/s", lambda one: f"{one.per_second:,.0f}"),
    ("p50 ms", lambda one: f"{one.p50_ms:.2f}"),
    ("p99 ms", lambda one: f"{one.p99_ms:.2f}"),
    ("messages/s", lambda one: _number(one.messages_per_second)),
    ("cpu us", lambda one: _number(one.cpu_us)),
    ("Redis us", lambda one: _number(one.redis_us)),
    ("commands", lambda one: _number(one.commands, 1)),
    ("reads", lambda one: _number(one.reads, 2)),
    ("unexpected", lambda one: ", ".join(f"{n}x {status}" for status, n in one.unexpected.items()) or "none"),
)


def _table(figures: Sequence[Figures]) -> Iterator[str]:
    rows = [[name for name, _ in _COLUMNS], *[[show(one) for _, show in _COLUMNS] for one in figures]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    for first, *others in rows:
        yield "  ".join([first.ljust(widths[0]), *[cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True)]])


def _number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"
