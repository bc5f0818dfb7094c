"""What can be seen of verifyd in Prometheus. Labels are bounded: never a number, a full prefix or an id."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

# A creation time beside each counter doubles what is scraped, and Prometheus does not need it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it without types

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_HUMAN = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


class Metrics:
    """One registry for one service. Children are kept, so that the hot path does not look labels up twice."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, histogram = self._counter, self._histogram
        verifications = counter(
            "otp_verifications", "Verifications by what became of them", "application", "country", "result"
        )
        checks = counter("otp_checks", "Guesses at codes by what became of them", "application", "result")
        deliveries = counter(
            "otp_deliveries", "Steps of deliveries", "provider", "channel", "country", "status", "reason"
        )
        advances = counter("otp_advances", "Steps of cascades that were left", "from_channel", "to_channel", "cause")
        receipts = histogram("otp_receipt_seconds", "From a send to its receipt", _HUMAN, "provider", "channel")
        approvals = histogram("otp_approve_seconds", "From the start to the approval", _HUMAN, "application")
        http = histogram("otp_http_seconds", "From request to answer", _FAST, "route", "status")
        redis = histogram("otp_redis_seconds", "From calling a script to its answer", _FAST, "script")
        up = Gauge(
            "otp_provider_up",
            "Whether messages are given to a provider (0: a circuit is open)",
            ("provider",),
            registry=self.registry,
        )
        forged = counter("otp_receipts_refused", "Receipts and replies that were refused", "provider", "cause")
        replies = counter("otp_replies", "What people answered to messages", "provider", "word")
        verdicts = counter("otp_guard_verdicts", "Answers of the guard", "application", "country", "verdict", "rule")
        saved = counter("otp_saved", "Money that refused sends would have cost", "application", "country")
        spend = counter("otp_spend", "Money that sends cost", "application", "channel", "country", "provider")
        blocked = Gauge("otp_guard_blocked_prefixes", "Prefixes that have no room", ["country"], registry=self.registry)
        self.guard_verdict = cache(verdicts.labels)
        self.saved = cache(saved.labels)
        self.spend = cache(spend.labels)
        self.blocked_prefixes = cache(blocked.labels)
        events = counter("otp_events", "Events by what became of them", "application", "event", "result")
        lags = histogram("otp_event_lag_seconds", "From an event to its taking at the URL", _LAG, "application")
        waiting = Gauge(
            "otp_events_waiting",
            "Verifications whose events wait to be posted",
            ("application",),
            registry=self.registry,
        )
        self.verification = cache(verifications.labels)
        self.check = cache(checks.labels)
        self.delivery = cache(deliveries.labels)
        self.advance = cache(advances.labels)
        self.receipt_seconds = cache(receipts.labels)
        self.approve_seconds = cache(approvals.labels)
        self.http_seconds = cache(http.labels)
        self.redis_seconds = cache(redis.labels)
        self.receipt_refused = cache(forged.labels)
        self.provider_up = cache(up.labels)
        self.reply = cache(replies.labels)
        self.event = cache(events.labels)
        self.event_lag = cache(lags.labels)
        self.events_waiting = cache(waiting.labels)
        self.due_jobs = Gauge("otp_due_jobs", "Jobs whose time has come", registry=self.registry)
        self.redis_durable = Gauge(
            "otp_redis_durable", "Whether Redis keeps what is pending through a restart", registry=self.registry
        )
        self.redis_durable.set(math.nan)  # until Redis was asked: to say 0 would be a false alarm
        self.job_lag = Histogram(
            "otp_job_lag_seconds", "By how much a claimed job was late", buckets=_LAG, registry=self.registry
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def observe_script(self, script: str, seconds: float) -> None:
        """Count one call of a script."""
        self.redis_seconds(script).observe(seconds)

    def samples(self, *names: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """What is counted under these names: name, labels and value of each sample, buckets in order."""
        for family in self.registry.restricted_registry(names).collect():
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format. Takes milliseconds: call it in a thread."""
        return generate_latest(self.registry)
