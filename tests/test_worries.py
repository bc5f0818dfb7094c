"""What works in a configuration, but should be known."""

from __future__ import annotations

import pytest

from service import code, config
from tests.test_config import accepted, sms, top, with_short_codes
from tests.world import Table, table


def test_what_works_but_should_be_known_is_told() -> None:
    """The embedded store, the console where it is used, each test number; not a console that nothing uses."""
    data = table(test_numbers={"+447700900123": "424242", "+12025550123": "424242"}, cascade=[sms("terminal")])
    data["providers"] |= {"terminal": {"kind": "console"}, "spare": {"kind": "console"}}
    found = list(config.worries(accepted(data)))
    assert [key for key, _ in found if key != "secrets.argon2"] == [
        "redis",
        "providers.terminal",
        "applications.shop.test_numbers",
        "applications.shop.test_numbers",
    ]
    assert [message for key, message in found if "test_numbers" in key] == [
        "+44…23 has a fixed code and no limits",
        "+12…23 has a fixed code and no limits",
    ]


def test_who_does_not_take_every_code_of_a_caller_is_told() -> None:
    """A caller may bring ten digits; each provider is told once."""
    twice = {"+1": [{"channel": "telegram", "providers": ["tg"]}]}
    data = with_short_codes(own_code=True)
    data["applications"]["shop"]["cascade_by_prefix"] |= twice
    found = [worry for worry in config.worries(accepted(data)) if worry[0] == "applications.shop.own_code"]
    assert [message for _, message in found] == [
        "calls takes codes of 8 digits at most over voice, and rejects a longer one",
        "tg takes codes of 8 digits at most over telegram, and rejects a longer one",
    ]
    assert not [key for key, _ in config.worries(accepted(with_short_codes())) if "own_code" in key]


def test_a_configuration_for_production_has_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is fast enough; on a slow one, how long a hash takes."""
    found = accepted(top(redis="redis://h"))
    monkeypatch.setattr(code, "seconds", lambda _: 0.02)
    assert list(config.worries(found)) == []
    monkeypatch.setattr(code, "seconds", lambda _: 0.2)
    told = "one hash takes 200 ms on this machine, and a check waits for it"
    assert list(config.worries(found)) == [("secrets.argon2", told)]


def long_texts(**changes: object) -> list[tuple[str, str]]:
    """What is told of the texts of an application."""
    return [worry for worry in config.worries(accepted(table(**changes))) if ".texts." in worry[0]]


@pytest.mark.parametrize(
    ("purpose", "template", "filled", "room", "changes"),
    [
        ("login", "{code}", "000000", 160, {}),
        ("login", "{code}", "00000000", 160, {"code_length": 8}),
        ("default", "{brand}{code}{minutes}", "Shop00000010", 160, {"brand": "Shop"}),
        ("signup", "{brand}{code}", "Łódź000000", 70, {"brand": "Łódź"}),
        ("transaction", "{code}{amount}{payee}", "000000EUR 199.90twelve chars", 160, {}),
    ],
)
def test_an_own_sms_of_more_than_one_segment_is_told(
    purpose: str, template: str, filled: str, room: int, changes: Table
) -> None:
    """As it is with its brand, a code of its length, an amount and a payee; one that just fits is not told."""
    rest = "x" * (room - len(filled))
    assert long_texts(**changes, texts={"pt-BR": {purpose: {"sms": f"{template}{rest}"}}}) == []
    assert long_texts(**changes, texts={"pt-BR": {purpose: {"sms": f"{template}{rest}x"}}}) == [
        (f"applications.shop.texts.pt-BR.{purpose}.sms", "2 segments, each is billed")
    ]


def test_every_own_sms_is_measured_as_it_is_written() -> None:
    """In locales and purposes that there were not, and however a locale is written; no other channel is."""
    parts = {count: {"sms": "{code}" + "x" * (153 * count - 6)} for count in (2, 3, 4)}
    speech = {"voice": "{code}" + "x" * 400, "whatsapp": "{code}" + "x" * 400}
    texts = {"EN": {"default": parts[2], "signup": speech}, "no": {"log in": parts[3]}, "tlh": {"default": parts[4]}}
    assert long_texts(texts=texts) == [
        ("applications.shop.texts.EN.default.sms", "2 segments, each is billed"),
        ('applications.shop.texts.no."log in".sms', "3 segments, each is billed"),
        ("applications.shop.texts.tlh.default.sms", "4 segments, each is billed"),
    ]
