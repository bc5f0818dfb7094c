"""The guard through the front door: what it refuses, how it says so, and what makes room again."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from service import config, log, phone
from service.api.auth import digest
from service.guard.ask import Ask, Signals
from service.guard.parts import LEASE_MS
from tests.world import KEY, NUMBER, READ_KEY, World, world

pytestmark = pytest.mark.anyio

GUARD_KEY = "vk_guard"
BLOCK = "+447400123"
KEYS = [
    digest(KEY),
    {"hash": digest(READ_KEY), "scopes": ["read"]},
    {"hash": digest(GUARD_KEY), "scopes": ["guard"]},
]


PLAIN = {
    "cap": {"block3": 4.0, "block4": 5.0},
    "leak": {"block3": 0.25, "block4": 0.4},
    "again": 1.0,
    "ripe": "0s",
}
"""Rules by which one can count on one's fingers: four sends to a block, each of them whole, and trust at once."""


ROOMY = PLAIN | {"cap": {"block3": 99.0, "block4": 99.0, "range": 99.0}}
"""Rules under which the surroundings of a number never fill up."""


def guarded(mode: str = "enforce", challenge: bool = False, **guard: object) -> dict[str, Any]:
    """A world with the guard on, with plain rules, without limits on how often."""
    table = {"mode": mode, "challenge": challenge, "limits": {"number": []}, "rules": PLAIN, **guard}
    return {"api_keys": KEYS, "own_code": True, "_top": {"guard": table}}


def numbers(count: int, start: int = 0) -> list[str]:
    """Neighbours of one block of a thousand."""
    return [f"{BLOCK}{n:03}" for n in range(start, start + count)]


async def fill(one: World, count: int = 4, **fields: object) -> None:
    """Send codes that nobody uses to numbers of one block."""
    for number in numbers(count):
        answer = await one.post("/verifications", {"to": number, **fields})
        assert answer.status_code == 201, answer.text


async def refused(one: World, to: str, **fields: object) -> dict[str, Any]:
    """The problem of a create that the guard refuses."""
    answer = await one.post("/verifications", {"to": to, **fields})
    assert answer.status_code == 403, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_block_whose_codes_nobody_uses_is_refused_with_reasons() -> None:
    """The fifth send to a thousand numbers is told the rule, the prefix, what there is, and when to come back."""
    async with world(**guarded()) as one:
        await fill(one)
        problem = await refused(one, f"{BLOCK}999")
        assert problem["code"] == "blocked"
        assert problem["decision_id"].startswith("dec_")
        (reason,) = problem["reasons"]
        assert (reason["rule"], reason["prefix"], reason["cap"]) == ("block3", BLOCK, 4)
        assert "never used" in reason["detail"]
        assert len(one.gateway.sent) == 0 or f"{BLOCK}999" not in [sent.data["to"] for sent in one.gateway.sent]
        await one.travel(problem["retry_after"])
        assert (await one.post("/verifications", {"to": f"{BLOCK}999"})).status_code == 201


async def test_used_codes_make_room_again() -> None:
    """An approval takes two and a half sends back."""
    async with world(**guarded()) as one:
        found = await one.create(f"{BLOCK}900", code="123456")
        await fill(one, 3)
        await refused(one, f"{BLOCK}999")
        assert (await one.check(found["id"], "123456"))["valid"]
        assert (await one.post("/verifications", {"to": f"{BLOCK}998"})).status_code == 201
        assert (await one.post("/verifications", {"to": f"{BLOCK}997"})).status_code == 201


async def test_feedback_pays_back_where_the_caller_checks_its_own_codes() -> None:
    """As a check does."""
    async with world(**guarded()) as one:
        found = await one.create(f"{BLOCK}900", code="123456")
        await fill(one, 3)
        await refused(one, f"{BLOCK}999")
        await one.post(f"/verifications/{found['id']}/feedback", {"converted": True})
        assert (await one.post("/verifications", {"to": f"{BLOCK}998"})).status_code == 201


async def test_a_number_that_used_its_code_is_trusted_where_its_neighbours_are_refused() -> None:
    """For ninety days."""
    async with world(**guarded()) as one:
        found = await one.create(f"{BLOCK}900", code="123456")
        assert (await one.check(found["id"], "123456"))["valid"]
        await fill(one, 4)
        await refused(one, f"{BLOCK}999")
        assert (await one.post("/verifications", {"to": f"{BLOCK}900"})).status_code == 201


