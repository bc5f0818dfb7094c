"""What vendors document, as `tests/data` keeps it: the message that their examples send, and how answers look."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.provider import Channel, Message, Request, Response, Status

NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
MESSAGE = Message(
    delivery="att_7Q2f9cV1",
    channel=Channel.SMS,
    to="+14155550123",
    text="482913 is your code",
    code="482913",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW + timedelta(minutes=2),
    receipt_url="https://otp.example.com/receipts/vendor/att_7Q2f9cV1",
)
SPOKEN = "Your code is 4, 8, 2, 9, 1, 3."

STATES = {
    "accepted": Status.ACCEPTED,
    "sent": Status.SENT,
    "unknown": Status.UNKNOWN,
    "failed": Status.FAILED,
    "failed_transient": Status.FAILED,
    "failed_permanent": Status.FAILED,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
}
"""What the examples call how far a delivery has come."""

REQUEST = Request("https://api.example.com/", {}, b"")
"""What is answered, where it does not matter."""


def documented(path: str) -> Any:
    """A file of `tests/data`, by its path there without its ending."""
    return json.loads((Path(__file__).parent.parent / "data" / f"{path}.json").read_bytes())


def answer(status: int, said: object, *, retry_after: str = "", to: Request = REQUEST) -> Response:
    """An answer to a send: bytes as they are, anything else in JSON."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return Response(to, status, {"retry-after": retry_after} if retry_after else {}, body)
