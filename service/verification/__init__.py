"""The life of a verification, as its caller drives it: start and resend, check, and here read, cancel and feedback.

    pending --right check--> approved
            --last wrong--> max_attempts_reached
            --cancel--> canceled
            --TTL--> expired
            --every step refused, none left--> undeliverable --resend, or a late receipt--> pending

An undeliverable verification is still alive: a right code approves it, since whoever has the code did get it.

The rules themselves are in the scripts (`lua/`), one atomic act each; here they are given what they need and their
answers are given names. Refusals are values.
"""

from __future__ import annotations

from collections.abc import Callable

from service import ids
from service.answer import Answer, Fields
from service.application import Application
from service.guard.live import Guard
from service.record import Verification
from service.requests import Refusal
from service.store import Field, Store
from service.tally import Tally
from service.verification.refusals import NOT_FOUND, not_pending


class Verifications:
    """What is done with a verification that its caller has the id of. `used` is told whether a code was used."""

    def __init__(self, store: Store, guard: Guard, tally: Tally, *, used: Callable[[Fields, bool], None]) -> None:
        self._store = store
        self._guard = guard
        self._tally = tally
        self._used = used

    async def read(self, application: Application, verification: str) -> Verification | Refusal:
        """A verification as it stands; raises Unavailable."""
        return self._found(await self._act("verification_read", application, verification))

    async def cancel(self, application: Application, verification: str) -> Verification | Refusal:
        """End a verification; a new one can start at once. Raises Unavailable."""
        return self._found(await self._act("verification_cancel", application, verification, application.spacing))

    async def feedback(self, application: Application, verification: str, *, converted: bool) -> Verification | Refusal:
        """Note whether a code was used; it approves where the code is the caller's own. Raises Unavailable."""
        word = "converted" if converted else "unconverted"
        rules = self._guard.number_rules(application.policy)
        answer = await self._act("verification_feedback", application, verification, word, rules)
        self._used(answer.fields, converted)
        if (charge := self._guard.charge(answer.fields)) is not None:
            await self._store.together(self._guard.paying(charge, answer.fields.channels))
        return self._found(answer)

    async def _act(self, script: str, application: Application, verification: str, *args: Field) -> Answer:
        tag = ids.tag_of(verification)
        if tag is None:
            return Answer([b"gone", 0])
        return await self._store.run(script, [tag + verification, f"{tag}due"], [application.name, *args])

    def _found(self, answer: Answer) -> Verification | Refusal:
        if answer.outcome == "gone":
            return NOT_FOUND
        found = self._tally.noticed(answer)
        return not_pending(found) if answer.outcome == "over" else found