async def test_a_proof_lifts_what_is_soft() -> None:
    """Where the application can ask for one, it is asked to."""
    async with world(**guarded(challenge=True)) as one:
        await fill(one)
        assert (await refused(one, f"{BLOCK}999"))["code"] == "challenge_required"
        answer = await one.post("/verifications", {"to": f"{BLOCK}999", "signals": {"challenge_passed": True}})
        assert answer.status_code == 201


WOULD = {"application": "shop", "country": "GB", "verdict": "would_block", "rule": "block3"}


async def test_a_monitored_application_is_never_refused() -> None:
    """But what would have been is counted, logged and can be looked up."""
    async with world(**guarded("monitor")) as one:
        await fill(one, 6)
        assert one.metric("otp_guard_verdicts_total", **WOULD) == 2


async def test_one_address_is_bounded_and_ipv6_counts_by_network() -> None:
    """Nine codes that nobody uses, to whatever country."""
    async with world(**guarded()) as one:
        to = [f"+4474{n:02}900100" for n in range(10, 20)]
        for n, number in enumerate(to[:9]):
            signals = {"ip": f"2001:db8::{n + 1}"}
            assert (await one.post("/verifications", {"to": number, "signals": signals})).status_code == 201
        problem = await refused(one, to[9], signals={"ip": "2001:db8::ffff"})
        assert [reason["rule"] for reason in problem["reasons"]] == ["ip"]
        assert (
            await one.post("/verifications", {"to": to[9], "signals": {"ip": "2001:db8:0:1::1"}})
        ).status_code == 201


async def test_a_refusal_gives_everything_back() -> None:
    """What other scripts had reserved for it: here the address', while the block is full."""
    async with world(**guarded()) as one:
        await fill(one)
        for n in range(12):
            await refused(one, f"{BLOCK}{500 + n}", signals={"ip": "192.0.2.1"})
        answer = await one.post("/verifications", {"to": "+447911234567", "signals": {"ip": "192.0.2.1"}})
        assert answer.status_code == 201


async def test_a_create_that_does_not_send_costs_nothing() -> None:
    """The wait for the next send is no send."""
    async with world(**guarded(), resend_after=["1h"]) as one:
        assert (await one.post("/verifications", {"to": NUMBER})).status_code == 201
        for _ in range(6):
            assert (await one.post("/verifications", {"to": NUMBER})).status_code == 429
        for number in numbers(3):
            assert (await one.post("/verifications", {"to": number})).status_code == 201


async def test_who_asks_twice_in_a_moment_goes_on_with_the_code_that_is_out() -> None:
    """Though the block has filled up since; once it may be sent again, the guard's word counts."""
    async with world(**guarded()) as one:
        found = await one.create(f"{BLOCK}900")
        await fill(one, 3)
        answer = await one.post("/verifications", {"to": f"{BLOCK}900"})
        problem = answer.json()
        assert (answer.status_code, problem["limit"], problem["id"]) == (429, "resend", found["id"])
        resent = (await one.post(f"/verifications/{found['id']}/resend")).json()
        assert (resent["limit"], resent["id"]) == ("resend", found["id"])
        await refused(one, f"{BLOCK}900", transaction={"amount": "1 EUR", "payee": "Shop"})
        await one.travel(problem["retry_after"])
        await refused(one, f"{BLOCK}900")


async def test_a_monitor_goes_by_the_limits_though_it_would_refuse_more() -> None:
    """What it would have refused was sent, and counts there; what a limit refuses was not, and is saved."""
    async with world(**guarded("monitor", limits={"number": [], "ip": ["6/1h"]})) as one:
        await fill(one, 6, signals={"ip": "192.0.2.1"})
        assert one.metric("otp_guard_verdicts_total", **WOULD) == 2
        assert one.metric("otp_saved_total", application="shop", country="GB") == 0
        answer = await one.post("/verifications", {"to": "+447911234567", "signals": {"ip": "192.0.2.1"}})
        assert answer.status_code == 429
        assert one.metric("otp_saved_total", application="shop", country="GB") == pytest.approx(0.06)


