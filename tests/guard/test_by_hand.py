"""What is seen of the guard, and what is changed by hand: why somebody got no code, and how he is let in."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from tests.guard.test_guard import BLOCK, GUARD_KEY, PLAIN, ROOMY, fill, guarded, held, refused
from tests.world import KEY, NUMBER, READ_KEY, world

pytestmark = pytest.mark.anyio

NEW = "+445012345678"
"""It has the length of a British number, and none begins like it."""


async def test_a_decision_can_be_looked_up_by_its_application() -> None:
    """With its inputs masked, and no number whole."""
    async with world(**guarded()) as one:
        await fill(one)
        problem = await refused(one, f"{BLOCK}999", signals={"ip": "192.0.2.77", "device_id": "a-device"})
        path = f"/guard/decisions/{problem['decision_id']}"
        answer = await one.api.get(path, headers={"authorization": f"Bearer {READ_KEY}"})
        found = answer.json()
        assert (found["verdict"], found["mode"], found["reasons"]) == ("block", "enforce", problem["reasons"])
        assert found["to"] == f"{BLOCK}***"
        assert "192.0.2.77" not in answer.text
        assert "a-device" not in answer.text
        assert (await one.api.get(path, headers={"authorization": f"Bearer {KEY}"})).status_code == 403
        unknown = await one.api.get("/guard/decisions/dec_0", headers={"authorization": f"Bearer {READ_KEY}"})
        assert unknown.status_code == 404


async def test_prefixes_are_listed_with_what_is_held_against_them() -> None:
    """The blocked ones, the ranges in use, the rules by hand; and they can be asked for by state."""
    async with world(**guarded()) as one:
        await fill(one)
        await refused(one, f"{BLOCK}999")
        assert one.metric("otp_guard_blocked_prefixes", country="GB") == 1
        assert one.metric("otp_saved_total", application="shop", country="GB") == pytest.approx(0.06)
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        body = {"action": "allow", "reason": "our own staff", "author": "ann"}
        assert (await one.api.put("/guard/prefixes/+4479", json=body, headers=headers)).status_code == 200
        listed = (await one.api.get("/guard/prefixes?country=GB", headers=headers)).json()["prefixes"]
        assert {(row["prefix"], row["state"]) for row in listed} == {
            (BLOCK, "blocked"),
            ("+447400", "open"),
            ("+4479", "allowed"),
        }
        (blocked,) = (await one.api.get("/guard/prefixes?country=GB&state=blocked", headers=headers)).json()["prefixes"]
        assert (blocked["level"], round(blocked["exposure"]), blocked["sends"]) == (
            "block3",
            4,
            pytest.approx(4, abs=0.1),
        )
        assert blocked["reason"] == "too many codes for these thousand numbers were never used"
        (ruled,) = (await one.api.get("/guard/prefixes?country=GB&state=allowed", headers=headers)).json()["prefixes"]
        assert (ruled["reason"], ruled["author"]) == ("our own staff", "ann")
        assert datetime.now(UTC) - datetime.fromisoformat(ruled["since"]) < timedelta(minutes=1)
        wrong = await one.api.get("/guard/prefixes?country=XX&state=bad&level=range", headers=headers)
        paths = [error["path"] for error in wrong.json()["errors"]]
        assert paths == ["query.level", "query.country", "query.state"]


async def test_a_prefix_can_be_blocked_allowed_and_released_by_hand() -> None:
    """At any length, on the next request; the longest rule counts, and a rule ends when it was told to."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        body = {"action": "block", "reason": "pumping", "until": until}
        assert (await one.api.put("/guard/prefixes/+4474", json=body, headers=headers)).status_code == 200
        problem = await refused(one, NUMBER)
        assert [(reason["rule"], reason["prefix"]) for reason in problem["reasons"]] == [("denied", "+4474")]
        allow = {"action": "allow", "reason": "ours"}
        await one.api.put("/guard/prefixes/+447400", json=allow, headers=headers)
        await fill(one, 6)
        assert (await one.api.delete("/guard/prefixes/+447400", headers=headers)).status_code == 200
        assert (await one.api.delete("/guard/prefixes/+447400", headers=headers)).status_code == 404
        await one.travel(3601)
        assert [one_["rule"] for one_ in (await refused(one, f"{BLOCK}999"))["reasons"]] == ["block3"]
        release = {"action": "release", "reason": "a mistake"}
        await one.api.put(f"/guard/prefixes/{BLOCK}", json=release, headers=headers)
        assert (await one.post("/verifications", {"to": f"{BLOCK}999"})).status_code == 201


