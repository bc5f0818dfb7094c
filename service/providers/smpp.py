"""SMPP 3.4, to a carrier's or an aggregator's SMSC: SMS.

Receipts come over the session that messages go by, or over that of another replica, and name only the SMSC's own id of
a message. Their text holds the beginning of the message, hence the code. A text that is longer than one SMS goes as
`message_payload`, which the SMSC divides: it has one id, and one receipt, however many parts there are.

Sources: SMPP 3.4, issue 1.2: 4.4 (submit_sm), 4.6 (deliver_sm), 5.1.3 (command_status), 5.2.28 (message_state),
7.1.1 (time), appendix B (text of receipts).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from smpplib.gsm import gsm_encode

from service.errors import Forged
from service.provider import (
    Accepted,
    Bind,
    Channel,
    Deliver,
    Message,
    Receipt,
    Rejected,
    Response,
    Status,
    Submit,
    Webhook,
)
from service.providers.settings import Sender
from service.segments import measure

_REASONS = {
    0x01: "request",  # ESME_RINVMSGLEN
    0x04: "provider_error",  # ESME_RINVBNDSTS
    0x05: "provider_error",  # ESME_RALYBND
    0x08: "provider_error",  # ESME_RSYSERR
    0x0A: "sender_config",  # ESME_RINVSRCADR
    0x0B: "invalid_number",  # ESME_RINVDSTADR
    0x0D: "auth",  # ESME_RBINDFAIL
    0x0E: "auth",  # ESME_RINVPASWD
    0x0F: "auth",  # ESME_RINVSYSID
    0x14: "rate_limited",  # ESME_RMSGQFUL
    0x15: "sender_config",  # ESME_RINVSERTYP
    0x45: "provider_error",  # ESME_RSUBMITFAIL
    0x48: "sender_config",  # ESME_RINVSRCTON
    0x49: "sender_config",  # ESME_RINVSRCNPI
    0x50: "request",  # ESME_RINVDSTTON
    0x51: "request",  # ESME_RINVDSTNPI
    0x53: "sender_config",  # ESME_RINVSYSTYP
    0x58: "rate_limited",  # ESME_RTHROTTLED
    0x62: "request",  # ESME_RINVEXPIRY
    0x64: "provider_error",  # ESME_RX_T_APPN
    0x65: "carrier_blocked",  # ESME_RX_P_APPN
    0x66: "carrier_blocked",  # ESME_RX_R_APPN
    0xFE: "provider_error",  # ESME_RDELIVERYFAILURE
    0xFF: "provider_error",  # ESME_RUNKNOWNERR
}
"""By command_status; those from 0x400 on are each vendor's own."""
_STATES = ("", "ENROUTE", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD")
"""The words of the text by the number of message_state."""
_RECEIPTS = {
    "ENROUTE": (Status.SENT, None),
    "ACCEPTD": (Status.SENT, None),
    "DELIVRD": (Status.DELIVERED, None),
    "EXPIRED": (Status.FAILED, "expired"),
    "UNDELIV": (Status.FAILED, "unreachable"),
    "REJECTD": (Status.FAILED, "carrier_blocked"),
    "DELETED": (Status.FAILED, "unknown"),
}
_RECEIPT, _TYPE = 0x04, 0x3C
"""Of esm_class: an SMSC's delivery receipt, among the bits for the type of a message (5.2.12)."""
_INTERNATIONAL, _ALPHANUMERIC, _UNKNOWN = (1, 1), (5, 0), (0, 0)
"""Type of number and numbering plan (5.2.5, 5.2.6)."""
_GSM, _UCS2 = 0, 8
"""Of data_coding (5.2.19): the SMSC's own alphabet, as a rule that of GSM, a character to an octet; and UCS-2."""


def _password(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{1,8}", value.get_secret_value()):
        raise ValueError("write 1 to 8 ASCII characters: SMPP has room for no more")
    return value


class Smpp(BaseModel):
    """The account at the SMSC, who sends, and how it writes the ids of messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_message_id: ClassVar[bool] = True

    kind: Literal["smpp"] = "smpp"
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65_535)] = 2775
    tls: bool = False
    system_id: Annotated[str, Field(pattern=r"^[!-~]{1,15}$")]
    password: Annotated[SecretStr, AfterValidator(_password)]
    system_type: Annotated[str, Field(pattern=r"^[!-~]{0,12}$")] = ""
    sms_from: Sender
    sms_from_ton: Annotated[int, Field(ge=0, le=6)] | None = None
    sms_from_npi: Annotated[int, Field(ge=0, le=18)] | None = None
    window: Annotated[int, Field(ge=1, le=1000)] = 10
    enquire_link: Annotated[int, Field(ge=1, le=600)] = 30
    message_ids: Literal["same", "hex-decimal", "decimal-hex"] = "same"

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS alone."""
        return frozenset({Channel.SMS})

    @property
    def bind(self) -> Bind:
        """The session that messages and receipts go over."""
        return Bind(
            host=self.host,
            port=self.port,
            tls=self.tls,
            system_id=self.system_id,
            password=self.password.get_secret_value(),
            system_type=self.system_type,
            window=self.window,
            enquire_link=self.enquire_link,
        )

    def request(self, message: Message, now: datetime) -> Submit:
        """A `submit_sm` that is good for as long as the code, with a receipt wanted of what became of it."""
        ton, npi = _kind_of(self.sms_from)
        coding, text = _written(message.text)
        return Submit(
            self.bind,
            {
                "source_addr_ton": ton if self.sms_from_ton is None else self.sms_from_ton,
                "source_addr_npi": npi if self.sms_from_npi is None else self.sms_from_npi,
                "source_addr": self.sms_from.removeprefix("+"),
                "dest_addr_ton": _INTERNATIONAL[0],
                "dest_addr_npi": _INTERNATIONAL[1],
                "destination_addr": message.to.removeprefix("+"),
                "validity_period": _relative(message.expires_at - now),
                "registered_delivery": 1,
                "data_coding": coding,
                "short_message" if measure(message.text).count == 1 else "message_payload": text,
            },
        )

    def read(self, response: Response) -> Accepted | Rejected:
        """ESME_ROK with the message's id; or why not, be it of the message or of the session."""
        if response.status != 0:
            return Rejected(_REASONS.get(response.status, "unknown"))
        base = {"same": 0, "hex-decimal": 16, "decimal-hex": 10}[self.message_ids]
        return Accepted(_id(response.body, base))

    def delivered(self, message: Deliver) -> list[Receipt]:
        """What a receipt says by its parameters, else by its text."""
        if message.esm_class & _TYPE != _RECEIPT:
            return []
        text = re.split(rb"(?i)\btext:", message.text, maxsplit=1)[0]  # behind it is the message, with whatever words
        said = {key.lower(): value for key, value in re.findall(rb"(?i)\b(id|stat):([!-~]+)", text)}
        word = said.get(b"stat", b"").decode().upper()
        if message.message_state is not None and message.message_state < len(_STATES):
            word = _STATES[message.message_state]
        base = {"same": 0, "hex-decimal": 10, "decimal-hex": 16}[self.message_ids]
        name = _id(message.receipted_message_id or said.get(b"id", b""), base)
        if not word or not name:
            return []
        status, reason = _RECEIPTS.get(word, (Status.UNKNOWN, None))
        return [Receipt(status, reason, name)]

    def receipts(self, webhook: Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nobody is believed
        """They come over the session, so whoever posts one is somebody else; raises Forged."""
        raise Forged("SMPP posts no receipts")


def _kind_of(sender: str) -> tuple[int, int]:
    """Type of number and numbering plan of a number, a name or a short code."""
    if sender.startswith("+") or re.fullmatch(r"[0-9]{7,15}", sender):
        return _INTERNATIONAL
    return _UNKNOWN if sender.isdecimal() else _ALPHANUMERIC


def _written(text: str) -> tuple[int, bytes]:
    """A text and its coding: in the alphabet of GSM if that can hold it."""
    if measure(text).encoding == "gsm7":
        try:
            return _GSM, gsm_encode(text)
        except UnicodeError:  # smpplib lacks a character or two of the alphabet
            pass
    return _UCS2, text.encode("utf-16-be")


def _relative(left: timedelta) -> str:
    """A time from now on, as YYMMDDhhmmsstnnR; at least a second."""
    seconds = max(1, int(left.total_seconds()))
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"0000{days:02}{hour:02}{minute:02}{second:02}000R"


def _id(written: bytes, base: int) -> str:
    """The id of a message; where answers and receipts write it in different bases (`base` is not 0), in decimal."""
    name = written.decode("ascii", "replace")
    try:
        return str(int(name, base)) if base else name
    except ValueError:
        return name