async def test_budgets_are_hard_and_told_before_they_are_spent(caplog: pytest.LogCaptureFixture) -> None:
    """Two texts to Britain for 0.06 dollars each, and no third in this hour."""
    with caplog.at_level(logging.WARNING, "service.guard.decisions"):
        async with world(**guarded(budget={"country_hour": 0.13, "alert": 0.9})) as one:
            for number in ("+447400123001", "+447911234567"):
                assert (await one.post("/verifications", {"to": number})).status_code == 201
            problem = await refused(one, "+447900801234")
            assert [reason["rule"] for reason in problem["reasons"]] == ["budget"]
            assert (await one.post("/verifications", {"to": "+33612345678"})).status_code == 201
            await one.travel(problem["retry_after"])
            assert (await one.post("/verifications", {"to": "+447900801234"})).status_code == 201
    assert [record.getMessage() for record in caplog.records] == ["a budget is nearly spent"]


async def test_limits_as_text_count_what_they_name() -> None:
    """An address, a session, a prefix, a key of the caller's: in every mode."""
    limits = {
        "number": [],
        "ip": ["1/1h"],
        "session": ["1/1h"],
        "prefix": {"+4479": ["1/1h"]},
        "keys": {"tenant": ["1/1h"]},
    }
    async with world(**guarded("off", limits=limits)) as one:
        for n, (fields, again) in enumerate(
            [
                ({"signals": {"ip": "192.0.2.1"}}, "ip 1/1h"),
                ({"signals": {"session_id": "s"}}, "session 1/1h"),
                ({"limit_keys": {"tenant": "t"}}, "tenant 1/1h"),
            ]
        ):
            assert (await one.post("/verifications", {"to": numbers(1, n * 10)[0], **fields})).status_code == 201
            answer = await one.post("/verifications", {"to": numbers(1, n * 10 + 1)[0], **fields})
            assert (answer.status_code, answer.json()["limit"]) == (429, again)
        assert (await one.post("/verifications", {"to": "+447911234567"})).status_code == 201
        assert (await one.post("/verifications", {"to": "+447911234568"})).json()["limit"] == "prefix 1/1h"


@pytest.mark.parametrize("limit", [{"country": ["2/1h"]}, {"application": ["2/1h"]}, {"prefix": {"+4474": ["2/1h"]}}])
async def test_a_resend_takes_from_the_limits_that_it_can_be_told_by(limit: dict[str, object]) -> None:
    """Of address, device, session and keys only the create knows. A step of the cascade was not asked for."""
    changes = guarded(limits={"number": [], **limit}, rules=ROOMY) | {"resend_after": ["0s"], "sends": 9}
    async with world(**changes) as one:
        found = await one.create(NUMBER)
        await one.travel(21)
        assert one.gateway.channels == ["sms", "whatsapp"]
        path = f"/verifications/{found['id']}/resend"
        assert (await one.post(path)).status_code == 200
        answer = await one.post(path)
        assert (answer.status_code, answer.json()["limit"].endswith(" 2/1h")) == (429, True)
        await one.travel(1801)
        assert (await one.post("/verifications", {"to": NUMBER})).status_code == 201


async def test_a_number_has_its_limits_once() -> None:
    """With the pending verification's id, on or off."""
    for mode in ("off", "enforce"):
        async with world(**guarded(mode, limits={"number": ["2/1h"]}), resend_after=["0s"]) as one:
            found = await one.create(NUMBER)
            assert (await one.post("/verifications", {"to": NUMBER})).status_code == 200
            answer = await one.post("/verifications", {"to": NUMBER})
            problem = answer.json()
            assert (answer.status_code, problem["limit"], problem["id"]) == (429, "number 2/1h", found["id"])


async def test_a_further_step_is_asked_for_again_and_its_refusal_burns_no_code() -> None:
    """The cascade ends there; the code that is out can still be used."""
    async with world(**guarded()) as one:
        one.gateway.refuse("unreachable", "whatsapp")
        found = await one.create(f"{BLOCK}900", code="123456")
        await fill(one, 3)
        await one.work()
        await one.report(next(sent for sent in one.gateway.sent if sent.data["to"] == f"{BLOCK}900"), "sent")
        await one.travel(21)
        now = await one.get(found["id"])
        assert [(one["channel"], one["status"], one["reason"]) for one in now["deliveries"]][-1] == (
            "whatsapp",
            "rejected",
            "guard",
        )
        assert now["status"] == "pending"
        assert (await one.check(found["id"], "123456"))["valid"]


