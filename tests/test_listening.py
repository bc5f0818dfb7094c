"""The servers of the tests: a socket that they left open would fail some later test, whichever it is."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from tests.listening import listening


@pytest.mark.parametrize("turns", range(6))
def test_who_connects_while_a_server_ends_leaves_no_socket_behind(turns: int) -> None:
    """However far asyncio has come with taking him in; a socket left open is an error here."""

    async def visit(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def serve() -> None:
        async with listening(visit) as port:
            socket.create_connection(("127.0.0.1", port)).close()
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(serve())
    gc.collect()
