"""E-mail by SMTP, to a relay of the operator's: a mail server or a vendor's submission service.

There are no receipts. A relay that has taken a message may still bounce it, to the sender's mailbox, which nobody reads
here; so the step ends in silence or a check. The subject is the brand alone, because relays log subjects.

Sources: RFC 5321 (reply codes), RFC 3463 with its registry at https://www.iana.org/assignments/smtp-enhanced-status-codes
(enhanced status codes), RFC 3834 (automatic messages).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.errors import Forged
from service.provider import Accepted, Channel, Mail, Message, Receipt, Rejected, Response, Webhook
from service.providers.settings import Secret, Text, together

_TRANSIENT = {
    "2.1": "unreachable",  # disabled: a mailbox is not put right while a code is good
    "2.2": "unreachable",  # full
    "7": "rate_limited",
}
"""What a refusal that may pass is for, by subject and detail of its enhanced status code, else by the subject alone."""
_PERMANENT = {
    "1.7": "sender_config",  # bad syntax of the sender's address
    "1.8": "sender_config",  # bad domain of the sender
    "1": "not_on_channel",
    "2.3": "request",  # too long
    "2": "unreachable",  # disabled, full
    "3": "provider_error",
    "4": "route",
    "5": "request",
    "6": "request",
    "7.3": "auth",
    "7.8": "auth",
    "7.9": "auth",
    "7.11": "auth",
    "7.13": "auth",
    "7.14": "auth",
    "7.20": "sender_config",  # DKIM, SPF, reverse DNS and their kin, from here to 7.27
    "7.21": "sender_config",
    "7.22": "sender_config",
    "7.23": "sender_config",
    "7.24": "sender_config",
    "7.25": "sender_config",
    "7.26": "sender_config",
    "7.27": "sender_config",
    "7.28": "rate_limited",
    "7": "carrier_blocked",
}
"""The same for one that will not pass."""
_CODES = {
    521: "not_on_channel",  # the domain takes no mail
    530: "auth",
    534: "auth",
    535: "auth",
    538: "auth",
    551: "not_on_channel",
    552: "unreachable",  # over its quota
    556: "not_on_channel",  # the domain takes no mail
}
"""And by reply code, where there is no enhanced one."""
_COMMANDS = {
    "AUTH": "auth",
    "MAIL": "sender_config",
    "RCPT": "not_on_channel",
    "DATA": "carrier_blocked",
}
"""And by the command that was refused, where the reply code says nothing but that it was."""

_MAILBOX = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}"
_AS_BYTES = SMTP.clone(cte_type="7bit")
"""So that every relay takes it, with 8BITMIME or without."""


def _sender(value: str) -> str:
    if not value.isprintable() or not re.fullmatch(_MAILBOX, parseaddr(value)[1]):
        raise ValueError('write an address, or a name with one: "Shop <no-reply@shop.example>"')
    return value


class Smtp(BaseModel):
    """The relay, how to log in there, and who sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["smtp"] = "smtp"
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Text | None = None
    password: Secret | None = None
    sender: Annotated[str, AfterValidator(_sender)]
    timeout: Annotated[int, Field(ge=1, le=10)] = 5

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Smtp:
        together(username=self.username, password=self.password)
        if self.password is not None and self.security == "none":
            raise ValueError('a password needs security = "starttls" or "tls": it would go over the line as it is')
        return self

    @property
    def channels(self) -> frozenset[Channel]:
        """E-mail alone."""
        return frozenset({Channel.EMAIL})

    def request(self, message: Message, now: datetime) -> Mail:
        """The message as an e-mail; tried again it has the same `Message-ID`, so that mailboxes may drop a second."""
        name, address = parseaddr(self.sender)
        mail = EmailMessage(policy=_AS_BYTES)
        mail["From"] = Address(name, addr_spec=address)
        mail["To"] = Address(addr_spec=message.email)
        mail["Subject"] = " ".join(message.brand.split())
        mail["Date"] = now
        mail["Message-ID"] = f"<{message.delivery}@{address.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Auto-Response-Suppress"] = "All"  # the same for Exchange, which does not know Auto-Submitted
        mail.set_content(message.text)
        mail["Content-Language"] = message.locale
        return Mail(
            host=self.host,
            port=self.port,
            security=self.security,
            login=(self.username, self.password.get_secret_value()) if self.username and self.password else None,
            timeout=self.timeout,
            sender=address,
            recipient=message.email,
            content=mail.as_bytes(),
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx to the whole message accepts; 4xx may pass, 5xx does not (RFC 5321, 4.2.1)."""
        if response.accepted:
            return Accepted()
        status = re.match(rb"[245]\.([0-9]{1,3}\.[0-9]{1,3})(?![0-9.])", response.body)
        detail = status[1].decode() if status else ""
        if response.status < 500:
            return Rejected(_enhanced(_TRANSIENT, detail) or "provider_error")
        reason = _enhanced(_PERMANENT, detail) or _CODES.get(response.status)
        return Rejected(reason or _COMMANDS.get(response.headers.get("command", ""), "route"))

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nobody is believed
        """A relay reports nothing here, so whoever does is somebody else; raises Forged."""
        raise Forged("SMTP sends no receipts")


def _enhanced(table: Mapping[str, str], detail: str) -> str | None:
    """What an enhanced status code means: its subject and detail together, else its subject."""
    return table.get(detail) or table.get(detail.partition(".")[0])
