"""A number is read, judged and masked the same way wherever it comes from."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import phone
from service.errors import InvalidNumber
from service.phone import Number, parse, possible, reach, region

E164 = phonenumbers.PhoneNumberFormat.E164
COUNTRIES = sorted(phonenumbers.SUPPORTED_REGIONS)

KIND_OF_TYPE = {
    phonenumbers.PhoneNumberType.MOBILE: "mobile",
    phonenumbers.PhoneNumberType.FIXED_LINE: "fixed_line",
    phonenumbers.PhoneNumberType.VOIP: "voip",
    phonenumbers.PhoneNumberType.PREMIUM_RATE: "premium_rate",
    phonenumbers.PhoneNumberType.SHARED_COST: "shared_cost",
    phonenumbers.PhoneNumberType.TOLL_FREE: "toll_free",
    phonenumbers.PhoneNumberType.UAN: "uan",
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    phonenumbers.PhoneNumberType.PAGER: "pager",
    phonenumbers.PhoneNumberType.VOICEMAIL: "voicemail",
}


def examples(country: str) -> Iterator[tuple[str, phonenumbers.PhoneNumber]]:
    """Yield the kind and the number of each example that libphonenumber has for a country."""
    for number_type, kind in KIND_OF_TYPE.items():
        example = phonenumbers.example_number_for_type(country, number_type)
        if example is not None:
            yield kind, example


def refusal(text: str, country: str | None = None) -> str:
    """Return what a refused number is told."""
    with pytest.raises(InvalidNumber) as refused:
        parse(text, country)
    return refused.value.detail


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_example_of_every_country_has_its_kind_and_country(country: str) -> None:
    """Where one pattern serves both mobile and fixed lines, or one plan several countries, either is right."""
    for kind, example in examples(country):
        e164 = phonenumbers.format_number(example, E164)
        owners = phonenumbers.region_codes_for_country_code(phonenumbers.country_code_for_region(country))
        either = {kind, "fixed_line_or_mobile"} if kind in {"mobile", "fixed_line"} else {kind}

        number = parse(e164)

        assert number.e164 == e164
        assert number.country in owners
        assert number.kind in either
        assert number.kind in phone.KINDS


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_example_reads_the_same_in_national_and_international_writing(country: str) -> None:
    """The writing of the country itself, with its trunk prefix, and the one for abroad mean one number."""
    for _, example in examples(country):
        expected = parse(phonenumbers.format_number(example, E164))
        international = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
        national = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)

        assert parse(international) == expected
        assert parse(national, country) == expected


@pytest.mark.parametrize("country", COUNTRIES)
def test_a_masked_number_shows_its_calling_code_and_four_digits_at_most(country: str) -> None:
    """Whatever the length of the plan's numbers, at least four digits are hidden."""
    for _, example in examples(country):
        number = parse(phonenumbers.format_number(example, E164))
        national = phonenumbers.national_significant_number(example)

        match = re.fullmatch(rf"\+{example.country_code}(\*{{4,}})([0-9]{{0,4}})", number.masked)

        assert match is not None
        assert len(match[1] + match[2]) == len(national)
        assert national.endswith(match[2])


@pytest.mark.parametrize(
    ("e164", "masked"),
    [
        ("+447400127123", "+44******7123"),
        ("+12015550123", "+1******0123"),
        ("+35312345678", "+353****5678"),
        ("+2908999", "+290****"),
        ("+68340123", "+683****3"),
        ("+6834012", "+683****"),
        ("+683401", "+683****"),
        ("+2101234567", "+******4567"),
    ],
    ids=lambda text: text if "*" in text else "",
)
def test_masking_hides_more_of_a_short_number(e164: str, masked: str) -> None:
    """Any text of E.164's form can be masked, also one that no plan knows."""
    assert Number(e164, "ZZ", "unknown").masked == masked


def test_the_text_of_a_number_is_masked() -> None:
    """Neither `repr`, `str` nor a format shows the digits."""
    number = parse("+447400127123")

    assert repr(number) == "Number(+44******7123, GB, mobile)"
    assert f"{number}" == str(number) == repr(number)


