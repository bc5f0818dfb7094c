"""Counts what an act of a script brought about, for whoever ran it."""

from __future__ import annotations

from service.answer import Fields
from service.metrics import Metrics
from service.provider import Status


def count(metrics: Metrics, fields: Fields) -> None:
    """Count an end, advances, steps that were skipped, a silence. An answer that is told again must not be counted."""
    country = fields.text("country")
    for advanced in _each(fields, "advanced"):
        metrics.advance(*advanced.split(" ")).inc()
    for skipped in _each(fields, "skipped"):
        channel, reason = skipped.split(" ")
        metrics.delivery("-", channel, country, Status.REJECTED, reason).inc()
    if silent := fields.text("silent"):
        provider, channel = silent.split(" ")
        metrics.delivery(provider, channel, country, Status.UNKNOWN, "silence").inc()
    if noticed := fields.text("noticed"):
        word = f"test_{noticed}" if fields.text("test") else noticed
        metrics.verification(fields.text("app"), country, word).inc()


def _each(fields: Fields, name: str) -> list[str]:
    return [words for words in fields.text(name).split(",") if words]
