"""Types that settings of several providers have, and what they say together: secrets, pairs, channels."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from service.guard.limits import seconds
from service.provider import Channel


def _api_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s/?#]+)*", value):
        raise ValueError(
            "write an absolute https:// URL (http:// inside a trusted network), without a password, a query or a slash "
            "at its end"
        )
    return value


ApiUrl = Annotated[str, AfterValidator(_api_url)]
"""What the paths of an API are put behind."""


def _duration(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration)]
"""Seconds, written as `"30s"`."""

Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]

E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
Number = Annotated[str, Field(pattern=r"^\+?[0-9]{7,15}$")]
"""A number with or without its plus, for vendors that want none."""
Sender = Annotated[str, Field(pattern=r"^(\+?[0-9]{3,15}|[ -~]{1,11})$")]
"""A number, a short code, or a name in the 11 characters that a mobile network has room for (3GPP TS 23.040)."""


def plain(*secrets: SecretStr | None) -> list[str]:
    """The secrets that are set, in the clear: that in use, then the one that it replaced."""
    return [secret.get_secret_value() for secret in secrets if secret is not None]


def together(**values: object) -> None:
    """Check that these settings are all written, or none of them. Raises ValueError."""
    if len({value is None for value in values.values()}) > 1:
        raise ValueError(f"write {' and '.join(values)}, or neither")


def carried(**senders: object) -> frozenset[Channel]:
    """The channels, by name, that somebody or something sends on."""
    return frozenset(Channel(name) for name, sender in senders.items() if sender)
