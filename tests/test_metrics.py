"""What Prometheus sees: the names and labels that dashboards depend on, and nothing that should not be there."""

from __future__ import annotations

import math
import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import CONTENT_TYPE
from service.store import connect
from tests.redis_server import RedisServer
from tests.world import (
    KEY,
    NUMBER,
    OTHER_NUMBER,
    READ_KEY,
    SECRET_KEY,
    SUBSCRIBER,
    WEBHOOK_SECRET,
    World,
    signed,
    table,
    world,
    wrong,
)

pytestmark = pytest.mark.anyio

NAMES = {
    "otp_verifications_total": ("counter", {"application", "country", "result"}),
    "otp_checks_total": ("counter", {"application", "result"}),
    "otp_deliveries_total": ("counter", {"provider", "channel", "country", "status", "reason"}),
    "otp_receipt_seconds": ("histogram", {"provider", "channel"}),
    "otp_approve_seconds": ("histogram", {"application"}),
    "otp_advances_total": ("counter", {"from_channel", "to_channel", "cause"}),
    "otp_provider_up": ("gauge", {"provider"}),
    "otp_guard_verdicts_total": ("counter", {"application", "country", "verdict", "rule"}),
    "otp_guard_blocked_prefixes": ("gauge", {"country"}),
    "otp_spend_total": ("counter", {"application", "channel", "country", "provider"}),
    "otp_saved_total": ("counter", {"application", "country"}),
    "otp_events_total": ("counter", {"application", "event", "result"}),
    "otp_event_lag_seconds": ("histogram", {"application"}),
    "otp_events_waiting": ("gauge", {"application"}),
    "otp_due_jobs": ("gauge", set[str]()),
    "otp_job_lag_seconds": ("histogram", set[str]()),
    "otp_redis_durable": ("gauge", set[str]()),
    "otp_http_seconds": ("histogram", {"route", "status"}),
    "otp_redis_seconds": ("histogram", {"script"}),
    "otp_receipts_refused_total": ("counter", {"provider", "cause"}),
    "otp_replies_total": ("counter", {"provider", "word"}),
}
"""Every metric, its type and its labels. To change one is to break somebody's dashboard."""

TEST_NUMBER = "+447700900123"
EVENTS = {"url": f"https://{SUBSCRIBER}/event-secret", "secret": WEBHOOK_SECRET}
THIRD_NUMBER, FOURTH_NUMBER = "+447400654321", "+447400654322"
INBOUND_SECRET = "a-secret-of-the-address"
HEARING = {
    "providers": table()["providers"]
    | {
        "infobip": {
            "kind": "infobip",
            "api_url": "https://xxxxx.api.infobip.com",
            "api_key": "key",
            "inbound_secret": INBOUND_SECRET,
            "sms_from": "Shop",
        }
    }
}
ROOMY = {"mode": "enforce", "rules": {"cap": {"block3": 20.0, "block4": 100.0}, "burst": 100, "unconverted": 100.0}}
"""A guard with room for all that is done to two numbers, and not for their neighbours."""
WORD = re.compile(r"[a-z_.-]*|block[34]|[A-Z]{2}|[1-5][0-9]{2}|(/[a-z._{}]+)+")
"""A label's value: a word of ours, a country, an HTTP status, a route."""


