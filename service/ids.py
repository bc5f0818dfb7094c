"""Names of verifications and deliveries: an id carries its shard, so that whoever has the id knows where to look."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

MAX_SHARDS = 1024

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_RANDOM_BYTES = 10
_ID = re.compile(rf"ver_[0-9a-v]{{2}}[0-9a-f]{{{2 * _RANDOM_BYTES}}}")


def new(shard: int) -> str:
    """A new verification's id: its shard in two characters of base 32, then 80 random bits in hexadecimal."""
    return f"ver_{_ALPHABET[shard >> 5]}{_ALPHABET[shard & 31]}{os.urandom(_RANDOM_BYTES).hex()}"


def shard_of(verification: str) -> int | None:
    """The shard that an id carries; None for what is no id."""
    if _ID.fullmatch(verification) is None:
        return None
    return int(verification[4:6], 32)


def tag(shard: int) -> str:
    """The beginning of every key of a shard: its hash tag, so that all of them are on one node of a cluster."""
    return f"{{v{shard}}}:"


def tag_of(verification: str) -> str | None:
    """The beginning of the keys of a verification; None for what is no id."""
    shard = shard_of(verification)
    return None if shard is None else tag(shard)


@dataclass(frozen=True, slots=True)
class DeliveryId:
    """The name of a delivery, `<verification id>.<n>`, and the beginning of the keys of its verification."""

    verification: str
    n: int
    tag: str

    @classmethod
    def parse(cls, text: str) -> DeliveryId | None:
        """Read the name of a delivery; None for what is none."""
        verification, _, n = text.partition(".")
        tag = tag_of(verification)
        return None if tag is None or not (n.isascii() and n.isdecimal()) else cls(verification, int(n), tag)

    def __str__(self) -> str:
        return f"{self.verification}.{self.n}"

    @property
    def keys(self) -> list[str]:
        """The Redis keys of its verification and of what is due on that shard."""
        return [self.tag + self.verification, f"{self.tag}due"]
