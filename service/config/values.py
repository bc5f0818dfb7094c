"""Values that several tables of the file have, and what every table is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.guard.limits import Rate, seconds


def duration(value: object) -> object:
    """The seconds in `"10m"`; anything else as it is. Raises ValueError for a text that is no duration."""
    return seconds(value) if isinstance(value, str) else value


def _rate(value: object) -> Rate:
    return Rate.parse(value if isinstance(value, str) else "")


Duration = Annotated[int, BeforeValidator(duration)]
RateText = Annotated[Rate, BeforeValidator(_rate)]
Prefix = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{0,14}$")]


class Section(BaseModel):
    """A table of the file. Unknown keys are told by `service.config.reading`, so that they come with a suggestion."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, arbitrary_types_allowed=True)
