"""Phone numbers: read, judged and masked.

A number is read from E.164 (ITU-T E.164: `+`, calling code, national number; at most 15 digits) or from national
writing with a country, and only a number that exists in its country's numbering plan is let through. The plans are
those of libphonenumber, whose regions, types and words "possible" and "valid" are kept.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberType, ValidationResult

from service.errors import InvalidNumber

# `re` keeps 512 patterns and starts over when they are used up, which numbers of some 85 countries do: each number then
# recompiles its patterns, ten times the cost of reading it. This keeps them; there are only as many as the plans have.
phonenumbers.enable_pattern_cache()

MAX_LENGTH: Final = 32
"""Characters in a number as written: 15 digits of E.164, a prefix to dial, and generous punctuation."""

E164_DIGITS: Final = 15
"""Digits in a number that can be reached from everywhere, calling code included (ITU-T E.164, 6.1)."""

EXAMPLE: Final = "+447400123456"
"""The number that error texts show: libphonenumber's own example."""

NON_GEOGRAPHIC: Final = "001"
"""The country of a number that belongs to none, as +800 and +881 (UN M.49 "world", as in libphonenumber)."""

COUNTRIES: Final = frozenset(phonenumbers.SUPPORTED_REGIONS) | {NON_GEOGRAPHIC}
"""Every country that a number can have."""

_TOO_LONG: Final = f"too long: E.164 has at most {E164_DIGITS} digits"

_CALLING_CODES: Final = frozenset(str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)

_WRITTEN: Final = re.compile(r"[ (]*\+?[ ().-]*[0-9][0-9 ().-]*")
_EXTENSION: Final = re.compile(r"(?:extn?|[x#;,])[ .:=]*[0-9]", re.IGNORECASE)
_WITHOUT_PUNCTUATION: Final = str.maketrans("", "", " ().-")

_KINDS: Final = {
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE: "fixed_line",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_line_or_mobile",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.VOICEMAIL: "voicemail",
}

# Calling codes whose every number is of one kind, where libphonenumber says mobile or VoIP and so would let a text or
# call at satellite prices pass for an ordinary one. The other non-geographic codes have the right type there already:
# 800 toll-free, 808 shared cost, 888 (disaster relief, an organisation's numbers) UAN, 979 premium rate.
# Source: ITU-T, List of ITU-T Recommendation E.164 assigned country codes.
_KIND_OF_CALLING_CODE: Final = {
    870: "satellite",  # Inmarsat
    878: "personal_number",  # Universal Personal Telecommunications
    881: "satellite",  # Global Mobile Satellite System: Iridium, Globalstar
    882: "satellite",  # international networks: Thuraya, ships, aircraft, machines
    883: "satellite",  # international networks, as 882
}

_NOWHERE: Final[frozenset[str]] = frozenset()
_EVERYWHERE: Final = frozenset({"sms", "whatsapp", "voice", "telegram", "email"})
_VOICE: Final = frozenset({"voice", "email"})

# kind: (channels that reach it, channels that reach it once an application allows the kind)
_REACH: Final = {
    "mobile": (_EVERYWHERE, _EVERYWHERE),
    "fixed_line_or_mobile": (_EVERYWHERE, _EVERYWHERE),
    "voip": (_EVERYWHERE - {"telegram"},) * 2,
    "fixed_line": (_VOICE, _VOICE),
    "premium_rate": (_NOWHERE, _VOICE),  # the called party is paid: what toll fraud dials
    "shared_cost": (_NOWHERE, _VOICE),
    "toll_free": (_NOWHERE, _VOICE),  # the called party pays, often a switchboard
    "uan": (_NOWHERE, _VOICE),  # an organisation's one number for everywhere
    "personal_number": (_NOWHERE, _VOICE),  # forwards to any line, at its owner's tariff
    "satellite": (_NOWHERE, frozenset({"sms", "voice", "email"})),  # a person with a telephone, at satellite prices
    "pager": (_NOWHERE, _NOWHERE),  # takes neither a text nor a spoken code
    "voicemail": (_NOWHERE, _NOWHERE),  # the mailbox of a person, never the person
    "unknown": (_NOWHERE, _NOWHERE),  # nobody can say what it costs
}

KINDS: Final = frozenset(_REACH)
"""Every kind that a number can have."""

REFUSABLE: Final = frozenset(kind for kind, (default, allowed) in _REACH.items() if default != allowed)
"""The kinds that are refused unless an application allows them (`allow_types`)."""


