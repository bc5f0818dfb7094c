"""Traces: what a request set in motion, and how long each part of it took.

`OFF` traces nothing and costs next to nothing. `service.tracing.spans` hands what it is told to a collector over
OpenTelemetry, whose packages come with the extra `otel`.

What may be told: routes, scripts, hosts, names, ids of verifications, outcomes. Never a code, a number, a key, an
address of a caller, a path or a query.
"""

from __future__ import annotations

import importlib

from service.tracing.off import NOWHERE, OFF, Span, Tracing

__all__ = ["NOWHERE", "OFF", "Span", "Tracing", "available", "to_collector"]


def available() -> bool:
    """Whether the packages of the extra `otel` are installed."""
    try:
        importlib.import_module("service.tracing.spans")
    except ImportError:
        return False
    return True


def to_collector(endpoint: str | None, *, service: str, ratio: float) -> Tracing:
    """Traces for the collector at a URL, `OFF` for none; `ratio` of those that no caller decided on are kept."""
    if endpoint is None:
        return OFF
    from service.tracing.spans import Spans, exported

    return Spans(exported(endpoint), service=service, ratio=ratio)
