"""The same questions to every provider, whatever it is.

Each is asked as its own tests set it up: the first adapter that their file names.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from service.errors import BadWebhook, Forged
from service.provider import (
    REASONS,
    Accepted,
    Channel,
    Feedback,
    HearsReplies,
    Line,
    Message,
    Provider,
    Receipt,
    Rejected,
    Reply,
    Request,
    Response,
    ShakesHands,
    TakesFeedback,
    Webhook,
)
from service.providers import KINDS
from service.providers.console import Console
from service.providers.simulator import Simulator
from service.texts import Texts

NOW = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
NUMBER, CODE = "+447400123456", "90817263"
TOKEN = "ver_00aaaaaaaaaaaaaaaaaaaa.0.Zk3vB1xq8LwT5yRj2NcPdA"
TEXTS = Texts()


LOCAL: dict[str, Provider] = {"console": Console(), "simulator": Simulator()}
"""Those that send nothing over a network, and need no settings."""


@cache
def adapter(kind: str) -> Any:
    """The provider as its own tests set it up."""
    if kind in LOCAL:
        return LOCAL[kind]
    there = vars(import_module(f"tests.providers.test_{kind}")).values()
    return next(one for one in there if isinstance(one, KINDS[kind]))


OVER_HTTP = [kind for kind in KINDS if kind not in {"console", "simulator", "smpp", "smtp"}]
"""The others have no URL, no headers and no status of HTTP: their own tests ask what is asked of these here."""
SENDS = [(kind, channel) for kind in OVER_HTTP for channel in sorted(adapter(kind).channels)]


def message(channel: Channel, locale: str = "en", *, kind: str = "x") -> Message:
    """A message with a number, a code and a text that can be known again."""
    return Message(
        delivery=TOKEN.rpartition(".")[0],
        channel=channel,
        to=NUMBER,
        text=TEXTS.render(channel, "login", locale, code=CODE, brand="Shop", minutes=10),
        code=CODE,
        locale=locale,
        application="shop",
        brand="Shop",
        purpose="login",
        expires_at=NOW + timedelta(minutes=10),
        receipt_url=f"https://otp.example.com/receipts/{kind}/{TOKEN}",
    )


def request(kind: str, channel: Channel, locale: str = "en") -> Request:
    """What the provider is sent."""
    made = adapter(kind).request(message(channel, locale, kind=kind), NOW)
    assert isinstance(made, Request)
    return made


def secrets(model: BaseModel) -> dict[str, str]:
    """The secret settings of an adapter, by name."""
    return {name: value.get_secret_value() for name, value in model if isinstance(value, SecretStr)}


def spellings(secret: str) -> set[str]:
    """A word as it may hide in a URL or a header."""
    raw = secret.encode()
    return {secret, quote(secret, safe=""), raw.hex(), base64.b64encode(raw).decode().rstrip("=")}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_provider_and_frozen(kind: str) -> None:
    """It carries something, says its kind, and cannot be changed."""
    one = adapter(kind)
    provider: Provider = one
    assert provider.channels
    assert provider.channels <= frozenset(Channel)
    assert one.kind == kind
    with pytest.raises(ValidationError):
        one.kind = "other"
    with pytest.raises(ValidationError):
        type(one).model_validate({**one.model_dump(), "colour": "red"})


@pytest.mark.parametrize("kind", KINDS)
def test_its_repr_hides_its_secrets(kind: str) -> None:
    """However it is printed."""
    one = adapter(kind)
    for secret in secrets(one).values():
        assert secret not in f"{one!r} {one} {one.model_dump()}"


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_of_it_can_be_empty(kind: str) -> None:
    """A variable of the environment that was forgotten is found at once, not when the first code is sent."""
    one = adapter(kind)
    hidden = [name for name, field in type(one).model_fields.items() if "SecretStr" in str(field.annotation)]
    assert secrets(one).keys() <= set(hidden)
    for name in hidden:
        with pytest.raises(ValidationError) as refused:
            type(one).model_validate({**dict(one), name: ""})
        assert [fault["loc"] for fault in refused.value.errors()] == [(name,)]


@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",
        "ftp://api.example.com",
        "https://user:password@api.example.com",
        "https://api.example.com?a=b",
    ],
)
def test_what_is_no_address_of_an_api_is_refused(kind: str, url: str) -> None:
    """Wherever an address is set: paths are put behind it."""
    one = adapter(kind)
    names = [name for name in type(one).model_fields if name.endswith("_url")]
    assert names or kind == "webhook"
    for name in names:
        with pytest.raises(ValidationError) as refused:
            type(one).model_validate({**dict(one), name: url})
        assert [fault["loc"] for fault in refused.value.errors()] == [(name,)]


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_every_reason_is_one_of_ours(kind: str) -> None:
    """Else a failure would lead nowhere; the gateway's are ours by contract."""
    there = vars(import_module(type(adapter(kind)).__module__)).items()
    tables = [table for name, table in there if re.fullmatch(r"_.*(REASONS|REFUSALS|FAILURES|ENDINGS|BLOCKS)", name)]
    assert tables or kind == "webhook"
    assert {reason for table in tables for reason in table.values()} <= REASONS.keys()


