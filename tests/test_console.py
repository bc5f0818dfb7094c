"""The console as it is asked over HTTP: who sees which page, who may act, what pages say."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from service import recent
from service.api.auth import digest
from service.api.console.looks import POLICY
from service.app import Service
from service.config import check
from service.errors import Unavailable
from service.providers import KINDS
from service.store import connect
from tests.providers.test_simulator import fates, simulated
from tests.world import (
    KEY,
    NEXT_SECRET_KEY,
    NUMBER,
    OTHER_KEY,
    OTHER_NUMBER,
    READ_KEY,
    SECRET_KEY,
    World,
    table,
    world,
)

pytestmark = pytest.mark.anyio

GUARD_KEY = "vk_guard"
KEYS = [
    digest(KEY),
    {"hash": digest(READ_KEY), "scopes": ["read"]},
    {"hash": digest(GUARD_KEY), "scopes": ["read", "guard"]},
]
PAGES = ["/console/inbox", "/console/live", "/console/guard", "/console/providers"]
INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=)|javascript:|(?:src|href)=.http")
HERE = {"sec-fetch-site": "same-origin"}


def basic(key: str, name: str = "ada") -> dict[str, str]:
    """Credentials as a browser sends them."""
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()}


def phone(**settings: Any) -> dict[str, Any]:
    """The changes to a world with a simulator, whose application has keys of every scope."""
    return {"api_keys": KEYS, **simulated(**settings)}


def demo(**settings: Any) -> dict[str, Any]:
    """The changes to a world of two applications with simulators only."""
    steps = [{"channel": "sms", "providers": ["phone"], "wait": "20s"}]
    applications = {
        "shop": {"brand": "Shop", "api_keys": KEYS, "cascade": steps},
        "other": {"brand": "Other", "api_keys": [digest(OTHER_KEY)], "cascade": steps},
    }
    providers = {"phone": {"kind": "simulator", "open": True, **settings}}
    return {"_top": {"providers": providers, "applications": applications}}


async def look(one: World, path: str, key: str | None = READ_KEY) -> str:
    """A page that must be shown."""
    answer = await one.ops.get(path, headers={} if key is None else basic(key))
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.text


def token(page: str) -> str:
    """What marks the forms of a page."""
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def fail(one: World, marked: str, headers: dict[str, str], receipt: str = "failed") -> httpx.Response:
    """Let the first message of the inbox fail."""
    return await one.ops.post("/console/inbox/1", data={"token": marked, "receipt": receipt}, headers=headers)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_asks_for_a_key_that_may_read_or_guard(path: str) -> None:
    """Under any name; as a bearer too. A key that only verifies belongs to a program, not to a person."""
    async with world(**phone()) as one:
        asked = await one.ops.get(path)
        assert asked.status_code == httpx.codes.UNAUTHORIZED
        assert asked.headers["www-authenticate"] == 'Basic realm="verifyd", charset="UTF-8"'
        assert asked.headers["content-type"] == "text/html; charset=utf-8"
        for given in ("Basic ???", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Digest x", "Bearer vk_x"):
            refused = await one.ops.get(path, headers={"authorization": given})
            assert refused.status_code == httpx.codes.UNAUTHORIZED
        assert (await one.ops.get(path, headers=basic(KEY))).status_code == httpx.codes.FORBIDDEN
        for credentials in (basic(READ_KEY), basic(GUARD_KEY, ""), {"authorization": f"Bearer {READ_KEY}"}):
            assert (await one.ops.get(path, headers=credentials)).status_code == httpx.codes.OK


async def test_probes_and_metrics_stay_open() -> None:
    """A platform has no key."""
    async with world() as one:
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.yaml"):
            assert (await one.ops.get(path)).status_code == httpx.codes.OK


async def test_the_first_page_is_the_inbox_where_there_is_a_simulator() -> None:
    """Else the verifications."""
    async with world(**phone()) as one:
        assert (await one.ops.get("/")).headers["location"] == "/console/inbox"
    async with world() as one:
        assert (await one.ops.get("/")).headers["location"] == "/console/live"
        assert (await one.ops.get("/console/inbox", headers=basic(READ_KEY))).status_code == httpx.codes.NOT_FOUND


async def test_it_can_be_switched_off() -> None:
    """Then there are no pages, and nothing is written for them."""
    server = table()["server"] | {"console": False}
    async with world(_top={"server": server}) as one:
        await one.create()
        assert (await one.ops.get("/")).status_code == httpx.codes.NOT_FOUND
        assert (await one.ops.get("/console/live", headers=basic(READ_KEY))).status_code == httpx.codes.NOT_FOUND
        await one.service.stop()
        assert one.metric("otp_redis_seconds_count", script="recent_note") == 0


async def test_every_answer_shuts_out_what_does_not_come_from_here() -> None:
    """By its headers; and a page has nothing inline that they would shut out with it."""
    async with world(**phone()) as one:
        await one.create()
        for path in [*PAGES, "/console/assets/console.css", "/console/nothing"]:
            answer = await one.ops.get(path, headers=basic(GUARD_KEY))
            if path == "/console/nothing":
                assert answer.headers["content-type"] == "application/problem+json"
                continue
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert ("no-store" in answer.headers["cache-control"]) == (path in PAGES)
            if path in PAGES:
                assert INLINE.search(answer.text) is None


async def test_assets_come_under_an_address_that_changes_with_them() -> None:
    """To everybody, as there is nothing to hide in them; and nothing but them."""
    async with world() as one:
        page = await look(one, "/console/providers")
        found = re.findall(r'(?:href|src)="(/console/assets/[^"]+)"', page)
        assert len(found) == 5
        for path in found:
            assert re.fullmatch(r".*\?[0-9a-f]{12}", path)
            answer = await one.ops.get(path)
            assert answer.status_code == httpx.codes.OK
            assert "immutable" in answer.headers["cache-control"]
        for path in ("README.md", "LICENSE", "..%2Fpages.py", "pages.py"):
            assert (await one.ops.get(f"/console/assets/{path}")).status_code == httpx.codes.NOT_FOUND


async def test_live_shows_the_latest_first_with_what_became_of_each_delivery() -> None:
    """Masked, and with the whole timeline; no code, no whole number."""
    async with world(api_keys=KEYS) as one:
        first = await one.create()
        await one.report(one.gateway.last, "failed", "unreachable")
        await one.travel(1)
        second = await one.create("+447400123457")
        code = one.gateway.last.code
        await one.check(second["id"], code)
        page = await look(one, "/console/live")
        assert page.index(second["id"]) < page.index(first["id"])
        assert "+44******3456" in page
        assert "failed, unreachable" in page
        assert "SMS by gw <strong>failed</strong>: unreachable" in page
        assert '<span class="status good">approved</span>' in page
        assert code not in page
        assert NUMBER[4:] not in page


async def test_live_shows_the_verifications_of_the_application_of_a_key() -> None:
    """By their ids too."""
    async with world(api_keys=KEYS) as one:
        other = (await one.post("/verifications", {"to": OTHER_NUMBER}, key=OTHER_KEY)).json()
        mine = await one.create()
        page = await look(one, "/console/live")
        assert mine["id"] in page
        assert other["id"] not in page
        assert 'class="row"' in await look(one, f"/console/live?id={mine['id']}")
        for name in (other["id"], "ver_x", "<b>"):
            page = await look(one, f"/console/live?id={name}")
            assert "There is no such verification" in page
            assert "<b>" not in page


async def test_live_knows_what_other_replicas_started() -> None:
    """Each tells Redis once a second at most, however much it started; or at once where somebody looks."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, api_keys=KEYS) as one:
        names = [(await one.create(f"+4474001234{n}"))["id"] for n in range(50, 55)]
        await one.service.recent.tell()
        assert one.metric("otp_redis_seconds_count", script="recent_note") == 1
        other = World(Service(one.service.config, client=redis), one.gateway, one.clock)
        page = await look(other, "/console/live")
        assert re.findall(r'class="row" id="(ver_\w+)"', page) == names[::-1]
        assert await redis.lrange("{r:shop}:verifications", 0, -1) == [name.encode() for name in names[::-1]]
        assert 0 < await redis.pttl("{r:shop}:verifications") <= recent.TTL_MS


