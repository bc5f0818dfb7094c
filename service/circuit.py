"""Circuit breakers: one for each provider and channel, shared by all replicas through Redis.

    closed --5 sends of the last 30 s failed, and they are half of them--> open
    open --its pause is over, one send is let through and fails--> open, with a pause twice as long
    open --that send is taken--> closed

What counts as a failure is what any message would meet: a provider that cannot be reached, is broken, or does not know
us or our money. What is about one message or one person says nothing of the next.

A replica learns how a circuit stands when it tells of its own sends, once a second and of every failure at once: a send
never waits to ask, so one that was idle may try a broken provider once before it knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from service.answer import Answer
from service.metrics import Metrics
from service.provider import Channel
from service.store import Store

logger = logging.getLogger(__name__)

FAILURES = frozenset({"provider_error", "auth", "balance"})
WINDOW_MS = 30_000
FAILURES_TO_OPEN = 5
FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = 300_000
PROBE_MS = 15_000
"""How long others wait for a probe: a send with its round trips."""
FRESH = 1.0
"""Seconds after which a replica tells of the sends that went well, and learns."""


class Admission(StrEnum):
    """Whether a message may be given to a provider, and what it is there; the first is false, the others are true."""

    NONE = ""
    SEND = "send"
    PROBE = "probe"
    """The one that is let through an open circuit: what becomes of it decides."""


@dataclass(slots=True)
class _Circuit:
    """What this replica knows of a circuit, and the sends that it has not told yet."""

    provider: str
    channel: Channel
    open: bool = False
    probe_at: float = 0.0
    told: float = 0.0
    taken: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Degraded:
    """A provider that is not called over a channel at present; `seconds` until it is tried again."""

    provider: str
    channel: Channel
    seconds: float


class Circuits:
    """The circuits of the providers and channels that cascades use (`pairs`)."""

    def __init__(self, store: Store, metrics: Metrics, pairs: Iterable[tuple[str, Channel]]) -> None:
        self._store = store
        self._metrics = metrics
        self._known = {pair: _Circuit(*pair) for pair in pairs}
        for provider, _ in self._known:
            metrics.provider_up(provider).set(1)

    async def admits(self, provider: str, channel: Channel) -> Admission:
        """Whether a message may be given to a provider now; raises Unavailable."""
        circuit = self._circuit(provider, channel)
        if not circuit.open:
            return Admission.SEND
        if self._store.clock() < circuit.probe_at:
            return Admission.NONE
        answer = await self._store.run("circuit_probe", [_key(circuit)], [PROBE_MS])
        circuit.probe_at = self._store.clock() + answer.number / 1000
        return {"granted": Admission.PROBE, "closed": Admission.SEND}.get(answer.outcome, Admission.NONE)

    async def note(self, provider: str, channel: Channel, reason: str, admission: Admission) -> None:
        """Count how a send went: `reason` is why it was rejected, empty when it was taken. Raises Unavailable.

        A send that was admitted and never made is not noted: after a probe's time another may probe.
        """
        circuit = self._circuit(provider, channel)
        failed = reason in FAILURES
        circuit.failed += failed
        circuit.taken += not failed
        if admission is Admission.PROBE:
            await self._tell(circuit, "failed" if failed else "ok")
        elif failed or self._store.clock() - circuit.told > FRESH:
            await self._tell(circuit)

    @property
    def pairs(self) -> list[tuple[str, Channel]]:
        """The providers and channels that have a circuit."""
        return sorted(self._known)

    async def degraded(self) -> list[Degraded]:
        """The circuits that are open; raises Unavailable."""
        await asyncio.gather(*[self._tell(circuit) for circuit in self._known.values()])
        now = self._store.clock()
        return [
            Degraded(one.provider, one.channel, max(0.0, one.probe_at - now))
            for one in self._known.values()
            if one.open
        ]

    def _circuit(self, provider: str, channel: Channel) -> _Circuit:
        return self._known.setdefault((provider, channel), _Circuit(provider, channel))

    async def _tell(self, circuit: _Circuit, probe: str = "") -> None:
        circuit.told = self._store.clock()
        taken, failed, circuit.taken, circuit.failed = circuit.taken, circuit.failed, 0, 0
        answer = await self._store.run(
            "circuit_report",
            [_key(circuit)],
            [taken, failed, probe, WINDOW_MS, FAILURES_TO_OPEN, FIRST_PAUSE_MS, LONGEST_PAUSE_MS],
        )
        self._learn(circuit, answer)

    def _learn(self, circuit: _Circuit, answer: Answer) -> None:
        circuit.open = answer.outcome == "open"
        circuit.probe_at = self._store.clock() + answer.number / 1000
        if answer.fields.text("changed"):
            fields = {"provider": circuit.provider, "channel": circuit.channel, "circuit": answer.outcome}
            logger.warning("a provider's circuit changed", extra={"fields": fields})
        one_open = any(one.open for one in self._known.values() if one.provider == circuit.provider)
        self._metrics.provider_up(circuit.provider).set(0 if one_open else 1)


def _key(circuit: _Circuit) -> str:
    return f"{{p:{circuit.provider}:{circuit.channel}}}:circuit"