@pytest.mark.parametrize(("kind", "channel"), SENDS)
def test_number_and_code_are_in_the_body_and_nowhere_else(kind: str, channel: Channel) -> None:
    """Never in the URL, never in a header, never in the `repr`."""
    following: Request | None = request(kind, channel)
    while (made := following) is not None:
        body = made.body.decode()
        assert NUMBER[1:] in body
        public = f"{made.url} {dict(made.headers)} {made!r} {message(channel)!r}"
        for secret in (CODE, ", ".join(CODE), NUMBER[1:], NUMBER[3:]):
            assert not [spelling for spelling in spellings(secret) if spelling in public]
        assert not [secret for secret in secrets(adapter(kind)).values() if secret in f"{made.url} {made!r}"]
        following = made.next


def test_a_call_says_the_code_digit_by_digit() -> None:
    """So that spelling is looked for, too, where no code may be."""
    assert ", ".join(CODE) in message(Channel.VOICE).text


IN_A_HEADER = {
    "africastalking": "api_key",
    "aws": "session_token",
    "dexatel": "api_key",
    "infobip": "api_key",
    "messagebird": "access_key",
    "meta": "access_token",
    "msg91": "auth_key",
    "prelude": "api_key",
    "sinch": "api_token",
    "sns": "session_token",
    "telegram": "api_token",
    "telnyx": "api_key",
}
"""The secret that goes along as it is, where one does."""


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_no_secret_is_in_a_header_but_the_one_that_opens_the_door(kind: str) -> None:
    """What signs is never shown, nor what receipts come with."""
    headers = str([dict(request(kind, channel).headers) for channel in adapter(kind).channels])
    shown = {name for name, secret in secrets(adapter(kind)).items() if secret in headers}
    assert shown == ({IN_A_HEADER[kind]} if kind in IN_A_HEADER else set())


@pytest.mark.parametrize(("kind", "channel"), SENDS)
def test_the_same_message_is_the_same_request(kind: str, channel: Channel) -> None:
    """An adapter has no clock and no chance of its own."""
    assert request(kind, channel) == request(kind, channel)


@pytest.mark.parametrize(("kind", "channel"), SENDS)
def test_every_locale_can_be_sent(kind: str, channel: Channel) -> None:
    """Also one that nobody has heard of."""
    for locale in (*TEXTS.locales, "tlh", "x-y-z"):
        assert request(kind, channel, locale).url.startswith(("https://", "http://"))


ANSWERS = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inside: (
            st.lists(inside, max_size=2)
            | st.dictionaries(
                st.sampled_from(["messages", "status", "error", "code", "errors", "data", "id", "result", "value"]),
                inside,
                max_size=3,
            )
        ),
        max_leaves=6,
    ).map(lambda value: repr(value).replace("'", '"').replace("None", "null").lower().encode()),
)


@pytest.mark.parametrize("kind", OVER_HTTP)
@settings(max_examples=60)
@given(status=st.integers(100, 599), body=ANSWERS)
def test_any_answer_means_something(kind: str, status: int, body: bytes) -> None:
    """Accepted, or rejected for a reason that the cascade knows; never an exception, nor requests without an end."""
    one = adapter(kind)
    outcome = one.request(message(min(one.channels), kind=kind), NOW)
    for _ in range(2):
        if isinstance(outcome, Request):
            outcome = one.read(Response(outcome, status, {}, body))
    assert isinstance(outcome, (Accepted, Rejected))
    if isinstance(outcome, Rejected):
        assert outcome.reason in REASONS


STATUSES = {
    302: "request",
    400: "request",
    401: "auth",
    402: "balance",
    403: "auth",
    404: "sender_config",
    405: "request",
    408: "provider_error",
    425: "provider_error",
    429: "rate_limited",
    500: "provider_error",
    502: "provider_error",
    503: "provider_error",
    504: "provider_error",
}
"""What a status of HTTP says by itself."""


@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize("status", STATUSES)
def test_an_answer_without_words_is_read_by_its_status(kind: str, status: int) -> None:
    """Server errors and throttling may pass for everybody, after a while that the answer says."""
    one = adapter(kind)
    for channel in one.channels:
        made = one.request(message(channel, kind=kind), NOW)
        for body in (b"", b"{}", b"null", b"<html>"):
            assert one.read(Response(made, status, {"retry-after": "7"}, body)) == Rejected(STATUSES[status], 7.0)


