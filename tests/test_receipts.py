"""Receipts that are not what they seem: forged, malformed, about something else, or too late."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.test_delivery import statuses, story
from tests.world import OTHER_NUMBER, PUBLIC_URL, World, signed, world

pytestmark = pytest.mark.anyio


async def post_receipt(one: World, path: str, body: str, **headers: str) -> httpx.Response:
    """A webhook on the receipts listener."""
    return await one.receipts.post(path, content=body, headers=headers or dict(signed(body)))


def receipt(status: object = "delivered", **data: object) -> str:
    """The body of a receipt."""
    return json.dumps({"type": "delivery.receipt", "data": {"status": status} | data})


async def test_a_forged_receipt_is_refused_and_counted() -> None:
    """Wrong signature, old timestamp, wrong token, another provider's name, another delivery: 401, nothing moves."""
    async with world() as one:
        started = await one.create()
        path = one.gateway.last.data["receipt_url"].removeprefix(PUBLIC_URL)
        other = path.replace(".0.", ".1.")
        body = receipt()
        forged = [
            await post_receipt(one, path, body, **signed(body, secret="whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            await post_receipt(one, path, body, **(dict(signed(body)) | {"webhook-signature": "v1,!, v1"})),
            await post_receipt(one, path, body, x="no signature"),
            await post_receipt(one, path, receipt("failed"), **signed(body)),
            await post_receipt(one, other, body),
            await post_receipt(one, path.replace("/gw/", "/voice/"), body),
            await post_receipt(one, path[:-1] + ("A" if path[-1] != "A" else "B"), body),
            await post_receipt(one, "/receipts/nobody/x", body),
            await post_receipt(one, "/receipts/gw/%00.%F0%9F%98%80.x", body),
        ]
        assert [answer.status_code for answer in forged] == [401] * len(forged)
        assert await statuses(one, started["id"]) == ["accepted"]
        assert one.metric("otp_receipts_refused_total", provider="gw", cause="forged") >= 5
        assert one.metric("otp_receipts_refused_total", provider="unknown", cause="forged") == 1


async def test_a_receipt_for_another_message_changes_nothing() -> None:
    """A genuine receipt, sent again to the address of another delivery, does not speak for it."""
    async with world() as one:
        await one.create()
        first = one.gateway.last
        started = await one.create(OTHER_NUMBER)
        path = one.gateway.last.data["receipt_url"].removeprefix(PUBLIC_URL)
        assert (await post_receipt(one, path, receipt(message_id=first.data["delivery"]))).status_code == 200
        assert await statuses(one, started["id"]) == ["accepted"]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"type": 1, "data": {}}', '{"type": "delivery.receipt"}', receipt(7)]
)
async def test_a_malformed_receipt_is_refused(body: str) -> None:
    """Rightly signed, but not what the contract says: 400."""
    async with world() as one:
        await one.create()
        path = one.gateway.last.data["receipt_url"].removeprefix(PUBLIC_URL)
        assert (await post_receipt(one, path, body)).status_code == 400


async def test_unknown_words_are_unknown() -> None:
    """So are a status and a reason, of which the cascade takes no notice; an unknown type is noise."""
    async with world() as one:
        started = await one.create()
        path = one.gateway.last.data["receipt_url"].removeprefix(PUBLIC_URL)
        for body, status in (
            ('{"type": "account.updated", "data": {}}', "accepted"),
            (receipt("teleported"), "unknown"),
        ):
            assert (await post_receipt(one, path, body)).status_code == 200
            assert await statuses(one, started["id"]) == [status]
        assert one.gateway.channels == ["sms"]
        await one.report(one.gateway.last, "failed", "gremlins")
        assert ("delivery.failed", 0, "unknown") in await story(one, started["id"])


@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
async def test_a_receipt_that_finds_the_time_over_ends_the_verification(status: str) -> None:
    """Nobody has looked since: it is recorded, and nothing is sent any more."""
    cascade = [{"channel": channel, "providers": ["gw"], "wait": "5m"} for channel in ("sms", "voice")]
    async with world(cascade=cascade, ttl="1m") as one:
        started = await one.create()
        one.clock.shift(61)
        assert (await one.report(one.gateway.last, status)).status_code == 200
        found = await one.get(started["id"])
        assert (found["status"], [d["status"] for d in found["deliveries"]]) == ("expired", [status])
        assert [line["event"] for line in found["timeline"]].count("verification.expired") == 1
        assert one.gateway.channels == ["sms"]


async def test_a_receipt_long_after_the_end_is_taken_and_changes_nothing_else() -> None:
    """After approval it is recorded; when the verification is gone, it is still a 200."""
    async with world() as one:
        started = await one.create()
        sent = one.gateway.last
        await one.check(started["id"], sent.code)
        assert (await one.report(sent, "failed", "unreachable")).status_code == 200
        found = await one.get(started["id"])
        assert (found["status"], found["deliveries"][0]["status"]) == ("approved", "failed")
        await one.travel(1300)
        assert (await one.report(sent, "delivered")).status_code == 200
