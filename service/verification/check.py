"""A guess at a code: an attempt is spent before it is compared, and settled by what came of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service import ids
from service.answer import Answer, Fields
from service.application import Application
from service.code import Hasher
from service.guard.live import Guard
from service.idempotency import TTL_MS, Memory
from service.requests import Check, Checked, Refusal
from service.sealing import KeyRing
from service.store import Act, Store
from service.tally import Tally
from service.verification.lookup import Lookup, Subject
from service.verification.refusals import CONFLICT, NOT_FOUND, locked

SETTLE_MS: Final = 10_000
"""After this an attempt that was taken and never settled counts as wrong: its process is gone."""


class Checks:
    """Takes guesses. `used` is told that a code was used."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        hasher: Hasher,
        guard: Guard,
        lookup: Lookup,
        tally: Tally,
        *,
        used: Callable[[Fields, bool], None],
    ) -> None:
        self._store = store
        self._ring = ring
        self._hasher = hasher
        self._guard = guard
        self._lookup = lookup
        self._tally = tally
        self._used = used

    async def check(self, application: Application, guess: Check) -> Checked | Refusal:
        """Take one guess: spend an attempt, compare, settle; raises Unavailable."""
        memory = Memory.of(self._ring, application.name, "check", guess.idempotency)
        subjects = self._lookup.subjects(application, guess)
        spending = [_spending(application, subject, memory) for subject in subjects]
        answers = await self._store.together([*spending, *memory.claims])
        spends, claims = answers[: len(spending)], answers[len(spending) :]
        claimed = all(claim.outcome == "ours" for claim in claims)
        # Under a ring of several keys a number is asked for under each; all but one know nothing of it.
        found = sorted((a for a in spends if a.outcome != "gone"), key=lambda answer: answer.outcome == "over")
        for surplus in found[1:] if claimed else found:
            if surplus.outcome == "spent":
                await self._store.run(*_settling(surplus, "undo", memory))
        if not found:
            return self._unchecked(application, "not_found", NOT_FOUND)
        spent = found[0]
        if not claimed or spent.outcome == "conflict":
            return self._unchecked(application, "conflict", CONFLICT)
        if spent.outcome == "locked":
            return self._unchecked(application, "locked", locked(spent.number))
        if spent.outcome != "spent":
            return self._checked(application, spent)
        return self._checked(application, await self._compare(application, guess, spent, memory))

    async def _compare(self, application: Application, guess: Check, spent: Answer, memory: Memory) -> Answer:
        """Compare a guess for which an attempt was spent, and settle that."""
        charge = self._guard.charge(spent.fields)
        right = await self._hasher.matches(
            spent.fields.raw("code") or b"",
            verification=spent.fields.text("id"),
            code=guess.code,
            transaction=guess.transaction.parts if guess.transaction else None,
        )
        if not right or charge is None:
            return await self._store.run(*_settling(spent, "right" if right else "wrong", memory))
        # Credit is paid back on the way, and taken again where another check was faster.
        settle = _settling(spent, "right", memory, self._guard.number_rules(application.policy))
        settled, *paid = await self._store.together([settle, *self._guard.paying(charge, spent.fields.channels)])
        if settled.outcome != "right" or settled.replayed:
            self._guard.unpay(paid)
        return settled

    def _checked(self, application: Application, answer: Answer) -> Checked | Refusal:
        if answer.outcome == "gone":
            return self._unchecked(application, "not_found", NOT_FOUND)
        found = self._tally.noticed(answer)
        self._tally.checked(found, answer)
        valid = answer.outcome == "right"
        if valid and not answer.replayed and not found.test:
            self._used(answer.fields, True)
        return Checked(found, valid)

    def _unchecked(self, application: Application, result: str, refusal: Refusal) -> Refusal:
        self._tally.unchecked(application.name, result)
        return refusal


def _spending(application: Application, subject: Subject, memory: Memory) -> Act:
    """The act that takes an attempt."""
    return Act(
        "check_spend",
        [subject.key, f"{subject.tag}due", *memory.records(subject.tag)],
        [application.name, application.wrong_checks_per_day, SETTLE_MS, memory.marks, TTL_MS],
    )


def _settling(spent: Answer, verdict: str, memory: Memory, rules: bytes = b"") -> Act:
    """The act that settles an attempt; `rules` are the guard's for numbers, empty where it is off."""
    verification = spent.fields.text("id")
    tag = ids.tag_of(verification) or ""
    return Act(
        "check_settle",
        [tag + verification, f"{tag}due", *memory.records(tag)],
        [verdict, memory.marks, TTL_MS, rules],
    )