@pytest.mark.parametrize("kind", [kind for kind in OVER_HTTP if kind != "telegram"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"7", b"<html>", b"\xff"])
def test_an_answer_without_an_id_accepts_all_the_same(kind: str, body: bytes) -> None:
    """Else what was taken would go out again. Telegram is asked twice: its own tests tell the answers apart."""
    one = adapter(kind)
    for channel in one.channels:
        made = one.request(message(channel, kind=kind), NOW)
        for status in (200, 201, 202):
            assert one.read(Response(made, status, {}, body)) == Accepted("")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    body=st.binary(max_size=80) | st.sampled_from([b"{}", b"[]", b'{"type": 1}', b"a=b&a=c", b'{"data": []}']),
    query=st.sampled_from(["", "?a=b", "?status=delivered&id=1"]),
    headers=st.dictionaries(st.sampled_from(["content-type", "authorization", "x-signature"]), st.text(max_size=9)),
)
def test_a_strangers_webhook_is_forged_malformed_or_nothing(
    kind: str, body: bytes, query: str, headers: dict[str, str]
) -> None:
    """Never an exception of another kind, and never a receipt, where the provider signs."""
    one = adapter(kind)
    webhook = Webhook(f"https://otp.example.com/receipts/{kind}/{TOKEN}{query}", headers, body)
    for ask in (one.receipts, *([lambda hook, _: one.handshake(hook)] if isinstance(one, ShakesHands) else [])):
        try:
            said = ask(webhook, NOW)
        except BadWebhook:
            continue
        assert said is None or said == [] or all(isinstance(receipt, Receipt) for receipt in said)
        assert not said or kind in UNSIGNED


@pytest.mark.parametrize("kind", [kind for kind in KINDS if isinstance(adapter(kind), HearsReplies)])
@settings(max_examples=60)
@given(
    body=st.binary(max_size=80) | st.sampled_from([b"{}", b"From=%2B447400123456&Body=STOP", b'{"results": []}']),
    query=st.sampled_from(["", "?secret=", "?secret=a&secret=b", "?msisdn=447400123456&text=STOP&sig="]),
    headers=st.dictionaries(st.sampled_from(["content-type", "authorization", "x-signature"]), st.text(max_size=9)),
)
def test_a_stranger_speaks_for_nobody(kind: str, body: bytes, query: str, headers: dict[str, str]) -> None:
    """Whoever could say STOP for others would cut them off: without its provider's proof no reply is believed."""
    with pytest.raises(Forged):
        adapter(kind).replies(Webhook(f"https://otp.example.com/inbound/{kind}{query}", headers, body), NOW)


def test_a_reply_shows_neither_number_nor_text() -> None:
    """However it is printed."""
    assert f"{Reply(NUMBER, Channel.SMS, CODE)!r}" == "Reply(channel=<Channel.SMS: 'sms'>)"


UNSIGNED = {"infobip"}
"""Whose receipts are kept honest by the token in their path alone."""


def test_a_webhook_shows_neither_headers_nor_body() -> None:
    """However it is printed."""
    assert repr(Webhook("x", {"authorization": CODE}, NUMBER.encode())) == "Webhook(url='x')"


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_feedback_names_no_person(kind: str) -> None:
    """Where a provider wants to know of conversions, the number is in the body or nowhere."""
    one = adapter(kind)
    switched_on = one.model_copy(update={"conversions": True} if "conversions" in type(one).model_fields else {})
    ask = switched_on.feedback if isinstance(one, TakesFeedback) else lambda *_: None
    for channel in one.channels:
        for converted in (True, False):
            told = Feedback("SM" + "0" * 32, channel, NUMBER, converted=converted)
            assert NUMBER[1:] not in repr(told)
            made = ask(told, NOW)
            if made is not None:
                public = f"{made.url} {dict(made.headers)} {made!r}"
                assert not [spelling for spelling in spellings(NUMBER[1:]) if spelling in public]
                assert not [secret for secret in secrets(one).values() if secret in made.url]
                assert (NUMBER[1:] in made.body.decode()) == (kind in BY_NUMBER)


BY_NUMBER = {"prelude"}
"""Who is told of conversions by number; all others by the message's id alone."""


def test_the_console_prints_a_line() -> None:
    """It is the one that sends nothing over a network."""
    made = Console().request(message(Channel.SMS), NOW)
    assert isinstance(made, Line)
    assert CODE in made.text
    assert CODE not in repr(made)