@pytest.mark.parametrize(
    ("text", "country", "e164", "owner", "kind"),
    [
        ("07400 123456", "GB", "+447400123456", "GB", "mobile"),
        ("7400 123456", "GB", "+447400123456", "GB", "mobile"),
        ("0030 691 2345678", "GB", "+306912345678", "GR", "mobile"),
        ("011 44 7400 123456", "US", "+447400123456", "GB", "mobile"),
        ("010 44 7400 123456", "JP", "+447400123456", "GB", "mobile"),
        ("(201) 555-0123", "US", "+12015550123", "US", "fixed_line_or_mobile"),
        ("1 201.555.0123", "US", "+12015550123", "US", "fixed_line_or_mobile"),
        ("8 (912) 345-67-89", "RU", "+79123456789", "RU", "mobile"),
        ("06 20 123 4567", "HU", "+36201234567", "HU", "mobile"),
        ("06 1234 5678", "IT", "+390612345678", "IT", "fixed_line"),
        ("312 345 6789", "IT", "+393123456789", "IT", "mobile"),
        ("011 15-2345-6789", "AR", "+5491123456789", "AR", "mobile"),
        ("55 1234 5678", "MX", "+525512345678", "MX", "fixed_line_or_mobile"),
        ("(11) 96123-4567", "BR", "+5511961234567", "BR", "mobile"),
    ],
    ids=lambda value: value if value and len(value) == 2 else "",
)
def test_a_national_number_is_read_as_its_country_dials_it(
    text: str, country: str, e164: str, owner: str, kind: str
) -> None:
    """Trunk prefixes go, Italian zeros stay, Argentina's 15 becomes 9, and dialling abroad leads abroad."""
    assert parse(text, country) == Number(e164, owner, kind)


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("+39 06 1234 5678", "+390612345678"),
        ("+54 9 11 2345-6789", "+5491123456789"),
        ("+52 55 1234 5678", "+525512345678"),
        ("+44 (0) 7400 123456", "+447400123456"),
        (" (+44) 7400.123-456 ", "+447400123456"),
    ],
    ids=["italian-zero", "argentine-9", "mexican", "trunk-zero", "punctuation"],
)
def test_an_international_number_is_brought_to_e164(text: str, e164: str) -> None:
    """Punctuation and leftovers of national dialling go, digits that belong to the number stay."""
    assert parse(text).e164 == e164


@pytest.mark.parametrize(
    ("e164", "country"),
    [
        ("+447400123456", "GB"),
        ("+447781123456", "GG"),
        ("+447624123456", "IM"),
        ("+447797712345", "JE"),
        ("+12015550123", "US"),
        ("+15062345678", "CA"),
        ("+18762101234", "JM"),
        ("+79123456789", "RU"),
        ("+77710009998", "KZ"),
        ("+80012345678", phone.NON_GEOGRAPHIC),
    ],
)
def test_countries_that_share_a_calling_code_are_told_apart(e164: str, country: str) -> None:
    """+44, +1 and +7 belong to several countries, +800 to none."""
    assert parse(e164).country == country


def test_a_number_of_a_neighbour_on_the_same_calling_code_keeps_its_own_country() -> None:
    """Guernsey dials like Great Britain, but is priced and governed apart."""
    assert parse("07781 123456", "GB").country == "GG"


def test_an_international_number_wins_over_the_country() -> None:
    """`country` only says how to read a national number."""
    assert parse("+447400123456", "US") == parse("+447400123456")


@pytest.mark.parametrize("text", ["+07400123456", "+00447400123456"])
def test_a_plus_before_what_is_dialled_in_a_country_is_refused(text: str) -> None:
    """A number that says both "international" and "national" may be meant as either."""
    assert "calling code" in refusal(text, "GB")


@pytest.mark.parametrize(
    ("e164", "kind"),
    [
        ("+870301234567", "satellite"),
        ("+870201234567", "satellite"),
        ("+878101234567890", "personal_number"),
        ("+881612345678", "satellite"),
        ("+8823421234", "satellite"),
        ("+882390123456789", "satellite"),
        ("+88234851234567", "satellite"),
        ("+883510012345", "satellite"),
        ("+80012345678", "toll_free"),
        ("+80812345678", "shared_cost"),
        ("+88812345678901", "uan"),
        ("+979123456789", "premium_rate"),
    ],
)
def test_a_number_of_no_country_has_the_kind_of_its_calling_code(e164: str, kind: str) -> None:
    """None of them passes for an ordinary mobile number, and none is reached unless allowed."""
    number = parse(e164)

    assert (number.country, number.kind) == (phone.NON_GEOGRAPHIC, kind)
    assert reach(number.kind) == frozenset()


