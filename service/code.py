"""One-time codes: made uniformly, kept only as argon2id over a keyed hash.

Why the cheap profile is the default: a 6-digit code has 20 bits, so no argon2 cost protects it offline for the
minutes that it lives (a million guesses at 20 ms each are 20 s on 1,000 cores). What protects it is the pepper, the
HMAC key that is never in Redis; guesses online are bounded by the attempts. argon2id stands behind the pepper as a
second wall, so the default profile is the cheapest that is still memory-hard by design. `owasp` is there for those
who must show it. There is no way to run either without the pepper.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from argon2.low_level import Type, hash_secret_raw

from service.sealing import KEY_ID_BYTES, Key, KeyRing

MIN_LENGTH = 4
MAX_LENGTH = 10

SALT_BYTES = 16
TAG_BYTES = 16
_COSTS = struct.Struct(">IBB")
_INLINE_SECONDS = 0.001
_POOL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """The costs of argon2id (RFC 9106): memory in KiB, passes, lanes."""

    memory_kib: int
    passes: int
    lanes: int


PROFILES = {
    # The least memory that RFC 9106 and libargon2 treat as more than a plain hash at one lane; about 40 us.
    "otp": Profile(memory_kib=64, passes=1, lanes=1),
    # OWASP Password Storage Cheat Sheet, argon2id minimum: 19 MiB, t=2, p=1; about 20 ms.
    "owasp": Profile(memory_kib=19_456, passes=2, lanes=1),
}


def generate(length: int) -> str:
    """A uniform random code of `length` digits, leading zeros kept."""
    return f"{secrets.randbelow(10**length):0{length}d}"


def seconds(profile: Profile) -> float:
    """How long one hash of this profile takes on this machine now (the best of three)."""
    return min(_timed(profile) for _ in range(3))


class Hasher:
    """Hashes codes for storage and compares guesses with what is stored.

    A stored hash is key id (4 bytes), costs (6), salt (16) and tag (16): it says itself which key and which costs it
    was made with, so both can change while codes are alive. A profile that takes less than a millisecond runs inline;
    a slower one runs in a pool of two threads, so that the event loop never stalls.
    """

    def __init__(self, ring: KeyRing, profile: Profile) -> None:
        self._ring = ring
        self._profile = profile
        self._inline = seconds(profile) < _INLINE_SECONDS
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="argon2")

    async def hash(self, *, verification: str, code: str, transaction: tuple[str, str] | None) -> bytes:
        """What is stored of a code: bound to its verification and, where there is one, its transaction."""
        salt = os.urandom(SALT_BYTES)
        key = self._ring.writer
        tag = await self._run(_peppered(key, verification, code, transaction), salt, self._profile)
        costs = _COSTS.pack(self._profile.memory_kib, self._profile.passes, self._profile.lanes)
        return key.id + costs + salt + tag

    async def matches(
        self, stored: bytes, *, verification: str, code: str, transaction: tuple[str, str] | None
    ) -> bool:
        """Whether a guess is right, in constant time; raises Unreadable when the key has left the ring."""
        key = self._ring.key(stored[:KEY_ID_BYTES])
        rest = stored[KEY_ID_BYTES:]
        profile = Profile(*_COSTS.unpack_from(rest))
        salt, tag = rest[_COSTS.size : _COSTS.size + SALT_BYTES], rest[_COSTS.size + SALT_BYTES :]
        guess = await self._run(_peppered(key, verification, code, transaction), salt, profile)
        return hmac.compare_digest(guess, tag)

    async def _run(self, peppered: bytes, salt: bytes, profile: Profile) -> bytes:
        if self._inline and profile == self._profile:
            return _argon2id(peppered, salt, profile)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _argon2id, peppered, salt, profile)

    def close(self) -> None:
        """Let the threads go; what runs is finished."""
        self._pool.shutdown()


def _peppered(key: Key, verification: str, code: str, transaction: tuple[str, str] | None) -> bytes:
    return key.pepper(verification, code, *(transaction or ()))


def _argon2id(secret: bytes, salt: bytes, profile: Profile) -> bytes:
    return hash_secret_raw(
        secret,
        salt,
        time_cost=profile.passes,
        memory_cost=profile.memory_kib,
        parallelism=profile.lanes,
        hash_len=TAG_BYTES,
        type=Type.ID,
    )


def _timed(profile: Profile) -> float:
    began = time.perf_counter()
    _argon2id(b"0" * 32, b"0" * SALT_BYTES, profile)
    return time.perf_counter() - began
