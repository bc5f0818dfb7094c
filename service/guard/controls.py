"""What people do with the guard: look why, let somebody in, shut somebody out. Every change is recorded."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from service import phone
from service.changes import Changes
from service.errors import Unreadable
from service.guard.ask import Ask
from service.guard.live import Guard
from service.guard.parts import country_tag
from service.phone import Number
from service.sealing import KeyRing, Place
from service.store import Store

MOST_ROWS: Final = 200
"""Prefixes of each sort that are listed at most."""

LEVELS: Final = ("block3", "block4", "range")

State = Literal["open", "blocked", "allowed", "denied"]
PrefixAction = Literal["block", "allow", "release"]
NumberAction = Literal["trust", "deny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Why something was done by hand, by whom, and until when it holds (None: for good)."""

    reason: str
    author: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PrefixView:
    """A prefix as it stands. `conversion` is the part of its sends in the long run that led to an approval."""

    prefix: str
    level: str | None
    state: State
    since: datetime | None = None
    exposure: float = 0.0
    cap: float | None = None
    recent: float = 0.0
    sends: float = 0.0
    approvals: float = 0.0
    until: datetime | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class CountryView:
    """A country as it stands, and how many of its prefixes are blocked or ruled over by hand."""

    country: str
    since: datetime | None
    exposure: float
    cap: float
    recent: float
    sends: float
    approvals: float
    blocked: int
    by_hand: int


class _Bucket(NamedTuple):
    """What a bucket holds."""

    since: datetime | None
    exposure: float
    cap: float
    recent: float
    sends: float
    approvals: float


