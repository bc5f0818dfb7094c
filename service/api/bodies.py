"""The bodies that callers send, each read and judged as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from service.api.problems import Problem
from service.code import MAX_LENGTH, MIN_LENGTH
from service.provider import Channel

_DIGITS = rf"^[0-9]{{{MIN_LENGTH},{MAX_LENGTH}}}$"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@({_LABEL}\.)+{_LABEL}$"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_HOST = rf"^({_LABEL}\.)*{_LABEL}$"


def _address(value: str) -> str:
    try:
        return ip_address(value.replace("%", " ")).compressed  # without a zone, which has no meaning elsewhere
    except ValueError:
        raise ValueError("write an IPv4 or IPv6 address") from None


def _written(value: object) -> object:
    """Only RFC 3339: pydantic would read a number, too, in seconds or in milliseconds."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("write a time as 2030-01-31T12:00:00Z")
    return value


def _ahead(value: datetime) -> datetime:
    if value <= datetime.now(UTC):
        raise ValueError("write a time that is still to come")
    return value


Address = Annotated[str, Field(max_length=45), AfterValidator(_address)]
Text = Annotated[str, Field(min_length=1, max_length=128)]
Code = Annotated[str, Field(pattern=_DIGITS)]
To = Annotated[str, Field(min_length=1, max_length=64)]
LimitName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Until = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written), AfterValidator(_ahead)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Body(BaseModel):
    """A JSON object without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Nothing: a body holds numbers and codes."""
        return []


class TransactionBody(Body):
    """What the code authorizes (PSD2)."""

    amount: Annotated[str, Field(min_length=1, max_length=32)]
    payee: Annotated[str, Field(min_length=1, max_length=64)]


class Signals(Body):
    """What the caller knows of the person's connection and device, for the guard."""

    ip: Address | None = None
    device_id: Text | None = None
    user_agent: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    session_id: Text | None = None
    trusted: bool = False
    challenge_passed: bool = False


class CreateBody(Body):
    """`POST /verifications`."""

    to: To
    country: Country | None = None
    channel: Channel | None = None
    cascade: Annotated[list[Channel], Field(min_length=1, max_length=len(Channel))] | None = None
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")] | None = None
    purpose: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "login"
    email: Annotated[str, Field(pattern=_EMAIL, max_length=254)] | None = Field(default=None, validate_default=True)
    code: Code | None = None
    transaction: TransactionBody | None = None
    app_hash: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{11}$")] | None = None
    webotp_domain: Annotated[str, Field(pattern=_HOST, max_length=253)] | None = None
    signals: Signals | None = None
    limit_keys: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Text], Field(max_length=5)
    ] = {}
    metadata: Annotated[dict[Text, Annotated[str, Field(max_length=128)]], Field(max_length=10, default_factory=dict)]

    @field_validator("cascade")
    @classmethod
    def _one_order(cls, cascade: list[Channel] | None, info: ValidationInfo) -> list[Channel] | None:
        if cascade is not None and info.data.get("channel") is not None:
            raise ValueError("give `channel` or `cascade`, not both")
        if cascade is not None and len(set(cascade)) < len(cascade):
            raise ValueError("a channel is named twice")
        return cascade

    @field_validator("email")
    @classmethod
    def _an_address(cls, email: str | None, info: ValidationInfo) -> str | None:
        asked = [info.data.get("channel"), *(info.data.get("cascade") or ())]
        if email is None and Channel.EMAIL in asked:
            raise ValueError("needed for the channel email")
        return email


class CheckBody(Body):
    """`POST /verifications/check`."""

    id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    to: To | None = Field(default=None, validate_default=True)
    country: Country | None = None
    code: Code
    transaction: TransactionBody | None = None

    @field_validator("to")
    @classmethod
    def _one_name(cls, to: str | None, info: ValidationInfo) -> str | None:
        if "id" in info.data and (info.data["id"] is None) == (to is None):
            raise ValueError("give `id` or `to`, one of them")
        return to


class ResendBody(Body):
    """`POST /verifications/{id}/resend`; may be left out."""

    channel: Channel | None = None


class CancelBody(Body):
    """`POST /verifications/{id}/cancel`; may be left out."""


class FeedbackBody(Body):
    """`POST /verifications/{id}/feedback`."""

    converted: bool


class InboxBody(Body):
    """`POST /inbox/{id}`."""

    receipt: Literal["delivered", "failed", "none"]


class HandBody(Body):
    """Why something is done by hand, by whom (default: the API), and until when it holds (default: for good)."""

    reason: Text
    author: Text | None = None
    until: Until | None = None


class UnmarkBody(Body):
    """`DELETE /guard/prefixes/{prefix}`, `DELETE /guard/numbers/{number}`: why and by whom; may be left out."""

    reason: Text | None = None
    author: Text | None = None


class PrefixBody(HandBody):
    """`PUT /guard/prefixes/{prefix}`."""

    action: Literal["block", "allow", "release"]


class NumberBody(HandBody):
    """`PUT /guard/numbers/{number}`."""

    action: Literal["trust", "deny"]


B = TypeVar("B", bound=Body)

Error = dict[str, str]
"""What is wrong in a request: its `path` and a `message`."""


def read(model: type[B], raw: bytes, also: Sequence[Error] = ()) -> B:
    """Read a body; an empty one is read as `{}`. Raises Problem with all its errors, and those known already."""
    errors = list(also)
    try:
        body = model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        if any(one["type"] == "json_invalid" for one in found):
            raise Problem("invalid_json", "write a JSON object in UTF-8") from None
        errors += [{"path": _path(one["loc"]), "message": _message(one)} for one in found]
    if errors:
        raise invalid(errors)
    return body


def strange(query: Iterable[str], *known: str) -> list[Error]:
    """What is wrong with the names of a query's parameters: a misspelt one would be passed over in silence."""
    return [{"path": f"query.{name[:64]}", "message": "unknown parameter"} for name in query if name not in known]


def invalid(errors: Sequence[Error]) -> Problem:
    """The problem that tells of all that is wrong in a request."""
    detail = "; ".join(f"{error['path']}: {error['message']}" for error in errors)
    return Problem("invalid_request", detail, {"errors": errors})


def _path(places: tuple[int | str, ...]) -> str:
    # The caller's own names of fields are cut: they are echoed, and might be anything.
    return ".".join(str(place)[:64] for place in places if place != "[key]") or "body"


def _message(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "needed"
        case "string_pattern_mismatch":
            return f"write {_SHAPES[str(error['loc'][0])]}"
    return error["msg"].removeprefix("Value error, ")


_SHAPES = {
    "country": "an ISO 3166-1 alpha-2 code in capitals, for example GB",
    "locale": "a BCP 47 tag, for example pt-BR",
    "purpose": "small letters, digits, - and _, a letter first, at most 32",
    "code": f"{MIN_LENGTH} to {MAX_LENGTH} digits",
    "email": "an e-mail address in ASCII, for example user@example.com",
    "app_hash": "the 11 characters of the app's hash",
    "webotp_domain": "a host name, for example shop.example.com",
    "limit_keys": "names of small letters, digits and _, a letter first, at most 32",
}