@pytest.mark.parametrize(
    ("until", "fault"),
    [
        (1893456000, "write a time as 2030-01-31T12:00:00Z"),
        ("1893456000", "write a time as 2030-01-31T12:00:00Z"),
        ("2030-01-01", "write a time as 2030-01-31T12:00:00Z"),
        ("2030-01-01T00:00:00", "write a time as 2030-01-31T12:00:00Z"),
        ("2020-01-01T00:00:00Z", "write a time that is still to come"),
    ],
)
async def test_a_rule_by_hand_ends_at_a_time_as_it_is_documented(until: object, fault: str) -> None:
    """Nothing else is taken for one."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        body = {"action": "block", "reason": "x", "until": until}
        answer = await one.api.put("/guard/prefixes/+4474", json=body, headers=headers)
        assert answer.json()["errors"] == [{"path": "until", "message": fault}]


@pytest.mark.parametrize("mode", ["off", "monitor", "enforce"])
async def test_a_number_newer_than_the_plans_passes_where_its_prefix_is_allowed_by_hand(mode: str) -> None:
    """As a mobile one; without the rule it is refused in the same words as ever."""
    async with world(**guarded(mode)) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        before = await one.post("/verifications", {"to": NEW})
        assert (before.status_code, before.json()["code"]) == (422, "invalid_number")
        assert before.json()["detail"] == "`to`: not a valid number of +44"
        allow = {"action": "allow", "reason": "a new range"}
        await one.api.put("/guard/prefixes/+4450123", json=allow, headers=headers)
        answer = await one.post("/verifications", {"to": "050 1234 5678", "country": "GB", "code": "123456"})
        assert (answer.status_code, answer.json()["country"]) == (201, "GB")
        await one.work()
        assert (one.gateway.last.data["to"], one.gateway.channels) == (NEW, ["sms"])
        seen = (await one.api.get(f"/numbers/{NEW}", headers=headers)).json()
        assert (seen["valid"], seen["type"], "sms" in seen["channels"]) == (False, "mobile", True)
        found = await one.post("/verifications/check", {"to": NEW, "code": "123456"})
        assert found.json()["valid"]
        for other in (f"{NEW}99", "+445012245678"):
            assert (await one.post("/verifications", {"to": other})).json()["code"] == "invalid_number"
        await one.api.put("/guard/prefixes/+44501234", json=allow | {"action": "block"}, headers=headers)
        assert (await one.post("/verifications", {"to": NEW})).json()["detail"] == before.json()["detail"]


async def test_a_number_can_be_trusted_or_denied_by_hand() -> None:
    """And who looks at it sees why, by whom, and what the guard would say."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        await fill(one)
        seen = (await one.api.get(f"/numbers/{BLOCK}999", headers=headers)).json()
        assert (seen["country"], seen["type"], seen["guard"]["verdict"]) == ("GB", "mobile", "block")
        trust = {"action": "trust", "reason": "called support", "author": "ann"}
        answer = await one.api.put(f"/guard/numbers/{BLOCK}999", json=trust, headers=headers)
        assert answer.json()["number"] == "+44******3999"
        seen = (await one.api.get(f"/numbers/{BLOCK}999", headers=headers)).json()["guard"]
        assert (seen["verdict"], seen["mark"]) == ("allow", trust)
        assert (await one.post("/verifications", {"to": f"{BLOCK}999"})).status_code == 201
        deny = {"action": "deny", "reason": "a farm"}
        await one.api.put("/guard/numbers/+447911234567", json=deny, headers=headers)
        assert [reason["rule"] for reason in (await refused(one, "+447911234567"))["reasons"]] == ["denied"]
        assert (await one.api.delete("/guard/numbers/+447911234567", headers=headers)).status_code == 200
        assert (await one.post("/verifications", {"to": "+447911234567"})).status_code == 201


