"""The front of every listener: whatever is sent, a problem with the right status comes back, never a 500."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import fakeredis
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.auth import digest
from service.api.bodies import CheckBody, CreateBody, FeedbackBody
from service.api.listener import MAX_BODY, Listener
from service.api.problems import CODES
from tests.world import KEY, NUMBER, World, world

ID = "ver_00aaaaaaaaaaaaaaaaaaaa"
PATHS = [
    "/verifications",
    "/verifications/check",
    f"/verifications/{ID}",
    f"/verifications/{ID}/resend",
    f"/verifications/{ID}/cancel",
    f"/verifications/{ID}/feedback",
    "/receipts/gw/x",
    f"/receipts/gw/{ID}.0.x",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.yaml",
    "/",
]


def assert_problem(answer: httpx.Response, *codes: str) -> None:
    """The answer is a problem, and one of these where any are named."""
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    status, title = CODES[said["code"]]
    assert (said["status"], said["title"], said["type"]) == (status, title, f"urn:verifyd:problem:{said['code']}")
    assert answer.status_code == status
    assert not codes or said["code"] in codes


async def everywhere(one: World, method: str, path: str, body: bytes, headers: dict[str, str]) -> list[httpx.Response]:
    """The same request on all three listeners."""
    clients = (one.api, one.receipts, one.ops)
    return [await client.request(method, path, content=body, headers=headers) for client in clients]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(sorted({*CreateBody.model_fields, *CheckBody.model_fields, *FeedbackBody.model_fields}))
NEAR_MISSES = st.dictionaries(FIELDS, JSON | st.sampled_from([NUMBER, "sms", "123456", True]), max_size=6)
BODIES = st.one_of(
    st.binary(max_size=300),
    JSON.map(lambda value: json.dumps(value).encode()),
    NEAR_MISSES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.sampled_from([b"[" * 5000, b'{"to":' * 2000, b'"\\ud800"', b"\xff\xfe", b"1e999", b'{"to": NaN}']),
)
HEADERS = st.dictionaries(
    st.sampled_from(["authorization", "idempotency-key", "x-request-id", "content-type", "webhook-id"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300),
    max_size=3,
)


def test_any_bytes_anywhere_get_a_problem_or_an_answer_but_no_500() -> None:
    """Bodies, paths, methods and headers at random, most of them near what is right, on all listeners."""
    runner = asyncio.Runner()
    stack = AsyncExitStack()
    one = runner.run(stack.enter_async_context(world()))

    @settings(max_examples=300)
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]),
        path=st.sampled_from(PATHS) | st.binary(max_size=30).map(lambda raw: "/" + quote(raw)),
        body=BODIES,
        headers=HEADERS,
        keyed=st.booleans(),
    )
    def send(method: str, path: str, body: bytes, headers: dict[str, str], *, keyed: bool) -> None:
        if keyed:
            headers |= {"authorization": f"Bearer {KEY}"}
        for answer in runner.run(everywhere(one, method, path, body, headers)):
            assert answer.status_code < 500, answer.text
            assert answer.headers["x-request-id"]
            if answer.status_code >= 400 and method != "HEAD":
                assert_problem(answer)

    try:
        send()
    finally:
        runner.run(stack.aclose())
        runner.close()


@pytest.mark.anyio
class TestBodies:
    """What is read before anything is decided."""

    async def test_every_error_of_a_body_is_told_at_once(self) -> None:
        """With its path, and without what was sent."""
        async with world() as one:
            body = {"to": 7, "channel": "fax", "code": "12x4", "signals": {"ip": "1.2.3"}, "colour": "red"}
            answer = await one.post("/verifications", body)
            assert_problem(answer, "invalid_request")
            errors = {error["path"]: error["message"] for error in answer.json()["errors"]}
            assert set(errors) == {"to", "channel", "code", "signals.ip", "colour"}
            assert errors["colour"] == "unknown field"
            assert errors["code"] == "write 4 to 10 digits"
            assert not any(word in answer.text for word in ("12x4", "1.2.3", "fax", "red"))

    async def test_what_fields_say_to_each_other_is_told_beside_the_rest(self) -> None:
        """Rules between fields, and the header, do not wait until the fields are right."""
        async with world() as one:
            for path, body, paths in (
                ("", {"to": NUMBER, "channel": "sms", "cascade": ["voice"], "purpose": "!"}, {"cascade", "purpose"}),
                ("", {"to": NUMBER, "cascade": ["voice", "voice"], "country": "gb"}, {"cascade", "country"}),
                ("/check", {"code": "x"}, {"to", "code"}),
                ("/check", {"id": ID, "to": NUMBER, "code": "x"}, {"to", "code"}),
            ):
                answer = await one.post(f"/verifications{path}", body, idempotency_key="x" * 256)
                assert_problem(answer, "invalid_request")
                assert {error["path"] for error in answer.json()["errors"]} == paths | {"header.Idempotency-Key"}

    async def test_a_body_that_is_not_json_is_told_so(self) -> None:
        """400, whatever its type."""
        async with world() as one:
            for body in (b"{", b"to=+447400123456", b"\xff", b'"\\ud800"', b"[" * 9000):
                answer = await one.api.post("/verifications", content=body)
                assert_problem(answer, "invalid_json")

    async def test_a_body_over_the_limit_is_refused_declared_or_not(self) -> None:
        """Neither a long body nor an endless one is kept in memory; one at the limit is read."""
        async with world() as one:
            assert_problem(await one.api.post("/verifications", content=b" " * (MAX_BODY + 1)), "body_too_large")

            async def endless() -> Any:
                for _ in range(1000):
                    yield b" " * 1024

            assert_problem(await one.api.post("/verifications", content=endless()), "body_too_large")
            padded = json.dumps({"to": NUMBER}).encode().ljust(MAX_BODY)
            assert (await one.api.post("/verifications", content=padded)).status_code == 201

    async def test_a_body_that_never_ends_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A caller who trickles is told so, and let go."""
        monkeypatch.setattr("service.api.listener.BODY_SECONDS", 0.05)
        async with world() as one:

            async def trickle() -> Any:
                yield b"{"
                await asyncio.Event().wait()

            answer = await one.api.post("/verifications", content=trickle())
            assert_problem(answer, "request_timeout")
            assert answer.headers["connection"] == "close"

    async def test_a_wrong_number_never_comes_back(self) -> None:
        """The problem says what is wrong without repeating it."""
        async with world() as one:
            for number in ("+44791112345", "07911123456", "+4479111234567890", "+44 7911 12345x"):
                answer = await one.post("/verifications", {"to": number})
                assert_problem(answer, "invalid_number")
                assert "7911" not in answer.text

    async def test_an_idempotency_key_has_its_bounds(self) -> None:
        """1 to 255 printable characters."""
        async with world() as one:
            for key in (b"", b"x" * 256, b"caf\xe9", b"a\tb"):
                answer = await one.api.post("/verifications", json={"to": NUMBER}, headers=[(b"idempotency-key", key)])
                assert_problem(answer, "invalid_request")
                assert answer.json()["errors"][0]["path"] == "header.Idempotency-Key"


