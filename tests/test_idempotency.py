"""Idempotent requests: the first answer again, whatever came between."""

from __future__ import annotations

import asyncio

import pytest

from tests.world import NUMBER, OTHER_KEY, OTHER_NUMBER, world, wrong

pytestmark = pytest.mark.anyio


async def test_an_idempotent_create_is_replayed_word_for_word() -> None:
    """The same key and body: the first answer again, and nothing is sent. The order of fields makes no difference."""
    async with world() as one:
        first = await one.post("/verifications", {"to": NUMBER, "purpose": "signup"}, idempotency_key="a")
        await one.work()
        await one.check(first.json()["id"], one.gateway.last.code)
        again = await one.post("/verifications", {"purpose": "signup", "to": NUMBER}, idempotency_key="a")
        assert (again.status_code, again.json()) == (201, first.json())
        assert len(one.gateway.sent) == 1
        assert one.metric("otp_verifications_total", application="shop", country="GB", result="started") == 1


async def test_an_idempotency_key_with_another_body_is_a_conflict() -> None:
    """Also when the other body is about another number, which lives elsewhere."""
    async with world() as one:
        await one.post("/verifications", {"to": NUMBER}, idempotency_key="a")
        for body in ({"to": NUMBER, "purpose": "signup"}, {"to": OTHER_NUMBER}, {"to": "+12015550123"}):
            answer = await one.post("/verifications", body, idempotency_key="a")
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
        other = await one.post("/verifications", {"to": OTHER_NUMBER}, key=OTHER_KEY, idempotency_key="a")
        assert other.status_code == 201


async def test_an_idempotent_check_replays_its_first_answer() -> None:
    """A right answer stays right for whoever lost it; a wrong one costs no second attempt."""
    async with world() as one:
        started = await one.create()
        code = one.gateway.last.code
        for _ in range(3):
            body = {"id": started["id"], "code": wrong(code)}
            bad = await one.post("/verifications/check", body, idempotency_key="w")
            assert (bad.json()["valid"], bad.json()["checks_remaining"]) == (False, 4)
        for _ in range(3):
            good = await one.post("/verifications/check", {"id": started["id"], "code": code}, idempotency_key="r")
            assert good.json()["valid"]
        without = await one.check(started["id"], code)
        assert not without["valid"]
        conflict = await one.post("/verifications/check", {"id": started["id"], "code": "0000"}, idempotency_key="r")
        assert conflict.status_code == 409


async def test_a_conflicting_check_gives_its_attempt_back() -> None:
    """The key says that the request is broken; nothing was compared, so nothing is spent."""
    async with world() as one:
        first = await one.create()
        code = one.gateway.last.code
        second = await one.create(OTHER_NUMBER)
        await one.post("/verifications/check", {"id": first["id"], "code": code}, idempotency_key="k")
        conflict = await one.post("/verifications/check", {"id": second["id"], "code": code}, idempotency_key="k")
        assert conflict.status_code == 409
        assert (await one.get(second["id"]))["checks_remaining"] == 5


async def test_conflicting_checks_at_once_give_back_no_more_than_they_took() -> None:
    """However many share a key that belongs to another body, the attempts stay what they were."""
    async with world() as one:
        first = await one.create()
        code = one.gateway.last.code
        second = await one.create(OTHER_NUMBER)
        await one.post("/verifications/check", {"id": first["id"], "code": code}, idempotency_key="k")
        body = {"id": second["id"], "code": "0000"}
        answers = [one.post("/verifications/check", body, idempotency_key="k") for _ in range(10)]
        assert {answer.status_code for answer in await asyncio.gather(*answers)} == {409}
        assert (await one.get(second["id"]))["checks_remaining"] == 5
        bad = wrong(one.gateway.last.code)
        await asyncio.gather(*[one.check(second["id"], bad) for _ in range(12)])
        assert one.metric("otp_checks_total", application="shop", result="wrong") == 5


async def test_parallel_checks_with_one_key_spend_one_attempt() -> None:
    """Whoever settles second answers with what the first one got."""
    async with world() as one:
        started = await one.create()
        body = {"id": started["id"], "code": wrong(one.gateway.last.code)}
        answers = await asyncio.gather(*[one.post("/verifications/check", body, idempotency_key="k") for _ in range(5)])
        assert all(answer.json()["valid"] is False for answer in answers)
        assert (await one.get(started["id"]))["checks_remaining"] == 4
