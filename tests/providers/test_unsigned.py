"""Vendors that sign nothing: a secret in the address that they report to is all that keeps strangers out."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import Forged
from service.provider import Webhook
from tests.providers.examples import NOW
from tests.providers.test_contract import adapter, secrets

KINDS = ["africastalking", "azure", "msg91", "twofactor"]
OLD_SECRET = "the-secret-that-was-before"


def secret_of(kind: str) -> str:
    """What the vendor's webhooks come with."""
    return secrets(adapter(kind))["webhook_secret"]


def report(kind: str, query: str) -> Webhook:
    """The vendor's first example of a receipt."""
    cases = import_module(f"tests.providers.test_{kind}").CASES
    body: str = next(case["body"] for case in cases if case["expect"])
    return Webhook(f"https://otp.example.com/receipts/{kind}{query}", {}, body.encode())


def changed(kind: str, **settings: Any) -> Any:
    """The adapter with other settings."""
    one = adapter(kind)
    return type(one).model_validate({**dict(one), **settings})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", ["", "?secret=", "?secret=%FF", "?secret=x&secret={}", "?Secret={}"])
def test_a_webhook_without_the_secret_is_forged(kind: str, query: str) -> None:
    """Whatever is in it."""
    right = report(kind, query.format(secret_of(kind)))
    for webhook in (right, replace(right, body=b"")):
        with pytest.raises(Forged):
            adapter(kind).receipts(webhook, NOW)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(body=st.binary(max_size=80), query=st.text(max_size=40))
def test_no_other_query_is_taken_for_it(kind: str, body: bytes, query: str) -> None:
    """Nor does any break the reading."""
    with pytest.raises(Forged):
        adapter(kind).receipts(Webhook(f"https://otp.example.com/?{query}", {}, body), NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_byte_of_the_secret_is_refused(kind: str) -> None:
    """Anywhere in it."""
    secret = secret_of(kind)
    for place in range(len(secret)):
        wrong = secret[:place] + chr(ord(secret[place]) ^ 1) + secret[place + 1 :]
        with pytest.raises(Forged):
            adapter(kind).receipts(report(kind, f"?secret={wrong}"), NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_both_secrets_are_taken_while_one_is_changed(kind: str) -> None:
    """And the old one no longer than it is configured."""
    by_new, by_old = (report(kind, f"?secret={secret}") for secret in (secret_of(kind), OLD_SECRET))
    told = adapter(kind).receipts(by_new, NOW)
    assert told
    changing = changed(kind, old_webhook_secret=OLD_SECRET)
    assert changing.receipts(by_new, NOW) == changing.receipts(by_old, NOW) == told
    with pytest.raises(Forged):
        adapter(kind).receipts(by_old, NOW)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("secret", ["short", "sixteen or more but with spaces"])
def test_a_secret_that_is_guessed_or_cannot_stand_in_an_address_is_refused(kind: str, secret: str) -> None:
    """And the one in use cannot be left out."""
    for wrong in ({"webhook_secret": secret}, {"old_webhook_secret": secret}, {"webhook_secret": None}):
        with pytest.raises(ValidationError, match="webhook_secret"):
            changed(kind, **wrong)
