"""Replies: STOP shuts a channel for a number, START opens it again, and nothing else changes anything."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from service.api.auth import digest
from tests.providers import test_twilio, test_vonage, test_vonage_sms
from tests.providers.examples import NOW
from tests.test_rotation import rotated
from tests.test_shut import DAY, deliveries, ended, shut
from tests.world import KEY, NEXT_SECRET_KEY, NUMBER, OTHER_NUMBER, PUBLIC_URL, SECRET_KEY, World, table, world

pytestmark = pytest.mark.anyio

SECRET = "a-secret-of-the-address"
INFOBIP = {
    "kind": "infobip",
    "api_url": "https://xxxxx.api.infobip.com",
    "api_key": "key",
    "inbound_secret": SECRET,
    "sms_from": "Shop",
}
PROVIDERS: dict[str, Any] = {"providers": table()["providers"] | {"infobip": INFOBIP}}
YEAR = 365 * DAY


async def post(one: World, results: object, *, secret: str = SECRET, provider: str = "infobip") -> httpx.Response:
    """An inbound webhook of Infobip's."""
    body = json.dumps({"results": results})
    return await one.receipts.post(f"/inbound/{provider}?secret={secret}", content=body)


async def write(one: World, text: str, number: str = NUMBER, **more: object) -> None:
    """Let somebody answer by SMS, or as `more` says."""
    answer = await post(one, [{"from": number.removeprefix("+"), "to": "447860099299", "text": text, **more}])
    assert (answer.status_code, answer.text) == (200, "<Response/>")


async def channels(one: World) -> list[str]:
    """On which channels a new verification goes out at once."""
    one.gateway.sent.clear()
    await ended(one, await one.create())
    return one.gateway.channels


async def test_stop_shuts_the_channel_and_start_opens_it() -> None:
    """The deliveries of what is started in between say why."""
    async with world(_top=PROVIDERS) as one:
        await write(one, "Stop.")
        started = await one.create()
        assert await deliveries(one, started["id"]) == [
            ("sms", None, "rejected", "opted_out"),
            ("whatsapp", "gw", "accepted", None),
        ]
        await ended(one, started)
        await write(one, "START")
        assert await channels(one) == ["sms"]


async def test_each_channel_is_stopped_for_itself() -> None:
    """And each number."""
    async with world(_top=PROVIDERS) as one:
        await write(one, "", integrationType="WHATSAPP", message={"type": "TEXT", "text": "stop"})
        await write(one, "", integrationType="VIBER", message={"type": "TEXT", "text": "stop"})
        await write(one, "STOP", OTHER_NUMBER)
        started = await one.create()
        await one.travel(21)
        assert await deliveries(one, started["id"]) == [
            ("sms", "gw", "unknown", "silence"),
            ("whatsapp", None, "rejected", "opted_out"),
            ("voice", "voice", "accepted", None),
        ]


async def test_an_opt_out_holds_for_five_years() -> None:
    """A failure that is remembered for a day does not shorten it."""
    async with world(_top=PROVIDERS) as one:
        before = await one.create()
        await write(one, "STOP")
        await one.report(one.gateway.last, "failed", "landline")
        await ended(one, before)
        await one.travel(5 * YEAR - DAY)
        assert await channels(one) == ["whatsapp"]
        await one.travel(DAY)
        assert await channels(one) == ["sms"]


async def test_start_opens_what_an_opt_out_had_shut_and_nothing_else() -> None:
    """Whether the person or a provider had told of it; a landline stays one."""
    async with world(_top=PROVIDERS) as one:
        await shut(one, "opted_out", "sms")
        assert await channels(one) == ["whatsapp"]
        await write(one, "START")
        await one.travel(31)
        assert await channels(one) == ["sms"]
        await one.travel(31)
        await shut(one, "landline", "sms")
        await write(one, "START")
        await one.travel(31)
        assert await channels(one) == ["voice"]


@pytest.mark.parametrize("text", ["please stop", "123456", "YES", "", "stop\N{NULL}it"])
async def test_any_other_text_changes_nothing(text: str) -> None:
    """It is counted, and that is all."""
    async with world(_top=PROVIDERS) as one:
        await write(one, text)
        assert await channels(one) == ["sms"]
        assert one.metric("otp_replies_total", provider="infobip", word="other") == 1


