"""Deliveries: the cascade moves on rejection, failed receipt and silence, each step once, with the same code."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from service.errors import ConfigError
from service.schedule import LEASE_MS
from tests.world import OTHER_NUMBER, PUBLIC_URL, Sent, World, world, wrong

pytestmark = pytest.mark.anyio

NO_LIMITS: dict[str, Any] = {"guard": {"limits": {"number": []}}}
TWO_PROVIDERS = [
    {"channel": "sms", "providers": ["gw", "voice"], "wait": "20s"},
    {"channel": "voice", "providers": ["voice"], "wait": "20s"},
]


async def story(one: World, name: str) -> list[tuple[str, int | None, str | None]]:
    """The timeline as (event, delivery, cause)."""
    return [(line["event"], line["n"], line["cause"]) for line in (await one.get(name))["timeline"]]


async def statuses(one: World, name: str) -> list[str]:
    """The statuses of all deliveries."""
    return [delivery["status"] for delivery in (await one.get(name))["deliveries"]]


def down(*hosts: str, status: int = 503, **headers: str) -> Any:
    """A gateway whose `hosts` (all, when none is named) answer with an error."""

    def answer(sent: Sent) -> httpx.Response:
        if not hosts or sent.host in hosts:
            return httpx.Response(status, headers=headers)
        return httpx.Response(200, json={"message_id": sent.data["delivery"]})

    return answer


async def test_the_message_says_all_that_a_gateway_needs() -> None:
    """The contract of the webhook provider."""
    async with world() as one:
        started = await one.create(locale="de-AT", app_hash="FA+9qCX9VSu", webotp_domain="shop.example")
        data = one.gateway.last.data
        assert data["delivery"] == f"{started['id']}.0"
        assert (data["channel"], data["to"], data["locale"]) == ("sms", "+447400123456", "de")
        assert (data["application"], data["purpose"]) == ("shop", "login")
        assert data["expires_at"] == started["expires_at"]
        assert data["receipt_url"].startswith(f"{PUBLIC_URL}/receipts/gw/{started['id']}.0.")
        lines = data["text"].splitlines()
        assert "10 Min" in lines[0]
        assert lines[-2:] == ["FA+9qCX9VSu", f"@shop.example #{data['code']}"]
        accepted = (await one.get(started["id"]))["deliveries"][0]
        assert (accepted["status"], accepted["provider"]) == ("accepted", "gw")


async def test_a_rejection_advances_at_once() -> None:
    """A permanent reason leaves the step without waiting; the timeline says why."""
    async with world() as one:
        one.gateway.refuse("not_on_channel", "sms")
        started = await one.create()
        assert one.gateway.channels == ["sms", "whatsapp"]
        assert one.gateway.sent[0].code == one.gateway.sent[1].code
        assert ("delivery.rejected", 0, "not_on_channel") in await story(one, started["id"])
        assert ("delivery.queued", 1, "not_on_channel") in await story(one, started["id"])
        labels = {"from_channel": "sms", "to_channel": "whatsapp", "cause": "not_on_channel"}
        assert one.metric("otp_advances_total", **labels) == 1


async def test_a_landline_goes_straight_to_voice() -> None:
    """The reason makes every channel but voice pointless."""
    async with world() as one:
        one.gateway.refuse("landline", "sms")
        await one.create()
        assert one.gateway.channels == ["sms", "voice"]


async def test_a_dead_number_ends_the_cascade() -> None:
    """No channel can reach it, so the verification is undeliverable at once."""
    async with world() as one:
        one.gateway.refuse("invalid_number")
        started = await one.create()
        assert one.gateway.channels == ["sms"]
        assert (await one.get(started["id"]))["status"] == "undeliverable"
        assert one.metric("otp_verifications_total", application="shop", country="GB", result="undeliverable") == 1


async def test_when_every_step_is_refused_it_is_undeliverable_and_a_resend_revives_it() -> None:
    """The code stays the same, and a right guess approves."""
    async with world(_top=NO_LIMITS) as one:
        one.gateway.refuse("carrier_blocked")
        started = await one.create()
        assert one.gateway.channels == ["sms", "whatsapp", "voice"]
        assert (await one.get(started["id"]))["status"] == "undeliverable"
        one.gateway.answer = down(status=200)
        await one.travel(31)
        again = await one.post(f"/verifications/{started['id']}/resend")
        await one.work()
        assert (again.status_code, again.json()["status"]) == (200, "pending")
        assert len({sent.code for sent in one.gateway.sent}) == 1
        assert (await one.check(started["id"], one.gateway.last.code))["valid"]


async def test_an_undeliverable_verification_still_takes_the_right_code() -> None:
    """Whoever has the code did get it, whatever the receipts say."""
    async with world() as one:
        one.gateway.refuse("carrier_blocked")
        started = await one.create()
        bad = await one.check(started["id"], wrong(one.gateway.last.code))
        assert (bad["valid"], bad["status"]) == (False, "undeliverable")
        assert (await one.check(started["id"], one.gateway.last.code))["status"] == "approved"


async def test_a_failed_receipt_advances_once_whatever_comes_how_often() -> None:
    """Duplicates, late ones and ones out of order change nothing more."""
    async with world() as one:
        started = await one.create()
        first = one.gateway.last
        for status in ("failed", "failed", "sent", "failed"):
            assert (await one.report(first, status, "unreachable")).status_code == 200
        assert one.gateway.channels == ["sms", "whatsapp"]
        assert await statuses(one, started["id"]) == ["failed", "accepted"]
        await one.report(first, "delivered")
        assert await statuses(one, started["id"]) == ["delivered", "accepted"]
        assert one.gateway.channels == ["sms", "whatsapp"]


async def test_a_delivered_receipt_stops_the_steps_timer() -> None:
    """No further channel; `read` after it moves the delivery on."""
    async with world() as one:
        started = await one.create()
        await one.report(one.gateway.last, "sent")
        await one.report(one.gateway.last, "delivered")
        await one.report(one.gateway.last, "sent")
        await one.report(one.gateway.last, "read")
        await one.travel(120)
        assert one.gateway.channels == ["sms"]
        found = await one.get(started["id"])
        assert found["deliveries"][0]["status"] == "read"
        assert found["deliveries"][0]["delivered_at"] is not None
        assert one.metric("otp_receipt_seconds_count", provider="gw", channel="sms") == 3


async def test_sent_alone_does_not_stop_the_timer() -> None:
    """A carrier's word that it has the message is no delivery."""
    async with world() as one:
        started = await one.create()
        await one.report(one.gateway.last, "sent")
        await one.travel(21)
        assert one.gateway.channels == ["sms", "whatsapp"]
        assert ("delivery.unknown", 0, "silence") in await story(one, started["id"])
        labels = {"provider": "gw", "channel": "sms", "country": "GB", "status": "unknown", "reason": "silence"}
        assert one.metric("otp_deliveries_total", **labels) == 1