class Controls:
    """Looks into the guard's state, and changes it by hand."""

    def __init__(self, store: Store, ring: KeyRing, guard: Guard, changes: Changes, *, shards: int) -> None:
        self._store = store
        self._ring = ring
        self._guard = guard
        self._changes = changes
        self._shards = shards

    async def decision(self, application: str, name: str) -> dict[str, Any] | None:
        """A decision on one of this application's sends, while it is kept; raises Unavailable."""
        answer = await self._store.run("decision_read", [f"{{d:{name}}}:decision"])
        sealed = answer.fields.raw("decision")
        if sealed is None:
            return None
        try:
            told: dict[str, Any] = orjson.loads(self._ring.open(sealed, name.encode()))
        except Unreadable:  # its key has left the ring: it was for a few days anyway
            return None
        return told if told["application"] == application else None

    async def country(self, country: str) -> CountryView:
        """How a country stands; raises Unavailable."""
        told, [bucket] = await asyncio.gather(self._listed(country), self._buckets([f"{country_tag(country)}country"]))
        counted = Counter(row[0] for row in told)
        return CountryView(country, *bucket, blocked=counted["blocked"], by_hand=counted["hand"])

    async def prefixes(self, country: str, state: State | None = None) -> list[PrefixView]:
        """The prefixes of a country that there is something to say of; raises Unavailable."""
        tag = country_tag(country)
        told = await self._listed(country)
        until = {row[1]: _moment(row[2]) for row in told if row[0] == "blocked"}
        names = list(dict.fromkeys([*until, *(row[1] for row in told if row[0] == "range")]))
        views = [self._by_hand(digits, rule) for what, digits, rule in (row for row in told if row[0] == "hand")]
        for name, bucket in zip(names, await self._buckets([tag + name for name in names]), strict=True):
            level, _, digits = name.partition(":")
            blocked = until.get(name)
            views.append(PrefixView(f"+{digits}", level, "blocked" if blocked else "open", *bucket, blocked))
        return [view for view in views if state in {None, view.state}]

    async def mark_prefix(self, application: str, prefix: str, action: PrefixAction, note: Note) -> None:
        """Rule by hand over a prefix, or (release) forget what is held against it; raises Unavailable.

        What is released are also the blocked blocks in it, and with a whole calling code its countries.
        """
        packed = orjson.dumps([note.reason, note.author, round(self._store.clock() * 1000)])
        for country in phone.countries_of(prefix):
            await self._store.run(
                "prefix_mark", self._prefix_keys(country, prefix), [prefix[1:], action, self._lasts(note), packed]
            )
        await self._changed(application, f"prefix.{action}", prefix, note)

    async def unmark_prefix(self, application: str, prefix: str, note: Note) -> bool:
        """Take a rule by hand away; whether there was one. Raises Unavailable."""
        answers = [
            await self._store.run("prefix_mark", self._prefix_keys(country, prefix), [prefix[1:], "", 0, ""])
            for country in phone.countries_of(prefix)
        ]
        found = any(answer.outcome == "unmarked" for answer in answers)
        if found:
            await self._changed(application, "prefix.unmark", prefix, note)
        return found

    async def read_number(self, e164: str) -> Number:
        """Read a number as it is read where codes are asked for; raises InvalidNumber, Unavailable."""
        return await self._guard.number(e164)

    async def mark_number(self, application: str, number: Number, action: NumberAction, note: Note) -> None:
        """Let a number in, or shut it out; raises Unavailable."""
        place = self._place(number)
        sealed = self._ring.writer.seal(orjson.dumps([note.reason, note.author]), place.hash.encode())
        mark = f"{action} {urlsafe_b64encode(sealed).decode()}"
        await self._store.run("number_mark", [place.key("hand")], [mark, self._lasts(note)])
        await self._changed(application, f"number.{action}", number.masked, note)

    async def unmark_number(self, application: str, number: Number, note: Note) -> bool:
        """Take a number's mark away; whether there was one. Raises Unavailable."""
        answer = await self._store.run("number_mark", [self._place(number).key("hand")], ["", 0])
        found = answer.outcome == "unmarked"
        if found:
            await self._changed(application, "number.unmark", number.masked, note)
        return found

    async def number(self, ask: Ask) -> dict[str, Any]:
        """What the guard knows of a number, and what it would answer to this send now; raises Unavailable."""
        hearing, decision = await self._guard.look(ask)
        number = ask.number
        tag = country_tag(number.country)
        prefixes = ask.prefixes
        named = {level: f"{level}:{getattr(prefixes, level)}" for level in LEVELS} | {"country": "country"}
        buckets = await self._buckets([tag + name for name in named.values()])
        reason, author = self._unsealed(number, hearing.note)
        return {
            "verdict": decision.verdict,
            "reasons": [one.shown() for one in decision.reasons],
            "trusted": hearing.trusted,
            "mark": {"action": hearing.marked, "reason": reason, "author": author} if hearing.marked else None,
            "buckets": [
                {
                    "level": level,
                    "exposure": round(bucket.exposure, 3),
                    "cap": round(bucket.cap, 3),
                    "recent": round(bucket.recent, 3),
                }
                for level, bucket in zip(named, buckets, strict=True)
            ],
        }

    async def _listed(self, country: str) -> list[list[str]]:
        """What the script lists of a country's prefixes, in words."""
        tag = country_tag(country)
        rows = await self._store.rows("prefixes_list", [f"{tag}ranges", f"{tag}blocked", f"{tag}hand"], [MOST_ROWS])
        return [[word.decode() for word in row] for row in rows]

    async def _buckets(self, keys: Sequence[str]) -> list[_Bucket]:
        if not keys:
            return []
        rows = await self._store.rows("buckets_show", keys, [self._guard.rules])
        return [_Bucket(_moment(row[0].decode()), *(float(word) for word in row[1:])) for row in rows]

    def _by_hand(self, digits: str, rule: str) -> PrefixView:
        action, ending, note = rule.split(" ", 2)
        reason, author, made = orjson.loads(note)
        until = _moment(ending)
        state: State = "denied" if action == "block" else "allowed"
        told = Note(reason=reason, author=author, until=until)
        return PrefixView(f"+{digits}", None, state, since=_moment(made), until=until, note=told)

    def _unsealed(self, number: Number, note: str) -> tuple[str, str]:
        """Reason and author of a number's mark."""
        if not note:
            return "", ""
        packed = self._ring.open(urlsafe_b64decode(note), self._place(number).hash.encode())
        reason, author = orjson.loads(packed)
        return reason, author

    def _place(self, number: Number) -> Place:
        return self._ring.writer.place(number.e164, self._shards)

    def _prefix_keys(self, country: str, prefix: str) -> list[str]:
        tag = country_tag(country)
        whole = [] if phone.countries_of(prefix[:-1]) else [f"{tag}country"]
        return [f"{tag}hand", f"{tag}blocked", *(f"{tag}{level}:{prefix[1:]}" for level in LEVELS), *whole]

    def _lasts(self, note: Note) -> int:
        """For how long (ms) a note holds, 0 for good."""
        return 0 if note.until is None else max(1, round((note.until - self._store.now()).total_seconds() * 1000))

    async def _changed(self, application: str, change: str, what: str, note: Note) -> None:
        reason, author, until = note.reason, note.author, note.until
        await self._changes.note(application, change, what, reason=reason, author=author, until=until)


def _moment(milliseconds: str | int) -> datetime | None:
    at = int(milliseconds)
    return None if at == 0 else datetime.fromtimestamp(at / 1000, UTC)
