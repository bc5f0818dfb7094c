"""Nothing that operators read holds a secret: logs at debug, traces, metrics, problems, the title of the process.

Traffic goes through every path, right and wrong, with everything as talkative as it can be made. What must be nowhere:
codes, whole numbers, e-mail addresses, API keys, secrets of webhooks and providers, tokens of receipts.
"""

from __future__ import annotations

import json
import logging
import re
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
import time_machine
from fakeredis import FakeAsyncRedis
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import config, log, phone
from service.api.auth import digest
from service.app import Service
from service.config import Config
from service.provider import Request
from service.providers import KINDS
from service.tracing.spans import Spans
from tests.collector import collector
from tests.faults.gateway import Gateway as RealGateway
from tests.providers.test_contract import NOW, SENDS, adapter, message, secrets, spellings
from tests.providers.test_end_to_end import SID, TWILIO
from tests.providers.test_smpp import DELIVERED
from tests.providers.test_smpp_sessions import comes_to, settings_for, smsc
from tests.providers.test_smtp import OPEN, Relay, serving
from tests.redis_server import wait_until
from tests.test_cli import Process, client, free, written
from tests.test_log import broken_delivery
from tests.test_metrics import EVENTS, HEARING, INBOUND_SECRET, TEST_NUMBER, mixed_traffic
from tests.world import (
    KEY,
    NEXT_SECRET_KEY,
    NUMBER,
    OTHER_NUMBER,
    PUBLIC_URL,
    READ_KEY,
    SECRET_KEY,
    WEBHOOK_SECRET,
    Gateway,
    Sent,
    World,
    signed,
    table,
    world,
    wrong,
)

pytestmark = pytest.mark.anyio

EMAIL = "ottokar.vale@private.example"
OWN_CODE = "40279136"
OWN_NUMBER, THIRD_NUMBER = "+447400654327", "+447400654321"
STRANGERS_KEY = "vk_a-key-that-nobody-has"
GUARD_KEY = "vk_a-key-for-the-guard"
HTTP = {kind for kind, channel in SENDS if isinstance(adapter(kind).request(message(channel), NOW), Request)}
"""The kinds of providers that are asked over HTTP."""


