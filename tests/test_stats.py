"""The numbers of `/stats`: what is counted, for whom, and that all of it adds up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from service import stats
from service.api.auth import digest
from service.errors import Unavailable
from service.stats import Group
from tests.world import KEY, OTHER_KEY, OTHER_NUMBER, READ_KEY, World, table, world

pytestmark = pytest.mark.anyio

GUARD_KEY = "vk_guard"
KEYS = [
    digest(KEY),
    {"hash": digest(READ_KEY), "scopes": ["read"]},
    {"hash": digest(GUARD_KEY), "scopes": ["guard"]},
]
TEST_NUMBER = "+447700900123"
FRENCH = "+33612345678"


def guarded(mode: str = "enforce", **guard: object) -> dict[str, Any]:
    """A world with the guard on."""
    return {"api_keys": KEYS, "_top": {"guard": {"mode": mode, "limits": {"number": []}, **guard}}}


async def asked(one: World, key: str = READ_KEY, **query: str) -> dict[str, Any]:
    """What `/stats` answers."""
    query = {name.rstrip("_"): value for name, value in query.items()}
    answer = await one.api.get("/stats", params=query, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def rows(one: World, group_by: str, **query: str) -> dict[str, dict[str, Any]]:
    """The rows by their group, each without what is nothing in it."""
    found = (await asked(one, group_by=group_by, **query))["rows"]
    return {row.pop("group"): {name: amount for name, amount in row.items() if amount} for row in found}


async def mixed(one: World) -> None:
    """Sends to two countries over two channels: used, unused, refused by the provider, failed, silent, and read."""
    used = await one.create()
    await one.report(one.gateway.last, "sent")
    await one.report(one.gateway.last, "delivered")
    await one.report(one.gateway.last, "read")
    await one.check(used["id"], one.gateway.last.code)
    one.gateway.refuse("unreachable", "sms")
    await one.create("+447911234567")
    await one.report(one.gateway.last, "read")
    await one.report(one.gateway.last, "delivered")
    await one.travel(2 * 3600)
    one.gateway.refuse("unreachable", "nothing")
    await one.create(FRENCH)
    await one.travel(21)
    await one.report(one.gateway.sent[-2], "delivered")


async def test_what_becomes_of_a_send_is_counted_where_it_went() -> None:
    """By country, range, channel and provider: a refused step is an advance, and a message arrives once."""
    async with world() as one:
        await mixed(one)
        by_country = await rows(one, "country")
        prices = one.service.guard.prices
        for country, row in by_country.items():
            assert row.pop("spend") == pytest.approx(prices.price(country) + prices.price(country, "whatsapp"))
        assert by_country == {
            "GB": {"sends": 2, "delivered": 2, "approved": 1, "conversion": 0.5, "advances": 1},
            "FR": {"sends": 2, "delivered": 1, "advances": 1},
        }
        by_prefix = await rows(one, "prefix")
        assert {prefix: row.get("sends") for prefix, row in by_prefix.items()} == {
            "+447400": 1,
            "+447911": 1,
            "+33612": 2,
        }
        by_channel = await rows(one, "channel")
        assert [by_channel["sms"][name] for name in ("sends", "delivered", "approved", "advances")] == [2, 2, 1, 2]
        assert [by_channel["whatsapp"][name] for name in ("sends", "delivered")] == [2, 1]
        assert set(await rows(one, "provider")) == {"gw"}
        assert set(await rows(one, "application")) == {"shop"}


async def test_all_groups_add_up_to_the_same() -> None:
    """Every amount, whatever it is grouped by, and the total with it."""
    async with world(**guarded()) as one:
        await mixed(one)
        for n in range(8):
            await one.post("/verifications", {"to": f"+447400123{n:03}"})
        totals = []
        for by in get_args(Group):
            found = await asked(one, group_by=by)
            for name, amount in found["total"].items():
                if name != "conversion":
                    assert sum(row[name] for row in found["rows"]) == pytest.approx(amount)
            totals.append(found["total"])
        assert totals[0]["blocked"] > 0 < totals[0]["saved"]
        assert all(total == totals[0] for total in totals)


async def test_hours_are_told_in_order_and_cut_by_from_and_to() -> None:
    """In whole hours; what is still to come is nothing."""
    async with world() as one:
        one.clock.move_to(datetime(2026, 11, 20, 10, 30, tzinfo=UTC))
        await one.work()
        await mixed(one)
        hours = await rows(one, "hour")
        assert {hour: row["sends"] for hour, row in hours.items()} == {
            "2026-11-20T10:00:00.000Z": 2,
            "2026-11-20T12:00:00.000Z": 2,
        }
        found = await asked(one, from_="2026-11-20T11:00:00Z", to="2026-11-20T14:30:00+02:00")
        assert (found["from"], found["to"]) == ("2026-11-20T11:00:00.000Z", "2026-11-20T13:00:00.000Z")
        assert [row["group"] for row in found["rows"]] == ["FR"]
        assert (await asked(one, to="2026-11-20T12:00:00Z"))["total"]["sends"] == 2
        nothing = await asked(one, from_="2026-11-20T12:00:00Z", to="2026-11-20T12:00:00Z")
        assert (nothing["rows"], nothing["total"]["sends"], nothing["total"]["conversion"]) == ([], 0, None)


async def test_numbers_are_kept_for_thirty_days() -> None:
    """And gone after a day more."""
    async with world() as one:
        await one.create()
        begin = await asked(one)
        await one.travel(30 * 86400)
        month = {"from_": begin["from"], "to": (datetime.fromisoformat(begin["from"]) + timedelta(days=31)).isoformat()}
        assert (await asked(one, **month))["total"]["sends"] == 1
        await one.travel(2 * 86400)
        assert (await asked(one, **month))["total"]["sends"] == 0


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"group_by": "number"}, "query.group_by"),
        ({"groupby": "prefix"}, "query.groupby"),
        ({"from": "yesterday"}, "query.from"),
        ({"to": "2026-01-01"}, "query.to"),
        ({"to": "2026-13-01T00:00:00Z"}, "query.to"),
        ({"to": "9999-12-31T23:59:59Z"}, "query.to"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "query.from"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "query.from"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:01Z"}, "query.from"),
    ],
)
async def test_an_error_names_the_field(query: dict[str, str], path: str) -> None:
    """With what to write."""
    async with world() as one:
        answer = await one.api.get("/stats", params=query, headers={"authorization": f"Bearer {READ_KEY}"})
        assert answer.status_code == 422
        assert [error["path"] for error in answer.json()["errors"]] == [path]


async def test_a_key_sees_the_numbers_of_its_own_application() -> None:
    """With the scope `read` or `guard`."""
    keys = [digest(OTHER_KEY), {"hash": digest("vk_their"), "scopes": ["read"]}]
    other = {"brand": "Other", "api_keys": keys, "cascade": table()["applications"]["other"]["cascade"]}
    shop = table()["applications"]["shop"] | {"api_keys": KEYS}
    async with world(_top={"applications": {"shop": shop, "other": other}}) as one:
        await one.create()
        for number in (OTHER_NUMBER, FRENCH):
            await one.post("/verifications", {"to": number}, key=OTHER_KEY)
        await one.work()
        for key, application, sends in ((READ_KEY, "shop", 1), (GUARD_KEY, "shop", 1), ("vk_their", "other", 2)):
            found = await asked(one, key, group_by="application")
            assert [(row["group"], row["sends"]) for row in found["rows"]] == [(application, sends)]
        refused = await one.api.get("/stats", headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert refused.status_code == 403


async def test_test_numbers_are_not_counted() -> None:
    """They cost nothing and prove nothing."""
    async with world(test_numbers={TEST_NUMBER: "424242"}) as one:
        started = (await one.post("/verifications", {"to": TEST_NUMBER})).json()
        assert (await one.check(started["id"], "424242"))["valid"]
        assert (await asked(one))["rows"] == []


async def test_a_refused_send_is_blocked_or_challenged_and_saves_its_price() -> None:
    """It has reached no provider."""
    async with world(**guarded(challenge=True)) as one:
        for n in range(6):
            await one.post("/verifications", {"to": f"+447400123{n:03}"})
        proven = {"signals": {"challenge_passed": True}}
        answers = [await one.post("/verifications", {"to": f"+4474001239{n:02}", **proven}) for n in range(12)]
        refused = [answer.json()["code"] for answer in answers if answer.status_code != 201]
        total = (await asked(one))["total"]
        labels = {"application": "shop", "country": "GB", "verdict": "challenge", "rule": "block3"}
        asked_for = int(one.metric("otp_guard_verdicts_total", **labels))
        assert (total["challenged"], total["blocked"]) == (asked_for, len(refused))
        assert asked_for > 0 < len(refused)
        price = one.service.guard.prices.price("GB")
        assert total["saved"] == pytest.approx((asked_for + len(refused)) * price)
        by_provider = await rows(one, "provider")
        assert "sends" not in by_provider["-"]


async def test_in_monitor_mode_blocked_is_what_would_have_been_and_nothing_is_saved() -> None:
    """Each of those was sent and paid for."""
    async with world(**guarded("monitor")) as one:
        for n in range(6):
            await one.create(f"+447400123{n:03}")
        total = (await asked(one))["total"]
        assert total["blocked"] > 0
        assert (total["sends"], total["saved"]) == (6, 0)


async def test_feedback_counts_as_an_approval() -> None:
    """Where the caller checks the codes."""
    async with world(own_code=True) as one:
        found = await one.create(code="123456")
        await one.post(f"/verifications/{found['id']}/feedback", {"converted": True})
        await one.post(f"/verifications/{found['id']}/feedback", {"converted": True})
        assert (await asked(one))["total"]["approved"] == 1


async def test_an_answer_that_is_told_again_is_not_counted_again() -> None:
    """A repeated check is one approval."""
    async with world() as one:
        found = await one.create()
        guess = {"id": found["id"], "code": one.gateway.last.code}
        for _ in range(2):
            await one.post("/verifications/check", guess, idempotency_key="a")
        assert (await asked(one))["total"]["approved"] == 1


async def test_of_too_many_prefixes_the_rest_is_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an hour, and in an answer; the total has them all."""
    monkeypatch.setattr(stats, "MOST_VALUES", 1)
    monkeypatch.setattr(stats, "PARTS", 2)
    async with world() as one:
        for n in range(12):
            await one.create(f"+4474{n:02}123456")
        found = await asked(one, group_by="prefix")
        assert len(found["rows"]) == 3
        assert (found["rows"][-1]["group"], found["rows"][-1]["sends"]) == ("other", 10)
        monkeypatch.setattr(stats, "MOST_ROWS", 2)
        found = await asked(one, group_by="prefix")
        assert [(row["group"], row["sends"]) for row in found["rows"][1:]] == [("other", 11)]
        assert found["total"]["sends"] == 12


async def test_what_redis_did_not_take_is_taken_there_when_it_is_back() -> None:
    """No request fails for it, and nothing is counted twice."""
    async with world() as one:
        await one.create()

        async def away(*_: object) -> None:
            raise Unavailable("away")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.service.store, "run", away)
            with pytest.raises(Unavailable):
                await one.service.stats.flush()
        assert (await asked(one))["total"]["sends"] == 1
        assert (await asked(one))["total"]["sends"] == 1