@pytest.mark.parametrize("number", ["12345", "Shop", "447", "+44 7400 123456x"])
async def test_what_is_no_number_can_stop_nothing(number: str) -> None:
    """A short code, a name: nothing was ever sent to it."""
    async with world(_top=PROVIDERS) as one:
        await write(one, "STOP", number)
        assert one.metric("otp_replies_total", provider="infobip", word="other") == 1


async def test_words_are_counted_and_logged_but_no_text_and_no_number(caplog: pytest.LogCaptureFixture) -> None:
    """Who stopped is there, masked."""
    caplog.set_level(logging.INFO)
    async with world(_top=PROVIDERS) as one:
        for text in ("STOP", "start", "my code is 730164, is it not?"):
            await write(one, text)
        for word in ("stop", "start", "other"):
            assert one.metric("otp_replies_total", provider="infobip", word=word) == 1
    told = [record.__dict__["fields"] for record in caplog.records if record.message == "reply"]
    about = {"provider": "infobip", "channel": "sms", "to": "+44******3456"}
    assert told == [about | {"word": "stop"}, about | {"word": "start"}]
    ours = [record for record in caplog.records if record.name.startswith("service.")]
    everything = " ".join(f"{record.message} {record.__dict__.get('fields')}" for record in ours)
    assert [secret for secret in ("730164", NUMBER[1:], SECRET) if secret in everything] == []


async def test_only_the_provider_itself_can_speak_for_people() -> None:
    """Without its secret it is 401, what cannot be read 400, where nobody hears 404; nothing changes."""
    async with world(_top=PROVIDERS) as one:
        stop = [{"from": NUMBER[1:], "text": "STOP"}]
        refused = [
            await post(one, stop, secret="another-secret-of-it"),
            await post(one, stop, secret=""),
            await post(one, None),
            await post(one, [*stop, 7]),
            await post(one, [{"text": "STOP"}]),
            await post(one, stop, provider="gw"),
            await post(one, stop, provider="nobody"),
        ]
        assert [answer.status_code for answer in refused] == [401, 401, 400, 400, 400, 404, 404]
        assert one.metric("otp_receipts_refused_total", provider="infobip", cause="forged") == 2
        assert one.metric("otp_receipts_refused_total", provider="infobip", cause="malformed") == 3
        assert await channels(one) == ["sms"]


async def test_a_provider_without_an_inbound_secret_cannot_be_believed() -> None:
    """An empty secret is no secret."""
    providers = {"providers": table()["providers"] | {"infobip": INFOBIP | {"inbound_secret": None}}}
    async with world(_top=providers) as one:
        assert (await post(one, [{"from": NUMBER[1:], "text": "STOP"}], secret="")).status_code == 401


async def test_test_numbers_are_never_shut() -> None:
    """Nothing is sent to them, so there is nothing to stop."""
    async with world(test_numbers={NUMBER: "424242"}, _top=PROVIDERS) as one:
        await write(one, "STOP")
        started = await one.create()
        assert [(d["channel"], d["status"]) for d in started["deliveries"]] == [("sms", "delivered")]
        assert (await one.check(started["id"], "424242"))["valid"]


async def test_an_opt_out_goes_through_a_rotation_of_keys() -> None:
    """What was said under the old key is known under the new, what was said since under either; START ends both."""
    async with world(_top=PROVIDERS) as old:
        await write(old, "STOP")
        both = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY, **PROVIDERS)
        assert await channels(both) == ["whatsapp"]
        await write(both, "STOP", OTHER_NUMBER)
        new = await rotated(old, NEXT_SECRET_KEY, **PROVIDERS)
        for number in (NUMBER, OTHER_NUMBER):
            await new.travel(31)
            old.gateway.sent.clear()
            await ended(new, await new.create(number))
            assert old.gateway.channels == ["whatsapp"]
        await write(both, "START")
        for one in (old, both, new):
            await one.travel(31)
            assert await channels(one) == ["sms"]


