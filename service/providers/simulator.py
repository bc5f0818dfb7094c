"""A provider for trying and testing: nothing is sent, and the last two digits of a number choose what happens.

What it takes is in the inbox (`service.inbox`); the way `service.door.simulator` plays what is chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service import provider
from service.errors import Forged
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Response, Simulation, Status
from service.providers.members import text
from service.providers.settings import Duration


class Behaviour(StrEnum):
    """What can happen to a message."""

    DELIVERED = "delivered"
    LATE = "delivered late"
    FAILED = "failed by receipt"
    SILENT = "silent"
    REJECTED = "rejected"
    LANDLINE = "rejected as landline"
    ABSENT = "not on this channel"
    BUSY = "429, then accepted"
    SLOW = "slow"
    REPEATED = "duplicate receipts"
    MIXED = "receipts out of order"
    EARLY = "receipt before the answer"


def _everywhere(one: Behaviour) -> tuple[Behaviour, Behaviour, Behaviour]:
    return one, one, one


ENDINGS: Mapping[str, tuple[Behaviour, Behaviour, Behaviour]] = {
    "01": _everywhere(Behaviour.LATE),
    "02": (Behaviour.FAILED, Behaviour.DELIVERED, Behaviour.DELIVERED),
    "03": (Behaviour.SILENT, Behaviour.DELIVERED, Behaviour.DELIVERED),
    "04": (Behaviour.REJECTED, Behaviour.DELIVERED, Behaviour.DELIVERED),
    "05": (Behaviour.LANDLINE, Behaviour.LANDLINE, Behaviour.DELIVERED),
    "06": (Behaviour.SILENT, Behaviour.ABSENT, Behaviour.DELIVERED),
    "07": (Behaviour.FAILED, Behaviour.ABSENT, Behaviour.DELIVERED),
    "08": _everywhere(Behaviour.BUSY),
    "09": _everywhere(Behaviour.SLOW),
    "10": _everywhere(Behaviour.REPEATED),
    "11": _everywhere(Behaviour.MIXED),
    "12": _everywhere(Behaviour.EARLY),
    "13": _everywhere(Behaviour.SILENT),
    "14": _everywhere(Behaviour.FAILED),
}
"""By the last two digits of a number: what happens by SMS, by WhatsApp and Telegram, by voice and e-mail.

Whatever is sent to other numbers is delivered.
"""

_COLUMNS = {Channel.SMS: 0, Channel.WHATSAPP: 1, Channel.TELEGRAM: 1, Channel.VOICE: 2, Channel.EMAIL: 2}
_REFUSED = {
    Behaviour.REJECTED: "carrier_blocked",
    Behaviour.LANDLINE: "landline",
    Behaviour.ABSENT: "not_on_channel",
}


def behaviour(number: str, channel: Channel) -> Behaviour:
    """What happens to a message for this number over this channel."""
    return ENDINGS.get(number[-2:], _everywhere(Behaviour.DELIVERED))[_COLUMNS[channel]]


class Simulator(BaseModel):
    """A phone for every number. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["simulator"] = "simulator"
    channels: frozenset[Channel] = Field(default=frozenset(Channel), min_length=1)
    delay: Annotated[Duration, Field(ge=1, le=900)] = 1
    late: Annotated[Duration, Field(ge=1, le=900)] = 30
    slow: Annotated[Duration, Field(ge=1, le=900)] = 5
    open: bool = False

    def request(self, message: Message, now: datetime) -> Simulation:  # noqa: ARG002 - its times count from its coming
        """The message with its script."""
        does = behaviour(message.to, message.channel)
        answered = {Behaviour.SLOW: self.slow, Behaviour.EARLY: 2 * self.delay}.get(does, 0)
        return Simulation(
            message,
            refused=_REFUSED.get(does),
            busy=does is Behaviour.BUSY,
            answered=answered,
            receipts=tuple(
                (after, Receipt(status, reason, message.delivery, message.reference))
                for after, status, reason in self._reported(does)
            ),
            shown=self.open,
        )

    def _reported(self, does: Behaviour) -> list[tuple[float, Status, str | None]]:
        soon = self.delay
        match does:
            case Behaviour.SILENT:
                return []
            case Behaviour.LATE:
                return [(self.late, Status.DELIVERED, None)]
            case Behaviour.SLOW:
                return [(self.slow + soon, Status.DELIVERED, None)]
            case Behaviour.FAILED:
                return [(soon, Status.SENT, None), (2 * soon, Status.FAILED, "unreachable")]
            case Behaviour.REPEATED:
                return [(soon, Status.DELIVERED, None)] * 3
            case Behaviour.MIXED:
                return [(soon, Status.READ, None), (2 * soon, Status.DELIVERED, None), (3 * soon, Status.SENT, None)]
        return [(soon, Status.DELIVERED, None)]

    def read(self, response: Response) -> Accepted | Rejected:
        """2xx accepts; anything else rejects, for a reason in its body or for what its status says."""
        if response.accepted:
            return Accepted(text(response.json, "message_id"))
        return response.rejected(text(response.json, "reason") or None)

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - the contract has both
        """Its receipts come from within, so whoever posts one is somebody else; raises Forged."""
        raise Forged("the simulator posts no receipts")
