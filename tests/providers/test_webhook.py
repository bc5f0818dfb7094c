"""The webhook provider: Standard Webhooks both ways."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook as StandardWebhook

from service import provider
from service.errors import BadWebhook, Forged
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status
from service.providers.webhook import Webhook
from tests.world import WEBHOOK_SECRET

OLD_SECRET = "whsec_waAYlymCMC4jDAh2JnmeQ1QGitye4Qy6"
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "standard-webhooks.json").read_text()
)["vectors"]
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
GATEWAY = Webhook(url="https://gw.example/send", secret=SecretStr(WEBHOOK_SECRET), old_secret=SecretStr(OLD_SECRET))
MESSAGE = Message(
    delivery="ver_00aaaaaaaaaaaaaaaaaaaa.0",
    channel=Channel.SMS,
    to="+447400123456",
    text="Shop: 123456",
    code="123456",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW,
    receipt_url="https://otp.example.com/receipts/gw/x",
)
REQUEST = Request("https://gw.example/send", {}, b"")


def webhook(body: str, headers: dict[str, str]) -> provider.Webhook:
    """A webhook as the listener hands it on."""
    return provider.Webhook("https://otp.example.com/receipts/gw/x", headers, body.encode())


def signed(body: str, secret: str = WEBHOOK_SECRET) -> provider.Webhook:
    """A webhook that is rightly signed at `NOW`."""
    signature = StandardWebhook(secret).sign("m", NOW, body)
    headers = {"webhook-id": "m", "webhook-timestamp": str(int(NOW.timestamp())), "webhook-signature": signature}
    return webhook(body, headers)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["description"] for vector in VECTORS])
def test_signatures_are_judged_as_by_the_reference(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with, at its own time."""
    gateway = Webhook(url="https://gw.example/", secret=SecretStr(vector["secret"]))
    given_webhook = webhook(vector["body"], vector["headers"])
    now = datetime.fromtimestamp(vector["now"], UTC)
    if vector["valid"]:
        assert gateway.receipts(given_webhook, now) == []
    else:
        with pytest.raises(Forged):
            gateway.receipts(given_webhook, now)


def test_the_reference_library_accepts_what_we_sign() -> None:
    """And the body is the documented one, with nothing secret in URL or headers."""
    request = GATEWAY.request(MESSAGE, NOW)
    assert isinstance(request, Request)
    with time_machine.travel(NOW, tick=False):
        StandardWebhook(WEBHOOK_SECRET).verify(request.body, dict(request.headers))
    said = json.loads(request.body)
    assert said["type"] == "delivery.send"
    assert said["data"]["code"] == "123456"
    assert said["data"]["expires_at"] == "2026-11-01T12:00:00.000Z"
    public = f"{request.url} {sorted(request.headers.items())} {request!r} {MESSAGE!r} {GATEWAY!r}"
    assert not any(secret in public for secret in ("123456", "+4474", WEBHOOK_SECRET, OLD_SECRET))


def test_the_same_delivery_has_the_same_webhook_id() -> None:
    """So that the gateway can drop a message that comes twice."""
    first, second = (GATEWAY.request(MESSAGE, at) for at in (NOW, datetime(2026, 11, 1, 13, tzinfo=UTC)))
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == MESSAGE.delivery


def test_both_secrets_are_taken_while_one_is_changed() -> None:
    """The new one signs; receipts may come under either."""
    body = '{"type": "delivery.receipt", "data": {"status": "delivered", "message_id": "m1"}}'
    for secret in (WEBHOOK_SECRET, OLD_SECRET):
        assert GATEWAY.receipts(signed(body, secret), NOW) == [Receipt(Status.DELIVERED, None, "m1")]
    with pytest.raises(Forged):
        GATEWAY.receipts(signed(body, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), NOW)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b'{"message_id": "m1"}', Accepted("m1")),
        (202, b"", Accepted("")),
        (200, b'{"message_id": 7}', Accepted("")),
        (422, b'{"reason": "landline"}', Rejected("landline")),
        (422, b'{"reason": "nobody knows"}', Rejected("unknown")),
        (422, b"", Rejected("unknown")),
        (429, b"", Rejected("rate_limited", 7.0)),
        (500, b"", Rejected("provider_error", 7.0)),
        (503, b"", Rejected("provider_error", 7.0)),
        (401, b"", Rejected("auth", 7.0)),
        (404, b"", Rejected("sender_config", 7.0)),
        (408, b"", Rejected("provider_error", 7.0)),
        (400, b"", Rejected("request", 7.0)),
        (302, b"", Rejected("request", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: bytes, meaning: Accepted | Rejected) -> None:
    """2xx accepts, 422 gives the reason, 429 and 5xx are transient, the rest is our request's fault."""
    assert GATEWAY.read(Response(REQUEST, status, {"retry-after": "7"}, body)) == meaning


def test_a_retry_after_is_a_day_at_most() -> None:
    """Whatever number is sent, it can be reckoned with."""
    assert GATEWAY.read(Response(REQUEST, 503, {"retry-after": "999999999"}, b"")) == Rejected("provider_error", 86_400)


@pytest.mark.parametrize("when", ["soon", "-1", "9" * 400, "٣", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_a_retry_after_that_is_no_number_is_none(when: str) -> None:
    """The back-off is then our own."""
    assert GATEWAY.read(Response(REQUEST, 503, {"retry-after": when}, b"")) == Rejected("provider_error", None)


@given(
    body=st.binary(max_size=200),
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(max_size=40)
    ),
)
def test_rubbish_never_raises_anything_but_the_documented_errors(body: bytes, headers: dict[str, str]) -> None:
    """Neither as a webhook nor as an answer."""
    with pytest.raises(BadWebhook):
        GATEWAY.receipts(provider.Webhook("https://x.example/", headers, body), NOW)
    for status in (200, 422, 500):
        assert isinstance(GATEWAY.read(Response(REQUEST, status, headers, body)), (Accepted, Rejected))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inside: st.lists(inside)))
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands."""
    shapes = [said, {"type": said}, {"type": "delivery.receipt", "data": said}]
    shapes += [{"type": "delivery.receipt", "data": {"status": said}}]
    shapes += [{"type": "delivery.receipt", "data": {"status": "failed", "reason": said}}]
    for shape in shapes:
        try:
            receipts = GATEWAY.receipts(signed(json.dumps(shape)), NOW)
        except BadWebhook:
            continue
        assert all(isinstance(receipt, Receipt) for receipt in receipts)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "gw.example", "secret": WEBHOOK_SECRET},
        {"url": "ftp://gw.example/", "secret": WEBHOOK_SECRET},
        {"url": "https://user:password@gw.example/", "secret": WEBHOOK_SECRET},
        {"url": "https://gw.example/", "secret": "plain"},
        {"url": "https://gw.example/", "secret": "whsec_"},
        {"url": "https://gw.example/", "secret": "whsec_!"},
        {"url": "https://gw.example/", "secret": "whsec_AAAA"},
        {"url": "https://gw.example/", "secret": WEBHOOK_SECRET + "!!"},
        {"url": "https://gw.example:99999/", "secret": WEBHOOK_SECRET},
        {"url": "http://[::1/", "secret": WEBHOOK_SECRET},
        {"url": "https://gw.example/", "secret": WEBHOOK_SECRET, "channels": []},
        {"url": "https://gw.example/", "secret": WEBHOOK_SECRET, "channels": ["fax"]},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Webhook.model_validate(settings)