async def mixed_traffic(one: World, number: str, other: str) -> list[str]:
    """All that callers and providers do, right and wrong, with two numbers; returns what of it is nobody's business."""
    first = await one.create(
        number,
        metadata={"user": "metadata-secret"},
        transaction={"amount": "49.90 EUR", "payee": "payee-secret"},
        signals={"ip": "203.0.113.77", "device_id": "device-secret", "user_agent": "agent-secret"},
        limit_keys={"campaign": "limit-secret"},
        webotp_domain="webotp-secret.example",
    )
    sent = one.gateway.last
    secrets = [sent.code, sent.data["text"], sent.data["receipt_url"].rpartition(".")[2]]
    transaction = {"amount": "49.90 EUR", "payee": "payee-secret"}
    await one.post("/verifications", {"to": number, "transaction": transaction})
    await one.check(first["id"], wrong(sent.code))
    await one.report(sent, "sent")
    await one.report(sent, "delivered")
    await one.report(sent, "delivered")
    await one.check(first["id"], sent.code, transaction=transaction)
    await one.check(first["id"], sent.code)
    await one.get(first["id"])
    await one.post(f"/verifications/{first['id']}/feedback", {"converted": True})
    await one.post(f"/verifications/{first['id']}/resend")

    one.gateway.refuse("landline", "sms")
    name = f"idempotency-secret-{other}"
    for body in ({"to": other}, {"to": other}, {"to": other, "purpose": "signup"}):
        await one.post("/verifications", body, idempotency_key=name)
    await one.work()
    await one.report(one.gateway.last, "failed", "carrier_blocked")
    secrets.append(one.gateway.last.code)
    one.gateway.answer = lambda _: httpx.Response(500)
    await one.travel(31)
    answer = await one.post("/verifications", {"to": other})
    await one.travel(200)
    for _ in range(5):
        await one.check(answer.json()["id"], wrong(one.gateway.last.code))
    third = await one.create(number)
    secrets.append(one.gateway.last.code)
    await one.post(f"/verifications/{third['id']}/cancel")

    test = await one.create(TEST_NUMBER)
    await one.check(test["id"], "86420975")

    for bad in ({"to": number[:-1]}, {"to": number, "code": "97531086"}, {"to": number, "secret-field": 1}, {"to": 4}):
        await one.post("/verifications", bad)
    await one.post("/verifications", {"to": number}, key="vk_intruder-secret")
    await one.post("/verifications", {"to": number}, key=READ_KEY)
    await one.post("/verifications/check", {"to": "+447400123999", "code": "864209"})
    await one.api.post("/verifications", content=b'{"to": "padding-secret' + b"x" * 20_000)
    await one.api.post("/verifications", content=f"not JSON, but {number}")
    await one.api.get(f"/nothing-secret/{number}")
    await one.api.delete(f"/verifications/{first['id']}")
    path = sent.data["receipt_url"].removeprefix("https://otp.example.com")
    report = f'{{"type": "delivery.receipt", "data": "body-secret {number}"}}'
    await one.receipts.post(path, content=report, headers=signed(report))
    await one.receipts.post(path, content=report, headers=signed(report, secret="whsec_b3RoZXItc2VjcmV0"))
    await one.receipts.post(f"{path}x", content=report, headers=signed(report))
    await one.receipts.post(f"/receipts/nobody-{number}/{number}", content=report)
    one.gateway.answer = lambda one: httpx.Response(200, json={"message_id": one.data["delivery"]})
    for text in ("STOP", "START", "reply-secret"):
        results = {"results": [{"from": number.removeprefix("+"), "text": text}]}
        await one.receipts.post(f"/inbound/infobip?secret={INBOUND_SECRET}", json=results)
    numbers = [one for number in (number, other) for one in (number, number[3:], number[5:-4])]
    words = [
        "agent",
        "body",
        "device",
        "idempotency",
        "intruder",
        "limit",
        "metadata",
        "padding",
        "payee",
        "reply",
        "webotp",
    ]
    words = [f"{word}-secret" for word in [*words, "nothing"]]
    keys = [
        KEY,
        READ_KEY,
        SECRET_KEY,
        WEBHOOK_SECRET,
        WEBHOOK_SECRET.removeprefix("whsec_"),
        "b3RoZXItc2VjcmV0",
        INBOUND_SECRET,
    ]
    return [*secrets, *numbers, *words, *keys, "secret-field", "203.0.113.77", "97531086", "86420975", TEST_NUMBER]


