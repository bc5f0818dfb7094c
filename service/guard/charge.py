"""What a verification keeps of what the guard charged for it."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from service.guard.parts import Surroundings, country_tag

HASH: Final = 16
"""Characters by which an address or a device is known again: 96 bits."""

_REPEATED: Final = ("around", "ip", "device")
_FLAGS: Final = 10
"""Bits beside the digits of a number, of which there are fifty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What later sends and the approval of a verification need to know of its first one. Kept only sealed.

    `callers` are the keys of the buckets of address and device. What was charged: `around` the prefixes, `whole` the
    country, `who` the callers; `repeated` where it weighed less, since it repeated the last one there (`around`, `ip`,
    `device`). `trusted` is what the caller said, `proven` whether a challenge was passed.
    """

    number: str
    country: str
    callers: tuple[str, ...] = ()
    around: bool = False
    whole: bool = False
    who: bool = False
    trusted: bool = False
    proven: bool = False
    repeated: frozenset[str] = frozenset()

    @property
    def charged(self) -> tuple[str, ...]:
        """The keys of the buckets that were charged."""
        country, *around = Surroundings.names(self.number)
        names = [*(around if self.around else ()), *([country] if self.whole else ())]
        tag = country_tag(self.country)
        return (*[tag + name for name in names], *(self.callers if self.who else ()))

    def packed(self) -> bytes:
        """As it is sealed, in 32 bytes at most: with a longer field Redis would need twice the memory for the hash."""
        levels = [key.rpartition(":")[2] for key in self.callers]
        flags = [self.around, self.whole, self.who, self.trusted, self.proven, "ip" in levels, "device" in levels]
        flags += [name in self.repeated for name in _REPEATED]
        bits = sum(flag << place for place, flag in enumerate(flags))
        hashes = [urlsafe_b64decode(key[3 : 3 + HASH]) for key in self.callers]
        return b"".join([(int(self.number) << _FLAGS | bits).to_bytes(8, "big"), *hashes])

    @classmethod
    def unpacked(cls, packed: bytes, country: str) -> Charge:
        """As it was, for a number of this country."""
        whole = int.from_bytes(packed[:8], "big")
        flags = [bool(whole >> place & 1) for place in range(_FLAGS)]
        levels = [level for level, there in zip(("ip", "device"), flags[5:7], strict=True) if there]
        size = HASH * 3 // 4
        hashes = [urlsafe_b64encode(packed[at : at + size]).decode() for at in range(8, len(packed), size)]
        return cls(
            number=f"+{whole >> _FLAGS}",
            country=country,
            callers=tuple(f"{{c:{hashed}}}:{level}" for hashed, level in zip(hashes, levels, strict=True)),
            around=flags[0],
            whole=flags[1],
            who=flags[2],
            trusted=flags[3],
            proven=flags[4],
            repeated=frozenset(name for name, there in zip(_REPEATED, flags[7:], strict=True) if there),
        )
