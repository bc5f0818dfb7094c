"""What a reply asks for."""

from __future__ import annotations

import pytest

from service.stopwords import Word, meaning


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop. ",
        "STOP!!!",
        "*stop*",
        "STOP ALL",
        "unsubscribe",
        "Cancel",
        "END",
        "quit",
        "revoke",
        "opt-out",
    ],
)
def test_a_word_alone_stops(text: str) -> None:
    """In any case, with any punctuation."""
    assert meaning(text) is Word.STOP


@pytest.mark.parametrize("text", ["START", "start", "Unstop", "un-stop."])
def test_a_word_alone_starts(text: str) -> None:
    """As vendors tell people to come back."""
    assert meaning(text) is Word.START


@pytest.mark.parametrize(
    "text", ["", " ", "...", "please stop", "don't stop", "yes", "HELP", "123456", "STOPP", "stop1"]
)
def test_all_else_asks_for_nothing(text: str) -> None:
    """A word within a sentence may mean anything."""
    assert meaning(text) is None
