"""E-mail: what relays are sent and what their replies mean, against aiosmtpd as the relay."""

from __future__ import annotations

import asyncio
import email
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.policy import SMTP as AS_SENT
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service.door import Door, mail
from service.errors import Forged, Undelivered
from service.provider import REASONS, Accepted, Channel, Mail, Message, Rejected, Response, Webhook
from service.providers import smtp
from service.providers.smtp import Smtp
from tests.certificate import self_signed
from tests.listening import close, listening
from tests.providers import examples
from tests.providers.examples import NOW
from tests.world import world

pytestmark = pytest.mark.anyio

SHOP = Smtp(host="127.0.0.1", sender="Shop <no-reply@shop.example>", username="shop", password=SecretStr("pass-phrase"))
OPEN = Smtp(host="127.0.0.1", sender="no-reply@shop.example", security="none")
ADDRESS = "ada.lovelace@example.com"
MESSAGE = replace(
    examples.MESSAGE,
    channel=Channel.EMAIL,
    text="Zoë's Shop: Ihr Anmeldecode lautet 482913. Gültig für 10 Min. Geben Sie ihn nicht weiter.",
    locale="de",
    brand="Zoë's Shop",
    email=ADDRESS,
)


class Relay:
    """What aiosmtpd asks when a command comes: keeps every message, and refuses what it is told to."""

    def __init__(self, **replies: str) -> None:
        self.replies = replies
        self.port = 0
        self.taken: list[Envelope] = []

    async def handle_MAIL(  # noqa: N802 - the name that aiosmtpd looks for
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802 - as above
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient."""
        envelope.rcpt_tos.append(address)
        return self.replies.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Take a message."""
        self.taken.append(envelope)
        return self.replies.get("DATA", "250 2.0.0 queued as 4XyZ")

    def message(self) -> EmailMessage:
        """The only message, as a mailbox would read it."""
        [envelope] = self.taken
        return read(cast("bytes", envelope.content))


def read(content: bytes) -> EmailMessage:
    """A message as the standard library reads it."""
    found = email.message_from_bytes(content, policy=AS_SENT)
    assert isinstance(found, EmailMessage)
    return found


@asynccontextmanager
async def serving(
    relay: Relay, tls: ssl.SSLContext | None = None, kind: type[SMTP] = SMTP, **options: Any
) -> AsyncIterator[Relay]:
    """The relay on a port of its own; `tls` from the first byte."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        sessions.append(kind(relay, hostname="relay.example", loop=loop, **options))
        return sessions[-1]

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=tls)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        await close(server)
        for one in sessions:
            hang_up(one)
        await server.wait_closed()
        await asyncio.sleep(0)


def hang_up(session: SMTP) -> None:
    """End a conversation without a word."""
    if session.transport is not None:
        cast("asyncio.Transport", session.transport).abort()


async def send(provider: Smtp, port: int, message: Message = MESSAGE) -> Accepted | Rejected:
    """Hand the message over, through the door."""
    door = Door({Mail: mail.Smtp()})
    try:
        return await door.send(provider.model_copy(update={"port": port}), message, NOW)
    finally:
        await door.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key with its certificate."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a relay with that certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def log_in(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object) -> AuthResult:
    """Whether somebody is who they say."""
    assert isinstance(given, LoginPassword)
    return AuthResult(success=given == LoginPassword(b"shop", b"pass-phrase"), handled=False)


async def sent_by_starttls(provider: Smtp, tls: ssl.SSLContext) -> tuple[Relay, Accepted | Rejected]:
    """What a relay that wants TLS and a password got, and answered."""
    async with serving(
        Relay(), tls_context=tls, require_starttls=True, authenticator=log_in, auth_required=True
    ) as there:
        return there, await send(provider, there.port)


async def test_a_message_arrives_as_it_was_meant() -> None:
    """From the sender to the address, the code in the first line, marked as one that no machine should answer."""
    async with serving(Relay()) as relay:
        assert await send(OPEN.model_copy(update={"sender": "Zoë's Shop <no-reply@shop.example>"}), relay.port) == (
            Accepted()
        )
    [envelope] = relay.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@shop.example", [ADDRESS])
    assert relay.message().get_content().splitlines() == [MESSAGE.text]
    assert dict(relay.message().items()) == {
        "From": "Zoë's Shop <no-reply@shop.example>",
        "To": ADDRESS,
        "Subject": "Zoë's Shop",
        "Date": "Tue, 06 Oct 2026 10:00:00 +0000",
        "Message-ID": "<att_7Q2f9cV1@shop.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "Content-Language": "de",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
        "MIME-Version": "1.0",
    }


@pytest.mark.parametrize(
    ("command", "reply", "reason"),
    [
        ("RCPT", "550 5.1.1 <ada.lovelace@example.com>: no such user", "not_on_channel"),
        ("RCPT", "550 no such user", "not_on_channel"),
        ("RCPT", "550 5.7.1 relaying denied", "carrier_blocked"),
        ("RCPT", "552 5.2.2 mailbox full", "unreachable"),
        ("RCPT", "556 5.1.10 null MX", "not_on_channel"),
        ("RCPT", "450 4.2.0 greylisted", "provider_error"),
        ("RCPT", "450 greylisted", "provider_error"),
        ("RCPT", "452 4.2.2 mailbox full", "unreachable"),
        ("RCPT", "450 4.1.2 no DNS just now", "provider_error"),
        ("MAIL", "550 5.1.8 no such domain", "sender_config"),
        ("MAIL", "553 not yours", "sender_config"),
        ("MAIL", "530 5.7.0 say STARTTLS", "carrier_blocked"),
        ("MAIL", "530 who are you", "auth"),
        ("MAIL", "421 4.7.0 too many connections", "rate_limited"),
        ("DATA", "451 4.3.0 no room", "provider_error"),
        ("DATA", "451 later", "provider_error"),
        ("DATA", "550 5.7.26 neither SPF nor DKIM", "sender_config"),
        ("DATA", "550 5.7.28 a flood", "rate_limited"),
        ("DATA", "554 5.7.1 spam", "carrier_blocked"),
        ("DATA", "554 5.9.99 who knows", "carrier_blocked"),
        ("DATA", "554 no", "carrier_blocked"),
    ],
)
async def test_a_refusal_has_its_reason(command: str, reply: str, reason: str) -> None:
    """By the enhanced status code, else by the reply code, else by what was refused."""
    async with serving(Relay(**{command: reply})) as relay:
        assert await send(OPEN, relay.port) == Rejected(reason)


async def test_a_password_goes_over_tls(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By STARTTLS, or from the first byte; the relay's certificate has to be trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    relay, outcome = await sent_by_starttls(SHOP, tls)
    assert outcome == Accepted()
    assert relay.message()["To"] == ADDRESS
    async with serving(Relay(), tls) as there:
        assert await send(OPEN.model_copy(update={"security": "tls"}), there.port) == Accepted()
    assert there.message()["To"] == ADDRESS


async def test_a_wrong_password_is_told(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault of the configuration: another provider may do."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    relay, outcome = await sent_by_starttls(SHOP.model_copy(update={"password": SecretStr("wrong")}), tls)
    assert (relay.taken, outcome) == ([], Rejected("auth"))


async def test_nothing_is_sent_to_a_relay_that_nobody_vouches_for(tls: ssl.SSLContext) -> None:
    """Its certificate is not trusted, or it has none: STARTTLS is not a wish."""
    relay, outcome = await sent_by_starttls(SHOP, tls)
    assert (relay.taken, outcome) == ([], Rejected("provider_error"))
    async with serving(Relay()) as there:
        assert await send(OPEN.model_copy(update={"security": "starttls"}), there.port) == Rejected("provider_error")
        assert await send(OPEN.model_copy(update={"security": "tls"}), there.port) == Rejected("provider_error")
    assert there.taken == []


async def test_a_relay_that_breaks_off_is_asked_again_later() -> None:
    """At once, in the middle, after nonsense; or there is none."""

    async def mute(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Say nothing."""

    async def faint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 relay\r\n", b"250 relay\r\n", b"250 OK\r\n"):
            writer.write(reply)
            await reader.readline()

    async def mad(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n\xff\xfe")

    for server in (mute, faint, mad):
        async with listening(server) as port:
            assert await send(OPEN, port) == Rejected("provider_error")
    assert await send(OPEN, port) == Rejected("provider_error")


async def test_a_silent_relay_is_not_waited_for() -> None:
    """Longer than its setting says."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        request = replace(OPEN.model_copy(update={"port": port}).request(MESSAGE, NOW), timeout=0.05)
        with pytest.raises(Undelivered, match="Timeout"):
            await mail.Smtp().exchange(request)


async def test_a_message_that_was_taken_is_taken_whatever_the_relay_says_to_quit() -> None:
    """Else it would go out again."""

    class Rude(SMTP):
        async def smtp_QUIT(self, arg: str) -> None:  # noqa: ARG002, N802 - overrides
            hang_up(self)

    async with serving(Relay(), kind=Rude) as relay:
        assert await send(OPEN, relay.port) == Accepted()
    assert len(relay.taken) == 1


async def test_a_step_by_mail_ends_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Through the whole service: no receipt will come, so its wait is waited out; no address is in a log."""
    caplog.set_level(logging.DEBUG)
    async with serving(Relay()) as relay:
        by_mail = OPEN.model_dump(exclude_none=True) | {"port": relay.port}
        cascade = [
            {"channel": "email", "providers": ["relay"], "wait": "20s"},
            {"channel": "sms", "providers": ["gw"], "wait": "20s"},
        ]
        gateway = {
            "kind": "webhook",
            "url": "https://gw.example",
            "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "channels": ["sms"],
        }
        top = {"providers": {"relay": by_mail, "gw": gateway, "voice": gateway}}
        async with world(_top=top, cascade=cascade) as one:
            started = await one.create(email=ADDRESS)
            found = await one.get(started["id"])
            assert [(d["provider"], d["status"]) for d in found["deliveries"]] == [("relay", "accepted")]
            code = relay.message().get_content().split("code is ")[1][:6]
            assert (await one.receipts.post("/receipts/relay", content=b"{}")).status_code == 401
            await one.travel(21)
            assert one.gateway.last.code == code
            assert (await one.check(started["id"], code))["valid"]
            await one.service.stop()
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("mail.")]
    assert [line for line in said if code in line or ADDRESS in line or "lovelace" in line] == []


def test_the_request_shows_neither_person_nor_code_nor_password() -> None:
    """However it is printed."""
    request = SHOP.request(MESSAGE, NOW)
    assert request.login == ("shop", "pass-phrase")
    for secret in (ADDRESS, MESSAGE.to, MESSAGE.code, "pass-phrase"):
        assert secret not in f"{request!r} {MESSAGE!r} {SHOP!r}"
    assert MESSAGE.to[1:] not in request.content.decode()
    assert MESSAGE.code not in request.content.decode().partition("\r\n\r\n")[0]


HEADERS = set(read(OPEN.request(MESSAGE, NOW).content).keys())


@settings(max_examples=100)
@given(
    brand=st.text(min_size=1, max_size=40), text=st.text(max_size=200), locale=st.sampled_from(["en", "zh-Hans", "ar"])
)
def test_nothing_in_a_message_can_become_a_header(brand: str, text: str, locale: str) -> None:
    """Whatever a brand or a text holds, there are the headers that we write, and one part."""
    content = OPEN.request(
        replace(MESSAGE, brand=f"{brand}\r\nBcc: eve@example.com", text=text, locale=locale), NOW
    ).content
    found = read(content)
    assert set(found.keys()) <= HEADERS
    assert len(found.keys()) == len(set(found.keys()))
    assert found["To"] == ADDRESS
    assert not found.is_multipart()
    assert content.isascii()
    assert max(len(line) for line in content.split(b"\r\n")) <= 998


@pytest.mark.parametrize(
    "address", ["a@b.c\r\nBcc: eve@example.com", "a@b.c, eve@example.com", "<a@b.c> SIZE=1", "", "a"]
)
def test_an_address_that_is_none_is_not_written_to(address: str) -> None:
    """The API lets none of these in; a message to them cannot be made either."""
    with pytest.raises((ValueError, IndexError, HeaderParseError)):
        OPEN.request(replace(MESSAGE, email=address), NOW)


@settings(max_examples=100)
@given(
    status=st.integers(200, 599),
    command=st.sampled_from(["CONNECT", "AUTH", "MAIL", "RCPT", "DATA", ""]),
    body=st.binary(max_size=20) | st.from_regex(rb"\A[245]\.[0-9]{1,3}\.[0-9]{1,3}( x)?\Z"),
)
def test_every_reply_means_something(status: int, command: str, body: bytes) -> None:
    """2xx accepts; what 4xx refuses may be tried again, here or on another channel."""
    outcome = OPEN.read(Response(OPEN.request(MESSAGE, NOW), status, {"command": command}, body))
    assert isinstance(outcome, Accepted) == (status < 300)
    if isinstance(outcome, Rejected):
        assert REASONS[outcome.reason].next_channel
        assert REASONS[outcome.reason].retry or status >= 500 or status < 300


def test_nobody_is_believed_as_a_receipt() -> None:
    """There are none."""
    with pytest.raises(Forged):
        SHOP.receipts(Webhook("https://otp.example.com/receipts/smtp", {}, b""), NOW)
    assert {*smtp._PERMANENT.values(), *smtp._CODES.values()} <= REASONS.keys()  # noqa: SLF001 - the tables


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"host": ""}, "host"),
        ({"host": "mail.example/x"}, "host"),
        ({"port": 0}, "port"),
        ({"security": "ssl"}, "security"),
        ({"sender": "Shop"}, "write an address"),
        ({"sender": "Shop <no-reply@shop.example>\r\nBcc: eve@example.com"}, "write an address"),
        ({"sender": "no-reply@localhost"}, "write an address"),
        ({"username": "shop"}, "or neither"),
        ({"password": "x"}, "or neither"),
        ({"username": "shop", "password": "x", "security": "none"}, "as it is"),
        ({"timeout": 11}, "timeout"),
        ({"api_url": "https://mail.example"}, "api_url"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"host": "mail.example", "sender": "no-reply@shop.example"}
    assert Smtp.model_validate(right).channels == {Channel.EMAIL}
    with pytest.raises(ValidationError, match=message):
        Smtp.model_validate({**right, **wrong})