async def test_a_receipt_that_knows_nothing_is_as_good_as_none() -> None:
    """`unknown` is recorded, and the step's wait goes on to its end."""
    async with world() as one:
        started = await one.create()
        tag = f"{{v{int(started['id'][4:6], 32)}}}:"
        keys = [tag + started["id"], f"{tag}due"]
        await one.service.store.run("delivery_receipt", keys, ["0", "gw", "unknown", "", "", LEASE_MS, ""])
        assert await statuses(one, started["id"]) == ["unknown"]
        await one.travel(10)
        assert one.gateway.channels == ["sms"]
        await one.travel(11)
        assert one.gateway.channels == ["sms", "whatsapp"]


@pytest.mark.parametrize("early", ["accepted", "sent"])
async def test_a_receipt_before_the_answer_leaves_the_steps_wait_as_it_is(early: str) -> None:
    """The job is due when the wait is over, not when the lease is."""
    steps = [{"channel": channel, "providers": ["gw"], "wait": "5s"} for channel in ("sms", "voice")]
    async with world(cascade=steps) as one:
        started = (await one.post("/verifications", {"to": OTHER_NUMBER})).json()
        tag = f"{{v{int(started['id'][4:6], 32)}}}:"
        keys = [tag + started["id"], f"{tag}due"]
        await one.service.store.run("delivery_begin", keys, [LEASE_MS, started["id"]])
        await one.service.store.run("delivery_receipt", keys, ["0", "gw", early, "", "", LEASE_MS, ""])
        record = ["0", "gw", "accepted", "", "m", "", "wait", "0", "", str(LEASE_MS), ""]
        await one.service.store.run("delivery_record", keys, record)
        await one.travel(6)
        assert one.gateway.channels == ["voice"]


