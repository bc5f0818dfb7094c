"""Amazon SNS: SMS by `Publish`, without receipts. A last resort: AWS End User Messaging (`aws`) reports, this does not.

Facts: botocore's model of SNS (1.43.11, the query protocol, which answers in XML) and
https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html. What became of a message stands only in CloudWatch.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import Field

from service import provider
from service.errors import Forged
from service.provider import Accepted, Channel, Message, Receipt, Rejected, Request, Response
from service.providers.aws_account import AwsAccount

_REASONS = {
    "AuthorizationError": "auth",
    "EndpointDisabled": "sender_config",
    "ExpiredToken": "auth",
    "InternalError": "provider_error",
    "InvalidClientTokenId": "auth",
    "InvalidSecurity": "auth",
    "NotFound": "sender_config",
    "SignatureDoesNotMatch": "auth",
    "Throttled": "rate_limited",
    "Throttling": "rate_limited",
    "ThrottlingException": "rate_limited",
}
"""By the `Code` of an error; what is not here is for the HTTP status to say."""


class Sns(AwsAccount):
    """An account, and the name that people see as the sender where their country allows one."""

    kind: Literal["sns"] = "sns"
    sms_from: Annotated[str, Field(pattern=r"^([A-Za-z0-9-]{1,11}|\+[0-9]{5,15})$")] | None = None

    @property
    def channels(self) -> frozenset[Channel]:
        """SMS; a sender is not needed, for SNS has its own."""
        return frozenset({Channel.SMS})

    def request(self, message: Message, now: datetime) -> Request:
        """A `Publish` to one number. SNS knows neither our name for it nor how long it is good."""
        attributes = {"AWS.SNS.SMS.SMSType": "Transactional"}
        if self.sms_from:
            is_number = self.sms_from.startswith("+")
            attributes["AWS.MM.SMS.OriginationNumber" if is_number else "AWS.SNS.SMS.SenderID"] = self.sms_from
        fields = [("Action", "Publish"), ("Version", "2010-03-31")]
        fields += [("PhoneNumber", message.to), ("Message", message.text)]
        for n, (name, value) in enumerate(attributes.items(), start=1):
            entry = f"MessageAttributes.entry.{n}"
            fields += [(f"{entry}.Name", name), (f"{entry}.Value.DataType", "String")]
            fields += [(f"{entry}.Value.StringValue", value)]
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        return self.signed("sns", headers, urlencode(fields).encode(), now)

    def read(self, response: Response) -> Accepted | Rejected:
        """A `MessageId`, or an error with its `Code`."""
        if response.accepted:
            return Accepted(_element("MessageId", response.body))
        return response.rejected(_REASONS.get(_element("Code", response.body)))

    def receipts(self, webhook: provider.Webhook, now: datetime) -> list[Receipt]:  # noqa: ARG002 - nobody is believed
        """SNS reports nothing on what it published, so whoever does is somebody else; raises Forged."""
        raise Forged("SNS sends no receipts")


def _element(name: str, body: bytes) -> str:
    """The text of the first element of that name; the answers of SNS are flat and their words plain."""
    found = re.search(rf"<{name}>([A-Za-z0-9._-]{{1,200}})</{name}>".encode(), body)
    return found[1].decode() if found else ""
