"""Names of verifications: an id carries its shard, so that whoever has the id knows where to look."""

from __future__ import annotations

import os

MAX_SHARDS = 1024

_PREFIX = "ver_"
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_RANDOM_BYTES = 10
_LENGTH = len(_PREFIX) + 2 + 2 * _RANDOM_BYTES


def new(shard: int) -> str:
    """A new verification's id: its shard in two characters of base 32, then 80 random bits in hexadecimal."""
    return f"{_PREFIX}{_ALPHABET[shard >> 5]}{_ALPHABET[shard & 31]}{os.urandom(_RANDOM_BYTES).hex()}"


def shard_of(verification: str) -> int | None:
    """The shard that an id carries; None for what is no id."""
    digits = verification.removeprefix(_PREFIX)
    if len(verification) != _LENGTH or len(digits) == _LENGTH or not set(digits) <= set(_ALPHABET):
        return None
    return _ALPHABET.index(digits[0]) << 5 | _ALPHABET.index(digits[1])


def tag(shard: int) -> str:
    """The beginning of every key of a shard: its hash tag, so that all of them are on one node of a cluster."""
    return f"{{v{shard}}}:"


def tag_of(verification: str) -> str | None:
    """The beginning of the keys of a verification; None for what is no id."""
    shard = shard_of(verification)
    return None if shard is None else tag(shard)