async def test_what_is_over_is_not_carried_to_another_key() -> None:
    """Redis keeps no more than is needed of a number."""
    async with world(_top=PROVIDERS) as old:
        await write(old, "STOP")
        await shut(old, "not_on_channel", "whatsapp")
        await old.travel(DAY)
        await channels(await rotated(old, NEXT_SECRET_KEY, SECRET_KEY, **PROVIDERS))
        client = old.service.store._client  # noqa: SLF001 - the same embedded store, which only this process has
        kept = [set(await client.hkeys(key)) for key in await client.keys("*}:shut:*")]
        assert sorted(kept, key=len) == [{b"sms"}, {b"sms", b"whatsapp"}]


async def test_a_key_that_comes_to_the_ring_hears_what_is_said_before_it_writes() -> None:
    """Behind the first key it only listens; then it is the first, and then alone."""
    async with world(_top=PROVIDERS) as old:
        await write(await rotated(old, SECRET_KEY, NEXT_SECRET_KEY, **PROVIDERS), "STOP")
        assert await channels(await rotated(old, NEXT_SECRET_KEY, **PROVIDERS)) == ["whatsapp"]


def twilio(path: str) -> httpx.Request:
    """STOP to Twilio, in French, as a messaging service with Advanced Opt-Out hands it on."""
    said = {"MessageSid": "SM1", "From": NUMBER, "To": "+15005550006", "Body": "ARRET", "OptOutType": "STOP"}
    webhook = test_twilio.signed(said, url=PUBLIC_URL + path)
    return httpx.Request("POST", path, headers=webhook.headers, content=webhook.body)


def vonage(path: str) -> httpx.Request:
    """STOP to Vonage's Messages API."""
    said = {"channel": "sms", "message_type": "text", "from": NUMBER[1:], "to": "447860099299", "text": "Stop"}
    webhook = test_vonage.signed(json.dumps(said | {"message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"}))
    return httpx.Request("POST", path, headers=webhook.headers, content=webhook.body)


def vonage_sms(path: str) -> httpx.Request:
    """STOP to Vonage's SMS API."""
    said = {"msisdn": NUMBER[1:], "to": "447860099299", "messageId": "0A1", "text": "Stop", "type": "text"}
    form = urlencode(test_vonage_sms.signed(said | {"keyword": "STOP"}))
    return httpx.Request("POST", path, content=form, headers={"content-type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize("vendor", [twilio, vonage, vonage_sms], ids=lambda vendor: vendor.__name__)
async def test_other_vendors_say_it_in_their_own_form(vendor: Any) -> None:
    """Signed as their receipts are; the same from another number is forged."""
    account = {"api_key": "abcd1234", "api_secret": "secret", "sms_from": "Shop"}
    settings: dict[str, Any] = {
        "twilio": test_twilio.SETTINGS,
        "vonage": test_vonage.SETTINGS,
        "vonage_sms": account | {"signature_secret": test_vonage_sms.SECRET},
    }
    kind = vendor.__name__
    providers = {"providers": table()["providers"] | {kind: settings[kind] | {"kind": kind}}}
    async with world(_top=providers) as one:
        one.clock.move_to(NOW)
        request = vendor(f"/inbound/{kind}")
        forged = await one.receipts.post(
            request.url.path,
            headers=request.headers,
            content=request.content.replace(NUMBER[1:].encode(), OTHER_NUMBER[1:].encode()),
        )
        assert forged.status_code == 401
        assert await channels(one) == ["sms"]
        answer = await one.receipts.post(request.url.path, headers=request.headers, content=request.content)
        assert answer.status_code == 200
        await one.travel(31)
        assert await channels(one) == ["whatsapp"]


async def test_who_has_a_number_newer_than_the_plans_is_heeded_too() -> None:
    """A rule by hand let it through, and STOP stops it."""
    number, keys = "+445012345678", [digest(KEY), {"hash": digest("vk_guard"), "scopes": ["guard"]}]
    async with world(_top=PROVIDERS, api_keys=keys) as one:
        rule = {"action": "allow", "reason": "a new range"}
        await one.api.put("/guard/prefixes/+4450", json=rule, headers={"authorization": "Bearer vk_guard"})
        await write(one, "STOP", number)
        started = await one.create(number)
        assert (await deliveries(one, started["id"]))[0] == ("sms", None, "rejected", "opted_out")
