"""Vonage's Conversion API, as both of its message APIs tell it whether the code of an SMS was used."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from service.provider import Channel, Feedback, Request
from tests.providers.examples import NOW
from tests.providers.test_contract import adapter, secrets


@pytest.mark.parametrize("kind", ["vonage", "vonage_sms"])
@pytest.mark.parametrize(("converted", "word"), [(True, "true"), (False, "false")])
def test_conversions_are_told_if_they_are_switched_on(kind: str, converted: bool, word: str) -> None:
    """In a form, as Vonage's own libraries do."""
    one: Any = adapter(kind).model_copy(update={"conversions": True})
    feedback = Feedback("m1", Channel.SMS, "+447400123456", converted=converted)
    told = one.feedback(feedback, NOW)
    assert isinstance(told, Request)
    assert told.url == "https://api.nexmo.com/conversions/sms"
    assert dict(parse_qsl(told.body.decode())) == {
        "message-id": "m1",
        "delivered": word,
        "timestamp": "2026-10-06 10:00:00",
        "api_key": "abcd1234",
        "api_secret": secrets(one)["api_secret"],
    }
    assert one.model_copy(update={"conversions": False}).feedback(feedback, NOW) is None