async def test_a_resend_is_asked_for_too() -> None:
    """And refused with reasons while its block is full."""
    async with world(**guarded(), resend_after=["0s"]) as one:
        found = await one.create(f"{BLOCK}900")
        await fill(one, 3)
        answer = await one.post(f"/verifications/{found['id']}/resend")
        assert (answer.status_code, answer.json()["code"]) == (403, "blocked")
        await one.travel(4 * 3600)
        other = await one.create("+447911234567")
        assert (await one.post(f"/verifications/{other['id']}/resend")).status_code == 200


async def test_a_failed_receipt_gives_its_send_back() -> None:
    """Nobody was paid for it."""
    async with world(**guarded(), cascade=[{"channel": "sms", "providers": ["gw"], "wait": "20s"}]) as one:
        await fill(one)
        await one.work()
        await refused(one, f"{BLOCK}999")
        await one.report(one.gateway.sent[0], "failed", "unreachable")
        assert (await one.post("/verifications", {"to": f"{BLOCK}999"})).status_code == 201


async def test_test_numbers_are_none_of_its_business() -> None:
    """They cost nothing."""
    async with world(**guarded(), test_numbers={"+447700900123": "424242"}) as one:
        for _ in range(9):
            assert (await one.post("/verifications", {"to": "+447700900123"})).status_code in {200, 201}


async def test_an_idempotent_create_is_answered_as_before_whatever_is_thought_of_it_now() -> None:
    """Even when its block has filled up since."""
    async with world(**guarded()) as one:
        first = await one.post("/verifications", {"to": f"{BLOCK}900"}, idempotency_key="k")
        await fill(one, 3)
        await refused(one, f"{BLOCK}999")
        again = await one.post("/verifications", {"to": f"{BLOCK}900"}, idempotency_key="k")
        assert again.json() == first.json()


