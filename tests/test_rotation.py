"""Changing keys: what was written under the old one is found, read and bound as before."""

from __future__ import annotations

import httpx
import pytest

from service import config
from service.api.auth import digest
from service.app import Service
from service.errors import Unreadable
from service.providers import KINDS
from service.sealing import KeyRing
from tests.guard.test_guard import GUARD_KEY, PLAIN
from tests.world import KEY, NEXT_SECRET_KEY, NUMBER, OTHER_NUMBER, SECRET_KEY, World, table, world, wrong

pytestmark = pytest.mark.anyio


async def rotated(one: World, *keys: str, **top: object) -> World:
    """The same store under another key ring, as a replica after its restart; `top` goes over the configuration."""
    checked = config.check(table(_top={"secrets": {"keys": list(keys)}} | top), KINDS, {})
    client = one.service.store._client  # noqa: SLF001 - the same embedded store, which only this process has
    return World(Service(checked, client=client, transport=httpx.MockTransport(one.gateway)), one.gateway, one.clock)


async def test_a_code_issued_under_the_old_key_still_checks_after_a_rotation() -> None:
    """By id and by number; a create joins it, and its cascade goes on."""
    async with world() as old:
        started = await old.create()
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY)
        await new.travel(31)
        assert new.gateway.channels == ["sms", "whatsapp"]
        joined = await new.post("/verifications", {"to": NUMBER})
        await new.work()
        assert (joined.status_code, joined.json()["id"]) == (200, started["id"])
        bad = await new.post("/verifications/check", {"to": NUMBER, "code": wrong(new.gateway.last.code)})
        assert bad.json()["checks_remaining"] == 4
        good = await new.post("/verifications/check", {"to": NUMBER, "code": new.gateway.last.code})
        assert good.json()["valid"]
        other = await new.create(OTHER_NUMBER)
        assert (await new.check(other["id"], new.gateway.last.code))["valid"]


async def test_a_check_by_number_finds_what_is_alive_under_whichever_key() -> None:
    """An ended verification under the new key does not hide one that is pending under the old."""
    async with world(_top={"guard": {"limits": {"number": []}}}) as old:
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY)
        first = await new.create()
        await new.check(first["id"], new.gateway.last.code)
        second = await old.create()
        answer = await new.post("/verifications/check", {"to": NUMBER, "code": old.gateway.last.code})
        assert (answer.json()["id"], answer.json()["valid"]) == (second["id"], True)


async def test_another_transaction_replaces_the_pending_one_through_a_rotation() -> None:
    """The same one joins it."""
    paid = {"amount": "EUR 1.00", "payee": "A"}
    async with world() as old:
        first = await old.create(transaction=paid)
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY)
        joined = await new.post("/verifications", {"to": NUMBER, "transaction": paid})
        assert (joined.status_code, joined.json()["id"]) == (429, first["id"])
        await new.create(transaction=paid | {"amount": "EUR 2.00"})
        assert (await new.get(first["id"]))["status"] == "canceled"


async def test_idempotent_requests_are_known_again_through_a_rotation() -> None:
    """Under whichever key they came first, and also when their verification has ended meanwhile."""
    async with world() as old:
        first = await old.post("/verifications", {"to": NUMBER}, idempotency_key="k")
        await old.work()
        code = old.gateway.last.code
        guess = {"id": first.json()["id"], "code": wrong(code)}
        wrong_one = await old.post("/verifications/check", guess, idempotency_key="w")
        for keys in ((SECRET_KEY, NEXT_SECRET_KEY), (NEXT_SECRET_KEY, SECRET_KEY)):
            new = await rotated(old, *keys)
            again = await new.post("/verifications", {"to": NUMBER}, idempotency_key="k")
            assert (again.status_code, again.json()) == (201, first.json())
            answer = await new.post("/verifications/check", guess, idempotency_key="w")
            assert answer.json() == wrong_one.json()
            conflict = await new.post("/verifications", {"to": OTHER_NUMBER}, idempotency_key="k")
            assert conflict.status_code == 409
        assert (await new.check(first.json()["id"], code))["valid"]
        again = await new.post("/verifications", {"to": NUMBER}, idempotency_key="k")
        assert (again.status_code, again.json()) == (201, first.json())
        assert len(old.gateway.sent) == 1


async def test_a_dropped_key_is_a_problem_whose_cure_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The caller hears that it is not his fault, the operator what to do."""
    async with world() as old:
        started = await old.create()
        new = await rotated(old, NEXT_SECRET_KEY)
        answer = await new.api.get(f"/verifications/{started['id']}")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        told = [record.__dict__.get("fields", {}).get("error", "") for record in caplog.records]
        assert any("secrets.keys" in error for error in told)


async def test_without_its_key_a_sealed_value_cannot_be_read() -> None:
    """Nor where it does not belong."""
    ring = KeyRing([b"a" * 32])
    sealed = ring.writer.seal(b"secret", b"x")
    with pytest.raises(Unreadable, match=r"secrets\.keys"):
        KeyRing([b"b" * 32]).open(sealed, b"x")
    with pytest.raises(Unreadable, match="altered or moved"):
        ring.open(sealed, b"y")


async def test_a_create_that_is_refused_replaces_nothing_through_a_rotation() -> None:
    """The code that is pending stays good until another one is really on its way."""
    limits = {"guard": {"limits": {"number": ["1/10m"]}}}
    nine, one_euro, two = ({"amount": f"EUR {amount}.00", "payee": "A"} for amount in (9, 1, 2))
    async with world(_top=limits) as old:
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY, **limits)
        await new.create(transaction=nine)
        first = await old.create(transaction=one_euro)
        assert (await new.post("/verifications", {"to": NUMBER, "transaction": two})).status_code == 429
        assert (await old.check(first["id"], old.gateway.last.code, transaction=one_euro))["valid"]


async def test_the_guard_begins_anew_with_numbers_and_addresses_and_goes_on_with_prefixes() -> None:
    """Trust, marks by hand and what an address used up are under the key that wrote them; prefixes are under none."""
    used, fresh, farm, block = "+447400123900", "+447400123901", "+447911234567", "+447400123"
    office, rules = {"ip": "192.0.2.1"}, PLAIN | {"cap": {"block3": 4.0, "block4": 5.0, "ip": 4.0}}
    guard = {"mode": "enforce", "limits": {"number": []}, "rules": rules}
    keys = [digest(KEY), {"hash": digest(GUARD_KEY), "scopes": ["guard"]}]
    async with world(api_keys=keys, _top={"guard": guard}) as old:
        headers = {"authorization": f"Bearer {GUARD_KEY}"}
        await old.api.put(f"/guard/numbers/{farm}", json={"action": "deny", "reason": "a farm"}, headers=headers)
        trusted = await old.create(used)
        assert (await old.check(trusted["id"], old.gateway.last.code))["valid"]
        for n in range(4):
            await old.create(f"{block}00{n}", signals=office)
        new = await rotated(old, NEXT_SECRET_KEY, SECRET_KEY, guard=guard)

        async def answers(one: World) -> list[int]:
            wanted = [{"to": farm}, {"to": "+447911234568", "signals": office}, {"to": used}, {"to": fresh}]
            return [(await one.post("/verifications", fields)).status_code for fields in wanted]

        assert await answers(old) == [403, 403, 201, 403]
        await old.travel(30)  # until the one that is pending may be sent again
        assert await answers(new) == [201, 201, 403, 403]