async def test_a_late_failure_of_an_old_step_leaves_the_current_one_alone() -> None:
    """Its step was left in silence, long ago; the message after it may still arrive."""
    async with world() as one:
        started = await one.create()
        await one.travel(21)
        await one.report(one.gateway.sent[0], "failed", "unreachable")
        assert one.gateway.channels == ["sms", "whatsapp"]
        assert await statuses(one, started["id"]) == ["failed", "accepted"]


async def test_a_late_failure_of_an_old_step_can_leave_nothing_that_may_arrive() -> None:
    """Silence left hope for the first step; its failed receipt after all others failed takes it."""
    steps = [
        {"channel": "sms", "providers": ["gw"], "wait": "20s"},
        {"channel": "voice", "providers": ["voice"], "wait": "20s"},
    ]
    async with world(cascade=steps) as one:
        started = await one.create()
        await one.travel(21)
        await one.report(one.gateway.sent[1], "failed", "unreachable")
        assert (await one.get(started["id"]))["status"] == "pending"
        await one.report(one.gateway.sent[0], "failed", "unreachable")
        assert (await one.get(started["id"]))["status"] == "undeliverable"
        await one.report(one.gateway.sent[0], "delivered")
        assert (await one.get(started["id"]))["status"] == "pending"


async def test_a_late_failure_of_an_old_step_does_not_end_the_wait_of_one_whose_provider_knows_nothing() -> None:
    """What the current message's provider reports as `unknown` is no silence: after its wait the next step comes."""
    async with world() as one:
        started = await one.create()
        await one.travel(21)
        tag = f"{{v{int(started['id'][4:6], 32)}}}:"
        keys = [tag + started["id"], f"{tag}due"]
        await one.service.store.run("delivery_receipt", keys, ["1", "gw", "unknown", "", "", LEASE_MS, ""])
        await one.report(one.gateway.sent[0], "failed", "unreachable")
        assert await statuses(one, started["id"]) == ["failed", "unknown"]
        await one.travel(21)
        assert one.gateway.channels == ["sms", "whatsapp", "voice"]


async def test_a_transient_error_tries_the_steps_next_provider_at_once() -> None:
    """It is a new delivery in the same step."""
    async with world(cascade=TWO_PROVIDERS) as one:
        one.gateway.answer = down("gw.example")
        started = await one.create()
        assert [(sent.host, sent.channel) for sent in one.gateway.sent] == [
            ("gw.example", "sms"),
            ("voice.example", "sms"),
        ]
        found = await one.get(started["id"])
        assert [(d["provider"], d["status"]) for d in found["deliveries"]] == [
            ("gw", "rejected"),
            ("voice", "accepted"),
        ]


async def test_a_provider_that_has_the_message_already_has_taken_it() -> None:
    """Its first answer was lost: the step waits for what it reports, and goes on when it says nothing."""
    async with world() as one:
        one.gateway.refuse("duplicate", "sms")
        started = await one.create()
        assert await statuses(one, started["id"]) == ["accepted"]
        await one.report(one.gateway.last, "failed", "duplicate")
        assert one.gateway.channels == ["sms"]
        await one.travel(21)
        assert one.gateway.channels == ["sms", "whatsapp"]
        await one.report(one.gateway.sent[0], "delivered")
        assert await statuses(one, started["id"]) == ["delivered", "accepted"]


