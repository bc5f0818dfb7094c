"""SMPP 3.4, out and in: a transceiver session for each account, held open, over which receipts come back.

smpplib writes and reads what goes over the line; the session itself is here, because those of the libraries there are
either block a thread or confirm a receipt before anybody has taken it. A receipt that was not taken is answered with a
temporary error: the SMSC then sends it again, over this session or over that of another replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from smpplib.exceptions import UnknownCommandError
from smpplib.smpp import make_pdu, parse_pdu

from service.errors import Unavailable, Undelivered
from service.provider import Bind, Binds, Deliver, Receipt, Response, Submit

logger = logging.getLogger(__name__)

Receive: TypeAlias = Callable[[str, Sequence[Receipt]], Awaitable[None]]
"""Takes receipts, by the name of their provider; raises Unavailable."""

_LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a session, at most: each pause is twice the one before."""
_LONGEST_PDU = 66 * 1024
"""The longest `message_payload`, and what comes with it."""
_MOST_RECEIPTS = 64
"""Receipts of a session that are taken at once; the SMSC is asked to send others again."""

_OK, _INVALID_COMMAND, _TEMPORARY = 0x00, 0x03, 0x64
"""Of the command statuses (SMPP 3.4, 5.1.3): ESME_ROK, ESME_RINVCMDID, ESME_RX_T_APPN."""
_RESPONSE = 0x80000000
"""The bit of a command id that makes it a response."""


class Smpp:
    """The way for `Submit`.

    `patience` is how long connecting may take, and each answer of an SMSC to what is no message; `pause` is the first
    between two attempts at a session. Both are in seconds.
    """

    def __init__(self, *, patience: float = 5.0, pause: float = 0.5) -> None:
        self._patience = patience
        self._pause = pause
        self._sessions: dict[Bind, _Session] = {}

    def start(self, providers: Mapping[str, Binds], receive: Receive) -> None:
        """Open the sessions of these providers, and keep them open; `receive` is given what comes over them."""
        for name, provider in providers.items():
            session = _Session(provider.bind, receive, self._patience, self._pause)
            self._sessions.setdefault(provider.bind, session).providers[name] = provider
        for session in self._sessions.values():
            session.start()

    async def exchange(self, request: Submit) -> Response:
        """Submit a message. The status is the answer's command status, the body its message id; raises Undelivered."""
        session = self._sessions.get(request.bind)
        if session is None:
            raise Undelivered("there is no session")
        return Response(request, *await session.submit(request.parameters))

    async def close(self) -> None:
        """Take the receipts that are under way, and end the sessions."""
        await asyncio.gather(*[session.close() for session in self._sessions.values()])


