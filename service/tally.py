"""Tells what acts brought about to those who watch: Prometheus, the analyst, the console, the log and the traces.

What test numbers do is counted apart, and for Prometheus only.
"""

from __future__ import annotations

import logging

from service.answer import Answer, Fields
from service.metrics import Metrics
from service.provider import Status
from service.recent import Recent
from service.record import Verification, prefix, read
from service.sealing import KeyRing
from service.stats import Amounts, Stats, Subject, millionths
from service.tracing import OFF, Tracing

logger = logging.getLogger(__name__)


class Tally:
    """Counts for whoever ran an act. An answer that is told again must not be counted."""

    def __init__(
        self, metrics: Metrics, stats: Stats, recent: Recent, ring: KeyRing, *, tracing: Tracing = OFF
    ) -> None:
        self._metrics = metrics
        self._stats = stats
        self._recent = recent
        self._ring = ring
        self._tracing = tracing

    def noticed(self, answer: Answer) -> Verification:
        """The verification in an answer, counting what its act brought about; raises Unreadable."""
        if not answer.replayed:
            self.count(answer.fields)
        return read(answer.fields, self._ring)

    def started(self, found: Verification, *, joined: bool) -> None:
        """Count a verification that began, or that a send joined."""
        self._verification(found.application, found.country, "joined" if joined else "started", test=found.test)
        if not joined:
            self._recent.note(found.application, "verifications", found.id)

    def refused(self, application: str, country: str, code: str) -> None:
        """Count a send that was asked for and refused."""
        self._verification(application, country, code, test=False)

    def checked(self, found: Verification, answer: Answer) -> None:
        """Count a guess that was taken."""
        result = "replayed" if answer.replayed else answer.outcome
        self._metrics.check(found.application, f"test_{result}" if found.test else result).inc()
        if result == "right" and not found.test:
            self._metrics.approve_seconds(found.application).observe(answer.number / 1000)

    def unchecked(self, application: str, result: str) -> None:
        """Count a guess that was not taken."""
        self._metrics.check(application, result).inc()

    def count(self, fields: Fields) -> None:
        """Count an end, advances, steps that were skipped, a silence, a message that arrived."""
        metrics, country = self._metrics, fields.text("country")
        for advanced in _each(fields, "advanced"):
            channel, *onto, provider = advanced.split(" ")
            metrics.advance(channel, *onto).inc()
            self._note(fields, channel, provider, Amounts(advances=1))
        for skipped in _each(fields, "skipped"):
            channel, reason = skipped.split(" ")
            metrics.delivery("-", channel, country, Status.REJECTED, reason).inc()
        if silent := fields.text("silent"):
            provider, channel = silent.split(" ")
            metrics.delivery(provider, channel, country, Status.UNKNOWN, "silence").inc()
        if arrived := fields.text("arrived"):
            provider, channel = arrived.split(" ")
            self._note(fields, channel, provider, Amounts(delivered=1))
        if noticed := fields.text("noticed"):
            test = bool(fields.text("test"))
            self._verification(fields.text("app"), country, noticed, test=test)
            if noticed == "approved" and not test:
                self._note(fields, *_carrier(fields), Amounts(approved=1))

    def sent(self, fields: Fields, channel: str, provider: str, price: float) -> None:
        """Count a message that a provider took, and what it costs."""
        self._metrics.spend(fields.text("app"), channel, fields.text("country"), provider).inc(price)
        self._note(fields, channel, provider, Amounts(sends=1, spend=millionths(price)))

    def tried(self, fields: Fields, n: int, provider: str, status: Status, reason: str) -> None:
        """Tell what came of sending a delivery; `reason` is empty for none."""
        self._step("delivery", fields, n, provider, status, reason)

    def reported(self, answer: Answer, n: int, provider: str, status: Status, reason: str) -> None:
        """Tell that a receipt moved a delivery; `reason` is empty for none."""
        self._step("receipt", answer.fields, n, provider, status, reason)
        self._metrics.receipt_seconds(provider, answer.fields.channel(n)).observe(answer.number / 1000)

    def _step(self, what: str, fields: Fields, n: int, provider: str, status: Status, reason: str) -> None:
        channel = fields.channel(n)
        self._metrics.delivery(provider, channel, fields.text("country"), status, reason).inc()
        said = {"verification": fields.text("id"), "n": n, "channel": channel, "provider": provider}
        said |= {"status": status, "reason": reason or None}
        logger.info(what, extra={"fields": said})
        self._tracing.event(what, said)

    def _verification(self, application: str, country: str, result: str, *, test: bool) -> None:
        self._metrics.verification(application, country, f"test_{result}" if test else result).inc()

    def _note(self, fields: Fields, channel: str, provider: str, amounts: Amounts) -> None:
        subject = Subject(fields.text("app"), fields.text("country"), prefix(fields, self._ring), channel, provider)
        self._stats.count(subject, amounts)


def _each(fields: Fields, name: str) -> list[str]:
    return [words for words in fields.text(name).split(",") if words]


def _carrier(fields: Fields) -> tuple[str, str]:
    """Channel and provider of what an approval is counted for: the latest delivery that went out, else the latest."""
    deliveries = [fields.text(f"d{n}").split(" ") for n in range(fields.number("n"), -1, -1)]
    _, channel, provider, *_ = next((words for words in deliveries if words[6] != "-"), deliveries[0])
    return channel, provider
