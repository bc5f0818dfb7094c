"""What a message costs."""

from __future__ import annotations

import pytest

from service import phone
from service.guard import prices


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


def test_a_list_of_ones_own_goes_before() -> None:
    """By country, channel and provider, with one price for all others."""
    own = prices.read(
        "# ours\ncountry,price,channel,provider\nGB,0.04,,\nGB,0.03,sms,twilio\nGB,0.1,voice,\n*,0.5,voice,\n", "EUR"
    )
    both = own.over(prices.shipped())
    assert both.currency == "EUR"
    assert (both.price("GB"), both.price("GB", "sms", "twilio"), both.price("GB", "sms", "vonage")) == (
        0.04,
        0.03,
        0.04,
    )
    assert (both.price("GB", "voice"), both.price("FR", "voice"), both.price("FR")) == (0.1, 0.5, 0.06)
    assert both.price("ZZ") == 0.5


@pytest.mark.parametrize(
    "text", ["", "land,preis\nGB,1", "country,price\ngb,1", "country,price\nGB,much", "country,price\nGB,-1"]
)
def test_a_list_that_cannot_be_read_says_why(text: str) -> None:
    """What to write instead."""
    with pytest.raises(ValueError, match=r"columns|a country in two capitals"):
        prices.read(text)
