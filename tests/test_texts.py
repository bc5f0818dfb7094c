"""The messages that carry a code: what each says, in which language, and what an operator may change."""

import tomllib
import unicodedata
from importlib.resources import files

import phonenumbers
import pytest

from service.errors import TextError
from service.segments import measure
from service.texts import Texts

TEXTS = Texts()
CODE = "482913"
SPOKEN = "4, 8, 2, 9, 1, 3"
PURPOSES = ["login", "signup", "default"]
CHANNELS = ["sms", "voice", "whatsapp"]

every_locale = pytest.mark.parametrize("locale", TEXTS.locales)
every_channel = pytest.mark.parametrize("channel", CHANNELS)
every_purpose = pytest.mark.parametrize("purpose", PURPOSES)


def message(
    channel: str = "sms",
    purpose: str = "login",
    locale: str = "en",
    *,
    texts: Texts = TEXTS,
    code: str = CODE,
    brand: str = "Shop",
    minutes: int = 10,
    amount: str | None = None,
    payee: str | None = None,
    app_hash: str | None = None,
    webotp_domain: str | None = None,
) -> str:
    """Render with the values of an ordinary login."""
    return texts.render(
        channel,
        purpose,
        locale,
        code=code,
        brand=brand,
        minutes=minutes,
        amount=amount,
        payee=payee,
        app_hash=app_hash,
        webotp_domain=webotp_domain,
    )


def builtin(locale: str) -> dict[str, dict[str, str]]:
    """Read the file of one locale."""
    return tomllib.loads((files("service.texts") / f"{locale}.toml").read_text(encoding="utf-8"))


def problems(overrides: dict[str, dict[str, dict[str, str]]]) -> list[tuple[str, str]]:
    """Return what is wrong with the texts of an operator."""
    with pytest.raises(TextError) as caught:
        Texts(overrides)
    return caught.value.problems


