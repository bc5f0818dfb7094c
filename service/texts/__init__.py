"""The words that carry a code: one text per locale, purpose and channel, the operator's over the built-in ones.

Beside this file lies one `<locale>.toml` per built-in locale: a table per purpose, in it a template per channel.
A template is plain text with `{brand}`, `{code}` and `{minutes}`, and, for the purpose `transaction` only, `{amount}`
and `{payee}`; `{{` and `}}` stand for braces. Minutes are written with an abbreviated or unchanging unit, because a
template knows no plural. Every built-in SMS fits one segment (see `service.segments`) with a brand and a payee of 12
Latin letters, an amount of 10 characters and a code of 10 digits; the lines for apps and browsers come on top of that.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter

from service.errors import TextError

_CHANNELS = ("email", "sms", "telegram", "voice", "whatsapp")
_ANYWHERE = frozenset({"brand", "code", "minutes"})
_TRANSACTION = frozenset({"amount", "payee"})

# Tags that say the same as a built-in locale: the default script of Chinese by region (CLDR likely subtags), withdrawn
# codes (IANA language subtag registry), and written norms close enough to be read without effort.
_ALIASES = {
    "in": "id",
    "iw": "he",
    "nn": "nb",
    "no": "nb",
    "tl": "fil",
    "yue": "zh-Hant",
    "zh": "zh-Hans",
    "zh-hk": "zh-Hant",
    "zh-mo": "zh-Hant",
    "zh-tw": "zh-Hant",
}

# The language to write in to a country's numbers (CLDR territory-language data, the most used official language).
# Where several are official it is the one that businesses text in: English in India, the Philippines and most of
# Africa's Anglophone states, Russian in Belarus and Central Asia's north, Latin script in Serbia and Montenegro.
# Languages with no built-in locale are listed so that one added by the operator is found.
_COUNTRIES = {
    country: language
    for language, countries in {
        "am": "ET",
        "ar": "AE BH DZ EG EH IQ JO KW LB LY MA MR OM PS QA SA SD SY TN YE",
        "az": "AZ",
        "bg": "BG",
        "bn": "BD",
        "bs": "BA",
        "ca": "AD",
        "cs": "CZ",
        "da": "DK FO GL",
        "de": "AT CH DE LI",
        "dv": "MV",
        "dz": "BT",
        "el": "CY GR",
        "en": "AC AG AI AS AU BB BM BS BW BZ CA CC CK CX DM FJ FK FM GB GD GG GH GI GM GU GY IE IM IN IO JE JM KE KI KN"
        " KY LC LR LS MH MP MS MT MU MW NA NF NG NR NU NZ PG PH PN PW RW SB SC SG SH SL SS SX SZ TA TC TK TO TT TV UG"
        " US VC VG VI VU WS ZA ZM ZW",
        "es": "AR BO CL CO CR CU DO EC ES GQ GT HN MX NI PA PE PR PY SV UY VE",
        "et": "EE",
        "fa": "AF IR",
        "fi": "FI",
        "fr": "BF BI BJ BL CD CF CG CI CM DJ FR GA GF GN GP HT KM LU MC MF MG ML MQ NC NE PF PM RE SN TD TG WF YT",
        "he": "IL",
        "hr": "HR",
        "hu": "HU",
        "hy": "AM",
        "id": "ID",
        "is": "IS",
        "it": "IT SM VA",
        "ja": "JP",
        "ka": "GE",
        "km": "KH",
        "ko": "KP KR",
        "lo": "LA",
        "lt": "LT",
        "lv": "LV",
        "mk": "MK",
        "mn": "MN",
        "ms": "BN MY",
        "my": "MM",
        "nb": "NO SJ",
        "ne": "NP",
        "nl": "AW BE BQ CW NL SR",
        "pl": "PL",
        "pt": "AO BR CV GW MZ PT ST TL",
        "ro": "MD RO",
        "ru": "BY KG KZ RU",
        "si": "LK",
        "sk": "SK",
        "sl": "SI",
        "so": "SO",
        "sq": "AL XK",
        "sr-Latn": "ME RS",
        "sv": "AX SE",
        "sw": "TZ",
        "tg": "TJ",
        "th": "TH",
        "ti": "ER",
        "tk": "TM",
        "tr": "TR",
        "uk": "UA",
        "ur": "PK",
        "uz": "UZ",
        "vi": "VN",
        "zh": "CN HK MO TW",
    }.items()
    for country in countries.split()
}

# No registered language tag needs more than eight subtags to say what we could have a text for; a longer one is noise.
_MAX_SUBTAGS = 8

# What could start a line, or show the characters after it in another order (Unicode bidirectional controls, UAX #9).
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


class Texts:
    """The built-in texts with an operator's over them; nothing changes after construction.

    `overrides` is locale -> purpose (`default` for any that has none of its own) -> channel -> template. It may name
    new purposes and new locales. What an overridden locale leaves out comes from its `default` in the overrides, then
    from the built-in locale, or for a new locale from the nearest one there is (`en` for `en-GB`), else from `en`.
    A transaction never falls back to `default`, which has no amount and no payee. Raises `TextError` with all problems.

    `locales` are the tags of all locales that there are texts for, sorted.
    """

    def __init__(self, overrides: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None) -> None:
        overrides = overrides or {}
        if problems := list(_problems(overrides)):
            raise TextError(problems)
        self._books = dict(_built_in())
        self._tags = _ALIASES | {name.lower(): name for name in self._books}
        # A new locale builds on what is there, so the built-in ones go first, and `xx` before `xx-YY`.
        for tag in sorted(overrides, key=lambda tag: (tag.lower() not in self._tags, tag.count("-"))):
            name = next((known for known in self._books if known.lower() == tag.lower()), tag)
            self._books[name] = _merge(overrides[tag], self._books[self._find(tag) or "en"])
            self._tags[name.lower()] = name
        self.locales = tuple(sorted(self._books))

    def locale(self, requested: str | None, country: str, application: str | None = None) -> str:
        """Return the locale to write in: the one asked for, else the country's, else the application's, else `en`.

        `requested` and `application` are BCP 47 tags, looked up after RFC 4647, section 3.4 (`pt-BR-x-a`, `pt-BR`,
        `pt`); `country` is the ISO 3166 alpha-2 code of the number, in capitals. Other strings are passed over.
        """
        language = _COUNTRIES.get(country)
        wishes = (requested, language and f"{language}-{country}", application)
        return next((found for wish in wishes if wish and (found := self._find(wish))), "en")

    def render(
        self,
        channel: str,
        purpose: str,
        locale: str,
        *,
        code: str,
        brand: str,
        minutes: int,
        amount: str | None = None,
        payee: str | None = None,
        app_hash: str | None = None,
        webotp_domain: str | None = None,
    ) -> str:
        """Return the message for `channel` in `locale`, one of `locales` (`en` is used for any other).

        `minutes` is the time left, at least 1. With `amount` and `payee` the purpose is `transaction`, whatever was
        given; one without the other is a `ValueError`. `voice` gets the digits one by one, with pauses. A channel that
        has no texts gets the one for `sms`. Brand, amount and payee are put in as they are, but in one line.

        `app_hash` and `webotp_domain` add lines, on `sms` only, and are taken as given. Android's SMS Retriever wants
        its 11 characters anywhere in a message of at most 140 bytes, which is one segment
        (https://developers.google.com/identity/sms-retriever/verify); WebOTP and iOS want `@domain #code` as the last
        line (https://wicg.github.io/sms-one-time-codes/), so that one is last.
        """
        if (amount is None) != (payee is None):
            raise ValueError("a transaction has both an amount and a payee")
        if amount is not None:
            purpose = "transaction"
        elif purpose == "transaction":
            purpose = "default"
        book = self._books.get(locale) or self._books["en"]
        templates = book.get(purpose) or book["default"]
        text = (templates.get(channel) or templates["sms"]).format(
            brand=_one_line(brand),
            code=", ".join(code) if channel == "voice" else code,
            minutes=minutes,
            amount=_one_line(amount or ""),
            payee=_one_line(payee or ""),
        )
        if channel == "sms" and app_hash:
            text = f"{text}\n{app_hash}"
        if channel == "sms" and webotp_domain:
            text = f"{text}\n@{webotp_domain} #{code}"
        return text

    def _find(self, tag: str) -> str | None:
        subtags = tag.lower().replace("_", "-").split("-", _MAX_SUBTAGS)[:_MAX_SUBTAGS]
        while subtags:
            if found := self._tags.get("-".join(subtags)):
                return found
            subtags.pop()
        return None


@cache
def _built_in() -> dict[str, dict[str, dict[str, str]]]:
    folder = Path(__file__).parent
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.toml")}


def _merge(own: Mapping[str, Mapping[str, str]], base: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    book = {}
    for purpose in own.keys() | base.keys():
        default = {} if purpose == "transaction" else own.get("default", {})
        book[purpose] = {**base.get(purpose, base["default"]), **default, **own.get(purpose, {})}
    return book


def _problems(overrides: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[tuple[str, str]]:
    for locale, book in overrides.items():
        for purpose, templates in book.items():
            for channel, template in templates.items():
                path = f"{locale}.{purpose}.{channel}"
                if channel not in _CHANNELS:
                    yield path, f"unknown channel, known are {', '.join(_CHANNELS)}"
                for fault in _faults(template, _TRANSACTION if purpose == "transaction" else frozenset()):
                    yield path, fault


def _faults(template: str, transaction: frozenset[str]) -> Iterator[str]:
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        yield f"bad braces, write {{{{ and }}}} for braces in the text: {error}"
        return
    names = {name for _, name, _, _ in fields}
    for _, name, spec, conversion in fields:
        if name in _TRANSACTION - transaction:
            yield f"{{{name}}} has a value only in transaction"
        elif name not in _ANYWHERE | transaction:
            yield f"unknown placeholder {{{name}}}"
        elif spec or conversion:
            yield f"{{{name}}} takes no format or conversion"
    for name in sorted({"code"} | transaction):
        if name not in names:
            yield f"lacks {{{name}}}"


def _one_line(value: str) -> str:
    return _UNSAFE.sub(" ", value).strip()
