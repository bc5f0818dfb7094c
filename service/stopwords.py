"""Words by which people stop messages, and ask for them again. Pure.

Sources: CTIA, Messaging Principles and Best Practices (STOP, STOPALL, UNSUBSCRIBE, CANCEL, END, QUIT), and for REVOKE
and OPTOUT 47 CFR 64.1200(a)(10). START and UNSTOP are the words that vendors tell people to come back with. Case and
punctuation do not matter; a word within a sentence says nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Word(StrEnum):
    """What a reply asks for."""

    STOP = "stop"
    START = "start"


_WORDS = dict.fromkeys(
    ("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"), Word.STOP
) | dict.fromkeys(("start", "unstop"), Word.START)


def meaning(text: str) -> Word | None:
    """What a reply asks for; None for all others."""
    return _WORDS.get(re.sub(r"[\W_]+", "", text).casefold())
