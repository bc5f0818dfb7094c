"""Logs: lines that a machine can read and that say what they are about, without the text of exceptions."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime
from typing import Any

import httpx
import pytest

from service import log
from tests.world import NUMBER, OTHER_NUMBER, Sent, World, world

pytestmark = pytest.mark.anyio

Capture = pytest.CaptureFixture[str]
Line = dict[str, Any]


def lines(capture: Capture) -> list[Line]:
    """What was logged since it was last asked for: a JSON object in each line, with what every line has."""
    found = [json.loads(line) for line in capture.readouterr().err.splitlines()]
    for line in found:
        assert datetime.fromisoformat(line["at"]).tzinfo is not None
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}
        assert line["logger"]
        assert line["message"]
    return found


def of(found: list[Line], message: str) -> list[Line]:
    """The lines that say this."""
    return [line for line in found if line["message"] == message]


async def test_a_request_is_one_line_that_says_what_it_was_about(capsys: Capture) -> None:
    """Its own id, which the answer carries too, the verification, and the number as it may be seen."""
    log.set_up("info")
    async with world() as one:
        answer = await one.post("/verifications", {"to": NUMBER})
    [line] = of(lines(capsys), "request")
    assert line.pop("ms") >= 0
    assert line.pop("at")
    assert line == {
        "level": "info",
        "logger": "service.api.listener",
        "message": "request",
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "route": "/verifications",
        "status": 201,
        "application": "shop",
        "verification": answer.json()["id"],
        "to": "+44******3456",
    }


async def test_a_request_keeps_the_id_that_it_came_with_if_that_is_one(capsys: Capture) -> None:
    """What could start a line, or fill one, is replaced."""
    log.set_up("info")
    async with world() as one:
        for given, kept in (("trace-1.a_B", True), ("two words", False), ("x" * 129, False), ("", False)):
            answer = await one.post("/verifications", {"to": 1}, x_request_id=given)
            [line] = of(lines(capsys), "request")
            assert line["request_id"] == answer.headers["x-request-id"]
            assert (line["request_id"] == given) is kept


async def test_a_request_that_meets_a_limit_names_it(capsys: Capture) -> None:
    """By the words of the answer, so that a log alone tells why somebody got no code."""
    log.set_up("info")
    async with world(_top={"guard": {"limits": {"number": ["1/1h"], "ip": ["1/1h"]}}}, resend_after=["0s"]) as one:
        for to, ip, limit in (
            (NUMBER, "192.0.2.1", None),
            (NUMBER, "192.0.2.2", "number 1/1h"),
            (OTHER_NUMBER, "192.0.2.1", "ip 1/1h"),
        ):
            answer = await one.post("/verifications", {"to": to, "signals": {"ip": ip}})
            [line] = of(lines(capsys), "request")
            assert line.get("limit") == answer.json().get("limit") == limit
            assert line["to"] == f"+44******{to[-4:]}"


async def test_deliveries_and_receipts_name_their_verification(capsys: Capture) -> None:
    """With channel, provider and what became of it."""
    log.set_up("info")
    async with world() as one:
        one.gateway.refuse("landline", "sms")
        started = await one.create()
        await one.report(one.gateway.last, "delivered")
    found = lines(capsys)
    shown = [
        tuple(line[key] for key in ("verification", "n", "channel", "provider", "status", "reason"))
        for line in found
        if line["message"] in {"delivery", "receipt"}
    ]
    assert shown == [
        (started["id"], 0, "sms", "gw", "rejected", "landline"),
        (started["id"], 1, "voice", "voice", "accepted", None),
        (started["id"], 1, "voice", "voice", "delivered", None),
    ]


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_shown(capsys: Capture, level: str, shown: int) -> None:
    """Each level shows what is graver, too."""
    log.set_up(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("service.test"), name)("said %s", name)
    assert [line["message"] for line in lines(capsys)] == [
        f"said {name}" for name in ("debug", "info", "warning", "error")[-shown:]
    ]


def test_libraries_are_quiet_whatever_level_they_set(capsys: Capture) -> None:
    """They log addresses and what they sign: those hold secrets."""
    log.set_up("debug")
    loud = logging.getLogger("tests.loud")
    loud.setLevel(logging.DEBUG)
    for one in (*map(logging.getLogger, ("httpx", "httpcore.http2", "botocore.auth", "fakeredis", "asyncio")), loud):
        one.info("GET https://user:password@provider.example")
    logging.getLogger("smpplib.command").warning("Unknown optional parameter type 0x1403, skipping")
    assert lines(capsys) == []


def test_an_exception_is_logged_as_its_type_and_place_without_its_text(capsys: Capture) -> None:
    """A library's message may quote what it was given; so may the exception behind it."""
    log.set_up("info")
    try:
        try:
            raise KeyError("inner-secret")
        except KeyError as error:
            raise ValueError("outer-secret") from error
    except ValueError:
        logging.getLogger("service.test").exception("it broke", extra={"fields": {"verification": "ver_1"}})
    [line] = lines(capsys)
    assert (line["message"], line["verification"], line["exception"][-1]) == ("it broke", "ver_1", "ValueError")
    assert "test_log.py" in line["exception"][0]
    assert "secret" not in json.dumps(line)


async def test_an_exception_that_nobody_caught_is_told_without_its_text(capsys: Capture) -> None:
    """Asyncio quotes it in what it logs."""
    log.set_up("info")
    error = ValueError("inner-secret")
    asyncio.get_running_loop().default_exception_handler({"message": "never retrieved", "exception": error})
    asyncio.get_running_loop().default_exception_handler({"message": "never retrieved", "future": repr(error)})
    found = lines(capsys)
    assert [line["message"] for line in found] == ["never retrieved"] * 2
    assert "secret" not in json.dumps(found)


async def test_a_defect_is_answered_with_500_and_logged_with_its_place(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place and the type of what broke, without its text."""
    log.set_up("info")
    async with world() as one:

        async def broken(*_args: object) -> None:
            raise RuntimeError(NUMBER)

        monkeypatch.setattr(one.service.verifications, "read", broken)
        answer = await one.api.get("/verifications/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    [line] = of(lines(capsys), "a request failed")
    assert line["level"] == "error"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["exception"][-1] == "RuntimeError"


async def broken_delivery(one: World) -> str:
    """Let the worker meet an error that quotes a whole message; returns its verification."""
    sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def broken(message: Sent) -> httpx.Response:
        if not sent.done():
            sent.set_result(str(message.data["delivery"]).partition(".")[0])
        raise RuntimeError(f"cannot send {message.data}")

    one.gateway.answer = broken
    await one.service.start()
    await one.post("/verifications", {"to": NUMBER})
    return await asyncio.wait_for(sent, 30)


async def test_a_send_that_breaks_is_logged_with_its_verification(capsys: Capture) -> None:
    """The error's type and place are there, the message that it quotes is not."""
    log.set_up("debug")
    async with world() as one:
        name = await broken_delivery(one)
    said = capsys.readouterr().err
    line, *_ = of([json.loads(line) for line in said.splitlines()], "a provider's adapter failed")
    assert (line["level"], line["verification"], line["exception"][-1]) == ("error", name, "RuntimeError")
    assert NUMBER not in said
    assert one.gateway.last.code not in said
