"""Spans for a collector, by OpenTelemetry's SDK.

They are made here rather than by OpenTelemetry's instrumentations: that of ASGI tells paths, queries and addresses of
callers; that of Redis does not see calls that travel in our own pipelines; that of aiohttp tells URLs, in which some
providers want their key. Names and attributes are those of OpenTelemetry's semantic conventions where it has some.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import log
from service.tracing.off import NOWHERE, Span

_STOP_SECONDS = 2.0
"""How long a collector that does not answer is waited for at the end."""
_ABOUT = {
    name: f"verifyd.{name}" for name in ("application", "verification", "n", "channel", "provider", "status", "reason")
} | {"code": "verifyd.problem"}
"""What spans and events may say of what they are about, of the fields of a log line: those with no part of a number."""
_CALLER = TraceContextTextMapPropagator()


def exported(endpoint: str) -> SpanProcessor:
    """Hands spans to a collector's OTLP over HTTP, in batches and from a thread of its own.

    What else there is to say of that comes from the standard environment (`OTEL_EXPORTER_OTLP_HEADERS`,
    `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_BSP_…`).
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))


class Spans:
    """Makes spans and gives them to `processor`, under the name of this service."""

    def __init__(self, processor: SpanProcessor, *, service: str, ratio: float) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("verifyd")

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Span:
        """The ids of the caller's trace are taken, not its state: what a caller writes gets into no span."""
        carrier = {"traceparent": headers["traceparent"]} if "traceparent" in headers else {}
        attributes = {"http.request.method": method, "http.route": route}
        parent = _CALLER.extract(carrier, Context())
        return _Current(
            self._tracer.start_span(f"{method} {route}", parent, kind=SpanKind.SERVER, attributes=attributes), 500
        )

    def script(self, name: str) -> Span:
        """Under the name that a script has in `lua/`."""
        if not trace.get_current_span().is_recording():
            return NOWHERE
        attributes = {"db.system.name": "redis", "db.operation.name": "EVALSHA", "db.stored_procedure.name": name}
        return _Started(self._tracer.start_span(f"EVALSHA {name}", kind=SpanKind.CLIENT, attributes=attributes))

    def exchange(self, what: str, url: str = "") -> Span:
        """Nothing of the trace is told to the provider."""
        if not trace.get_current_span().is_recording():
            return NOWHERE
        attributes = {"http.request.method": what, "server.address": _host(url)} if url else {}
        return _Started(self._tracer.start_span(what, kind=SpanKind.CLIENT, attributes=attributes))

    def job(self, verification: str, cause: object) -> Span:
        """In the trace of the request that set it in motion if that was here, else in one of its own."""
        within = cause if isinstance(cause, Context) else Context()
        return _Current(self._tracer.start_span("job", within, attributes={"verifyd.verification": verification}))

    def here(self) -> object:
        """The context, where it has a span."""
        return context.get_current() if trace.get_current_span().get_span_context().is_valid else None

    def event(self, what: str, fields: Mapping[str, object]) -> None:
        """Of the span that lasts here."""
        if (span := trace.get_current_span()).is_recording():
            span.add_event(what, _told(fields))

    async def stop(self) -> None:
        """Hand over what is left, for as long as may be waited."""
        # The SDK waits for up to half a minute, without letting others work; so a thread waits that may be left behind.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                while last.is_alive():  # noqa: ASYNC110 - by then the loop may be gone that it would tell
                    await asyncio.sleep(0.01)


class _Started(Span):
    """A span that nothing happens within."""

    def __init__(self, span: trace.Span, worst: int = 400) -> None:
        self._span = span
        self._worst = worst  # The first status that is an error: to the one who asked, 4xx is one.

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self.failed(error)
        self._span.end()

    def answered(self, status: int, about: Mapping[str, object]) -> None:
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attributes(_told(about))
        if status >= self._worst:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)

    def failed(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(StatusCode.ERROR)


class _Current(_Started):
    """A span that others are within, and whose ids are in the log lines that are written meanwhile."""

    def __enter__(self) -> Self:
        ids = self._span.get_span_context()
        self._context = context.attach(trace.set_span_in_context(self._span))
        self._ids = log.trace.set((trace.format_trace_id(ids.trace_id), trace.format_span_id(ids.span_id)))
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        log.trace.reset(self._ids)
        context.detach(self._context)
        super().__exit__(_kind, error, _trace)


def _host(url: str) -> str:
    """The host alone: what stands before it is a password, and behind it may be a number or a key."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # which is for the way out to meet: to trace must break nothing
        return ""


def _told(fields: Mapping[str, object]) -> dict[str, str | int]:
    """The fields that may be told."""
    return {_ABOUT[name]: value for name, value in fields.items() if name in _ABOUT and isinstance(value, (str, int))}
