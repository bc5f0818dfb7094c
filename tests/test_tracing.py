"""Traces: a request and what it set in motion are one, callers' traces go on, and nothing is there when it is off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, format_span_id, format_trace_id

from service import log
from service.schedule import LEASE_MS
from service.tracing.spans import Spans
from tests.collector import collector
from tests.faults.waiting import until
from tests.test_cli import Process, client, free, written
from tests.test_config import accepted, problems
from tests.test_log import lines, of
from tests.world import NUMBER, OTHER_KEY, OTHER_NUMBER, World, table, world

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@asynccontextmanager
async def traced(
    ratio: float = 1.0, *, client: FakeAsyncRedis | None = None, **changes: Any
) -> AsyncIterator[tuple[World, InMemorySpanExporter]]:
    """A world, and where its spans end up."""
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter), service="verifyd", ratio=ratio)
    async with world(client=client, tracing=spans, **changes) as one:
        yield one, exporter


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The spans of this name, in the order in which they ended."""
    return [span for span in exporter.get_finished_spans() if span.name == name]


def the(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The only span of this name."""
    [span] = named(exporter, name)
    return span


def context_of(span: ReadableSpan) -> SpanContext:
    """Its ids and what came with them."""
    found = span.get_span_context()
    assert found is not None
    return found


def trace_of(span: ReadableSpan) -> str:
    """The id of its trace."""
    return format_trace_id(context_of(span).trace_id)


def id_of(span: ReadableSpan) -> str:
    """Its own id."""
    return format_span_id(context_of(span).span_id)


def parent_of(span: ReadableSpan) -> str | None:
    """The id of the span that it is within."""
    return None if span.parent is None else format_span_id(span.parent.span_id)


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    """What they are called."""
    return [span.name for span in spans]


async def test_a_create_is_one_trace_to_the_providers_answer() -> None:
    """With the scripts that it runs, its job, and what is asked of the provider."""
    async with traced() as (one, exporter):
        started = await one.create()
    request, job = the(exporter, "POST /verifications"), the(exporter, "job")
    exchange = the(exporter, "POST")
    assert {trace_of(span) for span in exporter.get_finished_spans()} == {trace_of(request)}
    assert parent_of(request) is None
    assert parent_of(job) == id_of(request)
    assert names([span for span in exporter.get_finished_spans() if parent_of(span) == id_of(request)]) == [
        "EVALSHA verification_start",
        "job",
    ]
    assert {span.name for span in exporter.get_finished_spans() if parent_of(span) == id_of(job)} == {
        "EVALSHA delivery_begin",
        "POST",
        "EVALSHA delivery_record",
        "EVALSHA circuit_report",
    }
    assert (request.kind, job.kind, exchange.kind) == (SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/verifications",
        "http.response.status_code": 201,
        "verifyd.application": "shop",
        "verifyd.verification": started["id"],
    }
    assert exchange.attributes == {
        "http.request.method": "POST",
        "server.address": "gw.example",
        "http.response.status_code": 200,
    }
    assert the(exporter, "EVALSHA verification_start").attributes == {
        "db.system.name": "redis",
        "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "verification_start",
    }
    [event] = job.events
    assert (event.name, event.attributes) == (
        "delivery",
        {
            "verifyd.verification": started["id"],
            "verifyd.n": 0,
            "verifyd.channel": "sms",
            "verifyd.provider": "gw",
            "verifyd.status": "accepted",
        },
    )
    assert request.resource.attributes["service.name"] == "verifyd"


async def test_a_receipt_that_moves_the_cascade_is_one_trace_with_the_next_message() -> None:
    """What the receipt says is in the span of its request."""
    async with traced() as (one, exporter):
        await one.create()
        exporter.clear()
        await one.report(one.gateway.last, "failed", "carrier_blocked")
    request, job = the(exporter, "POST /receipts/{provider}/{token}"), the(exporter, "job")
    assert (trace_of(job), parent_of(job)) == (trace_of(request), id_of(request))
    assert [(event.name, (event.attributes or {})["verifyd.reason"]) for event in request.events] == [
        ("receipt", "carrier_blocked")
    ]


async def test_a_job_that_time_sets_off_has_a_trace_of_its_own() -> None:
    """And to look for jobs is in none."""
    async with traced() as (one, exporter):
        started = await one.create()
        exporter.clear()
        await one.work()
        assert exporter.get_finished_spans() == ()
        await one.travel(21)
    job = the(exporter, "job")
    assert (job.parent, dict(job.attributes or {})) == (None, {"verifyd.verification": started["id"]})


async def test_a_callers_trace_goes_on_and_a_providers_does_not() -> None:
    """Of the caller's header only the ids are taken; one that is none begins a new trace."""
    async with traced() as (one, exporter):
        answer = await one.post("/verifications", {"to": NUMBER}, traceparent=SAMPLED, tracestate="a=tell-tale")
        await one.work()
        assert {trace_of(span) for span in exporter.get_finished_spans()} == {TRACE}
        request = the(exporter, "POST /verifications")
        assert parent_of(request) == SPAN
        assert not context_of(request).trace_state

        exporter.clear()
        path = one.gateway.last.data["receipt_url"].removeprefix("https://otp.example.com")
        await one.receipts.post(path, headers={"traceparent": SAMPLED})
        await one.api.get(f"/verifications/{answer.json()['id']}", headers={"traceparent": f"{SAMPLED}-and-more"})
        first, second = named(exporter, "POST /receipts/{provider}/{token}") + named(
            exporter, "GET /verifications/{id}"
        )
        assert first.parent is None
        assert second.parent is None
        assert len({TRACE, trace_of(first), trace_of(second)}) == 3


async def test_the_ratio_decides_where_no_caller_has() -> None:
    """What is kept is kept whole, what is not is not there at all."""
    async with traced(ratio=0.0) as (one, exporter):
        await one.create()
        assert exporter.get_finished_spans() == ()
        await one.post("/verifications", {"to": OTHER_NUMBER}, traceparent=SAMPLED)
        await one.work()
        assert {"POST /verifications", "job", "POST"} <= set(names(exporter.get_finished_spans()))
    async with traced() as (one, exporter):
        await one.post("/verifications", {"to": NUMBER}, traceparent=UNSAMPLED)
        await one.work()
        assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("ratio", [1.0, 0.0])
async def test_log_lines_carry_the_ids_of_their_span(capsys: pytest.CaptureFixture[str], ratio: float) -> None:
    """Whether the trace is kept or not, so that the caller's own traces find them."""
    log.set_up("info")
    async with traced(ratio) as (one, exporter):
        await one.post("/verifications", {"to": NUMBER}, traceparent=SAMPLED if ratio else UNSAMPLED)
        await one.work()
        probed = await one.ops.get("/healthz")
    found = lines(capsys)
    [request] = [line for line in of(found, "request") if line["route"] == "/verifications"]
    [delivery] = of(found, "delivery")
    assert request["trace_id"] == delivery["trace_id"] == TRACE
    if ratio:
        assert request["span_id"] == id_of(the(exporter, "POST /verifications"))
        assert delivery["span_id"] == id_of(the(exporter, "job"))
    [probe] = [line for line in found if line.get("request_id") == probed.headers["x-request-id"]]
    assert "trace_id" not in probe


async def test_what_fails_is_an_error_by_its_type_or_status() -> None:
    """A caller's mistake is none of ours, and named by the problem's code."""

    def away(_: object) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {NUMBER}")

    async with traced() as (one, exporter):
        one.gateway.answer = away
        await one.create()
        one.gateway.answer = lambda _: httpx.Response(500)
        await one.create(OTHER_NUMBER)
        unreachable, broken, *_ = named(exporter, "POST")
        assert (unreachable.attributes or {})["error.type"] == "Undelivered"
        assert (broken.attributes or {})["error.type"] == "500"
        exporter.clear()
        await one.post("/verifications", {"to": 4})
        refused = the(exporter, "POST /verifications")
        assert refused.status.is_unset
        assert (refused.attributes or {})["verifyd.problem"] == "invalid_request"
    assert not unreachable.status.is_ok
    assert not broken.status.is_ok
    assert unreachable.status.description is None
    assert unreachable.events == ()


async def test_redis_that_is_away_is_an_error_of_the_script_and_of_the_request() -> None:
    """With the type of the error, and 503."""
    async with traced(_top={"redis": f"redis://{free()}/0"}) as (one, exporter):
        assert (await one.post("/verifications", {"to": NUMBER})).status_code == 503
    [script, request] = exporter.get_finished_spans()
    assert script.name.startswith("EVALSHA ")
    assert (script.attributes or {})["error.type"] == "Unavailable"
    assert (request.attributes or {})["error.type"] == "503"


async def test_a_job_that_breaks_is_an_error_of_its_span() -> None:
    """Here, that of a replica that does not know the application yet."""
    redis = FakeAsyncRedis()
    applications = {"shop": table()["applications"]["shop"]}
    async with (
        world(client=redis) as newer,
        traced(client=redis, _top={"applications": applications}) as (older, exporter),
    ):
        await newer.post("/verifications", {"to": NUMBER}, key=OTHER_KEY)
        older.clock.shift(LEASE_MS / 1000 + 1)
        await older.service.start()

        async def ran() -> bool:
            return bool(named(exporter, "job"))

        await until(ran, "the job has run")
    assert (named(exporter, "job")[0].attributes or {})["error.type"] == "ConfigError"


async def test_probes_and_paths_that_are_not_there_are_in_no_trace() -> None:
    """What Kubernetes asks every few seconds, and what strangers try."""
    async with traced() as (one, exporter):
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.yaml", "/nothing"):
            await one.ops.get(path)
        await one.api.get("/nothing")
        await one.api.put("/verifications")
        await one.receipts.get("/.env")
        assert exporter.get_finished_spans() == ()


def test_a_url_that_is_none_spoils_no_request() -> None:
    """To send is what meets it."""
    spans = Spans(SimpleSpanProcessor(exporter := InMemorySpanExporter()), service="verifyd", ratio=1)
    with spans.request("POST", "/verifications", {}), spans.exchange("POST", "https://[never-ending/"):
        pass
    assert (the(exporter, "POST").attributes or {})["server.address"] == ""


def test_the_service_needs_none_of_the_packages_unless_it_traces() -> None:
    """It loads without them, and with them what uses them is not loaded."""
    said = "import sys{}; import service.app, service.__main__; print('service.tracing.spans' in sys.modules)"
    for lacking in ("", "; sys.modules['opentelemetry'] = None"):
        command = [sys.executable, "-c", said.format(lacking)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


def test_a_collector_without_the_packages_is_a_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what to install; without a collector nothing is missed."""
    monkeypatch.delitem(sys.modules, "service.tracing.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracing = {"endpoint": "http://collector:4318"}
    assert problems(table(_top={"tracing": tracing})) == {
        "tracing.endpoint": "its packages are not installed: pip install 'verifyd[otel]'"
    }
    assert accepted(table(_top={"tracing": {"ratio": 0.5}})).settings.tracing.endpoint is None


@pytest.mark.parametrize("url", ["collector:4318", "http://user:password@collector", "http://collector?x=1", ""])
def test_a_collectors_address_has_no_secret_in_it(url: str) -> None:
    """It is in the collector's own messages; a key goes into a header."""
    said = problems(table(_top={"tracing": {"endpoint": url}}))
    assert list(said) == ["tracing.endpoint"]
    assert "password" not in said["tracing.endpoint"]


def test_a_collector_gets_the_spans_and_one_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """What is left when the service ends is handed over before."""
    path, places = written(tmp_path)
    text = path.read_text()
    with collector() as there:
        for url in (f"{there.url}/v1/traces", f"http://{free()}"):
            path.write_text(f'{text}\n[tracing]\nendpoint = "{url}"\n')
            with Process("serve", path, home=tmp_path) as process:
                process.said('"message":"serving"')
                with client(places["api"]) as http:
                    assert http.post("/verifications", json={"to": NUMBER}).status_code == 201
                process.said('"message":"delivery"')
                began = time.monotonic()
                process.signal(signal.SIGTERM)
                assert process.status() == 0
                assert time.monotonic() - began < 5
                assert json.loads(process.err.splitlines()[-1])["message"] == "stopped"
        assert {posted for posted, _ in there.posted} == {"/v1/traces"}
        assert {"POST /verifications", "job", "POST"} <= set(there.names)
