"""Webhooks that a vendor does not sign: what keeps them honest is a secret of ours in the query of their address."""

from __future__ import annotations

import hmac
import re
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, SecretStr

from service.errors import Forged
from service.provider import Webhook
from service.providers.settings import plain


def _webhook_secret(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", value.get_secret_value()):
        raise ValueError("write 16 or more letters, digits, - and _, as the webhook's address has behind ?secret=")
    return value


WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]


def authenticate(webhook: Webhook, *secrets: SecretStr | None) -> None:
    """Check that the first `secret` in a webhook's query is one of those set, in constant time. Raises Forged."""
    given = parse_qs(urlsplit(webhook.url).query).get("secret", [""])[0].encode()
    if not any(hmac.compare_digest(given, secret.encode()) for secret in plain(*secrets)):
        raise Forged("the secret in the query does not fit")
