"""Adapters over real sockets: each vendor, played by a server of ours, gets a whole request and is understood."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.door import Door
from service.door.http import Http
from service.provider import Accepted, Channel, Request
from tests.providers.test_contract import CODE, NOW, NUMBER, OVER_HTTP, adapter, message

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent.parent / "data"
WITHOUT_EXAMPLE = {"sns", "webhook"}
"""Their own tests have a server: moto's, and a gateway's."""


ADDRESSES = {"api_url", "voice_api_url"}
"""The settings that say where a vendor's APIs are."""


@cache
def examples(kind: str) -> dict[str, Any]:
    """The vendor's answers to a send that it takes, by channel."""
    [file] = (DATA / kind).glob("send*.json")
    said = json.loads(file.read_text())
    found = said if isinstance(said, list) else said.get("examples", [said])
    return {one["channel"].partition(" ")[0]: one["success"] for one in found}


SENDS = [
    (kind, channel)
    for kind in OVER_HTTP
    if kind not in WITHOUT_EXAMPLE
    for channel in sorted(adapter(kind).channels & examples(kind).keys())
]


@asynccontextmanager
async def vendor(answer: dict[str, Any]) -> AsyncIterator[tuple[str, list[web.BaseRequest]]]:
    """A server that answers everything so: its URL, and what it was asked."""
    asked: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        asked.append(request)
        return web.json_response(answer["body"], status=answer["status"])

    server = web.Server(handle)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("kind", "channel"), SENDS)
async def test_a_send_arrives_whole_and_its_answer_is_understood(kind: str, channel: Channel) -> None:
    """With the body that the adapter made, and neither number nor code in the path."""
    async with vendor(examples(kind)[channel]) as (url, asked):
        one = adapter(kind)
        one = one.model_copy(update=dict.fromkeys(ADDRESSES.intersection(type(one).model_fields), url))
        what = message(channel, kind=kind)
        door = Door({Request: Http()})
        outcome = await door.send(one, what, NOW)
        await door.close()
        assert isinstance(outcome, Accepted)
        assert outcome.message_id
        made = one.request(what, NOW)
        assert await asked[0].read() == made.body
        assert {name: asked[0].headers[name] for name in made.headers} == made.headers
        for request in asked:
            assert request.host in url
            assert not {NUMBER.removeprefix("+"), CODE}.intersection(request.path_qs.replace("/", "?").split("?"))
