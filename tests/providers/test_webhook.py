"""The webhook provider: Standard Webhooks both ways."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import given
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook as StandardWebhook

from service import provider
from service.errors import Forged, Malformed
from service.provider import Accepted, Receipt, Rejected, Request, Status
from service.providers.webhook import Webhook
from tests.providers.examples import MESSAGE, NOW, answer, documented
from tests.providers.rubbish import JSON, understood
from tests.world import WEBHOOK_SECRET

OLD_SECRET = "whsec_waAYlymCMC4jDAh2JnmeQ1QGitye4Qy6"
VECTORS: list[dict[str, Any]] = documented("standard-webhooks")["vectors"]
GATEWAY = Webhook(url="https://gw.example/send", secret=SecretStr(WEBHOOK_SECRET), old_secret=SecretStr(OLD_SECRET))
DELIVERED = '{"type": "delivery.receipt", "data": {"status": "delivered", "message_id": "m1"}}'


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
    """And the body is the documented one."""
    request = GATEWAY.request(MESSAGE, NOW)
    assert isinstance(request, Request)
    with time_machine.travel(NOW, tick=False):
        StandardWebhook(WEBHOOK_SECRET).verify(request.body, dict(request.headers))
    said = json.loads(request.body)
    assert said["type"] == "delivery.send"
    assert said["data"]["code"] == "482913"
    assert said["data"]["expires_at"] == "2026-10-06T10:02:00.000Z"


def test_the_same_delivery_has_the_same_webhook_id() -> None:
    """So that the gateway can drop a message that comes twice."""
    first, second = (GATEWAY.request(MESSAGE, at) for at in (NOW, NOW + timedelta(hours=1)))
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == MESSAGE.delivery


def test_a_receipt_is_read_as_documented() -> None:
    """The message by the gateway's own id."""
    assert GATEWAY.receipts(signed(DELIVERED), NOW) == [Receipt(Status.DELIVERED, None, "m1")]


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b'{"message_id": "m1"}', Accepted("m1")),
        (200, b'{"message_id": 7}', Accepted("")),
        (422, b'{"reason": "landline"}', Rejected("landline")),
        (422, b'{"reason": "nobody knows"}', Rejected("unknown")),
        (422, b"", Rejected("unknown")),
    ],
)
def test_answers_are_read_as_documented(status: int, body: bytes, meaning: Accepted | Rejected) -> None:
    """2xx accepts, 422 gives the reason."""
    assert GATEWAY.read(answer(status, body)) == meaning


def test_a_retry_after_is_a_day_at_most() -> None:
    """Whatever number is sent, it can be reckoned with."""
    assert GATEWAY.read(answer(503, b"", retry_after="999999999")) == Rejected("provider_error", 86_400)


@pytest.mark.parametrize("when", ["soon", "-1", "9" * 400, "٣", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_a_retry_after_that_is_no_number_is_none(when: str) -> None:
    """The back-off is then our own."""
    assert GATEWAY.read(answer(503, b"", retry_after=when)) == Rejected("provider_error", None)


@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: object) -> None:
    """Wherever it stands; as it is in an answer."""
    shapes = [said, {"type": said}, {"type": "delivery.receipt", "data": said}]
    shapes += [{"type": "delivery.receipt", "data": {"status": said}}]
    shapes += [{"type": "delivery.receipt", "data": {"status": "failed", "reason": said}}]
    for shape in shapes:
        with suppress(Malformed):
            assert len(GATEWAY.receipts(signed(json.dumps(shape)), NOW)) <= 1
    understood(GATEWAY, said, {"message_id": said}, {"reason": said})


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "gw.example"},
        {"url": "ftp://gw.example/"},
        {"url": "https://user:password@gw.example/"},
        {"secret": "plain"},
        {"secret": "whsec_"},
        {"secret": "whsec_!"},
        {"secret": "whsec_AAAA"},
        {"secret": WEBHOOK_SECRET + "!!"},
        {"url": "https://gw.example:99999/"},
        {"url": "http://[::1/"},
        {"channels": []},
        {"channels": ["fax"]},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Webhook.model_validate({"url": "https://gw.example/", "secret": WEBHOOK_SECRET} | wrong)
