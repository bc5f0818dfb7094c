"""SMTP out: a connection for each message, to the relay that its provider names.

A relay close by takes a message in a few round trips, and nothing can be wrong with a connection that nobody kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from service.errors import Undelivered
from service.provider import Mail, Response

_COMMANDS: dict[type[SMTPResponseException], str] = {
    SMTPAuthenticationError: "AUTH",
    SMTPSenderRefused: "MAIL",
    SMTPRecipientRefused: "RCPT",
    SMTPDataError: "DATA",
}
_FAREWELL = 2.0
"""Seconds that a relay has to answer QUIT; nothing waits for it but the end of the process."""


class Smtp:
    """The way for `Mail`."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def exchange(self, request: Mail) -> Response:
        """Hand a message to its relay; what settles it is the answer.

        The status is the code of that reply, the body its text, and the header `command` what it was a reply to. Raises
        Undelivered, also when the relay does not offer the security that is wanted: nothing is sent then.
        """
        client = SMTP(
            hostname=request.host,
            port=request.port,
            local_hostname=request.sender.rpartition("@")[2],
            timeout=request.timeout,
            use_tls=request.security == "tls",
            start_tls=request.security == "starttls",
            tls_context=None if request.security == "none" else self._context(),
        )
        try:
            answer = await self._hand_over(client, request)
        except BaseException:  # also when the time is over: what is left of a conversation cannot be ended politely
            client.close()
            raise
        leaving = asyncio.get_running_loop().create_task(_leave(client))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return answer

    async def close(self) -> None:
        """Wait until every relay was told that we leave."""
        await asyncio.gather(*self._leaving)

    async def _hand_over(self, client: SMTP, request: Mail) -> Response:
        try:
            await client.connect()
            if request.login is not None:
                await client.login(*request.login)
            await client.mail(request.sender)
            await client.rcpt(request.recipient)
            code, text = await client.data(request.content)
            command = "DATA"
        except SMTPResponseException as error:
            code, text, command = error.code, error.message, _COMMANDS.get(type(error), "CONNECT")
        except (SMTPException, OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from None
        return Response(request, code, {"command": command}, text.encode())

    def _context(self) -> ssl.SSLContext:
        """What relays are trusted by: loading it takes longer than a message."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


async def _leave(client: SMTP) -> None:
    """Say QUIT, as RFC 5321 (4.1.1.10) wants it; the message is settled, whatever the relay says to that."""
    with contextlib.suppress(SMTPException, OSError):
        await client.quit(timeout=_FAREWELL)
    client.close()