@dataclass(frozen=True, slots=True, repr=False)
class Number:
    """A phone number.

    `e164` is the whole number, `country` its ISO 3166 alpha-2 code (or `NON_GEOGRAPHIC`), `kind` one of
    `KINDS`, `valid` whether the plans have it. Its text is always the masked one: only who asks for `e164` gets the
    number.
    """

    e164: str
    country: str
    kind: str
    valid: bool = True

    @property
    def masked(self) -> str:
        """The number as it may be seen."""
        return masked(self.e164)

    def __repr__(self) -> str:
        return f"Number({self.masked}, {self.country}, {self.kind})"


def masked(e164: str) -> str:
    """A number as it may be seen: `+44******7123`.

    The calling code and the last four digits, or fewer of them where fewer than four would be hidden.
    """
    code = next((e164[1:end] for end in (2, 3, 4) if e164[1:end] in _CALLING_CODES), "")
    national = e164[1 + len(code) :]
    hidden = max(4, len(national) - 4)
    return f"+{code}{'*' * hidden}{national[hidden:]}"


def parse(text: str, country: str | None = None) -> Number:
    """Read a number as a person writes it.

    `text` is E.164 or, with `country` (ISO 3166 alpha-2, upper case), national: with or without the trunk prefix, or
    with that country's prefix for dialling abroad. Spaces, dashes, dots and parentheses are ignored. A number with a
    `+` says its own country, whatever `country` says.

    Raises InvalidNumber, whose `detail` holds nothing of the number but, at most, its calling code.
    """
    dialled, country = _dialled(text, country)
    found = _read(dialled, country)
    region = phonenumbers.region_code_for_number(found)
    # A type is also the proof of validity: number_type() is UNKNOWN exactly where is_valid_number() is false.
    if region is None or (number_type := phonenumbers.number_type(found)) == PhoneNumberType.UNKNOWN:
        raise InvalidNumber(_fault(found, country))
    e164 = _e164(found, dialled, country)
    kind = _KIND_OF_CALLING_CODE.get(found.country_code or 0) or _KINDS.get(number_type, "unknown")
    return Number(e164, region, kind)


def possible(text: str, country: str | None = None) -> Number | None:
    """A number that `parse` refuses though it has the length of those of its country: it may be newer than the plans.

    It is not `valid`, its kind is unknown, its country the main one of its calling code. None for all other texts.
    """
    try:
        dialled, country = _dialled(text, country)
        found = _read(dialled, country)
        e164 = _e164(found, dialled, country)
    except InvalidNumber:
        return None
    region = phonenumbers.region_code_for_country_code(found.country_code or 0)
    if region == NON_GEOGRAPHIC or phonenumbers.is_valid_number(found):
        return None
    if phonenumbers.is_possible_number_with_reason(found) != ValidationResult.IS_POSSIBLE:
        return None
    return Number(e164, region, "unknown", valid=False)


def reserved(text: str, numbers: Container[str]) -> Number | None:
    """The number, if it is one of `numbers` (E.164), which need not exist: those set aside for tests.

    Its country is the main one of its calling code, its kind mobile. None for any other text.
    """
    e164 = text.translate(_WITHOUT_PUNCTUATION)
    if e164 not in numbers:
        return None
    try:
        code = phonenumbers.parse(e164, None).country_code or 0
    except NumberParseException:
        code = 0
    return Number(e164, phonenumbers.region_code_for_country_code(code), "mobile")


def reach(kind: str, allow_types: Container[str] = ()) -> frozenset[str]:
    """Say on which channels a number of this kind can be reached; none: it is refused.

    `allow_types` are the kinds, of `REFUSABLE`, that the application accepts all the same. Raises KeyError for a
    kind that is not one of `KINDS`.
    """
    default, allowed = _REACH[kind]
    return allowed if kind in allow_types else default


def countries_of(prefix: str) -> tuple[str, ...]:
    """The countries that numbers with this prefix (`+4474`) may have; none where it is shorter than a calling code."""
    code = next((prefix[1:end] for end in (2, 3, 4) if prefix[1:end] in _CALLING_CODES), None)
    return () if code is None else tuple(phonenumbers.region_codes_for_country_code(int(code)))


def carrier(number: Number) -> str:
    """Who was given the number's range, in English; empty where that is not known. It may have been ported since."""
    # Some megabytes, which only those pay who ask.
    from phonenumbers import carrier as carriers

    name: str = carriers.name_for_number(phonenumbers.parse(number.e164), "en")
    return name