async def test_who_refused_for_good_is_not_asked_again_in_its_step() -> None:
    """The other one, who only wants us to slow down, gets the message as soon as it takes it."""
    async with world(cascade=TWO_PROVIDERS) as one:
        answers = iter([httpx.Response(402), httpx.Response(429), httpx.Response(200, json={})])
        one.gateway.answer = lambda _: next(answers)
        started = await one.create()
        await one.travel(2)
        assert [sent.host for sent in one.gateway.sent] == ["gw.example", "voice.example", "voice.example"]
        assert one.gateway.channels == ["sms", "sms", "sms"]
        assert (await one.get(started["id"]))["deliveries"][-1]["status"] == "accepted"


async def test_a_send_takes_no_longer_than_its_step_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that hangs is left when the wait is over, not when the longest time for a send is."""
    monkeypatch.setattr("service.door.LEAST", 0.0)

    async def answer(sent: Sent) -> httpx.Response:
        if (sent.host, sent.channel) == ("voice.example", "sms"):
            await asyncio.Event().wait()
        if sent.host == "gw.example":
            one.clock.shift(19.9)
        return httpx.Response(503 if sent.host == "gw.example" else 200)

    async with world(cascade=TWO_PROVIDERS) as one:
        one.gateway.answer = answer
        async with asyncio.timeout(5):
            started = await one.create()
        assert [(sent.host, sent.channel) for sent in one.gateway.sent] == [
            ("gw.example", "sms"),
            ("voice.example", "sms"),
            ("voice.example", "voice"),
        ]
        assert ("delivery.rejected", 1, "provider_error") in await story(one, started["id"])


async def test_a_message_that_arrived_stops_the_timer_of_its_step_whoever_was_asked_after_it() -> None:
    """Its provider took it without an answer that could be read, so another was asked: the person has the code."""
    async with world(cascade=TWO_PROVIDERS) as one:
        one.gateway.answer = down("gw.example")
        started = await one.create()
        await one.report(one.gateway.sent[0], "delivered")
        assert await statuses(one, started["id"]) == ["delivered", "accepted"]
        await one.travel(21)
        assert one.gateway.channels == ["sms", "sms"]


async def test_a_transient_error_backs_off_inside_the_steps_wait_and_then_advances() -> None:
    """One provider: the same delivery is tried again, ever later, until the wait is over."""
    async with world() as one:
        one.gateway.answer = down("gw.example")
        await one.create()
        assert one.gateway.channels == ["sms"]
        times = 0
        for _ in range(20):
            await one.travel(1)
            times = one.gateway.channels.count("sms")
        assert 4 <= times <= 6
        assert {sent.data["delivery"].partition(".")[2] for sent in one.gateway.sent if sent.channel == "sms"} == {"0"}
        for _ in range(25):
            await one.travel(1)
        assert one.gateway.last.channel == "voice"


async def test_a_provider_that_asks_for_time_gets_it() -> None:
    """`Retry-After` is the least delay; when it is longer than the step's wait, the step is left at once."""
    async with world() as one:
        one.gateway.answer = down("gw.example", status=429, **{"retry-after": "10"})
        await one.create()
        await one.travel(9)
        assert one.gateway.channels == ["sms"]
        await one.travel(2)
        assert one.gateway.channels == ["sms", "sms", "whatsapp"][: len(one.gateway.channels)]
        assert len(one.gateway.sent) >= 2


