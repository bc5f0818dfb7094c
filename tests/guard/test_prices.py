"""What a message costs."""

from __future__ import annotations

import pytest

from service import config, phone
from service.errors import ConfigError
from service.guard import prices
from service.providers import KINDS
from tests.world import table


def test_the_list_that_comes_with_it_has_every_country() -> None:
    """That a number can have."""
    assert phone.COUNTRIES - prices.shipped().countries == frozenset()


def test_channels_that_the_list_lacks_cost_their_factor() -> None:
    """Of an SMS to the same country."""
    shipped = prices.shipped()
    assert shipped.price("GB") == 0.06
    assert shipped.price("GB", "voice") == pytest.approx(0.12)
    assert shipped.weight("TJ", "voice") == 2
    assert shipped.weight("GB", "sms") == 1


def listed(text: str, currency: str = "USD") -> prices.Prices:
    """The prices of a configuration with this list."""
    guard = {"prices": text, "currency": currency}
    return config.check(table(_top={"guard": guard}), KINDS, {}).settings.guard.price_list


def test_a_list_of_ones_own_goes_before() -> None:
    """By country, channel and provider, with one price for all others."""
    both = listed(
        "# ours\ncountry,price,channel,provider\nGB,0.04,,\nGB,0.03,sms,twilio\nGB,0.1,voice,\n*,0.5,voice,\n"
    )
    assert (both.price("GB"), both.price("GB", "sms", "twilio"), both.price("GB", "sms", "vonage")) == (
        0.04,
        0.03,
        0.04,
    )
    assert (both.price("GB", "voice"), both.price("FR", "voice"), both.price("FR")) == (0.1, 0.5, 0.06)
    assert both.price("ZZ") == 0.5


def test_a_list_for_all_countries_needs_no_other() -> None:
    """What it does not name costs what it says that all others cost, in its own currency."""
    own = listed("country,price\nGB,0.04\n*,0.25\n", currency="EUR")
    assert (own.currency, own.price("GB"), own.price("FR"), own.price("FR", "voice")) == ("EUR", 0.04, 0.25, 0.5)


@pytest.mark.parametrize(
    "guard",
    [{}, {"prices": "country,price\nGB,0.04"}, {"prices": "country,price,channel\n*,1,voice"}],
    ids=["none", "one country", "calls only"],
)
def test_dollars_are_not_taken_for_another_currency(guard: dict[str, object]) -> None:
    """The list that comes with verifyd is in dollars."""
    with pytest.raises(ConfigError, match=r"guard\.currency: .* a row for the country \*"):
        config.check(table(_top={"guard": {"currency": "EUR", **guard}}), KINDS, {})


@pytest.mark.parametrize(
    "text", ["", "land,preis\nGB,1", "country,price\ngb,1", "country,price\nGB,much", "country,price\nGB,-1"]
)
def test_a_list_that_cannot_be_read_says_why(text: str) -> None:
    """What to write instead."""
    with pytest.raises(ValueError, match=r"columns|a country in two capitals"):
        prices.read(text)
