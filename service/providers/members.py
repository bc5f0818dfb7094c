"""What stands in JSON that a vendor wrote: whatever is of another type than documented is noise, and empty."""

from __future__ import annotations

from typing import Any


def text(said: object, *path: str) -> str:
    """The string at a path of names; empty when there is none."""
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    return said if isinstance(said, str) else ""


def objects(said: object) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [item for item in said if isinstance(item, dict)] if isinstance(said, list) else []


def first(said: object) -> dict[str, Any]:
    """The first object of a list; an empty one when there is none."""
    return next(iter(objects(said)), {})