class TestBuiltIn:
    """The texts that come with the service."""

    def test_there_are_more_than_thirty_locales(self) -> None:
        """Sorted, among them the most used languages of the world."""
        assert len(TEXTS.locales) > 30
        assert list(TEXTS.locales) == sorted(TEXTS.locales)
        assert {"en", "es", "pt-BR", "zh-Hans", "hi", "ar", "fr", "ru", "id", "ja"} <= set(TEXTS.locales)

    @every_locale
    def test_each_file_has_every_purpose_and_channel_and_passes_the_checks_of_overrides(self, locale: str) -> None:
        """No text is missing, none has a placeholder that gets no value."""
        book = builtin(locale)
        Texts({locale: book})
        assert {purpose: list(channels) for purpose, channels in book.items()} == dict.fromkeys(
            ["default", "login", "signup", "transaction"], CHANNELS
        )

    @every_locale
    def test_each_text_is_composed_trimmed_and_in_one_line(self, locale: str) -> None:
        """Composed characters (NFC) take the fewest units of an SMS."""
        for channels in builtin(locale).values():
            for text in channels.values():
                assert unicodedata.is_normalized("NFC", text)
                assert text == " ".join(text.split())

    @every_purpose
    @every_channel
    @every_locale
    def test_a_message_has_brand_code_and_minutes(self, locale: str, channel: str, purpose: str) -> None:
        """Whatever the channel; spoken messages say the code twice, digit by digit."""
        text = message(channel, purpose, locale, minutes=37)
        assert "Shop" in text
        assert "37" in text
        assert text.count(SPOKEN if channel == "voice" else CODE) == (2 if channel == "voice" else 1)
        assert not set("{}") & set(text)

    @every_channel
    @every_locale
    def test_a_transaction_shows_amount_and_payee(self, locale: str, channel: str) -> None:
        """As PSD2's dynamic linking demands, whatever the purpose."""
        text = message(channel, "login", locale, minutes=37, amount="EUR 199.90", payee="Books & Sons")
        assert "EUR 199.90" in text
        assert "Books & Sons" in text
        assert "Shop" in text
        assert "37" in text
        assert text.count(SPOKEN if channel == "voice" else CODE) == (2 if channel == "voice" else 1)

    @pytest.mark.parametrize("code", ["482913", "4829130657"])
    @every_purpose
    @every_locale
    def test_an_sms_fits_one_segment(self, locale: str, purpose: str, code: str) -> None:
        """So that it costs one message, with a code of usual and of greatest length."""
        assert measure(message("sms", purpose, locale, code=code, brand="Twelve Chars")).count == 1

    @pytest.mark.parametrize("code", ["482913", "4829130657"])
    @every_locale
    def test_a_transaction_sms_fits_one_segment(self, locale: str, code: str) -> None:
        """With an amount of ten characters and a payee of twelve."""
        text = message(
            "sms", "login", locale, code=code, brand="Twelve Chars", amount="EUR 199.90", payee="Books & Sons"
        )
        assert measure(text).count == 1

    @every_purpose
    @pytest.mark.parametrize("locale", ["en", "es", "fr", "de", "it", "pl", "id"])
    def test_an_sms_in_gsm7_has_room_for_the_lines_of_app_and_browser(self, locale: str, purpose: str) -> None:
        """SMS Retriever reads messages of one segment only."""
        text = message(
            "sms", purpose, locale, brand="Twelve Chars", app_hash="FA+9qCX9VSu", webotp_domain="shop.example.com"
        )
        size = measure(text)
        assert (size.encoding, size.count) == ("gsm7", 1)

    @every_channel
    @pytest.mark.parametrize("locale", ["ar", "fa", "he", "ur"])
    @pytest.mark.parametrize("amount", [None, "EUR 199.90"])
    def test_a_text_in_a_right_to_left_script_starts_with_it(
        self, locale: str, channel: str, amount: str | None
    ) -> None:
        """The first strong character sets the direction of the whole line (UAX #9, P2), so no Latin brand may be it."""
        text = message(channel, "login", locale, amount=amount, payee=amount and "Books")
        directions = (unicodedata.bidirectional(character) for character in text)
        assert next(direction for direction in directions if direction in {"L", "R", "AL"}) in {"R", "AL"}

    def test_the_purposes_read_differently_and_an_unknown_one_reads_as_default(self) -> None:
        """A purpose is a label of the caller's own."""
        assert len({message(purpose=purpose) for purpose in PURPOSES}) == len(PURPOSES)
        assert message(purpose="change-email") == message(purpose="default")

    def test_the_purpose_transaction_without_a_transaction_reads_as_default(self) -> None:
        """There is nothing to show."""
        assert message(purpose="transaction") == message(purpose="default")

    def test_an_unknown_locale_reads_as_english(self) -> None:
        """A locale may have left the configuration since a verification started."""
        assert message(locale="tlh") == message(locale="en")

    @pytest.mark.parametrize(("amount", "payee"), [("EUR 1", None), (None, "Books")])
    def test_half_a_transaction_is_refused(self, amount: str | None, payee: str | None) -> None:
        """A message that hides the other half must never leave."""
        with pytest.raises(ValueError, match="both an amount and a payee"):
            message(amount=amount, payee=payee)


class TestLines:
    """What apps and browsers read at the end of an SMS."""

    def test_the_webotp_line_comes_last_and_the_app_hash_before_it(self) -> None:
        """WebOTP insists on the last line; SMS Retriever does not."""
        text = message(app_hash="FA+9qCX9VSu", webotp_domain="shop.example.com")
        assert text.split("\n") == [message(), "FA+9qCX9VSu", f"@shop.example.com #{CODE}"]

    def test_each_line_comes_alone_too(self) -> None:
        """A caller may want just one of them."""
        assert message(app_hash="FA+9qCX9VSu") == f"{message()}\nFA+9qCX9VSu"
        assert message(webotp_domain="example.com") == f"{message()}\n@example.com #{CODE}"

    @pytest.mark.parametrize("channel", ["voice", "whatsapp", "telegram"])
    def test_no_other_channel_has_lines(self, channel: str) -> None:
        """Nothing on the phone reads them there."""
        assert message(channel, app_hash="FA+9qCX9VSu", webotp_domain="example.com") == message(channel)

    def test_a_channel_without_texts_of_its_own_gets_the_sms(self) -> None:
        """It says all that is needed in the fewest words."""
        assert message("telegram") == message("sms")


