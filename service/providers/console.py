"""The terminal as a phone: every message is one line on standard output. For trying out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service import provider
from service.errors import Forged
from service.provider import Accepted, Channel, Line, Message, Rejected, Response


class Console(BaseModel):
    """Prints messages; it has no settings, no answers and no receipts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["console"] = "console"

    @property
    def channels(self) -> frozenset[Channel]:
        """Every channel."""
        return frozenset(Channel)

    def request(self, message: Message, now: datetime) -> Line:  # noqa: ARG002 - a line needs no time
        """The message in one line."""
        return message.line

    def read(self, response: Response) -> Accepted | Rejected:  # noqa: ARG002 - the contract has an answer to read
        """A terminal takes everything."""
        return Accepted()

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[provider.Receipt]:  # noqa: ARG002 - as above
        """A terminal reports nothing, so whoever does is somebody else; raises Forged."""
        raise Forged("the console sends no receipts")
