"""Which of the languages that a provider has is the nearest to a person's."""

from __future__ import annotations

from collections.abc import Mapping


def nearest(locale: str, table: Mapping[str, str]) -> str | None:
    """What a table of locales has for one or, with its last parts dropped one by one, the nearest (RFC 4647, 3.4)."""
    while locale and locale not in table:
        locale = locale.rpartition("-")[0]
    return table.get(locale)
