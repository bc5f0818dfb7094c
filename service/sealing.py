"""The key ring: everything that keeps numbers and codes unreadable in Redis.

From each 32-byte key of the configuration come, by HKDF-SHA256 (RFC 5869), separate keys for separate uses:

- *lookup*: HMAC-SHA256 of a number, to find what belongs to it without storing it;
- *pepper*: HMAC-SHA256 of id, code and transaction, what argon2id is then run over (`service.code`);
- *fingerprint*: HMAC-SHA256 of a request body, to compare an idempotent request with its first sending;
- *receipt*: HMAC-SHA256 of delivery and provider, the token in a receipt address;
- *seal*: AES-256-GCM, with the purpose and the verification's id as associated data.

The first key of the ring writes and all read, so that a rotation is: add the new key behind the old one on every
replica, then swap them, then drop the old one after twice the longest TTL: so long can a verification be read.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service import ids
from service.errors import Unreadable

KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12
TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number's data is: its shard, and its keyed hash (22 URL-safe characters)."""

    shard: int
    hash: str

    @property
    def tag(self) -> str:
        """The beginning of every key of the shard."""
        return ids.tag(self.shard)

    def key(self, what: str) -> str:
        """The Redis key of what is kept of the number."""
        return f"{self.tag}{what}:{self.hash}"


class Key:
    """One key of the ring and the keys derived from it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.id = _derive(secret, b"id")[:KEY_ID_BYTES]
        self._lookup = _derive(secret, b"lookup")
        self._pepper = _derive(secret, b"pepper")
        self._fingerprint = _derive(secret, b"fingerprint")
        self._receipt = _derive(secret, b"receipt")
        self._aead = AESGCM(_derive(secret, b"seal"))

    def place(self, number: str, shards: int) -> Place:
        """Where the data of an E.164 number is under this key."""
        digest = hmac.digest(self._lookup, number.encode(), "sha256")
        return Place(int.from_bytes(digest[16:20], "big") % shards, _text(digest[:16]))

    def pepper(self, *parts: str) -> bytes:
        """32 bytes that bind the parts together and cannot be made without this key."""
        return hmac.digest(self._pepper, _joined([part.encode() for part in parts]), "sha256")

    def fingerprint(self, *parts: bytes) -> str:
        """22 URL-safe characters by which equal parts are known again."""
        return _text(hmac.digest(self._fingerprint, _joined(parts), "sha256")[:16])

    def token(self, delivery: str, provider: str) -> str:
        """The MAC over a delivery and the one provider that may report on it (22 URL-safe characters)."""
        return _text(
            hmac.digest(self._receipt, _joined((delivery.encode(), provider.encode())), "sha256")[:TOKEN_BYTES]
        )

    def seal(self, plaintext: bytes, bound_to: bytes) -> bytes:
        """Encrypt; `bound_to` must be given again to open. The result is key id, nonce, ciphertext, tag."""
        nonce = os.urandom(NONCE_BYTES)
        return self.id + nonce + self._aead.encrypt(nonce, plaintext, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Decrypt what `seal` made with this key; raises `cryptography.exceptions.InvalidTag`."""
        body = sealed[KEY_ID_BYTES:]
        return self._aead.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound_to)


class KeyRing:
    """The keys of the configuration: the first writes, all read."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self.keys = tuple(Key(secret) for secret in secrets)
        self.writer = self.keys[0]
        self._by_id = {key.id: key for key in self.keys}

    def key(self, key_id: bytes) -> Key:
        """The key of that id; raises Unreadable when it has left the ring."""
        try:
            return self._by_id[key_id]
        except KeyError:
            raise Unreadable(
                "written under a key that is not in secrets.keys: put it back until it is unused"
            ) from None

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Decrypt with whichever key of the ring sealed it; raises Unreadable."""
        try:
            return self.key(sealed[:KEY_ID_BYTES]).open(sealed, bound_to)
        except InvalidTag:
            raise Unreadable("a sealed value was altered or moved") from None

    def vouches(self, token: str, delivery: str, provider: str) -> bool:
        """Whether any key of the ring made this receipt token; every key is tried, in constant time."""
        given = token.encode("utf-8", "replace")
        fits = [hmac.compare_digest(given, key.token(delivery, provider).encode()) for key in self.keys]
        return any(fits)


def _derive(secret: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"verifyd/v1/" + use).derive(secret)


def _joined(parts: Sequence[bytes]) -> bytes:
    """The parts with their lengths, so that no two lists of parts give the same bytes."""
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