async def test_what_is_kept_of_the_latest_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, here and in Redis."""
    monkeypatch.setattr(recent, "MOST", 2)
    async with world(api_keys=KEYS) as one:
        names = [(await one.create(f"+4474001234{n}"))["id"] for n in range(50, 53)]
        await one.service.recent.tell()
        names.append((await one.create("+447400123453"))["id"])
        assert await one.service.recent.read(["shop"], "verifications") == [names[:1:-1]]


async def test_without_redis_a_page_says_so() -> None:
    """That of providers still has what this process knows."""
    async with world(api_keys=KEYS) as one:
        await one.create()

        async def away(*_: object) -> None:
            raise Unavailable("away")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.service.store, "rows", away)
            answer = await one.ops.get("/console/live", headers=basic(READ_KEY))
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert "<h1>Redis is away</h1>" in answer.text
            assert "unknown: Redis is away" in await look(one, "/console/providers")


async def test_providers_shows_circuits_and_how_long_receipts_took() -> None:
    """Of each provider on each channel."""
    async with world(api_keys=KEYS) as one:
        await one.create()
        await one.travel(4)
        await one.report(one.gateway.last, "delivered")
        one.gateway.answer = lambda _: httpx.Response(500)
        for n in range(50, 56):
            await one.create(f"+4474001234{n}")
        page = await look(one, "/console/providers")
        row = re.search(r"<th scope=\"row\">gw</th>\s*<td[^>]*><svg.*?</svg>SMS</td>(.*?)</tr>", page, re.DOTALL)
        assert row is not None
        assert "≤ 5 s" in row[1]
        assert "provider error (" in row[1]
        assert re.search(r'<span class="status bad">open</span> <span class="note">tried again in \d s', row[1])
        assert '<tr><th scope="row">5 s</th><td class="n">1</td></tr>' in page
        assert '<tr><th scope="row">2 s</th><td class="n">0</td></tr>' in page


async def test_the_phone_shows_messages_with_their_codes() -> None:
    """Of the application of a key, its number masked; whatever is in a text is text."""
    async with world(brand="<b>Shop</b>", **phone()) as one:
        started = await one.create()
        page = await look(one, "/console/inbox")
        found = re.search(r'&lt;b&gt;Shop&lt;/b&gt;: your sign-in code is <strong class="code">(\d{6})</strong>', page)
        assert found is not None
        assert "<b>" not in page
        assert "to +44******3456" in page
        assert NUMBER[4:] not in page.partition('class="aside"')[0]
        assert (await one.check(started["id"], found[1]))["valid"]


async def test_a_failure_by_hand_moves_the_cascade() -> None:
    """And the log says who it was."""
    async with world(**phone(delay="60s")) as one:
        started = await one.create()
        page = await look(one, "/console/inbox", GUARD_KEY)
        done = await fail(one, token(page), basic(GUARD_KEY) | HERE)
        assert (done.status_code, done.headers["location"]) == (httpx.codes.SEE_OTHER, "/console/inbox")
        await one.work()
        assert [fate[:2] for fate in await fates(one, started["id"])] == [("sms", "failed"), ("whatsapp", "accepted")]
        page = await look(one, "/console/inbox", GUARD_KEY)
        assert page.index("WhatsApp</strong>") < page.index("SMS</strong>")
        assert "fail-1" not in page
        await one.travel(61)


async def test_nothing_is_heard_of_a_message_that_is_let_fall_silent() -> None:
    """It can still be delivered, late, by hand."""
    async with world(**phone(delay="10s")) as one:
        started = await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY))
        await fail(one, marked, basic(GUARD_KEY) | HERE, "none")
        await one.travel(15)
        assert await fates(one, started["id"]) == [("sms", "accepted", None)]
        page = await look(one, "/console/inbox", GUARD_KEY)
        assert "by hand" in page
        assert "silence-1" not in page
        await fail(one, marked, basic(GUARD_KEY) | HERE, "delivered")
        assert await fates(one, started["id"]) == [("sms", "delivered", None)]


async def test_who_may_only_read_cannot_act() -> None:
    """They are shown no buttons, and what they send by themselves is refused."""
    async with world(**phone(delay="60s")) as one:
        started = await one.create()
        page = await look(one, "/console/inbox")
        assert "<button" not in page
        refused = await fail(one, token(await look(one, "/console/inbox", GUARD_KEY)), basic(READ_KEY) | HERE)
        assert refused.status_code == httpx.codes.FORBIDDEN
        assert "scope guard" in refused.text
        assert await fates(one, started["id"]) == [("sms", "accepted", None)]
        await one.travel(61)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"origin": "http://verifyd"}, 303),
        ({}, 303),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://verifyd"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://verifyd:81"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_what_other_sites_make_a_browser_send_is_refused(headers: dict[str, str], status: int) -> None:
    """As the browser tells, a new one or an old one, even if the other site had come by a form's token."""
    async with world(**phone(delay="60s")) as one:
        await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY))
        assert (await fail(one, marked, basic(GUARD_KEY) | headers)).status_code == status
        await one.travel(61)


