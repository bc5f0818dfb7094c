"""Vendors that sign nothing: a secret in the address that they report to is all that keeps strangers out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from service.errors import Forged
from service.provider import Webhook

VENDORS = [import_module(f"tests.providers.test_{kind}") for kind in ("africastalking", "msg91", "twofactor")]


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.ACCOUNT.kind)
def vendor(request: pytest.FixtureRequest) -> Any:
    """The module of a vendor's own tests: SETTINGS, ACCOUNT, CASES, NOW, SECRET, OLD_SECRET, `webhook(body, query)`."""
    return request.param


def report(vendor: Any, secret: str) -> Webhook:
    """The vendor's first example, reported with a secret."""
    made: Webhook = vendor.webhook(vendor.CASES[0]["body"], f"?secret={secret}")
    return made


@pytest.mark.parametrize("query", ["", "?secret=", "?secret=%FF", "?secret=x&secret={}", "?Secret={}"])
def test_a_webhook_without_the_secret_is_forged(vendor: Any, query: str) -> None:
    """Whatever is in it."""
    for body in (vendor.CASES[0]["body"], ""):
        with pytest.raises(Forged):
            vendor.ACCOUNT.receipts(vendor.webhook(body, query.format(vendor.SECRET)), vendor.NOW)


def test_one_changed_byte_of_the_secret_is_refused(vendor: Any) -> None:
    """Anywhere in it."""
    secret = vendor.SECRET
    for place in range(len(secret)):
        changed = secret[:place] + chr(ord(secret[place]) ^ 1) + secret[place + 1 :]
        with pytest.raises(Forged):
            vendor.ACCOUNT.receipts(report(vendor, changed), vendor.NOW)


def test_both_secrets_are_taken_while_one_is_changed(vendor: Any) -> None:
    """And the old one no longer than it is configured."""
    told = vendor.ACCOUNT.receipts(report(vendor, vendor.SECRET), vendor.NOW)
    assert told
    changing = type(vendor.ACCOUNT).model_validate({**vendor.SETTINGS, "old_webhook_secret": vendor.OLD_SECRET})
    for secret in (vendor.SECRET, vendor.OLD_SECRET):
        assert changing.receipts(report(vendor, secret), vendor.NOW) == told
    with pytest.raises(Forged):
        vendor.ACCOUNT.receipts(report(vendor, vendor.OLD_SECRET), vendor.NOW)