def region(number: Number) -> str:
    """Where a number's range belongs, as IANA names the time zone: `America/New_York`.

    Only the continent or ocean (`Europe`) where its zones share no more than that; empty where not even that.
    """
    # Half a megabyte. The places of libphonenumber's geocoder would take a hundred, and a second to load.
    from phonenumbers import timezone

    zones = set(timezone.time_zones_for_number(phonenumbers.parse(number.e164))) - {timezone.UNKNOWN_TIMEZONE}
    areas = {zone.partition("/")[0] for zone in zones}
    return str(min(zones if len(zones) == 1 else areas)) if len(areas) == 1 else ""


def warm(countries: Iterable[str] | None = None) -> None:
    """Load the plans of these countries (ISO 3166 alpha-2; default: all) and compile what their numbers need.

    The first number of a country otherwise pays for that, with some milliseconds. Countries without a plan of their
    own are passed over.
    """
    supported = phonenumbers.SUPPORTED_REGIONS
    for country in supported if countries is None else supported.intersection(countries):
        for number_type in _KINDS:
            example = phonenumbers.example_number_for_type(country, number_type)  # reads the example, as dialled there
            if example is not None:
                phonenumbers.number_type(example)


def _dialled(text: str, country: str | None) -> tuple[str, str | None]:
    """The digits as they are dialled, and in which country they are: None after a `+`. Raises InvalidNumber."""
    if country is not None and country not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidNumber("unknown `country`: give an ISO 3166 alpha-2 code in capitals, for example GB")
    dialled = _without_punctuation(text)
    if dialled.startswith("+"):
        return dialled, None
    if country is None and dialled.startswith("00"):
        raise InvalidNumber(f"00 is not dialled everywhere: write + instead, for example {EXAMPLE}")
    if country is None:
        raise InvalidNumber(f"a national number needs `country`: give it, or write E.164, for example {EXAMPLE}")
    return dialled, country


def _e164(found: PhoneNumber, dialled: str, country: str | None) -> str:
    """The number as it is reached from everywhere. Raises InvalidNumber where it is not."""
    e164 = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
    # Some plans have numbers that are longer than E.164 has room for (Germany, Japan).
    if len(e164) > len("+") + E164_DIGITS:
        raise InvalidNumber(_TOO_LONG)
    # Some plans allow numbers that begin like their own trunk prefix (Belarus: 810…). Their E.164 form would be read as
    # another number, and the code might go there.
    if e164 != dialled and _read(e164, None) != found:
        raise InvalidNumber(_fault(found, country))
    return e164


def _without_punctuation(text: str) -> str:
    """Keep the digits, after a `+` if there is one. Raises InvalidNumber for anything but a number alone."""
    if len(text) > MAX_LENGTH:
        raise InvalidNumber(f"too long: a number has at most {MAX_LENGTH} characters, punctuation included")
    if not text.isascii():
        raise InvalidNumber(f"only ASCII digits and punctuation can be read: write E.164, for example {EXAMPLE}")
    if _EXTENSION.search(text):
        raise InvalidNumber("an extension cannot be reached: give the number alone")
    if not _WRITTEN.fullmatch(text):
        raise InvalidNumber(f"not a number: write it as E.164, for example {EXAMPLE}")
    return text.translate(_WITHOUT_PUNCTUATION)


def _read(dialled: str, country: str | None) -> PhoneNumber:
    try:
        return phonenumbers.parse(dialled, country)
    except NumberParseException as fault:
        if fault.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            detail = f"no country has this calling code: write E.164, for example {EXAMPLE}"
        elif fault.error_type == NumberParseException.TOO_LONG:
            detail = _TOO_LONG
        else:
            detail = f"too short: write the whole number, for example {EXAMPLE}"
        raise InvalidNumber(detail) from None


def _fault(number: PhoneNumber, country: str | None) -> str:
    code = number.country_code or 0
    regions = phonenumbers.region_codes_for_country_code(code)
    alone = regions[0] if len(regions) == 1 and regions[0] != NON_GEOGRAPHIC else f"+{code}"
    place = country if country in regions else alone
    match phonenumbers.is_possible_number_with_reason(number):
        case ValidationResult.TOO_SHORT:
            return f"too short for {place}"
        case ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
            return f"too short for {place}: write the area code too"
        case ValidationResult.TOO_LONG:
            return f"too long for {place}"
        case ValidationResult.INVALID_LENGTH:
            return f"no number of {place} has this length"
        case _:
            return f"not a valid number of {place}"
