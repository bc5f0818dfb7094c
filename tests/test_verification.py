"""The life of a verification, through the front door."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.world import (
    KEY,
    NUMBER,
    OTHER_KEY,
    OTHER_NUMBER,
    READ_KEY,
    world,
    wrong,
)

pytestmark = pytest.mark.anyio


def events(found: dict[str, object]) -> list[str]:
    """The names of the events in a timeline."""
    timeline = found["timeline"]
    assert isinstance(timeline, list)
    return [event["event"] for event in timeline]


# A code and its guesses.


async def test_a_new_verification_tells_all_that_its_caller_needs() -> None:
    """The answer of a create is the whole verification, and none of it is the code or the number."""
    async with world() as one:
        answer = await one.post("/verifications", {"to": "+44 7400 123456", "metadata": {"order": "7"}})
        found = answer.json()
        await one.work()
        assert answer.status_code == 201
        assert {key: found[key] for key in ("status", "to", "country", "channel", "purpose", "locale", "metadata")} == {
            "status": "pending",
            "to": "+44******3456",
            "country": "GB",
            "channel": "sms",
            "purpose": "login",
            "locale": "en",
            "metadata": {"order": "7"},
        }
        assert found["cascade"] == ["sms", "whatsapp", "voice"]
        assert (found["checks_remaining"], found["sends_remaining"]) == (5, 4)
        assert [d["status"] for d in found["deliveries"]] == ["queued"]
        assert "timeline" not in found
        assert one.gateway.last.code not in answer.text.replace(found["id"], "")
        assert NUMBER[1:] not in answer.text


async def test_a_right_code_approves_once() -> None:
    """The same code again is not valid any more, whether by id or by number."""
    async with world() as one:
        started = await one.create()
        code = one.gateway.last.code
        approved = await one.check(started["id"], code)
        assert (approved["valid"], approved["status"]) == (True, "approved")
        again = await one.check(started["id"], code)
        assert (again["valid"], again["status"]) == (False, "approved")
        by_number = await one.post("/verifications/check", {"to": NUMBER, "code": code})
        assert (by_number.json()["valid"], by_number.json()["status"]) == (False, "approved")
        assert one.metric("otp_verifications_total", application="shop", country="GB", result="approved") == 1


async def test_a_wrong_guess_costs_one_check() -> None:
    """It says how many are left, and the timeline keeps it."""
    async with world() as one:
        started = await one.create()
        found = await one.check(started["id"], wrong(one.gateway.last.code))
        assert (found["valid"], found["status"], found["checks_remaining"]) == (False, "pending", 4)
        assert "check.wrong" in events(await one.get(started["id"]))


async def test_the_last_wrong_guess_ends_it() -> None:
    """After `checks` wrong guesses even the right code is too late."""
    async with world(checks=3) as one:
        started = await one.create()
        bad = wrong(one.gateway.last.code)
        left = [(await one.check(started["id"], bad))["status"] for _ in range(3)]
        assert left == ["pending", "pending", "max_attempts_reached"]
        late = await one.check(started["id"], one.gateway.last.code)
        assert (late["valid"], late["status"], late["checks_remaining"]) == (False, "max_attempts_reached", 0)


async def test_parallel_guesses_never_exceed_the_checks() -> None:
    """Of many wrong guesses at once exactly `checks` are compared; of many right ones exactly one approves."""
    async with world(checks=3) as one:
        started = await one.create()
        bad = wrong(one.gateway.last.code)
        answers = await asyncio.gather(*[one.check(started["id"], bad) for _ in range(20)])
        assert one.metric("otp_checks_total", application="shop", result="wrong") == 3
        assert not any(answer["valid"] for answer in answers)
        other = await one.create(OTHER_NUMBER)
        answers = await asyncio.gather(*[one.check(other["id"], one.gateway.last.code) for _ in range(20)])
        assert Counter(answer["valid"] for answer in answers) == {True: 1, False: 19}


async def test_a_guess_that_was_never_settled_counts_as_wrong_in_the_end() -> None:
    """A process that dies between taking an attempt and settling it leaves no verification without an end."""
    async with world(checks=1) as one:
        started = await one.create()
        store = one.service.store
        tag = f"{{v{int(started['id'][5], 32)}}}:"
        await store.run("check_spend", [tag + started["id"], f"{tag}due"], ["shop", 20, 10_000, ""])
        at_once = await one.check(started["id"], one.gateway.last.code)
        assert (at_once["valid"], at_once["status"], at_once["checks_remaining"]) == (False, "pending", 0)
        one.clock.shift(11)
        later = await one.check(started["id"], one.gateway.last.code)
        assert (later["valid"], later["status"]) == (False, "max_attempts_reached")


async def test_wrong_guesses_are_capped_per_number_and_day_across_verifications() -> None:
    """Starting anew gives no new guesses once the day's are used; the other number and the next day are free."""
    async with world(wrong_checks_per_day=3, checks=2, _top={"guard": {"limits": {"number": []}}}) as one:
        for expected in ("max_attempts_reached", "pending"):
            started = await one.create()
            bad = wrong(one.gateway.last.code)
            for _ in range(2 if expected == "max_attempts_reached" else 1):
                found = await one.check(started["id"], bad)
            assert found["status"] == expected
        locked = await one.post("/verifications/check", {"id": started["id"], "code": one.gateway.last.code})
        assert locked.status_code == 429
        assert (locked.json()["limit"], int(locked.headers["retry-after"]) > 80_000) == ("wrong_checks", True)
        other = await one.create(OTHER_NUMBER)
        assert (await one.check(other["id"], one.gateway.last.code))["valid"]
        await one.travel(86_401)
        fresh = await one.create()
        assert (await one.check(fresh["id"], one.gateway.last.code))["valid"]


