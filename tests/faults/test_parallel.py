"""Whatever runs at once, on however many replicas: no guess too many, no approval twice, no message too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import count, cycle
from typing import Any

import httpx
import pytest

from tests.faults.gateway import Gateway
from tests.faults.processes import Process, metric, processes
from tests.faults.waiting import until
from tests.redis_server import RedisServer
from tests.world import OTHER_KEY, table, wrong

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

CHECKS = 5
MANY_CHECKS = 20

_numbers = count()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Where all messages go."""
    with Gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def replicas(_server: RedisServer, gateway: Gateway) -> Iterator[Sequence[Process]]:
    """Four replicas on one Redis. The application `other` allows many checks."""
    configuration = table(checks=CHECKS, countries=["GB"], _top={"redis": _server.url, "shards": 8})
    configuration["applications"]["other"] |= {"checks": MANY_CHECKS, "wrong_checks_per_day": 1000, "countries": ["GB"]}
    with processes(configuration, gateway, 4) as running:
        yield running


class Crowd:
    """Callers of all replicas in turn."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], key: str | None) -> None:
        self._next = cycle(clients)
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        """Ask the next replica."""
        return await next(self._next).post(path, json=body, headers=self._headers | headers)

    async def check(self, verification: str, code: str, **headers: str) -> dict[str, Any]:
        """Make a guess that must be taken."""
        answer = await self.post("/verifications/check", {"id": verification, "code": code}, **headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def start(self, gateway: Gateway) -> tuple[str, str]:
        """A new verification whose message has come: its id and its code."""
        answer = await self.post("/verifications", {"to": number()})
        assert answer.status_code == 201, answer.text
        verification: str = answer.json()["id"]
        await until(lambda: _has_come(gateway, verification), "the message has come")
        return verification, gateway.code(verification)

    async def events(self, verification: str) -> list[str]:
        """What has happened to a verification."""
        found = (await next(self._next).get(f"/verifications/{verification}", headers=self._headers)).json()
        return [event["event"] for event in found["timeline"]]


async def _has_come(gateway: Gateway, verification: str) -> bool:
    return any(message.verification == verification for message in gateway.messages)


@pytest.fixture
async def clients(replicas: Sequence[Process]) -> AsyncIterator[Sequence[httpx.AsyncClient]]:
    """A client of each replica."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(replica.client()) for replica in replicas]


@pytest.fixture
def shop(clients: Sequence[httpx.AsyncClient]) -> Crowd:
    """Callers of the application with few checks."""
    return Crowd(clients, None)


@pytest.fixture
def other(clients: Sequence[httpx.AsyncClient]) -> Crowd:
    """Callers of the application with many checks."""
    return Crowd(clients, OTHER_KEY)


def number() -> str:
    """A number that no test has used."""
    return f"+44740020{next(_numbers):04d}"


def guesses(code: str, many: int) -> list[str]:
    """So many different codes of the same length, all wrong."""
    return [f"{(int(code) + 1 + k) % 10 ** len(code):0{len(code)}d}" for k in range(many)]


async def all_of(acts: Sequence[Awaitable[Any]]) -> list[Any]:
    """What acts that run at once answer, in the order in which they were sent."""
    return list(await asyncio.gather(*acts))


async def test_of_200_wrong_guesses_only_the_allowed_are_compared(
    shop: Crowd, replicas: Sequence[Process], gateway: Gateway
) -> None:
    """Nothing gets past the limit by being fast, and the right code comes too late."""
    verification, code = await shop.start(gateway)
    before = await metric(replicas, "otp_checks_total", application="shop", result="wrong")
    answers = await all_of([shop.check(verification, guess) for guess in guesses(code, 200)])
    assert await metric(replicas, "otp_checks_total", application="shop", result="wrong") - before == CHECKS
    assert (await shop.events(verification)).count("check.wrong") == CHECKS
    assert not any(answer["valid"] for answer in answers)
    assert {answer["status"] for answer in answers} <= {"pending", "max_attempts_reached"}
    late = await shop.check(verification, code)
    assert (late["valid"], late["status"], late["checks_remaining"]) == (False, "max_attempts_reached", 0)