@pytest.mark.parametrize("code", sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS))
def test_no_calling_code_outside_the_countries_is_reached_by_default(code: int) -> None:
    """Holds for codes that the plans may gain later, too: whoever opens one decides it."""
    example = phonenumbers.example_number_for_non_geo_entity(code)
    assert example is not None

    number = parse(phonenumbers.format_number(example, E164))

    assert reach(number.kind) == frozenset()


@pytest.mark.parametrize(
    ("text", "country", "detail"),
    [
        ("", None, "not a number"),
        ("+", None, "not a number"),
        ("()", "GB", "not a number"),
        ("hello", None, "not a number"),
        ("1-800-FLOWERS", "US", "not a number"),
        ("tel:+447400123456", None, "not a number"),
        ("+44+7400123456", None, "not a number"),
        ("++447400123456", None, "not a number"),
        ("07400+123456", "GB", "not a number"),
        ("+44/7400/123456", None, "not a number"),
        ("+447400123456\n", None, "not a number"),
        ("+44\t7400123456", None, "not a number"),
        ("+447400123456\0", None, "not a number"),
        ("+447400123456 ext 12", None, "extension"),
        ("+447400123456 EXT. 12", None, "extension"),
        ("+447400123456;ext=12", None, "extension"),
        ("+447400123456x123", None, "extension"),
        ("+447400123456#12", None, "extension"),
        ("+447400123456,,12", None, "extension"),
        ("\uff0b447400123456", None, "ASCII"),
        ("+44740012345\uff16", None, "ASCII"),
        ("+44\u0667\u0664\u0660\u0660123456", None, "ASCII"),
        ("+44\u00a07400123456", None, "ASCII"),
        ("+44" + " " * 20 + "7400123456", None, "too long: a number has at most 32 characters"),
        ("00447400123456", None, "write + instead"),
        ("07400123456", None, "a national number needs `country`"),
        ("447400123456", None, "a national number needs `country`"),
        ("07400123456", "UK", "unknown `country`"),
        ("07400123456", "gb", "unknown `country`"),
        ("07400123456", "", "unknown `country`"),
        ("07400123456", "001", "unknown `country`"),
        ("07400123456", "s\u00df", "unknown `country`"),
        ("+447400123456", "XX", "unknown `country`"),
        ("+999123456789", None, "no country has this calling code"),
        ("+0447400123456", None, "no country has this calling code"),
        ("00 999 123456789", "GB", "no country has this calling code"),
        ("+4", None, "too short: write the whole number"),
        ("+441", None, "too short: write the whole number"),
        ("1", "GB", "too short: write the whole number"),
        ("+49123456789012345678", None, "too long: E.164 has at most 15 digits"),
        ("+49 891659 558827824", None, "too long: E.164 has at most 15 digits"),  # in Germany's plan all the same
        ("555 0123", "US", "too short for US: write the area code too"),
        ("+52 1 55 1234 5678", None, "too long for MX"),  # the 1 before mobile numbers ended in 2019
        ("+3361234567", None, "too short for FR"),
        ("+336123456789", None, "too long for FR"),
        ("+33112", None, "too short for FR"),
        ("+33000000000", None, "not a valid number of FR"),
        ("07400 1234567", "GB", "too long for GB"),
        ("00 33 000000000", "GB", "not a valid number of FR"),
        ("+44 7400 1234567", None, "too long for +44"),
        ("+1 200 123 0101", None, "not a valid number of +1"),
        ("+1 555 012", None, "too short for +1"),
        ("+8816123", None, "too short for +881"),
        ("+358 1", None, "too short"),
        ("+376 123 4567", None, "no number of AD has this length"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, country: str | None, detail: str) -> None:
    """The caller learns what is wrong, and what to write instead."""
    assert detail in refusal(text, country)


def test_a_refusal_never_repeats_the_country_that_was_given() -> None:
    """A caller may have put the number there by mistake."""
    assert "7400127123" not in refusal("07400127123", "+447400127123")


@pytest.mark.parametrize("text", ["8 810 805 3618", "+375 8 810 805 3618"])
def test_a_number_whose_e164_form_would_be_read_as_another_is_refused(text: str) -> None:
    """In Belarus 8 is the trunk prefix, and some numbers begin with it: nobody could dial them from their E.164."""
    assert refusal(text, "BY").endswith("BY")


PUNCTUATED = st.text(alphabet="0123456789+ ().-", max_size=phone.MAX_LENGTH)
GARBLED = st.text(alphabet="0123456789+ ().-xX#;,=ext/\n\uff11\u0661", max_size=phone.MAX_LENGTH + 4)
DIALLED = st.builds(
    "+{}{}".format,
    st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)),
    st.text(alphabet="0123456789", min_size=4, max_size=13),
)