@pytest.mark.parametrize("seconds", [0, 601], ids=["number", "unconverted"])
async def test_who_asked_too_often_is_let_in_by_hand(seconds: int, request: pytest.FixtureRequest) -> None:
    """Be it at once, or for an hour without ever using a code: by a create and by a resend, each counted no more."""
    async with world(**guarded(rules=ROOMY), resend_after=["0s"], sends=20, ttl="24h") as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        found = await one.create(NUMBER)
        while (answer := await one.post("/verifications", {"to": NUMBER})).status_code == 200:
            await one.travel(seconds)
        assert [reason["rule"] for reason in answer.json()["reasons"]] == [request.node.callspec.id]
        again = await one.post(f"/verifications/{found['id']}/resend")
        assert (again.status_code, again.json()["limit"]) == (429, "number")
        trust = {"action": "trust", "reason": "called support"}
        await one.api.put(f"/guard/numbers/{NUMBER}", json=trust, headers=headers)
        assert (await one.api.get(f"/numbers/{NUMBER}", headers=headers)).json()["guard"]["verdict"] == "allow"
        for path in ("/verifications", f"/verifications/{found['id']}/resend") * 2:
            body = {"to": NUMBER} if path == "/verifications" else {}
            assert (await one.post(path, body)).status_code == 200
        await one.api.delete(f"/guard/numbers/{NUMBER}", headers=headers)
        await refused(one, NUMBER)


@pytest.mark.parametrize(("caller", "room"), [({"ip": "192.0.2.1"}, 9), ({"device_id": "d"}, 4)])
async def test_whose_address_or_device_is_full_is_let_in_by_hand(caller: dict[str, str], room: int) -> None:
    """It is not charged for that, nor paid back by it: the others there are refused as before."""
    async with world(**guarded(rules=ROOMY)) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        await fill(one, room, signals=caller)
        await refused(one, f"{BLOCK}999", signals=caller)
        trust = {"action": "trust", "reason": "called support"}
        await one.api.put(f"/guard/numbers/{BLOCK}999", json=trust, headers=headers)
        found = await one.create(f"{BLOCK}999", signals=caller, code="123456")
        assert (await one.check(found["id"], "123456"))["valid"]
        await refused(one, f"{BLOCK}998", signals=caller)


async def test_what_the_operator_set_holds_for_those_who_are_trusted_by_hand() -> None:
    """Limits and budgets."""
    limits: dict[str, list[str]] = {"number": ["2/1h"], "ip": ["3/1h"]}
    async with world(**guarded(limits=limits, budget={"country_hour": 0.2}), resend_after=["0s"]) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        for number in (NUMBER, "+447911234567", "+447911234568", "+447911234569"):
            trust = {"action": "trust", "reason": "ours"}
            await one.api.put(f"/guard/numbers/{number}", json=trust, headers=headers)
        answers = []
        for number, ip in (
            *[(NUMBER, "192.0.2.1")] * 3,
            ("+447911234567", "192.0.2.1"),
            ("+447911234568", "192.0.2.1"),
            ("+447911234569", "192.0.2.2"),
        ):
            answers.append(await one.post("/verifications", {"to": number, "signals": {"ip": ip}}))
            await one.work()
        assert [answer.status_code for answer in answers] == [201, 200, 429, 201, 429, 403]
        assert [answer.json()["limit"] for answer in (answers[2], answers[4])] == ["number 2/1h", "ip 3/1h"]
        assert [reason["rule"] for reason in answers[5].json()["reasons"]] == ["budget"]


async def test_a_number_is_described() -> None:
    """What it is, where it belongs, and what a code to it takes: in Arabic two SMS, for a brand this long."""
    async with world(**guarded(), brand="The house of things that nobody needs") as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        found = {}
        for number in ("+447400123456", "+12125552368", "+971501234567"):
            seen = (await one.api.get(f"/numbers/{number}", headers=headers)).json()
            found[seen["country"]] = seen
        named = ("number", "valid", "region", "type", "segments")
        assert [[found[country][name] for name in named] for country in ("GB", "US", "AE")] == [
            ["+44******3456", True, "Europe", "mobile", 1],
            ["+1******2368", True, "America/New_York", "fixed_line_or_mobile", 1],
            ["+971*****4567", True, "Asia/Dubai", "mobile", 2],
        ]


