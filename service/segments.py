"""How many SMS a text costs: GSM 7-bit or UCS-2 units and parts, after 3GPP TS 23.038 and TS 23.040."""

from dataclasses import dataclass
from typing import Literal

# 3GPP TS 23.038, 6.2.1: the GSM 7 bit default alphabet, and its extension table, of which each character follows an
# escape.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM7 = _BASIC | _EXTENSION

# Units in a lone message and in each part of a longer one: 140 octets, less six for the concatenation header
# (3GPP TS 23.040, 9.2.3.24.1), in septets or in 16-bit units.
_GSM7_LONE, _GSM7_PART = 160, 153
_UCS2_LONE, _UCS2_PART = 70, 67


@dataclass(frozen=True, slots=True)
class Segments:
    """A text's size as SMS: `units` are septets in `gsm7`, 16-bit units in `ucs2`; `count` segments are billed."""

    encoding: Literal["gsm7", "ucs2"]
    units: int
    count: int


def measure(text: str) -> Segments:
    """Measure `text` as it is sent when the sender picks the smaller encoding that can hold it.

    A character of two units (one of the extension table, or a surrogate pair) is never split across parts, so that a
    part may stay one unit short. National language shift tables are not used. An empty text is one segment.
    """
    if _GSM7.issuperset(text):
        return _fill("gsm7", [2 if character in _EXTENSION else 1 for character in text], _GSM7_LONE, _GSM7_PART)
    return _fill("ucs2", [2 if character > "\uffff" else 1 for character in text], _UCS2_LONE, _UCS2_PART)


def _fill(encoding: Literal["gsm7", "ucs2"], widths: list[int], lone: int, part: int) -> Segments:
    units = sum(widths)
    if units <= lone:
        return Segments(encoding, units, 1)
    count, room = 1, part
    for width in widths:
        if width > room:
            count, room = count + 1, part
        room -= width
    return Segments(encoding, units, count)
