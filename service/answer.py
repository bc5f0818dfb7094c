"""What a script answers: an outcome, a number, and the fields that its caller reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Fields:
    """Fields of a verification, as text, as numbers, or as the sealed bytes that they are."""

    __slots__ = ("_raw",)

    def __init__(self, flat: Sequence[bytes]) -> None:
        self._raw = dict(zip(flat[::2], flat[1::2], strict=True))

    def raw(self, name: str) -> bytes | None:
        """A field's bytes, None when it is not there."""
        return self._raw.get(name.encode())

    def text(self, name: str) -> str:
        """A field as text, empty when it is not there."""
        return self._raw.get(name.encode(), b"").decode()

    def number(self, name: str) -> int:
        """A field as a whole number, 0 when it is not there."""
        return int(self._raw.get(name.encode(), b"0"))

    def items(self) -> list[tuple[str, str]]:
        """All of them, as text."""
        return [(name.decode(), value.decode()) for name, value in self._raw.items()]

    def channel(self, n: int | str) -> str:
        """The channel of a delivery."""
        return self.text(f"d{n}").split(" ")[1]

    @property
    def channels(self) -> list[str]:
        """The channels of all deliveries, in order."""
        return [self.channel(n) for n in range(self.number("n") + 1)]


class Answer:
    """The answer of a script; `detail` is what stands behind the outcome's word (`limited 1/30000`)."""

    __slots__ = ("detail", "fields", "number", "outcome")

    def __init__(self, raw: Sequence[Any]) -> None:
        word: str = raw[0].decode()
        self.outcome, _, self.detail = word.partition(" ")
        self.number = int(raw[1])
        self.fields = Fields(raw[2:])

    @property
    def replayed(self) -> bool:
        """Whether this is the first answer to an idempotent request, told again."""
        return self.fields.raw("replayed") is not None