async def test_a_form_is_good_for_those_that_it_was_made_for() -> None:
    """Not without its token, not under another name, not with another key."""
    second = {"hash": digest("vk_second"), "scopes": ["guard"]}
    async with world(**phone(delay="60s") | {"api_keys": [*KEYS, second]}) as one:
        await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY))
        for given, credentials in (
            ("", basic(GUARD_KEY)),
            ("é", basic(GUARD_KEY)),
            (marked, basic(GUARD_KEY, "eve")),
            (marked, basic("vk_second")),
        ):
            assert (await fail(one, given, credentials | HERE)).status_code == httpx.codes.FORBIDDEN
        assert (await fail(one, marked, basic(GUARD_KEY) | HERE)).status_code == httpx.codes.SEE_OTHER
        await one.travel(61)


async def test_a_form_outlives_a_change_of_the_secret_key() -> None:
    """And is good on every replica."""
    redis = connect("memory://")
    assert isinstance(redis, Redis)
    async with world(client=redis, **phone(delay="60s")) as one:
        await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY))
        changes = phone(delay="60s")
        changes["_top"]["secrets"] = {"keys": [NEXT_SECRET_KEY, SECRET_KEY]}
        later = World(Service(check(table(**changes), KINDS, {}), client=redis), one.gateway, one.clock)
        assert (await fail(later, marked, basic(GUARD_KEY) | HERE)).status_code == httpx.codes.SEE_OTHER
        await one.travel(61)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/console/inbox/1", b"token={token}&receipt=read", 422),
        ("/console/inbox/2", b"token={token}&receipt=failed", 404),
        ("/console/inbox/x", b"token={token}&receipt=failed", 404),
        ("/console/inbox/1", b"\xff", 422),
        ("/console/inbox/1", b"a=1&" * 30, 422),
    ],
)
async def test_a_form_that_makes_no_sense_is_told_so(path: str, body: bytes, status: int) -> None:
    """On a page."""
    async with world(**phone()) as one:
        await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY)).encode()
        answer = await one.ops.post(path, content=body.replace(b"{token}", marked), headers=basic(GUARD_KEY) | HERE)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")