@pytest.mark.parametrize(
    "broken",
    [
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
        httpx.Response(200, content=b"{not json"),
        httpx.Response(200, content=b"\xff" * 100_000),
        httpx.Response(200, json=[]),
        httpx.Response(422, content=b"nonsense"),
        httpx.Response(422, json={"reason": "a word that nobody knows"}),
        httpx.Response(400),
        httpx.Response(404),
    ],
    ids=lambda response: f"{response.status_code}-{len(response.content)}",
)
async def test_nonsense_from_a_gateway_is_taken_for_something(broken: httpx.Response) -> None:
    """Whatever a gateway answers, the delivery is accepted or rejected, and the cascade goes on."""
    async with world() as one:
        one.gateway.answer = lambda _sent: broken
        started = await one.create()
        await one.travel(21)
        await one.travel(21)
        assert set(await statuses(one, started["id"])) <= {"accepted", "unknown", "rejected"}
        assert one.gateway.channels == ["sms", "whatsapp", "voice"]


async def test_a_gateway_that_cannot_be_reached_is_a_transient_error() -> None:
    """A refused connection is retried like a 503."""
    async with world() as one:

        def unreachable(sent: Sent) -> httpx.Response:
            if len(one.gateway.sent) == 1:
                raise httpx.ConnectError("refused")
            return httpx.Response(200, json={"message_id": sent.data["delivery"]})

        one.gateway.answer = unreachable
        started = await one.create()
        await one.travel(2)
        assert one.gateway.channels == ["sms", "sms"]
        assert await statuses(one, started["id"]) == ["accepted"]


async def test_a_worker_that_dies_while_sending_loses_its_lease_and_nothing_else() -> None:
    """Another worker sends the same delivery again, with the same code, under the same name."""
    async with world() as one:

        class Killed(BaseException):
            """As if the process were gone."""

        def die(_sent: Sent) -> httpx.Response:
            raise Killed

        one.gateway.answer = die
        await one.post("/verifications", {"to": OTHER_NUMBER})
        with pytest.raises(Killed):
            await one.work()
        one.gateway.answer = down(status=200)
        await one.work()
        assert len(one.gateway.sent) == 1
        await one.travel(LEASE_MS / 1000 + 1)
        assert one.gateway.sent[0].data["delivery"] == one.gateway.sent[1].data["delivery"]
        assert one.gateway.sent[0].code == one.gateway.sent[1].code


async def test_a_receipt_before_the_answer_to_the_send_is_taken() -> None:
    """The gateway is faster with its receipt than with its answer."""
    async with world() as one:
        bodies: list[Sent] = []

        def early(sent: Sent) -> httpx.Response:
            bodies.append(sent)
            return httpx.Response(200, json={"message_id": "m"})

        one.gateway.answer = early
        started = (await one.post("/verifications", {"to": OTHER_NUMBER})).json()
        tag = f"{{v{int(started['id'][5], 32)}}}:"
        keys = [tag + started["id"], f"{tag}due"]
        await one.service.store.run("delivery_begin", keys, [LEASE_MS, started["id"]])
        await one.service.store.run("delivery_receipt", keys, ["0", "gw", "delivered", "", "", LEASE_MS, ""])
        record = ["0", "gw", "accepted", "", "m", "", "wait", "0", "", str(LEASE_MS), ""]
        await one.service.store.run("delivery_record", keys, record)
        assert await statuses(one, started["id"]) == ["delivered"]
        await one.travel(100)
        assert bodies == []


async def test_the_cascade_can_depend_on_the_prefix() -> None:
    """The longest prefix that the number begins with decides."""
    by_prefix = {
        "+1": [{"channel": "whatsapp", "providers": ["gw"], "wait": "20s"}],
        "+1201": [{"channel": "voice", "providers": ["voice"], "wait": "20s"}],
    }
    async with world(cascade_by_prefix=by_prefix) as one:
        assert (await one.create("+12015550123"))["cascade"] == ["voice"]
        assert (await one.create("+12125550123"))["cascade"] == ["whatsapp"]
        assert (await one.create())["cascade"] == ["sms", "whatsapp", "voice"]