async def test_a_number_that_no_plan_has_is_described_as_such() -> None:
    """Unless it has the wrong length, when there is nothing to describe."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        seen = (await one.api.get(f"/numbers/{NEW}", headers=headers)).json()
        assert (seen["valid"], seen["country"], seen["type"], seen["channels"]) == (False, "GB", "unknown", [])
        answer = await one.api.get(f"/numbers/{NEW}99", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_number")


@pytest.mark.parametrize("prefix", [BLOCK, "+44740012", "+4474", "+44"])
async def test_a_release_opens_all_that_is_blocked_in_a_prefix(prefix: str) -> None:
    """At whatever length it is written; what is wider than it stays as it is."""
    cap = {"block3": 3.0, "block4": 3.0, "range": 3.0, "country": 3.0}
    async with world(**guarded(rules=PLAIN | {"cap": cap})) as one:
        await fill(one, 3)
        before = {reason["rule"] for reason in (await refused(one, f"{BLOCK}999"))["reasons"]}
        assert before == {"block3", "block4", "range", "country"}
        body = {"action": "release", "reason": "a mistake"}
        answer = await one.api.put(
            f"/guard/prefixes/{prefix}", json=body, headers={"authorization": f"Bearer {GUARD_KEY}"}
        )
        assert answer.status_code == 200
        after = await one.post("/verifications", {"to": f"{BLOCK}999"})
        left = {reason["rule"] for reason in after.json().get("reasons", [])}
        wider = {BLOCK: {"block4", "range", "country"}, "+44740012": {"range", "country"}, "+4474": {"country"}}
        assert (after.status_code, left) == (403 if prefix in wider else 201, wider.get(prefix, set()))


async def test_a_release_leaves_what_was_earned() -> None:
    """A range that were as narrow as on its first day would soon be full again."""
    async with world(**guarded(rules=PLAIN | {"cap": {"range": 4.0}})) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        for n in range(6):
            found = await one.create(f"+4474001{n}0900", code="123456")
            assert (await one.check(found["id"], "123456"))["valid"]
        caps = {bucket["level"]: bucket["cap"] for bucket in await held(one)}
        assert caps["range"] > 4.5
        await one.api.put("/guard/prefixes/+447400", json={"action": "release", "reason": "x"}, headers=headers)
        assert {bucket["level"]: bucket["cap"] for bucket in await held(one)} == pytest.approx(caps, abs=0.01)


async def test_who_takes_a_rule_away_and_why_is_recorded() -> None:
    """As who made it; who does not say is the API."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        for path, action in (("/guard/prefixes/+4474", "block"), (f"/guard/numbers/{NUMBER}", "deny")):
            for said in ({"reason": "it is over", "author": "ann"}, {}):
                await one.api.put(path, json={"action": action, "reason": "x"}, headers=headers)
                answer = await one.api.request("DELETE", path, json=said, headers=headers)
                assert answer.status_code == 200, answer.text
                [change, *_] = await one.service.changes.read(1)
                assert change.change.endswith(".unmark")
                assert (change.reason, change.author) == (said.get("reason", ""), said.get("author", "api"))
            wrong = await one.api.request("DELETE", path, json={"until": "2099-01-01T00:00:00Z"}, headers=headers)
            assert [error["path"] for error in wrong.json()["errors"]] == ["until"]


async def test_looking_leaves_no_trace() -> None:
    """However often."""
    async with world(**guarded()) as one:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        for _ in range(9):
            assert (await one.api.get(f"/numbers/{NUMBER}", headers=headers)).json()["guard"]["verdict"] == "allow"
        await fill(one)


async def test_every_change_by_hand_is_in_the_log_and_no_number_is(caplog: pytest.LogCaptureFixture) -> None:
    """Nor in the lines of refusals, which say rule, prefix, exposure and cap."""
    with caplog.at_level(logging.INFO):
        async with world(**guarded()) as one:
            headers = {"authorization": f"Bearer {GUARD_KEY}"}
            deny = {"action": "deny", "reason": "a farm"}
            await one.api.put(f"/guard/numbers/{NUMBER}", json=deny, headers=headers)
            await fill(one)
            await refused(one, f"{BLOCK}999")
    told = [getattr(record, "fields", {}) for record in caplog.records]
    changed, line = [fields for fields in told if fields.keys() & {"change", "decision"}]
    assert (changed["change"], changed["what"]) == ("number.deny", "+44******3456")
    assert (line["rule"], line["prefix"], line["cap"], line["to"]) == ("block3", BLOCK, 4, f"{BLOCK}***")
    assert f"{BLOCK}999" not in json.dumps(line)
