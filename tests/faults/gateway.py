"""The operator's gateway as a real HTTP server, for services that run in processes of their own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import uvicorn
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.world import WEBHOOK_SECRET

HANG = 3600.0
"""A delay that no test waits for."""


@dataclass(frozen=True, slots=True)
class Message:
    """One `delivery.send`: `at` is when it came (seconds of the monotonic clock), `sender` which process sent it.

    Its receipt goes to the path `receipt`.
    """

    delivery: str
    channel: str
    sender: str
    at: float
    to: str = field(repr=False)
    code: str = field(repr=False)
    receipt: str = field(repr=False)

    @property
    def verification(self) -> str:
        """The id of the verification that it belongs to."""
        return self.delivery.partition(".")[0]


class Gateway:
    """Takes signed messages at `url(sender)`, keeps them in `messages`, and answers as it is told.

    `answered` are the deliveries whose sender was still there for the answer: the others count as not taken.
    `status` is its answer, 200 unless set; `delay` are the seconds before it, `HANG` for never. It runs in a thread
    while the context is entered.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answered: set[str] = set()
        self.status = 200
        self.delay = 0.0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = _Server(
            uvicorn.Config(self, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._socket]), name="gateway")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    def url(self, sender: str) -> str:
        """Where a process of this name sends its messages."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{sender}"

    def code(self, verification: str) -> str:
        """The code that was sent for a verification; raises StopIteration when none was."""
        return next(message.code for message in self.messages if message.verification == verification)

    def sent(self, number: str) -> list[Message]:
        """What was sent to a number."""
        return [message for message in self.messages if message.to == number]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        try:
            said: dict[str, Any] = Webhook(WEBHOOK_SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return JSONResponse({}, 401)
        data = json.loads(body)["data"] if said["type"] == "delivery.send" else {}
        self.messages.append(
            Message(
                data["delivery"],
                data["channel"],
                request.url.path.removeprefix("/"),
                time.monotonic(),
                data["to"],
                data["code"],
                urlsplit(data["receipt_url"]).path,
            )
        )
        await asyncio.sleep(self.delay)
        if not await request.is_disconnected():
            self.answered.add(data["delivery"])
        return JSONResponse({"message_id": data["delivery"]}, self.status)


class _Server(uvicorn.Server):
    """A server that leaves signals to the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield
