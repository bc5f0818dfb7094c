"""The gateway at the other end, a process of its own: takes every message at once and keeps it until it is asked.

`POST /messages` takes a message, `GET /taken` gives back what came since the last asking, each with its time, as JSON.
Anything else gets the same short answer, which makes this the trivial server that the load generator is measured
against. The port is the first line on standard output.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import orjson
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    def __init__(self, kept: list[tuple[float, str]]) -> None:
        self._kept = kept
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (head := self._unread.find(_HEAD_END)) >= 0:
            found = _LENGTH.search(self._unread, 0, head)
            begin = head + len(_HEAD_END)
            end = begin + (int(found[1]) if found else 0)
            if len(self._unread) < end:
                return
            answer = self._answer(self._unread[:head], self._unread[begin:end])
            self._unread = self._unread[end:]
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET /taken "):
            taken = orjson.dumps(self._kept)
            self._kept.clear()
            return taken
        if head.startswith(b"POST /messages "):
            self._kept.append((time.monotonic(), body.decode()))
        return b'{"message_id":"%012d"}' % len(self._kept)


async def serve(port: int) -> None:
    """Listen on a loopback port (0 for any) and say which, until cancelled."""
    kept: list[tuple[float, str]] = []
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(kept), "127.0.0.1", port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