async def test_where_nothing_is_real_no_password_is_needed() -> None:
    """Everybody sees the messages of all applications with whole numbers, and tries what can happen to them."""
    async with world(**demo(delay="60s")) as one:
        await one.post("/verifications", {"to": NUMBER})
        await one.post("/verifications", {"to": OTHER_NUMBER}, key=OTHER_KEY)
        await one.work()
        page = await look(one, "/console/inbox", None)
        assert page.count('<li class="message"') == 2
        assert f"to {NUMBER}" in page
        assert (await look(one, "/console/live", None)).count('class="row"') == 2
        assert (await fail(one, token(page), HERE)).status_code == httpx.codes.SEE_OTHER
        assert (await fail(one, token(page), {"sec-fetch-site": "cross-site"})).status_code == httpx.codes.FORBIDDEN
        # Who signs in all the same sees what is theirs.
        page = await look(one, "/console/inbox")
        assert page.count('<li class="message"') == 1
        await one.travel(61)


async def test_a_message_of_another_application_cannot_be_taken_in_hand() -> None:
    """It is not there for this key."""
    async with world(**demo(delay="60s")) as one:
        await one.post("/verifications", {"to": OTHER_NUMBER}, key=OTHER_KEY)
        await one.work()
        page = await look(one, "/console/inbox", GUARD_KEY)
        assert "No messages yet." in page
        await one.create()
        marked = token(await look(one, "/console/inbox", GUARD_KEY))
        assert (await fail(one, marked, basic(GUARD_KEY) | HERE)).status_code == httpx.codes.NOT_FOUND
        await one.travel(61)


@pytest.mark.parametrize("changes", [phone(open=True), demo(open=False)], ids=["others are real", "not open"])
async def test_otherwise_an_open_simulator_opens_no_page(changes: dict[str, Any]) -> None:
    """Others have real messages, or the simulator is not open to all."""
    async with world(**changes) as one:
        for path in PAGES:
            assert (await one.ops.get(path)).status_code == httpx.codes.UNAUTHORIZED


async def test_the_log_says_who_acted_and_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """A name is no more than a name."""
    async with world(**phone(delay="60s")) as one:
        started = await one.create()
        name = "ada\r\n" + "x" * 100
        page = (await one.ops.get("/console/inbox", headers=basic(GUARD_KEY, name))).text
        with caplog.at_level("DEBUG"):
            await fail(one, token(page), basic(GUARD_KEY, name) | HERE)
        records = [vars(record) for record in caplog.records]
        [said] = [one["fields"] for one in records if one["message"] == "changed by hand"]
        assert said == {
            "application": "shop",
            "change": "receipt.failed",
            "what": f"{started['id']}.0",
            "reason": "",
            "author": "ada" + "x" * 61,
            "until": "",
        }
        assert GUARD_KEY not in str(records)
        assert token(page) not in str(records)
        await one.travel(61)