async def test_a_send_that_the_guard_refuses_takes_nothing_from_the_limits_of_its_number() -> None:
    """A resend has both: four at once by the guard, six an hour by the operator."""
    limits = {"number": ["6/1h"]}
    async with world(**guarded(rules=ROOMY, limits=limits), resend_after=["0s"], sends=20, ttl="24h") as one:
        found = await one.create(NUMBER)
        answers = [await one.post(f"/verifications/{found['id']}/resend") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3
        assert {answer.json()["limit"] for answer in answers[3:]} == {"number"}
        await one.travel(1200)
        assert [(await one.post(f"/verifications/{found['id']}/resend")).status_code for _ in range(2)] == [200] * 2


async def test_the_lines_of_a_request_together_do_not_tell_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    """What would have been refused is sent: the first digits are in one line, the last must not be in the other."""
    log.set_up("info")
    async with world(**guarded("monitor")) as one:
        await fill(one, 5)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (guard,) = [line for line in lines if line["message"] == "guard"]
    (request,) = [line for line in lines if line["message"] == "request" and line["request_id"] == guard["request_id"]]
    assert (guard["to"], request["to"], request["status"]) == (f"{BLOCK}***", f"{BLOCK}***", 201)


async def test_who_dies_between_reserve_and_commit_gives_everything_back_within_the_lease() -> None:
    """The next who asks finds the room."""
    async with world(**guarded()) as one:
        guard, policy = one.service.guard, config.policy("shop", one.service.config)
        for number in numbers(4):
            ask = Ask.of(policy, phone.parse(number), "sms", Signals(ip="192.0.2.1"), guard.prices)
            assert not (await guard.hear(ask)).refused
        await refused(one, f"{BLOCK}999")
        await one.travel(LEASE_MS / 1000)
        await fill(one, 4, signals={"ip": "192.0.2.1"})
        await refused(one, f"{BLOCK}999")


async def test_a_refused_request_leaves_the_buckets_as_they_were() -> None:
    """Of the address too, which had room."""
    async with world(**guarded()) as one:
        with time_machine.travel(datetime.now(UTC), tick=False):
            await fill(one, 4, signals={"ip": "192.0.2.1"})
            before = await held(one)
            await refused(one, f"{BLOCK}999", signals={"ip": "192.0.2.1"})
            assert await held(one) == before


async def held(one: World) -> list[dict[str, Any]]:
    """What the guard shows of a number's surroundings."""
    headers = {"authorization": f"Bearer {GUARD_KEY}"}
    found: list[dict[str, Any]] = (await one.api.get(f"/numbers/{BLOCK}999", headers=headers)).json()["guard"][
        "buckets"
    ]
    return found


async def test_prefixes_that_have_room_again_leave_the_metric() -> None:
    """When it is scraped."""
    async with world(**guarded()) as one:
        await fill(one)
        await refused(one, f"{BLOCK}999")
        assert one.metric("otp_guard_blocked_prefixes", country="GB") == 1
        await one.travel(4 * 3600 + 1)
        assert (await one.ops.get("/metrics")).status_code == 200
        assert one.metric("otp_guard_blocked_prefixes", country="GB") == 0


async def test_who_asks_again_weighs_little() -> None:
    """A person who got nothing is not another one: by default, within an hour, to block, address and device."""
    async with world(**guarded(rules={"cap": {"block3": 2.5}}), resend_after=["0s"]) as one:
        signals = {"ip": "192.0.2.1", "device_id": "d"}
        for _ in range(4):
            answer = await one.post("/verifications", {"to": f"{BLOCK}900", "signals": signals})
            assert answer.status_code in {200, 201}
        block3 = next(one for one in await held(one) if one["level"] == "block3")
        assert block3["exposure"] == pytest.approx(1.75, abs=0.01)
        await refused(one, f"{BLOCK}901", signals=signals)


async def test_trust_ripens_for_a_day() -> None:
    """Before that a number that used its code is refused with its neighbours."""
    async with world(**guarded(rules=PLAIN | {"ripe": "24h"})) as one:
        found = await one.create(f"{BLOCK}900", code="123456")
        assert (await one.check(found["id"], "123456"))["valid"]
        await fill(one, 4)
        await refused(one, f"{BLOCK}900")
        await one.travel(24 * 3600)
        await fill(one, 4)
        await refused(one, f"{BLOCK}999")
        assert (await one.post("/verifications", {"to": f"{BLOCK}900"})).status_code == 201


async def test_an_office_stands_for_its_staff() -> None:
    """From five used codes on its address lets three times as many through, and each lets one more be at home."""
    async with world(**guarded()) as one:
        await enrol(one, [f"+44740012{n}900" for n in range(4, 10)])
        await fill(one, 4)
        await refused(one, f"{BLOCK}999")
        for n in range(2):
            answer = await one.post("/verifications", {"to": f"{BLOCK}99{n}", "signals": OFFICE})
            assert answer.status_code == 201, answer.text
        block3 = next(one for one in await held(one) if one["level"] == "block3")
        assert (round(block3["exposure"]), round(block3["recent"])) == (6, 2)


async def test_an_address_stands_for_nobody_but_the_neighbours_of_its_last() -> None:
    """Whatever it used in that country before: who shares a carrier's address inherits nothing."""
    async with world(**guarded()) as one:
        await enrol(one, [f"+44740012{n}900" for n in range(4, 10)])
        await enrol(one, ["+447911123900"])
        await fill(one, 4)
        await refused(one, f"{BLOCK}999", signals=OFFICE)


async def test_an_office_stands_for_no_more_than_so_many() -> None:
    """In ten thousand numbers, whatever the address: the next one is told what anybody would be."""
    async with world(**guarded(rules=PLAIN | {"vouching_sends": 11})) as one:
        await enrol(one, [f"+44740012{n}900" for n in range(4, 10)])
        await fill(one, 4)
        answer = await one.post("/verifications", {"to": f"{BLOCK}990", "signals": OFFICE})
        assert answer.status_code == 201, answer.text
        await refused(one, f"{BLOCK}991", signals=OFFICE)


OFFICE = {"ip": "192.0.2.1"}


async def enrol(one: World, staff: list[str]) -> None:
    """Numbers whose codes are used in the office."""
    for number in staff:
        found = (await one.post("/verifications", {"to": number, "code": "123456", "signals": OFFICE})).json()
        assert (await one.check(found["id"], "123456"))["valid"]
