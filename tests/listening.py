"""A server inside a test that leaves nothing behind: no socket, no visit."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

Visit: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What is done for one who connects. When it returns, or finds that nobody is there any more, the connection ends."""

_TURNS = 3
"""Of the loop, until who was taken in has a protocol: asyncio makes a task of them, the task a transport."""


@asynccontextmanager
async def listening(visit: Visit, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port of the loopback, which is given; at the end, wait until every visit is over.

    A visit ends by itself: whoever connects is gone by then, or `visit` hangs up.
    """
    visits: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await visit(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        await close(server)
        await asyncio.gather(*visits)
        await server.wait_closed()


async def close(server: asyncio.Server) -> None:
    """Take nobody in any more, then give those who were just taken their protocol, then close.

    asyncio loses a connection that is between the two when its server closes (Python 3.11), or its loop: nobody closes
    that socket.
    """
    for one in server.sockets:
        asyncio.get_running_loop().remove_reader(one.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
