"""Counts what acts brought about, for Prometheus and for the analyst; what test numbers do, for the first only."""

from __future__ import annotations

from service.answer import Fields
from service.metrics import Metrics
from service.provider import Status
from service.record import prefix
from service.sealing import KeyRing
from service.stats import Amounts, Stats, Subject, millionths


class Tally:
    """Counts for whoever ran an act. An answer that is told again must not be counted."""

    def __init__(self, metrics: Metrics, stats: Stats, ring: KeyRing) -> None:
        self._metrics = metrics
        self._stats = stats
        self._ring = ring

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
            test = fields.text("test")
            metrics.verification(fields.text("app"), country, f"test_{noticed}" if test else noticed).inc()
            if noticed == "approved" and not test:
                self._note(fields, *_carrier(fields), Amounts(approved=1))

    def sent(self, fields: Fields, channel: str, provider: str, price: float) -> None:
        """Count a message that a provider took, and what it costs."""
        self._metrics.spend(fields.text("app"), channel, fields.text("country"), provider).inc(price)
        self._note(fields, channel, provider, Amounts(sends=1, spend=millionths(price)))

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
