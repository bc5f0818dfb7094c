"""A fault: the dotted key of a setting and what to do about it, in words that show no secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

Fault = tuple[str, str]


def join(path: str, key: str) -> str:
    """The dotted key of `key` in the table at `path` (the whole file: empty), quoted where TOML wants it."""
    if path.endswith(".test_numbers"):
        key = masked(key)
    name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
    return f"{path}.{name}" if path else name


def masked(number: str) -> str:
    """A number as it may be seen, however it is written."""
    return f"{number[:3]}…{number[-2:] if len(number) > 8 else ''}"


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a message that names the known word most like this one, empty if none is."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def named_plainly(name: str) -> bool:
    """Whether an application or a provider may have this name, which is in metrics and URLs."""
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name) is not None