def libraries() -> list[logging.Logger]:
    """All loggers that there are, but for the root."""
    return [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Loggers that tests make talkative are afterwards as they were."""
    before = [(one, one.level) for one in libraries()]
    yield
    for one, level in before:
        one.setLevel(level)


def talkative() -> tuple[Spans, InMemorySpanExporter]:
    """Let every logger, those of libraries too, say all it can; and trace into memory."""
    log.set_up("debug")
    for one in libraries():
        one.setLevel(logging.DEBUG)
    exporter = InMemorySpanExporter()
    return Spans(SimpleSpanProcessor(exporter), service="verifyd", ratio=1), exporter


@dataclass
class Seen:
    """What leaves a world besides right answers and messages."""

    world: World
    spans: InMemorySpanExporter
    problems: list[str] = field(default_factory=list)

    async def keep(self, answer: httpx.Response) -> None:
        """Note an answer that is a problem."""
        if answer.is_error:
            await answer.aread()
            # Who wrote a number wrongly is shown one, which is everybody's.
            self.problems.append(f"{answer.headers} {answer.text}".replace(phone.EXAMPLE, ""))

    async def everything(self, capture: pytest.CaptureFixture[str]) -> dict[str, str]:
        """All of it as text, by the way in which it left."""
        captured = capture.readouterr()
        return {
            "logs": captured.err + captured.out,
            "traces": "\n".join(span.to_json() for span in self.spans.get_finished_spans()),
            "metrics": (await self.world.ops.get("/metrics")).text,
            "problems": "\n".join(self.problems),
        }


def watched(one: World, spans: InMemorySpanExporter) -> Seen:
    """A world whose problems are kept."""
    seen = Seen(one, spans)
    for http in (one.api, one.receipts, one.ops):
        http.event_hooks = {"response": [seen.keep]}
    return seen


def leaks(said: dict[str, str], wanted: Iterable[str]) -> set[tuple[str, str]]:
    """Which secret is where, in any spelling; digits only where they are not a piece of a longer number."""
    found = set()
    for way, text in said.items():
        for secret in wanted:
            for form in {secret, quote_plus(secret)}:
                pattern = rf"(?<![0-9a-f.]){form}(?![0-9a-f])" if form.isdigit() else re.escape(form)
                if re.search(pattern, text):
                    found.add((way, secret))
    return found


def digits(number: str) -> list[str]:
    """A number as it may be written: whole, without its +, nationally."""
    return [number, number[1:], f"0{number[3:]}", number[3:]]


def parts(sent: Iterable[Sent]) -> list[str]:
    """What was secret in messages: code, text, number, and the token of the receipt's address."""
    return [
        part
        for one in sent
        for part in (one.code, one.data["text"], one.data["receipt_url"].rpartition("/")[2], *digits(one.data["to"]))
    ]


async def traffic(one: World) -> None:
    """What `mixed_traffic` does not do: e-mail, own codes, errors that quote everything, callers who tell too much."""
    one.gateway.answer = lambda sent: httpx.Response(200, json={"message_id": sent.data["delivery"]})
    await one.travel(3600)
    started = await one.create(THIRD_NUMBER, channel="email", email=EMAIL, code=OWN_CODE)
    await one.check(started["id"], wrong(OWN_CODE))
    for name in ("create", f"create for {THIRD_NUMBER}"):
        await one.post("/verifications", {"to": THIRD_NUMBER, "channel": "nothing"}, idempotency_key=name)
    guess = {"to": THIRD_NUMBER, "code": OWN_CODE}
    for _ in range(2):
        await one.post("/verifications/check", guess, idempotency_key=f"check {OWN_CODE}", traceparent=NUMBER)
    await one.post("/verifications/check", guess | {"code": "1234"}, idempotency_key=f"check {OWN_CODE}")
    await one.post("/verifications", {"to": THIRD_NUMBER, "email": EMAIL, "code": f"{OWN_CODE}?"})
    await one.post("/verifications", {"to": f"{THIRD_NUMBER}7777", "code": OWN_CODE})
    await one.post("/verifications", {"to": [THIRD_NUMBER], "metadata": {"a": {"b": OWN_CODE}}})
    await one.post("/verifications", {"to": THIRD_NUMBER}, key=STRANGERS_KEY)
    await one.api.get(f"/verifications/{THIRD_NUMBER}?code={OWN_CODE}", headers={"x-request-id": THIRD_NUMBER})
    await one.api.get(f"/{EMAIL}", headers={"user-agent": EMAIL, "tracestate": f"a={OWN_CODE}"})
    await one.receipts.get(f"/receipts/gw?secret={WEBHOOK_SECRET}&to={THIRD_NUMBER}")
    await one.receipts.post(f"/receipts/{THIRD_NUMBER}/{OWN_CODE}?to={EMAIL}", headers={"referer": EMAIL})

    guard = {"authorization": f"Bearer {GUARD_KEY}"}
    for number in (THIRD_NUMBER, f"{THIRD_NUMBER}7777", EMAIL):
        place = f"/guard/numbers/{quote_plus(number)}"
        await one.api.put(place, json={"action": "deny", "reason": "found in a list"}, headers=guard)
        await one.api.put(place, json={"action": number}, headers=guard)
        await one.api.get(f"/numbers/{quote_plus(number)}", headers=guard)
        await one.api.delete(place, headers=guard)
        await one.api.delete(f"/guard/prefixes/{quote_plus(number)}", headers=guard)
    await one.api.get(f"/guard/prefixes?country={OWN_CODE}", headers=guard)
    await one.api.get(f"/guard/decisions/{OWN_CODE}", headers=guard)

    def unreachable(sent: Sent) -> httpx.Response:
        raise httpx.ConnectError(f"cannot send {sent.data} to https://user:{WEBHOOK_SECRET}@gw.example")

    one.gateway.answer = unreachable
    await one.create(OTHER_NUMBER[:-1] + "9")
    one.gateway.answer = lambda sent: httpx.Response(422, json={"reason": sent.code, "message": sent.data["to"]})
    await one.create(OTHER_NUMBER[:-1] + "6")


async def test_traffic_of_every_kind_leaves_no_secret_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """With callers and providers that do all they should and all they should not."""
    spans, exporter = talkative()
    redis = FakeAsyncRedis()
    ring = {"secrets": {"keys": [NEXT_SECRET_KEY]}}
    cascade = [*table()["applications"]["shop"]["cascade"], {"channel": "email", "providers": ["gw"]}]
    scopes = {READ_KEY: ["read"], GUARD_KEY: ["read", "guard"]}
    keys = [digest(KEY), *({"hash": digest(key), "scopes": scopes[key]} for key in scopes)]
    changes: dict[str, Any] = {"own_code": True, "test_numbers": {TEST_NUMBER: "86420975"}, "cascade": cascade}
    changes |= {"api_keys": keys, "events": EVENTS, "_top": HEARING, "tracing": spans}
    async with world(client=redis, _top=ring) as stranger, world(client=redis, **changes) as one:
        seen = watched(one, exporter)
        wanted = await mixed_traffic(one, OWN_NUMBER, OTHER_NUMBER)
        await traffic(one)
        started = await one.create(OTHER_NUMBER[:-1] + "8")
        await watched(stranger, exporter).world.api.get(f"/verifications/{started['id']}")
        await stranger.post("/verifications/check", {"id": started["id"], "code": one.gateway.last.code})
        await one.travel(86_400)
        await broken_delivery(one)
        said = await seen.everything(capsys)
    wanted = [secret for secret in wanted if "secret" not in secret]  # a caller's own words may come back to it
    wanted += [*parts(one.gateway.sent), EMAIL, OWN_CODE, STRANGERS_KEY, *digits(THIRD_NUMBER)]
    wanted += [KEY, READ_KEY, GUARD_KEY, SECRET_KEY, NEXT_SECRET_KEY, WEBHOOK_SECRET, INBOUND_SECRET, EVENTS["url"]]
    assert leaks(said, wanted) == set()
    assert all(said.values())
    assert one.subscriber.taken
    lines = [json.loads(line) for line in said["logs"].splitlines()]
    assert {"request", "delivery", "receipt", "a provider's adapter failed", "a sealed value cannot be read"} <= {
        line["message"] for line in lines
    }
    assert {span.name for span in exporter.get_finished_spans()} >= {"POST", "job", "POST /receipts/{provider}/{token}"}
    codes = set(re.findall(r'"code":"([a-z_]+)"', said["problems"]))
    assert codes >= {"unauthorized", "forged_receipt", "invalid_request", "idempotency_conflict", "not_found"}


async def test_redis_away_leaves_no_secret_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor the password of its address."""
    spans, exporter = talkative()
    address = f"redis://:a-password-of-redis@{free()}/0"
    async with world(tracing=spans, _top={"redis": address}) as one:
        seen = watched(one, exporter)
        await one.service.start()
        await one.post("/verifications", {"to": NUMBER, "email": EMAIL})
        await one.post("/verifications/check", {"to": NUMBER, "code": OWN_CODE})
        await one.ops.get("/readyz")
        said = await seen.everything(capsys)
    assert '"unavailable"' in said["problems"]
    assert "Redis is away" in said["logs"]
    assert leaks(said, [*digits(NUMBER), OWN_CODE, EMAIL, KEY, "a-password-of-redis"]) == set()


@asynccontextmanager
async def vendor(kind: str, answer: Any, spans: Spans) -> AsyncIterator[World]:
    """A world that sends by one real provider, as its own tests set it up."""
    provider = adapter(kind)
    cascade = [{"channel": channel, "providers": ["gw"], "wait": "20s"} for channel in sorted(provider.channels)]
    checked = config.check(table(cascade=cascade), KINDS, {})
    service = Service(
        Config(checked.settings, {**checked.providers, "gw": provider}),
        transport=httpx.MockTransport(answer),
        tracing=spans,
    )
    with time_machine.travel(datetime.now(UTC), tick=True) as clock:
        one = World(service, Gateway(), clock)
        try:
            yield one
        finally:
            await service.stop()


@pytest.mark.parametrize("kind", sorted(HTTP))
async def test_no_provider_leaves_a_secret_anywhere(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it takes a message, refuses it, cannot be reached, or breaks: each time it echoes what it was sent."""
    asked: list[httpx.Request] = []

    def echo(request: httpx.Request) -> str:
        return f"{request.url} {request.headers} {request.content!r}"

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        match len(asked) % 4:
            case 0:
                return httpx.Response(400, json={"error": {"message": echo(request), "code": echo(request)}})
            case 1:
                return httpx.Response(200, text=echo(request))
            case 2:
                raise httpx.ReadError(echo(request))
            case _:
                raise RuntimeError(echo(request))

    spans, exporter = talkative()
    async with vendor(kind, answer, spans) as one:
        seen = watched(one, exporter)
        for n in range(4):
            await one.create(f"{NUMBER[:-1]}{n}", email=EMAIL, code=None)
            await one.travel(21)
        path = f"/receipts/gw/ver_00aaaaaaaaaaaaaaaaaaaa.0.{OWN_CODE}"
        for body in (f'{{"to": "{NUMBER}"}}', f"to={quote_plus(NUMBER)}&text={OWN_CODE}", f"<{EMAIL}"):
            for place in (path, "/receipts/gw", f"/receipts/gw?secret={OWN_CODE}&to={quote_plus(NUMBER)}"):
                await one.receipts.post(place, content=body)
                await one.receipts.get(place)
        said = await seen.everything(capsys)
    texts = b"\n".join(request.content for request in asked).decode() + "".join(str(one.url) for one in asked)
    codes = set(re.findall(r"(?<!\d)\d{6}(?!\d)", texts))
    numbers = [form for n in range(4) for form in digits(f"{NUMBER[:-1]}{n}")]
    hidden = {form for secret in secrets(adapter(kind)).values() for form in spellings(secret)}
    headers = {value for request in asked for name, value in request.headers.items() if "auth" in name}
    assert len(asked) >= 4
    assert leaks(said, [*codes, *numbers, *digits(NUMBER), *hidden, *headers, EMAIL, OWN_CODE]) == set()


async def test_the_ways_that_are_not_http_leave_no_secret_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """SMPP with its receipt, then e-mail, to servers in this process, which talk too; then the simulator."""
    spans, exporter = talkative()
    async with smsc() as there, serving(Relay()) as relay:
        settings = settings_for(there.port)
        settings["_top"]["providers"] |= {
            "relay": OPEN.model_dump(exclude_none=True) | {"port": relay.port},
            "simulator": {"kind": "simulator"},
        }
        settings["cascade"] = [
            {"channel": channel, "providers": [name], "wait": "20s"}
            for channel, name in (("sms", "smsc"), ("email", "relay"), ("voice", "simulator"))
        ]
        async with world(tracing=spans, **settings) as one:
            seen = watched(one, exporter)
            await one.service.start()
            name = (await one.post("/verifications", {"to": NUMBER, "email": EMAIL})).json()["id"]
            await comes_to(one, name, "accepted")
            assert await there.report(DELIVERED.replace(b"DELIVRD", b"UNDELIV") % b"1A2B") == 0
            await comes_to(one, name, "failed", "accepted")
            one.clock.shift(21)
            await comes_to(one, name, "failed", "unknown", "accepted")
            said = await seen.everything(capsys)
            code = there.sent[0].short_message.split(b"code is ")[1][:6].decode()
    assert EMAIL in relay.taken[0].rcpt_tos
    assert {span.name for span in exporter.get_finished_spans()} >= {"Submit", "Mail", "Simulation"}
    assert leaks(said, [*digits(NUMBER), code, EMAIL, "pass-wd"]) == set()


async def test_a_defect_in_telling_of_an_approval_leaves_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for it; the log has its type and place, and the service still stops in order."""
    codes: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/Feedback.json"):
            raise RuntimeError(f"cannot tell {request.url} {request.headers} {codes}")
        codes.extend(re.findall(r"(?<![\d%])\d{6}(?!\d)", request.content.decode()))
        return httpx.Response(201, json={"sid": SID, "status": "queued"})

    spans, exporter = talkative()
    async with vendor("twilio", answer, spans) as one:
        seen = watched(one, exporter)
        started = await one.create()
        assert (await one.check(started["id"], codes[-1]))["valid"]
        await one.service.conversions.stop()
        said = await seen.everything(capsys)
    assert "a provider could not be told" in said["logs"]
    assert leaks(said, [codes[-1], TWILIO["auth_token"], "cannot tell"]) == set()


def test_a_process_shows_no_secret(tmp_path: Path) -> None:
    """To whoever lists processes, reads what it says, scrapes it, or gets its traces."""
    with collector() as there, RealGateway() as gateway:
        path, places = written(tmp_path, gateway=gateway.url("").removeprefix("http://").rstrip("/"), log_level="debug")
        path.write_text(f'{path.read_text()}\n[tracing]\nendpoint = "{there.url}"\n')
        with Process("serve", path, home=tmp_path, environment={"VERIFYD_API_KEY": KEY}) as process:
            process.said('"message":"serving"')
            with client(places["api"]) as http, client(places["receipts"]) as receipts, client(places["ops"]) as ops:
                started = http.post("/verifications", json={"to": NUMBER, "email": EMAIL}).json()["id"]
                wait_until(lambda: bool(gateway.messages), "the message is at the gateway")
                code = gateway.code(started)
                for guess in (wrong(code), code):
                    http.post("/verifications/check", json={"id": started, "code": guess})
                http.get(f"/{NUMBER}/{code}")
                receipts.post(f"/receipts/gateway/{started}.0.{code}", content=NUMBER, headers=signed(NUMBER))
                said = {"metrics": ops.get("/metrics").text, "title": title(process.pid)}
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            said["logs"] = process.out + process.err
            said["traces"] = b"".join(body for _, body in there.posted).decode("utf-8", "replace")
    assert "serve" in said["title"]
    assert "POST /verifications/check" in said["traces"]
    assert leaks(said, [*digits(NUMBER), code, EMAIL, KEY, WEBHOOK_SECRET, f"{started}.0"]) == set()


def title(pid: int) -> str:
    """What a list of processes shows of one and of its threads."""
    place = Path("/proc") / str(pid)
    names = [task.joinpath("comm").read_text() for task in (place / "task").iterdir()]
    return "\n".join([place.joinpath("cmdline").read_text().replace("\0", " "), *names])


@pytest.mark.parametrize(
    ("planted", "secret"),
    [
        ('{"code": "604913"}', "604913"),
        (f"to={quote_plus(NUMBER)}", NUMBER),
        ("0 7400123456", NUMBER[3:]),
        (EMAIL, EMAIL),
        (f"{PUBLIC_URL}/receipts/gw/ver_1.0.mac", "ver_1.0.mac"),
    ],
)
def test_what_is_planted_is_found(planted: str, secret: str) -> None:
    """A search that finds nothing would prove nothing."""
    assert leaks({"logs": planted}, [secret]) == {("logs", secret)}
    assert leaks({"logs": "harmless"}, [secret]) == set()
