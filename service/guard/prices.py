"""What a message costs: by country, channel and, where the operator says so, provider.

The list that comes with verifyd has the price of an SMS by country, with its sources at its head. It is at the level of
public list prices, so an operator who has a contract gives a list of their own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

CHANNEL_FACTORS: Final[Mapping[str, float]] = {"sms": 1.0, "voice": 2.0, "whatsapp": 0.6}
"""What a channel costs where no list has it, in SMS to the same country.

A call is paid for by the minute begun, at about the price of an SMS to a cheap mobile and at several times it to the
dear ones, where fraud is: two is high for the first and low for the last, and a list of one's own is right for both.
A WhatsApp authentication template costs some half of an SMS where Meta publishes both (its rate cards by market).
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
        for name in (provider, ""):
            found = self.rows.get((country, channel, name))
            if found is not None:
                return found
        if channel != "sms":
            return CHANNEL_FACTORS.get(channel, 1.0) * self.price(country, "sms", provider)
        return self.rows.get((UNLISTED, "sms", ""), max(self.rows.values()))

    def weight(self, country: str, channel: str, provider: str = "") -> float:
        """What a message costs in SMS to the same country."""
        sms = self.price(country)
        return self.price(country, channel, provider) / sms if sms else 1.0

    @property
    def countries(self) -> frozenset[str]:
        """The countries that the list has."""
        return frozenset(country for country, _, _ in self.rows) - {UNLISTED}

    def over(self, others: Prices) -> Prices:
        """These prices, and those of the others where these have none."""
        return Prices({**others.rows, **self.rows}, self.currency)


@cache
def shipped() -> Prices:
    """The list that comes with verifyd, in US dollars."""
    rows = csv.DictReader(_lines(SHIPPED.read_text(encoding="utf-8").splitlines()))
    return Prices({(row["iso2"], "sms", ""): float(row["usd_per_sms"]) for row in rows})


def load(path: Path, currency: str = "USD") -> Prices:
    """Read the operator's own list: a CSV with the columns `country`, `price` and, if wanted, `channel`, `provider`.

    `country` is ISO 3166-1 alpha-2, or `*` for all others. Lines that begin with `#` are passed over. Raises OSError,
    and ValueError with the number of the line that cannot be read.
    """
    rows: dict[tuple[str, str, str], float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(_lines(file))
        if not {"country", "price"} <= set(reader.fieldnames or ()):
            raise ValueError("the first line names the columns: country, price and, if wanted, channel, provider")
        for row in reader:
            try:
                price = float(row["price"])
            except (TypeError, ValueError):
                price = -1
            country = row["country"]
            if not 0 <= price < float("inf") or not (country == UNLISTED or (len(country) == 2 and country.isupper())):
                raise ValueError(f"line {reader.line_num}: write a country in two capitals or *, and a price")
            rows[country, row.get("channel") or "sms", row.get("provider") or ""] = price
    if not rows:
        raise ValueError("no prices are in it")
    return Prices(rows, currency)


def _lines(lines: Iterable[str]) -> Iterable[str]:
    return (line for line in lines if not line.startswith("#"))
