"""What a new verification is made of: its plan, its code, and all that is kept of it, sealed where it could be read."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from service import code as codes
from service import ids
from service.application import Application
from service.cascade import Step, written
from service.code import Hasher
from service.guard.charge import Charge
from service.guard.credit import Prefixes
from service.phone import Number
from service.record import sealed
from service.requests import Start
from service.sealing import KeyRing, Place
from service.store import Field
from service.waits import Waits


class Drafts:
    """Makes new verifications, as they are to be kept."""

    def __init__(self, ring: KeyRing, hasher: Hasher, waits: Waits) -> None:
        self._ring = ring
        self._hasher = hasher
        self._waits = waits

    def plan(self, steps: Sequence[Step], number: Number) -> str:
        """The steps as they are kept, each with what is known now of how long to wait for it."""
        return written(steps, lambda step: self._waits.seconds(step, number.e164, number.country))

    async def draft(
        self, application: Application, wanted: Start, place: Place, plan: str, charge: Charge | None
    ) -> tuple[str, list[Field]]:
        """A new id, and the fields of the verification that it will name; `charge` is what the guard charged for it."""
        number, key = wanted.number, self._ring.writer
        verification = ids.new(place.shard)
        test_code = application.test_numbers.get(number.e164)
        code = test_code or wanted.code or codes.generate(application.code_length)
        transaction = wanted.transaction.parts if wanted.transaction else None
        widest = Prefixes.of(number.e164[1:]).range
        fields: dict[str, Field] = {
            "status": "pending",
            "number": place.hash,
            "country": number.country,
            "purpose": wanted.purpose,
            "locale": application.texts.locale(wanted.locale, number.country, application.locale),
            "plan": plan,
            "checks": application.checks,
            "sends": application.sends,
            "sent": 1,
            "to": sealed(key, verification, "to", f"{number.masked} +{widest}".encode()),
            "secret": sealed(key, verification, "secret", f"{number.e164}:{code}".encode()),
            "code": await self._hasher.hash(verification=verification, code=code, transaction=transaction),
        }
        if wanted.code:
            fields["own"] = 1
        if test_code:
            fields["test"] = 1
        if application.events:
            fields["events"] = 1
        extra = {"app_hash": wanted.app_hash, "webotp_domain": wanted.webotp_domain, "email": wanted.email}
        if wanted.transaction:
            extra |= {"amount": wanted.transaction.amount, "payee": wanted.transaction.payee}
        if extra := {name: value for name, value in extra.items() if value}:
            fields["extra"] = sealed(key, verification, "extra", orjson.dumps(extra))
        if charge is not None:
            fields["guard"] = sealed(key, verification, "guard", charge.packed())
        if wanted.metadata:
            fields["meta"] = sealed(key, verification, "meta", orjson.dumps(dict(wanted.metadata)))
        return verification, [part for item in fields.items() for part in item]
