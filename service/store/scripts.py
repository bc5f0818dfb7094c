"""The scripts of `lua/`: each is one atomic act."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

Field = str | bytes | int | float


class Act(NamedTuple):
    """A script to run, with what it is given."""

    script: str
    keys: Sequence[str]
    args: Sequence[Field] = ()


class Script:
    """One atomic act: its file in `lua/`, behind the parts in `lua/parts/` that it needs."""

    def __init__(self, name: str) -> None:
        folder = Path(__file__).parent.with_name("lua")
        act = (folder / f"{name}.lua").read_text()
        needs = re.search(r"^-- NEEDS (.*)$", act, re.MULTILINE)
        parts = [(folder / "parts" / f"{part}.lua").read_text() for part in (needs[1].split() if needs else ())]
        self.name = name
        self.text = "\n".join([*parts, act])
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def load(name: str) -> Script:
    """The script of this name, read once."""
    return Script(name)
