"""JSON Web Tokens that webhooks are signed with (RFC 7519)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Any

import jwt

_BLOCK = 64
"""Bytes of a key that SHA-256 takes whole."""


def claims(
    token: str, secrets: Iterable[str], *, issuer: str, algorithms: Sequence[str], require: Sequence[str]
) -> dict[str, Any] | None:
    """What a token says, if it is signed with one of the secrets; its times are left to the caller's clock."""
    for secret in secrets:
        try:
            return jwt.decode(
                token,
                # HMAC fills a short key up with zeros itself (RFC 2104, 2); the library would warn of a key not ours.
                secret.encode().ljust(_BLOCK, b"\0"),
                algorithms=algorithms,
                issuer=issuer,
                options={
                    "require": list(require),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.InvalidTokenError:
            continue
    return None


def is_hash(claim: object, content: bytes) -> bool:
    """Whether a claim is the SHA-256 of some content, in constant time."""
    return hmac.compare_digest(str(claim).encode(), hashlib.sha256(content).hexdigest().encode())