async def test_right_guesses_do_not_use_up_the_wrong_ones() -> None:
    """The daily cap counts wrong guesses only."""
    async with world(wrong_checks_per_day=1, _top={"guard": {"limits": {"number": []}}}) as one:
        for _ in range(3):
            started = await one.create()
            assert (await one.check(started["id"], one.gateway.last.code))["valid"]


async def test_a_check_by_number_finds_the_latest_verification() -> None:
    """National writing with a country names the same number."""
    async with world() as one:
        await one.create()
        body = {"to": "07400 123456", "country": "GB", "code": one.gateway.last.code}
        assert (await one.post("/verifications/check", body)).json()["valid"]


async def test_a_check_of_nothing_is_not_found() -> None:
    """Neither an unknown number nor an unknown or misshapen id is anything but 404."""
    async with world() as one:
        for body in ({"to": NUMBER}, {"id": "ver_00aaaaaaaaaaaaaaaaaaaa"}, {"id": "ver_zz"}, {"id": "x"}, {"id": "}{"}):
            answer = await one.post("/verifications/check", body | {"code": "123456"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_codes_keep_their_length_and_their_leading_zeros() -> None:
    """Every code has the digits that the application asks for."""
    async with world(code_length=4, _top={"guard": {"limits": {"number": []}}}) as one:
        for _ in range(30):
            started = await one.create()
            assert len(one.gateway.last.code) == 4
            await one.post(f"/verifications/{started['id']}/cancel")


# Sending again.


async def test_a_second_create_joins_the_pending_one_with_the_same_code() -> None:
    """It is a resend: 200, the same id and code, the next delivery."""
    async with world() as one:
        started = await one.create()
        early = await one.post("/verifications", {"to": NUMBER})
        assert (early.status_code, early.json()["id"]) == (429, started["id"])
        assert early.json()["limit"] == "resend"
        await one.report(one.gateway.last, "delivered")
        await one.travel(31)
        joined = await one.post("/verifications", {"to": NUMBER})
        await one.work()
        assert (joined.status_code, joined.json()["id"]) == (200, started["id"])
        assert joined.json()["sends_remaining"] == 3
        assert one.gateway.sent[0].code == one.gateway.sent[1].code
        assert one.gateway.channels == ["sms", "whatsapp"]


async def test_a_create_that_joins_may_choose_its_channels_anew() -> None:
    """`channel` stays on its one, `cascade` takes its order, both with the same code."""
    async with world(_top={"guard": {"limits": {"number": []}}}) as one:
        started = await one.create()
        await one.travel(31)
        joined = await one.post("/verifications", {"to": NUMBER, "channel": "voice"})
        await one.work()
        assert (joined.json()["id"], joined.json()["cascade"]) == (started["id"], ["voice"])
        await one.travel(100)
        assert one.gateway.channels == ["sms", "whatsapp", "voice"]
        await one.travel(61)
        joined = await one.post("/verifications", {"to": NUMBER, "cascade": ["whatsapp", "sms"]})
        await one.work()
        await one.travel(21)
        assert one.gateway.channels[3:] == ["whatsapp", "sms"]
        assert len({sent.code for sent in one.gateway.sent}) == 1


async def test_the_pause_between_sends_grows_and_their_number_ends() -> None:
    """Each resend may come later than the one before, until the sends are used."""
    async with world(resend_after=["30s", "60s", "120s"], sends=4, _top={"guard": {"limits": {"number": []}}}) as one:
        started = await one.create()
        for pause in (30, 60, 120):
            await one.report(one.gateway.last, "delivered")
            await one.travel(pause - 1)
            assert (await one.post(f"/verifications/{started['id']}/resend")).status_code == 429
            await one.travel(2)
            assert (await one.post(f"/verifications/{started['id']}/resend")).status_code == 200
            await one.work()
        assert one.gateway.channels == ["sms", "whatsapp", "voice", "sms"]
        await one.travel(121)
        over = await one.post(f"/verifications/{started['id']}/resend")
        assert (over.status_code, over.json()["limit"]) == (429, "sends")


async def test_a_resend_can_name_its_channel_but_only_one_of_the_cascade() -> None:
    """A channel outside the verification's cascade is forbidden."""
    async with world() as one:
        started = await one.create(cascade=["sms", "voice"])
        await one.travel(31)
        forbidden = await one.post(f"/verifications/{started['id']}/resend", {"channel": "whatsapp"})
        assert (forbidden.status_code, forbidden.json()["code"]) == (403, "forbidden")
        again = await one.post(f"/verifications/{started['id']}/resend", {"channel": "sms"})
        await one.work()
        assert (again.status_code, one.gateway.last.channel) == (200, "sms")


async def test_a_number_has_limits_across_verifications() -> None:
    """Cancelling and starting again is free of spacing, but not of the limit."""
    async with world(_top={"guard": {"limits": {"number": ["1/30s", "3/10m"]}}}) as one:
        for _ in range(3):
            started = await one.create()
            await one.post(f"/verifications/{started['id']}/cancel")
        refused = await one.post("/verifications", {"to": NUMBER})
        assert (refused.status_code, refused.json()["limit"]) == (429, "number 3/10m")
        assert 190 <= int(refused.headers["retry-after"]) <= 200
        assert len(one.gateway.sent) == 3
        await one.travel(201)
        await one.create()


async def test_cancel_ends_it_and_another_can_start_at_once() -> None:
    """The canceled one's code is worth nothing any more."""
    async with world() as one:
        first = await one.create()
        old_code = one.gateway.last.code
        canceled = await one.post(f"/verifications/{first['id']}/cancel")
        assert canceled.json()["status"] == "canceled"
        again = await one.post(f"/verifications/{first['id']}/cancel")
        assert (again.status_code, again.json()["code"], again.json()["state"]) == (409, "not_pending", "canceled")
        assert (await one.post(f"/verifications/{first['id']}/resend")).status_code == 409
        second = await one.create()
        assert second["id"] != first["id"]
        late = await one.check(first["id"], old_code)
        assert (late["valid"], late["status"]) == (False, "canceled")
        assert (await one.check(second["id"], one.gateway.last.code))["valid"]


async def test_expiry_is_seen_for_one_more_ttl() -> None:
    """First `expired`, with or without a worker; then nothing."""
    async with world(ttl="60s", cascade=[{"channel": "sms", "providers": ["gw"], "wait": "20s"}]) as one:
        started = await one.create()
        one.clock.shift(61)
        late = await one.check(started["id"], one.gateway.last.code)
        assert (late["valid"], late["status"]) == (False, "expired")
        await one.travel(60)
        assert (await one.api.get(f"/verifications/{started['id']}")).status_code == 404
        assert (await one.post("/verifications", {"to": NUMBER})).status_code == 201


async def test_nothing_is_sent_after_the_end() -> None:
    """Approved, canceled or expired: the cascade stops."""
    async with world() as one:
        approved = await one.create()
        await one.check(approved["id"], one.gateway.last.code)
        canceled = await one.create(OTHER_NUMBER)
        await one.post(f"/verifications/{canceled['id']}/cancel")
        await one.travel(700)
        assert one.gateway.channels == ["sms", "sms"]


# What binds a code.


async def test_a_transaction_is_shown_and_must_be_repeated() -> None:
    """The message names amount and payee; a check with others, or without, is a wrong guess."""
    async with world() as one:
        paid = {"amount": "EUR 199.90", "payee": "Bike Shop"}
        started = await one.create(purpose="transaction", transaction=paid)
        assert all(part in one.gateway.last.data["text"] for part in paid.values())
        code = one.gateway.last.code
        assert not (await one.check(started["id"], code))["valid"]
        assert not (await one.check(started["id"], code, transaction=paid | {"amount": "EUR 999.90"}))["valid"]
        assert (await one.check(started["id"], code, transaction=paid))["valid"]


async def test_another_transaction_replaces_the_pending_one() -> None:
    """A code for one payment never stands for another."""
    async with world(_top={"guard": {"limits": {"number": []}}}) as one:
        first = await one.create(transaction={"amount": "EUR 1.00", "payee": "A"})
        second = await one.create(transaction={"amount": "EUR 2.00", "payee": "A"})
        assert first["id"] != second["id"]
        found = await one.get(first["id"])
        assert (found["status"], found["timeline"][-1]["cause"]) == ("canceled", "replaced")


async def test_the_callers_own_code_needs_permission_and_is_the_one_that_is_sent() -> None:
    """Another own code replaces a pending one: joining would send the old."""
    async with world() as one:
        refused = await one.post("/verifications", {"to": NUMBER, "code": "7777"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    async with world(own_code=True, _top={"guard": {"limits": {"number": []}}}) as one:
        first = await one.create(code="7777")
        assert one.gateway.last.code == "7777"
        second = await one.create(code="8888")
        assert (one.gateway.last.code, first["id"] != second["id"]) == ("8888", True)
        assert (await one.check(second["id"], "8888"))["valid"]


async def test_feedback_approves_only_what_the_caller_checks_himself() -> None:
    """For our own codes it is noted; only a check approves."""
    async with world(own_code=True) as one:
        own = await one.create(code="7777")
        answer = await one.post(f"/verifications/{own['id']}/feedback", {"converted": True})
        assert answer.json()["status"] == "approved"
        ours = await one.create(OTHER_NUMBER)
        for converted in (False, True, True):
            answer = await one.post(f"/verifications/{ours['id']}/feedback", {"converted": converted})
            assert answer.json()["status"] == "pending"
        noted = [event for event in events(await one.get(ours["id"])) if event.startswith("feedback")]
        assert noted == ["feedback.unconverted", "feedback.converted"]


async def test_test_numbers_send_nothing_and_have_no_cooldown() -> None:
    """A fixed code for end-to-end tests, counted apart; the number need not exist."""
    async with world(test_numbers={"+447700900123": "424242"}, wrong_checks_per_day=1) as one:
        for _ in range(7):
            started = await one.post("/verifications", {"to": "+44 7700 900123"})
            assert started.status_code in {200, 201}
        await one.travel(100)
        assert one.gateway.sent == []
        for _ in range(4):
            assert not (await one.check(started.json()["id"], "000000"))["valid"]
        found = await one.check(started.json()["id"], "424242")
        assert (found["valid"], found["deliveries"][0]["provider"]) == (True, "test")
        assert one.metric("otp_verifications_total", application="shop", country="GB", result="test_approved") == 1
        assert one.metric("otp_verifications_total", application="shop", country="GB", result="approved") == 0


# Who may.


async def test_an_application_sees_only_its_own() -> None:
    """Another application's id is not found, and its pending verification is not joined."""
    async with world() as one:
        started = await one.create()
        for path in ("", "/resend", "/cancel", "/feedback"):
            body = {"converted": True} if path == "/feedback" else {}
            method = "GET" if not path else "POST"
            answer = await one.api.request(
                method,
                f"/verifications/{started['id']}{path}",
                json=body,
                headers={"authorization": f"Bearer {OTHER_KEY}"},
            )
            assert answer.status_code == 404
        guess = {"id": started["id"], "code": one.gateway.last.code}
        assert (await one.post("/verifications/check", guess, key=OTHER_KEY)).status_code == 404


async def test_a_key_opens_what_its_scopes_say() -> None:
    """`read` reads; only `verify` acts."""
    async with world() as one:
        started = await one.create()
        headers = {"authorization": f"Bearer {READ_KEY}"}
        assert (await one.api.get(f"/verifications/{started['id']}", headers=headers)).status_code == 200
        answer = await one.post("/verifications", {"to": OTHER_NUMBER}, key=READ_KEY)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_nothing_secret_outlives_the_verification() -> None:
    """Number and code leave Redis at the end, and the due set is empty."""
    async with world() as one:
        started = await one.create(app_hash="FA+9qCX9VSu")
        await one.check(started["id"], one.gateway.last.code)
        client = one.service.store._client  # noqa: SLF001 - what is in Redis is what this is about
        keys = [key async for key in client.scan_iter()]
        hashes = [key for key in keys if b"ver_" in key]
        assert len(hashes) == 1
        fields = await client.hgetall(hashes[0])
        assert {b"secret", b"extra", b"code"}.isdisjoint(fields)
        assert all([await client.pttl(key) > 0 for key in keys])


async def test_every_key_has_an_application() -> None:
    """A key that nobody has, no key and another scheme are all 401."""
    async with world() as one:
        for header in ({"authorization": "Bearer nobody"}, {"authorization": f"Basic {KEY}"}, {"authorization": ""}):
            answer = await one.api.post("/verifications", json={"to": NUMBER}, headers=header)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
