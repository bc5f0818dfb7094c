"""A configuration that is spoilt anywhere is a list of problems, and no secret shows, spoilt or not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import config
from service.api.auth import digest
from service.config import Settings
from service.errors import ConfigError
from service.providers import KINDS
from tests.test_config import accepted, gateway
from tests.world import KEY, NEXT_SECRET_KEY, SECRET_KEY, WEBHOOK_SECRET, Table

PASSWORD = "tell-nobody-of-redis"
NUMBER = "+447700900123"
CODE = "86420975"


def secretive() -> Table:
    """A configuration with recognizable secrets wherever one can be."""
    data = gateway(old_secret="whsec_" + base64.b64encode(b"tell-nobody-of-gateway").decode())
    data["redis"] = f"redis://verifyd:{PASSWORD}@h:6379/0"
    data["secrets"] = {"keys": [SECRET_KEY, NEXT_SECRET_KEY]}
    data["applications"]["shop"]["test_numbers"] = {NUMBER: CODE}
    return data


SECRETS = (
    PASSWORD,
    NUMBER,
    NUMBER.removeprefix("+44"),
    CODE,
    SECRET_KEY,
    NEXT_SECRET_KEY,
    WEBHOOK_SECRET,
    WEBHOOK_SECRET.removeprefix("whsec_"),
    base64.b64encode(b"tell-nobody-of-gateway").decode(),
)


def test_a_configuration_never_shows_its_secrets() -> None:
    """Neither whole nor in parts, as text or in a debugger."""
    found = accepted(secretive())
    parts = [found, found.settings, *found.settings.applications.values(), *found.providers.values()]
    shown = "".join(f"{part}{part!r}" for part in [*parts, list(config.worries(found))])
    assert [secret for secret in SECRETS if secret in shown] == []


def _places(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    yield path
    for key, inside in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from _places(inside, (*path, key))


@pytest.mark.parametrize("place", list(_places(secretive()))[1:], ids=str)
def test_a_problem_anywhere_shows_no_secret(place: tuple[int | str, ...]) -> None:
    """Spoil each place in turn: the value with more behind it, a number or a table for it, a misspelt key."""

    def spoilt(change: int) -> Table:
        data = secretive()
        holder: Any = data
        for key in place[:-1]:
            holder = holder[key]
        value = holder[place[-1]]
        holder[place[-1]] = [f"{value}!", 5, {"x": value}, [value, value]][change]
        if change and isinstance(holder, dict):
            holder[f"{place[-1]}!"] = value
        return data

    for change in range(4):
        try:
            shown = repr(accepted(spoilt(change)))
        except ConfigError as error:
            shown = f"{error}{error!r}{error.problems}{error.__cause__}"
        assert [secret for secret in SECRETS if secret in shown] == []


# Anything at all.

WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["env:X", "env:Y", "file:/nothing", "file:\0", "10m", "5/10m", "sms", "gw", "webhook", "memory://"]
    ),
    st.sampled_from(
        [digest(KEY), SECRET_KEY, WEBHOOK_SECRET, "https://h", "+447700900123", "424242", "redis://h", "en"]
    ),
)
SCALARS = WORDS | st.integers() | st.floats() | st.booleans() | st.dates() | st.datetimes() | st.times()
NAMES = (
    st.sampled_from(sorted({*Settings.model_fields, "providers", "shop", "gw", "+91", "en", "kind", "url", "secret"}))
    | st.sampled_from(
        sorted({*config.ApplicationTable.model_fields, *config.Server.model_fields, "keys", "limits", "number"})
    )
    | st.text(max_size=5)
)
ANYTHING = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=4), max_leaves=12
)


def _judged(data: Any) -> None:
    with suppress(ConfigError):
        config.check(data, KINDS, {"X": "value", "Y": "gw"})


@given(st.dictionaries(NAMES, ANYTHING, max_size=6))
def test_whatever_toml_can_hold_is_a_configuration_or_a_list_of_problems(data: Table) -> None:
    """Never another error."""
    _judged(data)


@given(st.sampled_from(list(_places(secretive()))[1:]), ANYTHING)
def test_whatever_stands_in_one_place_is_taken_or_told(place: tuple[int | str, ...], value: object) -> None:
    """The rest being right, checks that come late are reached too."""
    data = secretive()
    holder: Any = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    _judged(data)