class _Session:
    """A session with an SMSC; `providers` are those by name whose account it is."""

    def __init__(self, bind: Bind, receive: Receive, patience: float, pause: float) -> None:
        self.providers: dict[str, Binds] = {}
        self._bind = bind
        self._receive = receive
        self._patience = patience
        self._first_pause = self._pause = pause
        self._writer: asyncio.StreamWriter | None = None
        self._bound = asyncio.Event()
        self._refused = _OK
        self._room = asyncio.Semaphore(bind.window)
        self._sequence = itertools.cycle(range(1, 0x7FFFFFFF))
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._leaving = False

    def start(self) -> None:
        """Begin to open it, and to open it again whenever it ends."""
        self._task = asyncio.get_running_loop().create_task(self._hold())

    async def submit(self, parameters: Mapping[str, int | str | bytes]) -> tuple[int, dict[str, str], bytes]:
        """Send a message once there is room for it; the status, no headers, and the message id. Raises Undelivered."""
        if self._refused:
            return self._refused, {}, b""
        try:
            async with asyncio.timeout(self._patience):
                await self._bound.wait()
        except TimeoutError:
            raise Undelivered("there is no session") from None
        async with self._room:
            answer = await self._request("submit_sm", **parameters)
        return answer.status, {}, getattr(answer, "message_id", None) or b""

    async def close(self) -> None:
        """Let receipts be taken, say that we leave, and leave."""
        if self._task is None:
            return
        self._leaving = True
        await asyncio.gather(*self._taking)
        with contextlib.suppress(Undelivered, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._request("unbind")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _hold(self) -> None:
        names = ", ".join(self.providers)
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    trust = ssl.create_default_context() if self._bind.tls else None
                    reader, self._writer = await asyncio.open_connection(self._bind.host, self._bind.port, ssl=trust)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._read(reader, self._writer))
                    both.create_task(self._keep(names))
            except* Exception as ended:  # noqa: BLE001 - whatever ends a session, there has to be another
                error = type(ended.exceptions[0]).__name__
                if not self._leaving:
                    fields = {"provider": names, "error": error, "status": self._refused or None}
                    logger.warning("there is no SMPP session", extra={"fields": fields})
            finally:
                self._lose()
            if self._leaving:  # a TaskGroup whose task has failed swallows a cancellation (Python 3.11, 3.12)
                return
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _lose(self) -> None:
        """The session is over: what was asked in it stays unanswered."""
        self._bound.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Undelivered("the session was lost"))

    async def _keep(self, names: str) -> None:
        """Bind, then ask now and again whether the SMSC is there; raises TimeoutError when it is not."""
        bind = self._bind
        async with asyncio.timeout(self._patience):
            answer = await self._request(
                "bind_transceiver", system_id=bind.system_id, password=bind.password, system_type=bind.system_type
            )
        self._refused = answer.status
        if self._refused:
            raise Undelivered("the bind was refused")
        self._pause = self._first_pause
        self._bound.set()
        logger.info("there is an SMPP session", extra={"fields": {"provider": names}})
        while True:
            await asyncio.sleep(bind.enquire_link)
            async with asyncio.timeout(self._patience):
                await self._request("enquire_link")

    async def _request(self, command: str, **parameters: Any) -> Any:
        """Send a request and wait for its response; raises Undelivered when the session ends before."""
        if self._writer is None:
            raise Undelivered("there is no session")
        sequence = next(self._sequence)
        answer = self._waiting[sequence] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(_pdu(command, sequence, **parameters))
            return await answer
        finally:
            del self._waiting[sequence]

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read until the connection ends; raises OSError or EOFError then."""
        while True:
            head = await reader.readexactly(16)
            length, command, _, sequence = struct.unpack(">IIII", head)
            if not len(head) <= length <= _LONGEST_PDU:
                raise ConnectionError("what came is not SMPP")
            body = await reader.readexactly(length - len(head))
            try:
                pdu = parse_pdu(head + body, sequence=sequence, allow_unknown_opt_params=True)
            except (UnknownCommandError, struct.error, LookupError, TypeError, ValueError):
                if not command & _RESPONSE:
                    writer.write(_pdu("generic_nack", sequence, _INVALID_COMMAND))
                continue
            self._take(pdu, writer)

    def _take(self, pdu: Any, writer: asyncio.StreamWriter) -> None:
        """Do what a request asks, or hand a response to who waits for it."""
        match pdu.command:
            case "deliver_sm" if len(self._taking) < _MOST_RECEIPTS:
                task = asyncio.get_running_loop().create_task(self._deliver(pdu, writer))
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)
            case "deliver_sm":
                writer.write(_pdu("deliver_sm_resp", pdu.sequence, _TEMPORARY))
            case "enquire_link":
                writer.write(_pdu("enquire_link_resp", pdu.sequence))
            case "unbind":
                writer.write(_pdu("unbind_resp", pdu.sequence))
                raise ConnectionResetError("the SMSC has ended the session")
            case _ if not pdu.is_response():
                writer.write(_pdu("generic_nack", pdu.sequence, _INVALID_COMMAND))
            case _ if (waiting := self._waiting.get(pdu.sequence)) is not None and not waiting.done():
                waiting.set_result(pdu)

    async def _deliver(self, pdu: Any, writer: asyncio.StreamWriter) -> None:
        """Let a message be taken for a receipt, and only then say that it was."""
        message = Deliver(
            pdu.esm_class or 0,
            pdu.short_message or pdu.message_payload or b"",
            pdu.receipted_message_id or b"",
            pdu.message_state,
        )
        status = _OK
        try:
            for name, provider in self.providers.items():
                await self._receive(name, provider.delivered(message))
        except Unavailable:
            status = _TEMPORARY
        except Exception:  # a defect must not end the session
            logger.exception("a receipt was not taken")
            status = _TEMPORARY
        writer.write(_pdu("deliver_sm_resp", pdu.sequence, status))


def _pdu(command: str, sequence: int, status: int = _OK, **parameters: Any) -> bytes:
    """A PDU as it goes over the line."""
    pdu = make_pdu(command, sequence=sequence, **parameters)
    pdu.sequence, pdu.status = sequence, status
    written: bytes = pdu.generate()
    return written