async def test_of_100_right_checks_one_is_valid(shop: Crowd, replicas: Sequence[Process], gateway: Gateway) -> None:
    """A code is accepted once, whoever asks and where."""
    verification, code = await shop.start(gateway)
    before = await metric(replicas, "otp_checks_total", application="shop", result="right")
    answers = await all_of([shop.check(verification, code) for _ in range(100)])
    assert [answer["valid"] for answer in answers].count(True) == 1
    assert await metric(replicas, "otp_checks_total", application="shop", result="right") - before == 1
    assert (await shop.events(verification)).count("verification.approved") == 1
    again = await shop.check(verification, code)
    assert (again["valid"], again["status"]) == (False, "approved")


async def test_of_100_creates_for_a_number_one_starts_and_the_others_learn_its_id(
    shop: Crowd, gateway: Gateway
) -> None:
    """One message; the others are asked to go on with the verification that is pending."""
    to = number()
    answers = await all_of([shop.post("/verifications", {"to": to}) for _ in range(100)])
    started = [answer.json() for answer in answers if answer.status_code == 201]
    refused = [answer.json() for answer in answers if answer.status_code == 429]
    assert (len(started), len(refused)) == (1, 99)
    assert {(one["code"], one["limit"], one["id"]) for one in refused} == {("rate_limited", "resend", started[0]["id"])}
    await until(lambda: _has_come(gateway, started[0]["id"]), "the message has come")
    assert (await shop.events(started[0]["id"])).count("delivery.queued") == 1
    assert len(gateway.sent(to)) == 1


async def test_50_creates_with_one_idempotency_key_are_one(shop: Crowd, gateway: Gateway) -> None:
    """All get the first answer, as if they had been the first, and one message leaves."""
    to = number()
    key = {"idempotency-key": "signup-1"}
    answers = await all_of([shop.post("/verifications", {"to": to}, **key) for _ in range(50)])
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    verification = answers[0].json()["id"]
    await until(lambda: _has_come(gateway, verification), "the message has come")
    assert (await shop.events(verification)).count("delivery.queued") == 1
    assert len(gateway.sent(to)) == 1


@pytest.mark.parametrize("many", [CHECKS, 50])
@pytest.mark.parametrize("right", [True, False])
async def test_checks_with_one_idempotency_key_are_one(shop: Crowd, gateway: Gateway, many: int, right: bool) -> None:
    """All get the same answer and one attempt is used, even when more repeat it at once than attempts are left."""
    verification, code = await shop.start(gateway)
    guess = code if right else wrong(code)
    key = {"idempotency-key": f"check-{verification}"}
    answers = await all_of([shop.check(verification, guess, **key) for _ in range(many)])
    said = {(answer["valid"], answer["status"], answer["checks_remaining"]) for answer in answers}
    assert said == {(right, "approved" if right else "pending", CHECKS - 1)}
    if not right:
        assert (await shop.check(verification, code))["valid"]


@pytest.mark.parametrize(("before", "after"), [(0, CHECKS - 1), (2, 2)])
async def test_a_right_guess_is_not_rejected_by_wrong_ones_in_flight(
    shop: Crowd, gateway: Gateway, before: int, after: int
) -> None:
    """While the attempts suffice for all, it counts however the others around it are settled."""
    for _ in range(5):
        verification, code = await shop.start(gateway)
        others = guesses(code, before + after)
        answers = await all_of(
            [shop.check(verification, guess) for guess in [*others[:before], code, *others[before:]]]
        )
        assert answers[before]["valid"]
        assert [answer["valid"] for answer in answers].count(True) == 1


async def test_a_right_guess_among_many_wrong_ones_is_valid(other: Crowd, gateway: Gateway) -> None:
    """As above, with as many in flight as an application can allow."""
    for place in (0, 7, MANY_CHECKS - 1):
        verification, code = await other.start(gateway)
        mixed = guesses(code, MANY_CHECKS - 1)
        mixed.insert(place, code)
        answers = await all_of([other.check(verification, guess) for guess in mixed])
        assert [answer["valid"] for answer in answers].index(True) == place
        assert [answer["valid"] for answer in answers].count(True) == 1