async def test_a_fixed_line_is_called() -> None:
    """A step that cannot reach the number is left out; with none left the number is refused."""
    async with world() as one:
        assert (await one.create("+442079460018"))["cascade"] == ["voice"]
        refused = await one.post("/verifications", {"to": "+442079460019", "channel": "sms"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_number")


async def test_an_email_goes_to_the_address_in_the_request() -> None:
    """Without one the step is left out; asking for the channel without one is an error of the request."""
    cascade = [{"channel": channel, "providers": ["gw"], "wait": "20s"} for channel in ("email", "sms")]
    async with world(cascade=cascade) as one:
        assert (await one.create())["cascade"] == ["sms"]
        assert (await one.create("+442079460018", email="user@example.com"))["cascade"] == ["email"]
        assert (one.gateway.last.channel, one.gateway.last.data["to"]) == ("email", "user@example.com")
        refused = await one.post("/verifications", {"to": OTHER_NUMBER, "channel": "email"})
        assert refused.json()["errors"] == [{"path": "email", "message": "needed for the channel email"}]
        joined = await one.create(OTHER_NUMBER)
        await one.travel(30)
        await one.post("/verifications", {"to": OTHER_NUMBER, "channel": "email", "email": "user@example.com"})
        await one.work()
        assert (await one.get(joined["id"]))["deliveries"][-1]["reason"] == "request"


async def test_costly_kinds_of_numbers_are_refused_unless_allowed() -> None:
    """Premium rate by default not, with `allow_types` by voice."""
    async with world() as one:
        refused = await one.post("/verifications", {"to": "+449012345678"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_number")
    async with world(allow_types=["premium_rate"]) as one:
        assert (await one.create("+449012345678"))["cascade"] == ["voice"]


async def test_the_order_can_be_asked_for_within_what_the_application_allows() -> None:
    """`channel` stays on one, `cascade` reorders; anything else is forbidden."""
    async with world() as one:
        assert (await one.create(cascade=["voice", "sms"]))["cascade"] == ["voice", "sms"]
        assert (await one.create(OTHER_NUMBER, channel="whatsapp"))["cascade"] == ["whatsapp"]
        answer = await one.api.post(
            "/verifications",
            json={"to": "+447400123458", "channel": "voice"},
            headers={"authorization": "Bearer vk_other"},
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_slow_gateway_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes on top of what one provider may have under way waits, and the others go on."""
    monkeypatch.setattr("service.delivery.MOST_AT_ONCE", 1)
    async with world(_top=NO_LIMITS) as one:
        one.service.deliveries._under_way["gw"] = 1  # noqa: SLF001 - as if a send hung
        started = await one.create()
        assert one.gateway.sent == []
        other = await one.create(OTHER_NUMBER, channel="voice")
        assert (await one.get(other["id"]))["deliveries"][0]["status"] == "accepted"
        one.service.deliveries._under_way["gw"] = 0  # noqa: SLF001 - it is over
        await one.travel(2)
        assert (await one.get(started["id"]))["deliveries"][0]["status"] == "accepted"


async def test_a_defect_of_an_adapter_does_not_send_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is taken for a rejection, so that the cascade goes on."""
    async with world() as one:

        def broken(sent: Sent) -> httpx.Response:
            if sent.channel == "sms":
                raise RuntimeError
            return httpx.Response(200)

        one.gateway.answer = broken
        await one.create()
        await one.travel(LEASE_MS / 1000 + 1)
        assert one.gateway.channels[:2] == ["sms", "whatsapp"]
        assert "a provider's adapter failed" in caplog.text


async def test_a_replica_that_does_not_know_an_application_leaves_its_jobs_to_others() -> None:
    """Nothing is rejected: the lease brings a replica that does."""
    async with world() as one:
        started = await one.post("/verifications", {"to": OTHER_NUMBER}, key="vk_other")
        stranger = one.service.deliveries._applications.pop("other")  # type: ignore[attr-defined]  # noqa: SLF001
        with pytest.raises(ConfigError):
            await one.work()
        one.service.deliveries._applications["other"] = stranger  # type: ignore[index]  # noqa: SLF001
        await one.travel(LEASE_MS / 1000 + 1)
        assert [sent.data["delivery"] for sent in one.gateway.sent] == [f"{started.json()['id']}.0"]