@pytest.mark.anyio
class TestFront:
    """Routes, ids, and what breaks."""

    async def test_a_request_id_is_kept_when_it_is_one(self) -> None:
        """Otherwise a new one is made."""
        async with world() as one:
            kept = await one.ops.get("/healthz", headers={"x-request-id": "abc-1"})
            assert kept.headers["x-request-id"] == "abc-1"
            made = await one.ops.get("/healthz", headers={"x-request-id": "two words\t"})
            assert made.headers["x-request-id"] not in {"", "two words\t"}

    async def test_each_listener_has_only_its_own(self) -> None:
        """What is public cannot reach what is not."""
        async with world() as one:
            for client, path in ((one.receipts, "/metrics"), (one.api, "/healthz"), (one.ops, "/verifications")):
                assert_problem(await client.get(path), "not_found")

    async def test_a_wrong_method_says_which_are_right(self) -> None:
        """With `Allow`."""
        async with world() as one:
            answer = await one.api.put("/verifications")
            assert_problem(answer, "method_not_allowed")
            assert answer.headers["allow"] == "POST"

    async def test_a_defect_is_a_500_without_its_text(self, caplog: pytest.LogCaptureFixture) -> None:
        """The log has the place, under the request's id."""
        async with world() as one:

            async def broken(*_args: object) -> object:
                raise RuntimeError(NUMBER)

            one.service.starts.start = broken  # type: ignore[assignment,method-assign]  # a defect, planted
            answer = await one.post("/verifications", {"to": NUMBER})
            assert_problem(answer, "internal_error")
            assert NUMBER not in answer.text
            assert "a request failed" in caplog.text

    async def test_a_caller_who_hangs_up_is_no_error(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing is answered and nothing is logged as broken."""
        async with world() as one:
            listener: Listener = one.service.listeners["127.0.0.1:8080"]
            sent: list[Any] = []

            async def receive() -> dict[str, str]:
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            headers = [(b"authorization", f"Bearer {KEY}".encode())]
            scope = {"type": "http", "method": "POST", "path": "/verifications", "headers": headers}
            await listener(scope, receive, send)
            assert sent == []
            assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_allow_from_looks_at_the_connection_only(self) -> None:
        """No header chooses the address."""
        keys = [{"hash": digest(KEY), "allow_from": ["10.0.0.0/8"]}]
        async with world(api_keys=keys) as one:
            answer = await one.post("/verifications", {"to": NUMBER}, x_forwarded_for="10.0.0.1")
            assert_problem(answer, "forbidden")
        keys = [{"hash": digest(KEY), "allow_from": ["127.0.0.0/8"]}]
        async with world(api_keys=keys) as one:
            assert (await one.post("/verifications", {"to": NUMBER})).status_code == 201


@pytest.mark.anyio
async def test_ready_and_alive_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis the process is alive but not ready, and ready again when it is back; so with a stuck worker."""
    server = fakeredis.FakeServer()
    async with world(client=fakeredis.FakeAsyncRedis(server=server)) as one:
        ready = await one.ops.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json()["redis"]["worries"]
        server.connected = False
        away = await one.ops.get("/readyz")
        assert (away.status_code, away.json()["redis"]["reachable"]) == (503, False)
        assert (await one.ops.get("/healthz")).status_code == 200
        refused = await one.post("/verifications", {"to": NUMBER})
        assert_problem(refused, "unavailable")
        assert refused.headers["retry-after"]
        server.connected = True
        assert (await one.ops.get("/readyz")).status_code == 200
        await one.create()
        with monkeypatch.context() as patched:
            patched.setattr("service.schedule.STUCK", -1.0)
            stuck = await one.ops.get("/readyz")
            assert (stuck.status_code, stuck.json()["worker"]["stuck"]) == (503, True)
            assert (await one.ops.get("/healthz")).status_code == 200
        assert (await one.ops.get("/readyz")).status_code == 200


@pytest.mark.anyio
async def test_a_replica_that_drains_serves_and_sends_everybody_elsewhere() -> None:
    """It is alive, not ready, and ends each connection with the answer."""
    async with world() as one:
        kept = await one.post("/verifications", {"to": NUMBER})
        one.service.drain()
        draining = await one.ops.get("/readyz")
        assert (draining.status_code, draining.json()["draining"]) == (503, True)
        assert (await one.ops.get("/healthz")).status_code == 200
        ended = await one.get(kept.json()["id"])
        assert ended["status"] == "pending"
        answer = await one.post("/verifications/check", {"to": NUMBER, "code": "000000"})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert "connection" not in kept.headers


@pytest.mark.anyio
async def test_two_routes_may_share_a_path() -> None:
    """Each method finds its own; `Allow` names those of both."""
    async with world() as one:
        assert_problem(await one.receipts.get("/receipts/gw"), "not_found")
        assert_problem(await one.receipts.post("/receipts/gw"), "forged_receipt")
        answer = await one.receipts.put("/receipts/gw")
        assert_problem(answer, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, POST"