class TestValues:
    """Brand, amount and payee come from outside."""

    @pytest.mark.parametrize("value", ["{code}", "{", "}}", "{0.__class__}", "%s"])
    def test_a_value_is_never_read_as_a_template(self, value: str) -> None:
        """It is shown as it is."""
        text = message(brand=value, amount=value, payee=value)
        assert text.count(value) >= 3
        assert text.count(CODE) == 1

    @pytest.mark.parametrize(
        "gap", ["\n", "\r\n", " \t ", "\x00", "\x0b", "\x1b", "\x85", "\u2028", "\u202e", "\u2067", "\u00a0", "   "]
    )
    def test_whitespace_and_control_characters_become_one_space(self, gap: str) -> None:
        """So that a payee can neither forge a WebOTP line nor turn the order of what follows."""
        text = message(brand=f"My{gap}Shop", amount=f"{gap}EUR{gap}1", payee=f"Evil{gap}@evil.example #000000{gap}")
        assert text == message(brand="My Shop", amount="EUR 1", payee="Evil @evil.example #000000")
        assert text.isprintable()

    def test_joiners_inside_a_word_stay(self) -> None:
        """Persian and Indic spelling needs them."""
        assert "کتاب\u200cها" in message(locale="fa", brand="کتاب\u200cها")


class TestLocale:
    """Which language a message is in."""

    @pytest.mark.parametrize(
        ("requested", "found"),
        [
            ("pt-BR", "pt-BR"),
            ("PT-br", "pt-BR"),
            ("pt_BR", "pt-BR"),
            ("pt-BR-x-private", "pt-BR"),
            ("pt-AO", "pt"),
            ("en-GB-oxendict", "en"),
            ("zh", "zh-Hans"),
            ("zh-CN", "zh-Hans"),
            ("zh-SG", "zh-Hans"),
            ("zh-TW", "zh-Hant"),
            ("zh-HK", "zh-Hant"),
            ("zh-MO", "zh-Hant"),
            ("zh-Hant-HK", "zh-Hant"),
            ("zh-Hans-HK", "zh-Hans"),
            ("sr", "sr"),
            ("sr-Cyrl-RS", "sr"),
            ("sr-Latn-RS", "sr-Latn"),
            ("no", "nb"),
            ("nn-NO", "nb"),
            ("iw", "he"),
            ("in-ID", "id"),
            ("tl-PH", "fil"),
        ],
    )
    def test_a_requested_tag_is_cut_from_the_end_until_it_is_known(self, requested: str, found: str) -> None:
        """After RFC 4647, section 3.4; the country and the application do not count then."""
        assert TEXTS.locale(requested, "FI", "ta") == found

    @pytest.mark.parametrize(
        "requested", [None, "", "*", "-", "tlh", "x-en", "i-klingon", "e", "🙂", "q" * 5000, "-" * 5000]
    )
    def test_an_unknown_or_broken_tag_leaves_it_to_the_country(self, requested: str | None) -> None:
        """No string is an error here."""
        assert TEXTS.locale(requested, "FI", "ta") == "fi"

    @pytest.mark.parametrize(
        ("country", "locale"),
        [
            ("GB", "en"),
            ("US", "en"),
            ("IN", "en"),
            ("MX", "es"),
            ("BR", "pt-BR"),
            ("PT", "pt"),
            ("CN", "zh-Hans"),
            ("TW", "zh-Hant"),
            ("HK", "zh-Hant"),
            ("RS", "sr-Latn"),
            ("CH", "de"),
            ("BE", "nl"),
            ("EG", "ar"),
            ("IL", "he"),
            ("IR", "fa"),
            ("PK", "ur"),
            ("BD", "bn"),
            ("KZ", "ru"),
            ("NO", "nb"),
            ("TZ", "sw"),
        ],
    )
    def test_without_a_request_the_country_of_the_number_decides(self, country: str, locale: str) -> None:
        """The application is asked only after it."""
        assert TEXTS.locale(None, country, "ta") == locale

    def test_every_country_with_numbers_has_a_locale_but_those_whose_language_we_lack(self) -> None:
        """In those the application's locale stands in."""
        without = {region for region in phonenumbers.SUPPORTED_REGIONS if TEXTS.locale(None, region, "ta") == "ta"}
        assert " ".join(sorted(without)) == "AL AM BT ER ET GE IS KH LA LK MM MN MV NP SO TJ TM UZ XK"

    def test_the_application_and_then_english_come_last(self) -> None:
        """For a country whose language there is no text in, and for none."""
        assert TEXTS.locale("tlh", "GE", "ru-GE") == "ru"
        assert TEXTS.locale(None, "GE") == "en"
        assert TEXTS.locale(None, "ZZ", "tlh") == "en"


