"""Where the verification of a number is found: under the key of the ring that was the first when it started.

While keys are swapped that is another one than the first now.
"""

from __future__ import annotations

from typing import NamedTuple

from service import ids
from service.answer import Answer
from service.application import Application
from service.idempotency import Memory
from service.phone import Number
from service.requests import Check, Start
from service.sealing import Key, KeyRing, Place
from service.store import Act, Store

GONE = Answer([b"gone", 0])
"""Nothing was found."""


class Subject(NamedTuple):
    """The Redis key of a verification or of a pointer to it, and the tag that it shares with what is beside it."""

    key: str
    tag: str


class Lookup:
    """Finds verifications by their numbers."""

    def __init__(self, store: Store, ring: KeyRing, *, shards: int) -> None:
        self._store = store
        self._ring = ring
        self._shards = shards

    def place(self, number: Number) -> Place:
        """Where what is new of a number is kept."""
        return self._ring.writer.place(number.e164, self._shards)

    def subjects(self, application: Application, guess: Check) -> list[Subject]:
        """Where the verification of a guess may be."""
        if guess.number is None:
            tag = ids.tag_of(guess.id or "")
            return [] if tag is None else [Subject(f"{tag}{guess.id}", tag)]
        places = [key.place(guess.number.e164, self._shards) for key in self._ring.keys]
        return [Subject(pointer(application, place), place.tag) for place in places]

    async def elder(self, application: Application, wanted: Start, memory: Memory) -> Answer:
        """What the older keys know of a create: its first answer, or the number's verification. Raises Unavailable."""
        answer = GONE
        for key in self._ring.keys[1:]:
            answer = await self._store.run(*self._finding(key, application, wanted, memory))
            if answer.outcome != "gone":
                break
        return answer

    def finding(self, application: Application, wanted: Start, memory: Memory) -> Act:
        """The act that finds the first answer to the same create, or the verification that is alive for the number."""
        return self._finding(self._ring.writer, application, wanted, memory)

    def _finding(self, key: Key, application: Application, wanted: Start, memory: Memory) -> Act:
        place = key.place(wanted.number.e164, self._shards)
        keys = [pointer(application, place), f"{place.tag}due", *memory.records(place.tag)]
        return Act("verification_find", keys, [wanted.binding(key), memory.marks])


def pointer(application: Application, place: Place) -> str:
    """The Redis key of the id of a number's latest verification."""
    return f"{place.key('number')}:{application.name}"