@given(text=st.one_of(DIALLED, PUNCTUATED, GARBLED, st.text()), country=st.sampled_from([None, *COUNTRIES]))
def test_any_text_is_a_number_that_reads_back_or_a_refusal_that_tells_nothing(text: str, country: str | None) -> None:
    """Nothing else comes out, and no five digits of what was given stand in the refusal."""
    try:
        number = parse(text, country)
    except InvalidNumber as refused:
        shown = "".join(traceback.format_exception_only(refused)) + repr(refused) + refused.detail
        digits = re.sub(r"[^0-9]", "", text)
        runs = {digits[at : at + 5] for at in range(len(digits) - 4)}
        assert not any(run in shown.replace(phone.EXAMPLE, "") for run in runs)
    else:
        assert re.fullmatch(r"\+[1-9][0-9]{4,14}", number.e164)
        assert parse(number.e164) == number
        assert phonenumbers.is_valid_number(phonenumbers.parse(number.e164))


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("mobile", {"sms", "whatsapp", "voice", "telegram", "email"}),
        ("fixed_line_or_mobile", {"sms", "whatsapp", "voice", "telegram", "email"}),
        ("voip", {"sms", "whatsapp", "voice", "email"}),
        ("fixed_line", {"voice", "email"}),
    ],
)
def test_ordinary_kinds_are_reached_without_being_allowed(kind: str, channels: set[str]) -> None:
    """Allowing them changes nothing."""
    assert reach(kind) == reach(kind, {kind}) == channels


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("premium_rate", {"voice", "email"}),
        ("shared_cost", {"voice", "email"}),
        ("toll_free", {"voice", "email"}),
        ("uan", {"voice", "email"}),
        ("personal_number", {"voice", "email"}),
        ("satellite", {"sms", "voice", "email"}),
    ],
)
def test_costly_kinds_are_reached_only_where_allowed(kind: str, channels: set[str]) -> None:
    """Each has to be named: allowing the others does not help."""
    assert reach(kind) == frozenset()
    assert reach(kind, phone.REFUSABLE - {kind}) == frozenset()
    assert reach(kind, [kind]) == channels
    assert kind in phone.REFUSABLE


@pytest.mark.parametrize("kind", ["pager", "voicemail", "unknown"])
def test_some_kinds_are_never_reached(kind: str) -> None:
    """Nobody hears or reads a code there, so they cannot be allowed either."""
    assert reach(kind, [kind]) == frozenset()
    assert kind not in phone.REFUSABLE


@pytest.mark.parametrize(
    ("number", "place"),
    [
        ("+12125552368", "America/New_York"),
        ("+4930123456", "Europe/Berlin"),
        ("+447400123456", "Europe"),  # London, and the islands
        ("+77011234567", ""),  # a calling code of two continents
        ("+80012345678", ""),  # of none
    ],
)
def test_a_number_belongs_to_a_place_as_far_as_its_range_tells(number: str, place: str) -> None:
    """A zone, a continent, or nothing."""
    assert region(parse(number)) == place


def test_a_number_that_no_plan_has_is_possible_if_its_length_is() -> None:
    """However it is written; it is told from those that plans have."""
    found = Number("+445012345678", "GB", "unknown", valid=False)
    assert possible("+44 50 1234 5678") == possible("050 1234 5678", "GB") == found
    assert refusal("+445012345678") == "not a valid number of +44"


@pytest.mark.parametrize(
    "text", ["+447400123456", "+4450123456789", "+445012", "+870123456789", "+99912345678", "5012345678", "a", ""]
)
def test_other_texts_are_no_possible_numbers(text: str) -> None:
    """Valid ones, too long or too short, of no country, without one, or no numbers at all."""
    assert possible(text) is None


@pytest.mark.parametrize("country", COUNTRIES)
def test_no_valid_number_is_only_possible(country: str) -> None:
    """Every example is one or the other."""
    assert [example for _, example in examples(country) if possible(phonenumbers.format_number(example, E164))] == []
