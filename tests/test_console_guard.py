"""The console's page of the guard: what it shows, and what is done there by hand."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.test_console import GUARD_KEY, HERE, KEYS, basic, demo, look, token
from tests.world import (
    NUMBER,
    OTHER_NUMBER,
    READ_KEY,
    World,
    world,
)

pytestmark = pytest.mark.anyio


def guarded(mode: str = "enforce") -> dict[str, Any]:
    """The changes to a world with the guard on, and with keys of every scope."""
    return {"api_keys": KEYS, "own_code": True, "_top": {"guard": {"mode": mode, "limits": {"number": []}}}}


async def fill(one: World) -> str:
    """Send codes into a block until one is refused; the decision."""
    for n in range(20):
        answer = await one.post("/verifications", {"to": f"+4474001235{n:02}"})
        if answer.status_code == httpx.codes.FORBIDDEN:
            return str(answer.json()["decision_id"])
    raise AssertionError("nothing was refused")


async def send(one: World, path: str, key: str = GUARD_KEY, name: str = "ada", **fields: str) -> httpx.Response:
    """Send a form of the page *Guard*."""
    page = (await one.ops.get("/console/guard", headers=basic(GUARD_KEY, name))).text
    sent = {"token": token(page), "lasts": "", **fields}
    return await one.ops.post(f"/console/guard{path}", data=sent, headers=basic(key, name) | HERE)


async def test_guard_shows_countries_with_what_they_cost_and_why_they_are_blocked() -> None:
    """Prefixes too, the worst first; with every number behind a prefix hidden."""
    async with world(**guarded()) as one:
        assert "No send in the last day." in await look(one, "/console/guard")
        await fill(one)
        await one.work()
        sends = len(one.gateway.sent)
        page = await look(one, "/console/guard")
        row = re.search(r'href="/console/guard/countries/GB">GB</a>(.*?)</tr>', page, re.DOTALL)
        assert row is not None
        price = one.service.guard.prices.price("GB")
        cells = re.findall(r'<td class="n">([^<]*)</td>', row[1])
        assert cells[1:3] == [str(sends), "0 %"]
        assert cells[3:6] == ["1", f"{sends * price:.2f}", f"{price:.2f}"]
        country = await look(one, "/console/guard/countries/GB")
        states = re.findall(r'<code>(\+\d+)</code></th>\s*<td><span class="status \w+">(\w+)<', country)
        assert ("+447400123", "blocked") in states
        assert states[-1] == ("+447400", "open")
        assert [state for _, state in states] == sorted(state for _, state in states)
        assert "too many codes for it were never used" in country
        assert (await one.ops.get("/console/guard/countries/XX", headers=basic(READ_KEY))).status_code == 404


async def test_every_decision_is_explained() -> None:
    """In the list, and by its id; to the application that it was about."""
    async with world(**guarded()) as one:
        name = await fill(one)
        page = await look(one, "/console/guard")
        assert f'id="{name}"' in page
        assert "too many codes for these thousand numbers were never used" in page
        page = await look(one, f"/console/guard/decisions?id={name}")
        assert "+447400123***" in page
        assert "room again in" in page
        for other in ("dec_x", ""):
            answer = await one.ops.get(f"/console/guard/decisions?id={other}", headers=basic(READ_KEY))
            assert answer.status_code == httpx.codes.NOT_FOUND


async def test_what_would_be_refused_is_shown_where_the_guard_only_watches() -> None:
    """So that one sees what would come of switching it on."""
    async with world(**guarded("monitor")) as one:
        for n in range(6):
            await one.create(f"+4474001235{n:02}")
        page = await look(one, "/console/guard")
        assert "only watches" in page
        assert "only watched" in page


async def test_what_a_limit_refused_did_not_go_out() -> None:
    """Limits hold where the guard only watches."""
    guard = {"mode": "monitor", "limits": {"number": [], "country": ["1/1h"]}}
    async with world(**guarded() | {"_top": {"guard": guard}}) as one:
        await one.create()
        assert (await one.post("/verifications", {"to": OTHER_NUMBER})).status_code == httpx.codes.TOO_MANY_REQUESTS
        page = await look(one, "/console/guard")
        assert "Everything that was known" in page
        assert "only watched" not in page
        name = re.search(r'id="(dec_[0-9a-f]+)"', page)
        assert name is not None
        assert "only watched" not in await look(one, f"/console/guard/decisions?id={name[1]}")


@pytest.mark.parametrize(
    ("action", "state"), [("block", "denied"), ("allow", "allowed"), ("release", None), ("forget", None)]
)
async def test_a_prefix_is_ruled_over_by_hand(action: str, state: str | None) -> None:
    """At once, for as long as was said; and who did what, why and when stands in the record and in the log."""
    async with world(**guarded()) as one:
        await fill(one)
        if action == "forget":
            await send(one, "/prefixes/rules", action="block", prefix="+447400123", reason="a farm")
        sent = {"prefix": "+447400123", "reason": "ticket 4711", "lasts": "86400"}
        done = await send(one, "/prefixes/rules", action=action, **sent)
        assert done.status_code == httpx.codes.SEE_OTHER, done.text
        page = await look(one, done.headers["location"])
        assert ("ticket 4711" in page) == (state is not None)
        assert state is None or f">{state}</span>" in page
        blocked = re.search(r'<code>\+447400123</code></th>\s*<td><span class="status bad">blocked', page)
        assert (blocked is None) == (action == "release")
        answer = await one.post("/verifications", {"to": "+447400123590"})
        assert (answer.status_code == httpx.codes.CREATED) == (action == "allow")
        [change, *_] = await one.service.changes.read(10)
        assert (change.application, change.author, change.what) == ("shop", "ada", "+447400123")
        assert change.reason == "ticket 4711"
        assert change.change == ("prefix.unmark" if action == "forget" else f"prefix.{action}")
        assert bool(change.until) == (action != "forget")
        page = await look(one, "/console/guard")
        assert f"<strong>{change.change.replace('.', ' ')}</strong> <code>+447400123</code>" in page


async def test_a_number_is_trusted_or_denied_by_hand() -> None:
    """And looked up, without ever standing in an address, in a log or whole on a page."""
    async with world(**guarded()) as one:
        await fill(one)
        number = "+447400123590"
        assert (await one.post("/verifications", {"to": number})).status_code == httpx.codes.FORBIDDEN
        done = await send(one, "/numbers/marks", action="trust", number=number, reason="the CEO")
        assert done.status_code == httpx.codes.SEE_OTHER, done.text
        assert (await one.post("/verifications", {"to": number})).status_code == httpx.codes.CREATED
        found = await one.ops.post("/console/guard/numbers", data={"number": number}, headers=basic(READ_KEY))
        assert "trust: the CEO" in found.text
        assert "+44******3590" in found.text
        assert number not in found.text
        assert (await send(one, "/numbers/marks", action="deny", number=number, reason="no")).status_code == 303
        forgotten = {"action": "forget", "number": number}
        assert (await send(one, "/numbers/marks", **forgotten)).status_code == 422
        assert (await send(one, "/numbers/marks", **forgotten, reason="a mistake")).status_code == 303
        assert (await send(one, "/numbers/marks", **forgotten, reason="a mistake")).status_code == 404
        page = await look(one, "/console/guard")
        assert [f"number {word}" in page for word in ("trust", "deny", "unmark")] == [True] * 3
        assert "a mistake" in page
        assert number not in page


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/prefixes/rules", {"action": "block", "prefix": "+4474", "reason": ""}, 422),
        ("/prefixes/rules", {"action": "burn", "prefix": "+4474", "reason": "x"}, 422),
        ("/prefixes/rules", {"action": "block", "prefix": "44x", "reason": "x"}, 422),
        ("/prefixes/rules", {"action": "block", "prefix": "+4474", "reason": "x", "lasts": "1"}, 422),
        ("/prefixes/rules", {"action": "forget", "prefix": "+4474"}, 422),
        ("/prefixes/rules", {"action": "forget", "prefix": "+4474", "reason": "x"}, 404),
        ("/numbers/marks", {"action": "trust", "number": "12", "reason": "x"}, 422),
        ("/numbers/marks", {"action": "trust", "number": NUMBER}, 422),
        ("/numbers", {"number": ""}, 422),
    ],
)
async def test_what_cannot_be_done_by_hand_is_told(path: str, fields: dict[str, str], status: int) -> None:
    """By the rules of the API; nothing is changed, and nothing recorded."""
    async with world(**guarded()) as one:
        assert (await send(one, path, **fields)).status_code == status
        assert await one.service.changes.read(10) == []


async def test_only_who_may_guard_and_says_their_name_changes_anything() -> None:
    """From this very page. Where nothing is real a key is needed too."""
    rule = {"action": "block", "prefix": "+4474", "reason": "x"}
    async with world(**guarded()) as one:
        page = await look(one, "/console/guard")
        assert "/console/guard/prefixes/rules" not in page
        assert (await send(one, "/prefixes/rules", key=READ_KEY, **rule)).status_code == httpx.codes.FORBIDDEN
        nameless = await send(one, "/prefixes/rules", name="", **rule)
        assert (nameless.status_code, "sign in with your name" in nameless.text.lower()) == (422, True)
        assert (await send(one, "/prefixes/rules", **rule | {"token": "x"})).status_code == httpx.codes.FORBIDDEN
        assert await one.service.changes.read(10) == []
    async with world(**demo()) as one:
        assert (await one.ops.get("/console/guard")).status_code == httpx.codes.UNAUTHORIZED
        refused = await one.ops.post("/console/guard/prefixes/rules", data=rule, headers=HERE)
        assert refused.status_code == httpx.codes.UNAUTHORIZED
