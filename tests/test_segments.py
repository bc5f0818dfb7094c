"""SMS sizes: the two encodings, their limits, and characters that may not be split."""

import pytest

from service.segments import Segments, measure

GSM7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Segments("gsm7", 0, 1)),
        ("a" * 160, Segments("gsm7", 160, 1)),
        ("a" * 161, Segments("gsm7", 161, 2)),
        ("a" * 306, Segments("gsm7", 306, 2)),
        ("a" * 307, Segments("gsm7", 307, 3)),
        ("я" * 70, Segments("ucs2", 70, 1)),
        ("я" * 71, Segments("ucs2", 71, 2)),
        ("я" * 134, Segments("ucs2", 134, 2)),
        ("я" * 135, Segments("ucs2", 135, 3)),
        ("a" * 70 + "я", Segments("ucs2", 71, 2)),
    ],
)
def test_a_text_is_measured_at_the_limits_of_its_encoding(text: str, expected: Segments) -> None:
    """One message holds 160 septets or 70 units; each part of a longer one holds 153 or 67."""
    assert measure(text) == expected


def test_the_basic_table_has_127_characters_of_one_septet() -> None:
    """All of the table except the escape itself."""
    assert len(GSM7_BASIC) == 127
    assert measure(GSM7_BASIC) == Segments("gsm7", 127, 1)


@pytest.mark.parametrize("character", "\f^{}\\[~]|€")
def test_a_character_of_the_extension_table_takes_two_septets(character: str) -> None:
    """The second one is the escape before it."""
    assert measure(character) == Segments("gsm7", 2, 1)
    assert measure(character * 80).count == 1
    assert measure(character * 81).count == 2


@pytest.mark.parametrize("character", ["ç", "á", "ó", "`", "ş", "→", "\x1b", "\t", "\u00a0", "你", "ا"])
def test_a_character_of_neither_table_turns_the_text_to_ucs2(character: str) -> None:
    """Look-alikes of the table's characters are not in it: it has a capital C with cedilla and no small one."""
    assert measure(f"code {character}") == Segments("ucs2", 6, 1)


def test_an_emoji_is_two_units() -> None:
    """It is a surrogate pair in UTF-16, which is what handsets read UCS-2 as."""
    assert measure("😀") == Segments("ucs2", 2, 1)
    assert measure("😀" * 35).count == 1
    assert measure("😀" * 36).count == 2


def test_an_extension_character_is_never_split_across_parts() -> None:
    """Where it would be, the part before stays one septet short."""
    assert measure("a" * 152 + "€" + "a" * 151) == Segments("gsm7", 305, 2)
    assert measure("a" * 152 + "€" + "a" * 152) == Segments("gsm7", 306, 3)
    assert measure("a" * 151 + "€" + "a" * 153) == Segments("gsm7", 306, 2)


def test_a_surrogate_pair_is_never_split_across_parts() -> None:
    """Where it would be, the part before stays one unit short."""
    assert measure("я" * 66 + "😀" + "я" * 65) == Segments("ucs2", 133, 2)
    assert measure("я" * 66 + "😀" + "я" * 66) == Segments("ucs2", 134, 3)
    assert measure("я" * 65 + "😀" + "я" * 67) == Segments("ucs2", 134, 2)


def test_a_lone_surrogate_is_one_unit() -> None:
    """Broken text is measured, not refused."""
    assert measure("\ud83d") == Segments("ucs2", 1, 1)
