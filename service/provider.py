"""What a provider is.

A provider is a frozen class whose fields are its settings and whose methods are pure: they build a request, read a
response, authenticate a webhook and read receipts from it. They hold no connection, no clock and no policy; a word
of theirs that we do not know becomes `unknown`. The door (`service.door`) does the sending.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlencode

import orjson


class Channel(StrEnum):
    """A way to reach a person."""

    SMS = "sms"
    WHATSAPP = "whatsapp"
    VOICE = "voice"
    TELEGRAM = "telegram"
    EMAIL = "email"


class Status(StrEnum):
    """How far a delivery has come. Receipts move it forward only, in this order (`RANK`)."""

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    SENT = "sent"
    UNKNOWN = "unknown"
    REJECTED = "rejected"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reason for a failure says about the ways that are left."""

    recipient: bool
    """The recipient causes it: another provider on this channel would meet the same."""
    retry: bool
    """It may pass: the same provider can be asked again after a while."""
    next_provider: bool
    """Another provider on the same channel may succeed."""
    next_channel: bool
    """Another channel may succeed."""


REASONS: Mapping[str, Reason] = {
    "invalid_number": Reason(recipient=True, retry=False, next_provider=False, next_channel=False),
    "landline": Reason(recipient=True, retry=False, next_provider=False, next_channel=True),
    "not_on_channel": Reason(recipient=True, retry=False, next_provider=False, next_channel=True),
    "unreachable": Reason(recipient=True, retry=True, next_provider=False, next_channel=True),
    "opted_out": Reason(recipient=True, retry=False, next_provider=False, next_channel=True),
    "carrier_blocked": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "route": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "geo_blocked": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "fraud_blocked": Reason(recipient=False, retry=False, next_provider=False, next_channel=False),
    "guard": Reason(recipient=False, retry=False, next_provider=False, next_channel=False),
    "sender_config": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "auth": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "balance": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "request": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "rate_limited": Reason(recipient=False, retry=True, next_provider=True, next_channel=True),
    "provider_error": Reason(recipient=False, retry=True, next_provider=True, next_channel=True),
    "expired": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
    "cancelled": Reason(recipient=False, retry=False, next_provider=False, next_channel=False),
    "duplicate": Reason(recipient=False, retry=False, next_provider=False, next_channel=False),
    "unknown": Reason(recipient=False, retry=False, next_provider=True, next_channel=True),
}
"""Every reason that a delivery can fail for; a word that is not here is read as `unknown`."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be carried. The number, the text and the code never show in its `repr`."""

    delivery: str
    """`<verification id>.<n>`, the same whenever this delivery is tried again."""
    channel: Channel
    to: str = field(repr=False)
    text: str = field(repr=False)
    code: str = field(repr=False)
    locale: str
    application: str
    brand: str
    purpose: str
    expires_at: datetime
    receipt_url: str = field(repr=False)
    email: str = field(default="", repr=False)
    """Where a message on the channel `email` goes."""

    @property
    def reference(self) -> str:
        """The token of the receipt address, for providers that have one address for all: they hand it back."""
        return self.receipt_url.rpartition("/")[2]

    @property
    def provider(self) -> str:
        """The name of the provider that it goes by, as the receipt address has it."""
        return self.receipt_url.split("/")[-2]

    @property
    def line(self) -> Line:
        """What a terminal shows of it."""
        text = " | ".join(self.text.splitlines())
        return Line(f"[{self.application}] {self.channel} to {self.to}: {text}")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to a provider."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    method: str = "POST"
    next: Request | None = field(default=None, repr=False)
    """What is to follow; it stays here, for `read` to complete with the answer to this one."""

    @classmethod
    def json(cls, url: str, said: object, headers: Mapping[str, str] = MappingProxyType({})) -> Request:
        """A POST of JSON."""
        return cls(url, {"content-type": "application/json", **headers}, orjson.dumps(said))

    @classmethod
    def form(
        cls, url: str, fields: Iterable[tuple[str, str]], headers: Mapping[str, str] = MappingProxyType({})
    ) -> Request:
        """A POST of a form."""
        media = "application/x-www-form-urlencoded"
        return cls(url, {"content-type": media, **headers}, urlencode(list(fields)).encode())


@dataclass(frozen=True, slots=True)
class Line:
    """A line for the terminal that verifyd runs in."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail for a relay to carry. `content` is the whole of it as it goes over the line (RFC 5322)."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    login: tuple[str, str] | None = field(repr=False)
    """User name and password, if the relay wants them."""
    timeout: float
    """How long each of the relay's answers may take, in seconds."""
    sender: str
    """The address that bounces go to."""
    recipient: str = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bind:
    """A session with an SMSC (a carrier's centre for short messages), and what it is opened with: SMPP 3.4, 4.1.5."""

    host: str
    port: int
    tls: bool
    system_id: str
    password: str = field(repr=False)
    system_type: str
    window: int
    """Messages that may be on their way there without an answer."""
    enquire_link: float
    """Seconds after which the SMSC is asked whether it is still there."""


