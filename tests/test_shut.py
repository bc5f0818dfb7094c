"""Channels on which a number cannot be reached: what a failure told of its recipient is remembered for a day."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.test_circuit import PAUSE, opened
from tests.test_delivery import story
from tests.test_rotation import rotated
from tests.world import NEXT_SECRET_KEY, NUMBER, OTHER_KEY, OTHER_NUMBER, SECRET_KEY, Sent, World, world

pytestmark = pytest.mark.anyio

DAY = 24 * 3600
NO_LIMITS: dict[str, Any] = {"guard": {"limits": {"number": []}}}


async def deliveries(one: World, name: str) -> list[tuple[str, str | None, str, str | None]]:
    """Channel, provider, status and reason of each delivery of a verification."""
    found = await one.get(name)
    return [(d["channel"], d["provider"], d["status"], d["reason"]) for d in found["deliveries"]]


async def ended(one: World, started: dict[str, Any]) -> None:
    """Cancel a verification, so that the next create starts another."""
    assert (await one.post(f"/verifications/{started['id']}/cancel")).status_code == 200


async def shut(one: World, reason: str, *channels: str) -> None:
    """Let a verification over these channels be refused for a reason; then the gateway takes everything again."""
    one.gateway.refuse(reason)
    await ended(one, await one.create(cascade=list(channels)))
    one.gateway.refuse(reason, "none")
    one.gateway.sent.clear()


async def test_the_next_verification_skips_the_steps_that_a_landline_makes_pointless() -> None:
    """Each is there, rejected without a provider, and the answer to the create says so already."""
    async with world() as one:
        await shut(one, "landline", "sms")
        started = await one.create()
        skipped = [("sms", None, "rejected", "landline"), ("whatsapp", None, "rejected", "landline")]
        assert [(d["channel"], d["provider"], d["status"], d["reason"]) for d in started["deliveries"]] == [
            *skipped,
            ("voice", None, "queued", None),
        ]
        assert await deliveries(one, started["id"]) == [*skipped, ("voice", "voice", "accepted", None)]
        assert one.gateway.channels == ["voice"]
        assert await story(one, started["id"]) == [
            ("verification.created", None, None),
            ("delivery.queued", 0, "start"),
            ("delivery.rejected", 0, "landline"),
            ("delivery.queued", 1, "landline"),
            ("delivery.rejected", 1, "landline"),
            ("delivery.queued", 2, "landline"),
            ("delivery.accepted", 2, None),
        ]


async def test_steps_that_were_skipped_are_counted() -> None:
    """As rejections without a provider, and as advances; once, however often the answer is told."""
    async with world() as one:
        await shut(one, "landline", "sms")
        for _ in range(2):
            await one.post("/verifications", {"to": NUMBER}, idempotency_key="k")
        labels = {"country": "GB", "status": "rejected", "reason": "landline"}
        assert one.metric("otp_deliveries_total", provider="-", channel="sms", **labels) == 1
        assert one.metric("otp_deliveries_total", provider="-", channel="whatsapp", **labels) == 1
        assert one.metric("otp_advances_total", from_channel="sms", to_channel="whatsapp", cause="landline") == 1
        assert one.metric("otp_advances_total", from_channel="whatsapp", to_channel="voice", cause="landline") == 1


async def test_where_every_step_is_shut_it_is_undeliverable_at_once() -> None:
    """For whichever application, and nothing is sent; checks are taken as ever."""
    async with world() as one:
        await shut(one, "opted_out", "sms")
        answer = await one.post("/verifications", {"to": NUMBER}, key=OTHER_KEY)
        assert (answer.status_code, answer.json()["status"]) == (201, "undeliverable")
        await one.work()
        assert one.gateway.sent == []
        assert one.metric("otp_verifications_total", application="other", country="GB", result="undeliverable") == 1
        guess = {"to": NUMBER, "code": "000000"}
        assert (await one.post("/verifications/check", guess, key=OTHER_KEY)).json()["checks_remaining"] == 4


@pytest.mark.parametrize("asked", [{"channel": "whatsapp"}, {"cascade": ["whatsapp"]}])
async def test_what_is_asked_for_is_skipped_too(asked: dict[str, Any]) -> None:
    """A create that names the channel gets no message, and the reason."""
    async with world() as one:
        await shut(one, "not_on_channel", "sms", "whatsapp")
        started = await one.create(**asked)
        assert started["status"] == "undeliverable"
        assert await deliveries(one, started["id"]) == [("whatsapp", None, "rejected", "not_on_channel")]
        assert one.gateway.sent == []


async def test_a_receipt_is_remembered_as_a_rejection_is() -> None:
    """Also when it comes after the end of its verification."""
    async with world() as one:
        await one.create()
        sms = one.gateway.last
        await one.travel(21)
        assert one.gateway.last.channel == "whatsapp"
        await one.report(one.gateway.last, "failed", "not_on_channel")
        await one.check(sms.data["delivery"].partition(".")[0], sms.code)
        await one.report(sms, "failed", "opted_out")
        one.gateway.sent.clear()
        await one.travel(31)
        started = await one.create()
        assert await deliveries(one, started["id"]) == [
            ("sms", None, "rejected", "opted_out"),
            ("whatsapp", None, "rejected", "not_on_channel"),
            ("voice", "voice", "accepted", None),
        ]


@pytest.mark.parametrize("leave", ["silence", "rejection", "receipt"])
async def test_a_later_step_is_skipped_when_its_turn_comes(leave: str) -> None:
    """However the step before it is left."""
    async with world(_top=NO_LIMITS) as one:
        await shut(one, "not_on_channel", "whatsapp")
        one.gateway.refuse("carrier_blocked", "sms" if leave == "rejection" else "none")
        started = await one.create()
        if leave == "receipt":
            await one.report(one.gateway.last, "failed", "unreachable")
        await one.travel(21 if leave == "silence" else 0)
        assert one.gateway.channels == ["sms", "voice"]
        assert (await deliveries(one, started["id"]))[1:] == [
            ("whatsapp", None, "rejected", "not_on_channel"),
            ("voice", "voice", "accepted", None),
        ]
        labels = {"country": "GB", "status": "rejected", "reason": "not_on_channel"}
        assert one.metric("otp_deliveries_total", provider="-", channel="whatsapp", **labels) == 1


async def test_a_resend_goes_around_past_what_is_shut() -> None:
    """The next step that is not, or the one asked for; only where there is none it is undeliverable."""
    async with world(_top=NO_LIMITS, sends=9, resend_after=["30s"]) as one:
        await shut(one, "not_on_channel", "whatsapp")
        started = await one.create(cascade=["voice", "whatsapp"])
        for body in ({}, {"channel": "whatsapp"}):
            await one.travel(31)
            answer = await one.post(f"/verifications/{started['id']}/resend", body)
            assert (answer.json()["status"], answer.json()["channel"]) == ("pending", "voice")
            await one.work()
        assert one.gateway.channels == ["voice"] * 3
        assert ("delivery.queued", 2, "not_on_channel") in await story(one, started["id"])
        for sent in one.gateway.sent:
            await one.report(sent, "failed", "opted_out")
        await one.travel(31)
        answer = await one.post(f"/verifications/{started['id']}/resend")
        assert (answer.status_code, answer.json()["status"]) == (200, "undeliverable")
        await one.work()
        assert one.gateway.channels == ["voice"] * 3


async def test_a_join_that_asks_for_other_channels_skips_them_too() -> None:
    """Its plan replaces the old one, which may have had more steps or fewer."""
    async with world(_top=NO_LIMITS) as one:
        await shut(one, "not_on_channel", "sms", "whatsapp")
        started = await one.create(channel="voice")
        await one.travel(31)
        answer = await one.post("/verifications", {"to": NUMBER, "cascade": ["sms", "whatsapp", "voice"]})
        await one.work()
        assert (answer.status_code, answer.json()["id"]) == (200, started["id"])
        assert one.gateway.channels == ["voice", "voice"]


async def test_after_a_day_it_is_tried_again() -> None:
    """Numbers are moved, and people come back."""
    async with world() as one:
        await shut(one, "not_on_channel", "sms")
        await one.travel(DAY - 60)
        await ended(one, await one.create())
        assert one.gateway.channels == ["whatsapp"]
        await one.travel(61)
        await one.create()
        assert one.gateway.channels == ["whatsapp", "sms"]


async def test_what_an_email_address_meets_says_nothing_of_the_number() -> None:
    """Who mistyped the address gets the next code at the right one."""
    steps = [{"channel": "email", "providers": ["gw"]}, {"channel": "sms", "providers": ["gw"]}]
    async with world(cascade=steps, _top=NO_LIMITS) as one:
        one.gateway.refuse("not_on_channel", "email")
        started = await one.create(email="nobody@example.com")
        assert one.gateway.channels == ["email", "sms"]
        await ended(one, started)
        one.gateway.refuse("not_on_channel", "none")
        await one.create(email="somebody@example.com")
        assert one.gateway.channels == ["email", "sms", "email"]


async def test_other_numbers_and_other_reasons_are_not_concerned() -> None:
    """What may pass, and what another provider may not share, says nothing of tomorrow."""
    async with world(_top=NO_LIMITS) as one:
        for reason in ("carrier_blocked", "invalid_number"):
            await shut(one, reason, "sms")
        started = await one.create()
        await one.report(one.gateway.last, "failed", "unreachable")
        await ended(one, started)
        one.gateway.sent.clear()
        await ended(one, await one.create())
        assert one.gateway.channels == ["sms"]
        await shut(one, "landline", "sms")
        await one.create(OTHER_NUMBER)
        assert one.gateway.channels == ["sms"]


async def test_a_step_that_is_shut_between_two_tries_is_left() -> None:
    """Another verification of the number learned it while a provider was given time."""

    def busy(sent: Sent) -> httpx.Response:
        if sent.data["application"] == "other":
            return httpx.Response(422, json={"reason": "opted_out"})
        return httpx.Response(503 if sent.channel == "sms" else 200, json={"message_id": sent.data["delivery"]})

    async with world(_top=NO_LIMITS) as one:
        one.gateway.answer = busy
        started = await one.create()
        await one.post("/verifications", {"to": NUMBER}, key=OTHER_KEY)
        await one.travel(2)
        assert [(sent.channel, sent.data["application"]) for sent in one.gateway.sent] == [
            ("sms", "shop"),
            ("sms", "other"),
            ("whatsapp", "shop"),
        ]
        assert await deliveries(one, started["id"]) == [
            ("sms", "gw", "rejected", "opted_out"),
            ("whatsapp", "gw", "accepted", None),
        ]


async def test_a_step_that_is_shut_during_a_send_does_not_try_its_other_providers() -> None:
    """The send fails; meanwhile a receipt of another verification said that the person opted out."""
    cascade = [
        {"channel": "sms", "providers": ["gw", "voice"], "wait": "20s"},
        {"channel": "whatsapp", "providers": ["gw"], "wait": "20s"},
    ]
    async with world(_top=NO_LIMITS, cascade=cascade) as one:
        await one.post("/verifications", {"to": NUMBER}, key=OTHER_KEY)
        await one.work()
        before = one.gateway.last

        async def slow(sent: Sent) -> httpx.Response:
            if sent.channel == "sms":
                await one.report(before, "failed", "opted_out")
                return httpx.Response(503)
            return httpx.Response(200, json={"message_id": sent.data["delivery"]})

        one.gateway.answer = slow
        started = await one.create()
        assert await deliveries(one, started["id"]) == [
            ("sms", "gw", "rejected", "provider_error"),
            ("whatsapp", "gw", "accepted", None),
        ]


async def test_a_step_with_nobody_to_ask_is_kept_where_all_after_it_are_shut() -> None:
    """Its provider is left alone for a while; to leave the step for none would be worse than to wait."""
    cascade = [
        {"channel": "sms", "providers": ["gw"], "wait": "15m"},
        {"channel": "voice", "providers": ["voice"], "wait": "20s"},
    ]
    async with world(_top=NO_LIMITS, cascade=cascade) as one:
        await shut(one, "opted_out", "voice")
        await opened(one)
        one.gateway.refuse("opted_out", "none")
        started = await one.create()
        assert (await one.get(started["id"]))["status"] == "pending"
        assert one.gateway.sent == []
        for _ in range(20):
            await one.travel(PAUSE / 10)
        assert await deliveries(one, started["id"]) == [("sms", "gw", "accepted", None)]


async def test_what_is_remembered_goes_through_a_rotation_of_keys() -> None:
    """As long as the key that it was written under is in the ring."""
    async with world() as old:
        await shut(old, "not_on_channel", "sms")
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY)
        await ended(new, await new.create())
        assert new.gateway.channels == ["whatsapp"]
        last = await rotated(old, NEXT_SECRET_KEY)
        await last.travel(31)
        await last.create()
        assert new.gateway.channels == ["whatsapp", "whatsapp"]