async def series(one: World) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    """What `/metrics` has: of each series the metric, its type and its labels."""
    answer = await one.ops.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    return {
        (
            re.sub("_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name,
            family.type,
            frozenset((name, value) for name, value in sample.labels.items() if name != "le"),
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_names_and_labels_are_those_that_dashboards_know() -> None:
    """After traffic in which everything happens, each metric is there, and no other."""
    async with world(test_numbers={TEST_NUMBER: "86420975"}, events=EVENTS, _top=HEARING | {"guard": ROOMY}) as one:
        await mixed_traffic(one, NUMBER, OTHER_NUMBER)
        neighbours = [f"{NUMBER[:-2]}{n:02}" for n in range(30)]
        assert 403 in [(await one.post("/verifications", {"to": number})).status_code for number in neighbours]
        found = {name: (kind, {label for label, _ in labels}) for name, kind, labels in await series(one)}
        assert found == NAMES
        assert len({(name, frozenset(label for label, _ in labels)) for name, _, labels in await series(one)}) == len(
            NAMES
        )


async def test_labels_hold_no_number_no_code_and_no_id() -> None:
    """Nor anything else that callers or providers wrote."""
    async with world(test_numbers={TEST_NUMBER: "86420975"}, events=EVENTS, _top=HEARING) as one:
        secrets = await mixed_traffic(one, NUMBER, OTHER_NUMBER)
        labels = {value for _, _, labels in await series(one) for _, value in labels}
        assert [value for value in labels if not WORD.fullmatch(value)] == []
        assert [secret for secret in [*secrets, "ver_"] if any(secret in value for value in labels)] == []


async def test_other_numbers_make_no_other_series() -> None:
    """However much traffic there is, what is scraped stays as large."""
    async with world(test_numbers={TEST_NUMBER: "86420975"}, events=EVENTS, _top=HEARING) as one:
        await mixed_traffic(one, NUMBER, OTHER_NUMBER)
        await series(one)  # which is a request like others
        await one.service.recent.tell()  # as by itself within a second
        before = await series(one)
        await one.travel(3600)
        await mixed_traffic(one, THIRD_NUMBER, FOURTH_NUMBER)
        assert await series(one) == before


async def test_a_verification_is_counted_from_its_start_to_its_end() -> None:
    """Its sends, receipts and checks too, each once."""
    async with world() as one:
        started = await one.create()
        sent = one.gateway.last
        for _ in range(2):
            await one.report(sent, "delivered")
        await one.check(started["id"], wrong(sent.code))
        await one.check(started["id"], sent.code)
        await one.check(started["id"], sent.code)
        for result in ("started", "approved"):
            labels = {"application": "shop", "country": "GB", "result": result}
            assert one.metric("otp_verifications_total", **labels) == 1
        for result in ("wrong", "right", "over"):
            assert one.metric("otp_checks_total", application="shop", result=result) == 1
        for status in ("accepted", "delivered"):
            labels = {"provider": "gw", "channel": "sms", "country": "GB", "status": status, "reason": ""}
            assert one.metric("otp_deliveries_total", **labels) == 1
        assert one.metric("otp_receipt_seconds_count", provider="gw", channel="sms") == 1
        assert one.metric("otp_approve_seconds_count", application="shop") == 1


async def test_an_advance_is_counted_with_its_cause() -> None:
    """A refusal, a failed receipt, silence."""
    async with world() as one:
        one.gateway.refuse("not_on_channel", "sms")
        await one.create()
        await one.report(one.gateway.last, "failed", "carrier_blocked")
        assert one.metric("otp_advances_total", from_channel="sms", to_channel="whatsapp", cause="not_on_channel") == 1
        labels = {"from_channel": "whatsapp", "to_channel": "voice", "cause": "carrier_blocked"}
        assert one.metric("otp_advances_total", **labels) == 1
    async with world() as one:
        await one.create()
        await one.travel(21)
        assert one.metric("otp_advances_total", from_channel="sms", to_channel="whatsapp", cause="silence") == 1
        labels = {"provider": "gw", "channel": "sms", "country": "GB", "status": "unknown", "reason": "silence"}
        assert one.metric("otp_deliveries_total", **labels) == 1


async def test_test_numbers_are_counted_apart() -> None:
    """They would spoil every rate."""
    async with world(test_numbers={TEST_NUMBER: "86420975"}) as one:
        test = await one.create(TEST_NUMBER)
        await one.check(test["id"], "86420975")
        for result in ("started", "approved"):
            labels = {"application": "shop", "country": "GB"}
            assert one.metric("otp_verifications_total", **labels, result=f"test_{result}") == 1
            assert one.metric("otp_verifications_total", **labels, result=result) == 0
        assert one.metric("otp_checks_total", application="shop", result="test_right") == 1
        assert one.metric("otp_checks_total", application="shop", result="right") == 0
        assert one.metric("otp_approve_seconds_count", application="shop") == 0


async def test_a_replayed_answer_is_not_counted_as_another_act() -> None:
    """Of two requests with one idempotency key one started a verification."""
    async with world() as one:
        for _ in range(2):
            await one.post("/verifications", {"to": NUMBER}, idempotency_key="k")
        labels = {"application": "shop", "country": "GB"}
        assert one.metric("otp_verifications_total", **labels, result="started") == 1
        await one.work()
        name, code = one.gateway.last.data["delivery"].partition(".")[0], one.gateway.last.code
        for _ in range(2):
            await one.post("/verifications/check", {"id": name, "code": code}, idempotency_key="k")
        assert one.metric("otp_checks_total", application="shop", result="right") == 1
        assert one.metric("otp_checks_total", application="shop", result="replayed") == 1
        assert one.metric("otp_verifications_total", **labels, result="approved") == 1
        assert one.metric("otp_approve_seconds_count", application="shop") == 1


async def test_a_receipt_that_is_refused_is_counted_with_its_cause() -> None:
    """Under the name of a provider only if there is one."""
    async with world() as one:
        await one.create()
        path = one.gateway.last.data["receipt_url"].removeprefix("https://otp.example.com")
        await one.receipts.post(path, content="{}", headers=signed("[]"))
        await one.receipts.post(path, content="{}", headers=signed("{}"))
        await one.receipts.post("/receipts/whoever/x", content="{}")
        assert one.metric("otp_receipts_refused_total", provider="gw", cause="forged") == 1
        assert one.metric("otp_receipts_refused_total", provider="gw", cause="malformed") == 1
        assert one.metric("otp_receipts_refused_total", provider="unknown", cause="forged") == 1


async def test_requests_are_measured_by_route_and_scripts_by_name() -> None:
    """A path that nobody serves has no name of its own."""
    async with world() as one:
        started = await one.create()
        await one.get(started["id"])
        await one.api.get("/wp-login.php")
        assert one.metric("otp_http_seconds_count", route="/verifications/{id}", status="200") == 1
        assert one.metric("otp_http_seconds_count", route="none", status="404") == 1
        assert one.metric("otp_redis_seconds_count", script="verification_start") == 1


async def test_jobs_are_measured_by_how_late_they_are() -> None:
    """A worker that comes five seconds after the end of a step's wait is five seconds late."""
    async with world() as one:
        await one.create()
        before = one.metric("otp_job_lag_seconds_sum")
        await one.travel(25)
        assert one.metric("otp_job_lag_seconds_sum") - before == pytest.approx(5, abs=0.5)


@pytest.mark.redis
async def test_that_redis_keeps_its_data_is_known_once_it_was_asked() -> None:
    """And followed: a Redis that came back with another configuration is told from the one before."""
    with RedisServer() as server:
        async with world(client=connect(server.url), _top={"redis": server.url}) as one:
            assert math.isnan(one.metric("otp_redis_durable"))
            await one.ops.get("/readyz")
            assert one.metric("otp_redis_durable") == 1
            server.command("CONFIG", "SET", "appendonly", "no")
            await one.ops.get("/readyz")
            assert one.metric("otp_redis_durable") == 0