@dataclass(frozen=True, slots=True)
class Submit:
    """A short message for an SMSC: the parameters of its `submit_sm` by name (SMPP 3.4, 4.4.1)."""

    bind: Bind
    parameters: Mapping[str, int | str | bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deliver:
    """What an SMSC delivers by a `deliver_sm` (SMPP 3.4, 4.6.1), as far as receipts need it."""

    esm_class: int
    text: bytes = field(repr=False)
    """What is in `short_message`, else in `message_payload`."""
    receipted_message_id: bytes = b""
    message_state: int | None = None


@dataclass(frozen=True, slots=True)
class Simulation:
    """A message to a phone that is not there, and what is to become of it. Times are in seconds since it came."""

    message: Message
    refused: str | None = None
    """The reason for which it is not taken."""
    busy: bool = False
    """Whether it is told, the first time, to come again."""
    answered: float = 0.0
    """When its sender hears that it was taken."""
    receipts: tuple[tuple[float, Receipt], ...] = field(default=(), repr=False)
    """What is reported of it, and when."""
    shown: bool = False
    """Whether the terminal shows it, once it was taken."""


Outgoing: TypeAlias = Request | Line | Mail | Submit | Simulation
"""What the door can carry: one way out for each (`service.door`)."""


@dataclass(frozen=True, slots=True)
class Response:
    """A provider's answer to `request`; `body` is cut at `service.door.http.MAX_ANSWER` bytes."""

    request: Outgoing
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def json(self) -> dict[str, Any]:
        """The object in the body; empty when there is none."""
        said = _parsed_json(self.body)
        return said if isinstance(said, dict) else {}

    @property
    def retry_after(self) -> float | None:
        """`Retry-After` in seconds; its other form, a date, is read as none (RFC 9110, 10.2.3)."""
        header = self.headers.get("retry-after", "")
        return min(float(header), 86_400.0) if re.fullmatch(r"[0-9]{1,9}", header) else None

    def rejected(self, reason: str | None = None) -> Rejected:
        """A rejection for a reason; without one, for what the HTTP status says of it."""
        if reason is None and self.status >= 500:
            reason = "provider_error"
        return Rejected(reason or _HTTP_REASONS.get(self.status, "request"), self.retry_after)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the message; `message_id` is its own name for it, empty when it gives none."""

    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider does not take the message; `reason` is one of `REASONS`, `retry_after` in seconds if it says so."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """What a provider posted to us: the public URL, header names in lower case, the raw body."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        """The object in the body; empty when there is none."""
        said = _parsed_json(self.body)
        return said if isinstance(said, dict) else {}


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's report on a delivery: status and reason are two vocabularies."""

    status: Status
    reason: str | None = None
    message_id: str = ""
    delivery: str | None = None
    """What the authenticated body itself hands back of `Message.delivery` or `Message.reference`, where it does."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person answered to a message. Neither number nor text show in its `repr`."""

    number: str = field(repr=False)
    """As the provider writes it: international, with or without a plus."""
    channel: Channel
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Feedback:
    """Whether the code of a delivery was used. The number never shows in its `repr`."""

    message_id: str
    channel: Channel
    to: str = field(repr=False)
    """The E.164 number; empty once verifyd itself has forgotten it."""
    converted: bool


class Provider(Protocol):
    """What the rest of verifyd asks of a provider. Implementations are frozen and pure."""

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that this provider carries as it is configured."""

    def request(self, message: Message, now: datetime) -> Outgoing:
        """What to send for a message."""

    def read(self, response: Response) -> Accepted | Rejected | Outgoing:
        """What an answer means; or, where sending takes more than one request, the next."""

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:
        """The receipts in a webhook, once it is authenticated; raises Forged or Malformed."""


@runtime_checkable
class ShakesHands(Protocol):
    """A provider that asks, before it sends receipts, whether an address is ours."""

    def handshake(self, webhook: Webhook) -> bytes | None:
        """The answer; None when the webhook asks nothing. Raises Forged or Malformed."""


@runtime_checkable
class Subscribes(Protocol):
    """A provider whose receipts begin to come once we have said to it that we want them."""

    def confirmation(self, webhook: Webhook, now: datetime) -> Request | None:
        """How to say it; None when the webhook does not ask. Raises Forged or Malformed."""


@runtime_checkable
class SignsNonces(Protocol):
    """A provider whose signature leaves some webhooks' bodies out, but covers a nonce that each has of its own."""

    def nonce(self, webhook: Webhook) -> str | None:
        """The nonce of a webhook whose body its signature does not cover; None of any other."""


@runtime_checkable
class ReportsByMessageId(Protocol):
    """A provider whose receipts name only its own message id, so that ours is looked up."""

    by_message_id: ClassVar[bool]


@runtime_checkable
class HearsReplies(Protocol):
    """A provider that hands on what people answer."""

    def replies(self, webhook: Webhook, now: datetime) -> list[Reply]:
        """The replies in a webhook, once it is authenticated; raises Forged or Malformed."""


@runtime_checkable
class Binds(Protocol):
    """A provider that is spoken to over a session which is held open; its receipts come over that."""

    @property
    def bind(self) -> Bind:
        """The session."""

    def delivered(self, message: Deliver) -> list[Receipt]:
        """The receipts in a message from the SMSC; none in one from a person, or where nothing can be read."""


@runtime_checkable
class TakesFeedback(Protocol):
    """A provider that wants to know whether a code was used."""

    def feedback(self, feedback: Feedback, now: datetime) -> Request | None:
        """How to tell it; None where it does not want to know."""


@runtime_checkable
class LimitsCodes(Protocol):
    """A provider that does not carry codes of every length."""

    def longest_code(self, channel: Channel) -> int | None:
        """How many digits a code may have on this channel; None for any."""


@runtime_checkable
class LimitsAddresses(Protocol):
    """A provider that takes receipt addresses of so many characters at most."""

    longest_address: ClassVar[int]


_HTTP_REASONS = {
    401: "auth",
    402: "balance",
    403: "auth",
    404: "sender_config",
    408: "provider_error",
    425: "provider_error",
    429: "rate_limited",
}


def _parsed_json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
