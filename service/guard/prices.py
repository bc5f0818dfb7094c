"""What a message costs: by country, channel and, where the operator says so, provider.

The list that comes with verifyd has the price of an SMS by country, with its sources at its head. It is at the level of
public list prices, so an operator who has a contract gives a list of their own.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

CHANNEL_FACTORS: Final[Mapping[str, float]] = {
    "sms": 1.0,
    "voice": 2.0,
    "whatsapp": 0.6,
    "telegram": 0.2,
    "email": 0.01,
}
"""What a channel costs where no list has it, in SMS to the same country.

A call is paid for by the minute begun, at about the price of an SMS to a cheap mobile and at several times it to the
dear ones, where fraud is: two is high for the first and low for the last, and a list of one's own is right for both.
A WhatsApp authentication template costs some half of an SMS where Meta publishes both (its rate cards by market), a
Telegram code a cent, an e-mail next to nothing.
"""

UNLISTED: Final = "*"
"""In place of a country: every one that the list does not have."""

SHIPPED: Final = Path(__file__).with_name("prices.csv")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one message, in one currency. `rows` are by country, channel and provider (empty: any)."""

    rows: Mapping[tuple[str, str, str], float]
    currency: str = "USD"

    def price(self, country: str, channel: str = "sms", provider: str = "") -> float:
        """What a message costs; where the list lacks the channel, its factor times an SMS."""
        for place in (country, UNLISTED):
            for name in (provider, ""):
                found = self.rows.get((place, channel, name))
                if found is not None:
                    return found
        if channel != "sms":
            return CHANNEL_FACTORS.get(channel, 1.0) * self.price(country, "sms", provider)
        return max(self.rows.values())

    def weight(self, country: str, channel: str, provider: str = "") -> float:
        """What a message costs in SMS to the same country."""
        sms = self.price(country)
        return self.price(country, channel, provider) / sms if sms else 1.0

    @property
    def countries(self) -> frozenset[str]:
        """The countries that the list has."""
        return frozenset(country for country, _, _ in self.rows) - {UNLISTED}

    @property
    def whole(self) -> bool:
        """Whether the list says what an SMS to any country costs."""
        return (UNLISTED, "sms", "") in self.rows

    def over(self, others: Prices) -> Prices:
        """These prices, and those of the others where these have none."""
        return Prices({**others.rows, **self.rows}, self.currency)


@cache
def shipped() -> Prices:
    """The list that comes with verifyd, in US dollars."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return Prices({(row["iso2"], "sms", ""): float(row["usd_per_sms"]) for row in rows})


def read(text: str, currency: str = "USD") -> Prices:
    """Read the operator's own list: CSV with the columns `country`, `price` and, if wanted, `channel` and `provider`.

    `country` is ISO 3166-1 alpha-2, or `*` for all others. Lines that begin with `#` are passed over. Raises ValueError
    with the number of the line that cannot be read.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or not {"country", "price"} <= set(lines[0].split(",")):
        raise ValueError("the first line names the columns: country,price and, if wanted, channel and provider")
    rows: dict[tuple[str, str, str], float] = {}
    for number, row in enumerate(csv.DictReader(lines), 1):
        country, price = row["country"], _amount(row["price"])
        if price is None or not re.fullmatch(r"[A-Z]{2}|001|\*", country):
            raise ValueError(f"price {number}: write a country in two capitals or *, and what one message costs")
        rows[country, row.get("channel") or "sms", row.get("provider") or ""] = price
    return Prices(rows, currency)


def _amount(text: str | None) -> float | None:
    try:
        amount = float(text or "")
    except ValueError:
        return None
    return amount if 0 <= amount < math.inf else None