class TestOverrides:
    """The operator's own texts."""

    def test_a_text_replaces_just_the_built_in_one_at_its_place(self) -> None:
        """Other channels, purposes and locales stay."""
        texts = Texts({"en": {"login": {"sms": "{code} for {brand}"}}})
        assert message(texts=texts) == "482913 for Shop"
        for channel, purpose, locale in [("voice", "login", "en"), ("sms", "signup", "en"), ("sms", "login", "de")]:
            assert message(channel, purpose, locale, texts=texts) == message(channel, purpose, locale)

    def test_construction_leaves_other_texts_alone(self) -> None:
        """The built-in ones are shared."""
        Texts({"en": {"default": {"sms": "{code}"}}})
        assert message(texts=Texts()) != CODE

    def test_a_default_replaces_all_purposes_that_have_no_text_of_their_own_in_the_overrides(self) -> None:
        """But no transaction, because it has neither amount nor payee."""
        texts = Texts({"en": {"default": {"sms": "D {code}"}, "signup": {"sms": "S {code}"}}})
        assert message(purpose="login", texts=texts) == f"D {CODE}"
        assert message(purpose="anything", texts=texts) == f"D {CODE}"
        assert message(purpose="signup", texts=texts) == f"S {CODE}"
        transaction = message(texts=texts, amount="EUR 1", payee="Books")
        assert transaction == message(amount="EUR 1", payee="Books")

    def test_a_purpose_may_be_new(self) -> None:
        """Channels that it does not mention read as the default."""
        texts = Texts({"en": {"payout": {"sms": "P {code}"}}})
        assert message(purpose="payout", texts=texts) == f"P {CODE}"
        assert message("voice", "payout", texts=texts) == message("voice", "default")
        assert message(purpose="payout", locale="de", texts=texts) == message(purpose="default", locale="de")

    def test_a_transaction_may_be_overridden(self) -> None:
        """With the placeholders that it must have."""
        texts = Texts({"en": {"transaction": {"sms": "{code}: {amount} > {payee}"}}})
        assert message(texts=texts, amount="EUR 1", payee="Books") == "482913: EUR 1 > Books"

    def test_doubled_braces_stand_for_braces(self) -> None:
        """As in any Python format string."""
        assert message(texts=Texts({"en": {"login": {"sms": "{{{code}}}"}}})) == "{482913}"

    def test_a_new_locale_is_known_at_once_and_borrows_what_it_lacks(self) -> None:
        """From English, when nothing is nearer."""
        texts = Texts({"ka": {"default": {"sms": "კოდი {code}"}}})
        assert "ka" in texts.locales
        assert texts.locale("KA-GE", "US") == "ka"
        assert texts.locale(None, "GE", "ru") == "ka"
        assert message("sms", "login", "ka", texts=texts) == f"კოდი {CODE}"
        assert message("voice", "login", "ka", texts=texts) == message("voice", "login", "en")

    def test_a_regional_locale_borrows_from_its_language_and_serves_its_country(self) -> None:
        """With the overrides of that language, whichever comes first in the file."""
        texts = Texts(
            {
                "de-AT": {"login": {"sms": "Servus {code}"}},
                "de": {"signup": {"sms": "Moin {code}"}},
                "zh-TW": {"login": {"sms": "碼 {code}"}},
            }
        )
        assert texts.locale(None, "AT") == "de-AT"
        assert texts.locale(None, "DE") == "de"
        assert message("sms", "login", "de-AT", texts=texts) == f"Servus {CODE}"
        assert message("sms", "signup", "de-AT", texts=texts) == f"Moin {CODE}"
        assert message("voice", "login", "de-AT", texts=texts) == message("voice", "login", "de")
        assert texts.locale(None, "TW") == "zh-TW"
        assert message("voice", "login", "zh-TW", texts=texts) == message("voice", "login", "zh-Hant")

    def test_a_known_locale_may_be_named_in_any_case(self) -> None:
        """It does not become a second one."""
        texts = Texts({"PT-br": {"login": {"sms": "BR {code}"}}})
        assert texts.locales == TEXTS.locales
        assert message(locale="pt-BR", texts=texts) == f"BR {CODE}"

    @pytest.mark.parametrize(
        ("purpose", "template", "fault"),
        [
            ("login", "Hello {brand}", "lacks {code}"),
            ("login", "{code} {otp}", "unknown placeholder {otp}"),
            ("login", "{code} {}", "unknown placeholder {}"),
            ("login", "{code} {0}", "unknown placeholder {0}"),
            ("login", "{code} {code.__class__}", "unknown placeholder {code.__class__}"),
            ("login", "{code} {brand[0]}", "unknown placeholder {brand[0]}"),
            ("login", "{code!r}", "{code} takes no format or conversion"),
            ("login", "{code:>10}", "{code} takes no format or conversion"),
            ("login", "{code} {amount}", "{amount} has a value only in transaction"),
            ("transaction", "{code} {payee}", "lacks {amount}"),
            ("transaction", "{code} {amount}", "lacks {payee}"),
        ],
    )
    def test_a_text_that_could_not_be_rendered_is_refused(self, purpose: str, template: str, fault: str) -> None:
        """With its place and the fault."""
        assert problems({"en": {purpose: {"sms": template}}}) == [(f"en.{purpose}.sms", fault)]

    @pytest.mark.parametrize("template", ["{code", "code}", "{code} }", "{code} {"])
    def test_unbalanced_braces_are_refused(self, template: str) -> None:
        """With a word on how to write a brace."""
        [(path, fault)] = problems({"en": {"login": {"sms": template}}})
        assert path == "en.login.sms"
        assert fault.startswith("bad braces, write {{ and }} for braces in the text")

    def test_an_unknown_channel_is_refused(self) -> None:
        """It would never be sent."""
        [(path, fault)] = problems({"en": {"login": {"smss": "{code}"}}})
        assert (path, fault) == ("en.login.smss", "unknown channel, known are email, sms, telegram, voice, whatsapp")

    def test_all_problems_are_reported_at_once(self) -> None:
        """Each with its path, and all of them in the message."""
        overrides = {"en": {"login": {"sms": "{otp}"}}, "xx": {"default": {"voice": "{", "fax": "{code}"}}}
        with pytest.raises(TextError) as caught:
            Texts(overrides)
        paths = [path for path, _ in caught.value.problems]
        assert paths == ["en.login.sms", "en.login.sms", "xx.default.voice", "xx.default.fax"]
        assert all(f"{path}: {fault}" in str(caught.value) for path, fault in caught.value.problems)
