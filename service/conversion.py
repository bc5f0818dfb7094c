"""Conversions: the providers that want to know are told whether a code of theirs was used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from service.answer import Fields
from service.door import Door
from service.provider import Channel, Feedback, Provider, Request, TakesFeedback
from service.record import secret
from service.sealing import KeyRing
from service.store import Store

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 64
"""Requests that may be under way from here; what comes on top is not told."""


class Conversions:
    """Tells providers of codes. Nothing waits for it."""

    def __init__(self, store: Store, ring: KeyRing, door: Door, *, providers: Mapping[str, Provider]) -> None:
        self._store = store
        self._ring = ring
        self._door = door
        self._providers = providers
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, fields: Fields, converted: bool) -> None:
        """Tell those who carried the code of a verification whether it was used."""
        requests: list[Request] = []
        for n in [n for n in range(fields.number("n") + 1) if fields.text(f"f{n}")]:
            name = fields.text(f"d{n}").split(" ")[2]
            provider: object = self._providers.get(name)
            if not isinstance(provider, TakesFeedback):
                continue
            try:
                to = secret(self._ring, fields)[0] if fields.raw("secret") else ""
                feedback = Feedback(fields.text(f"f{n}"), Channel(fields.channel(n)), to, converted)
                request = provider.feedback(feedback, self._store.now())
            except Exception:  # a defect of an adapter must not spoil an approval
                logger.exception("a provider's adapter failed", extra={"fields": {"provider": name}})
                continue
            # One that asks for the number alone would hear the same of each delivery.
            if request is not None and request not in requests:
                requests.append(request)
        for request in requests[: MOST_AT_ONCE - len(self._telling)]:
            task = asyncio.get_running_loop().create_task(self._tell(request))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def stop(self) -> None:
        """Let what is being told be told, for as long as the door allows."""
        await asyncio.gather(*self._telling)

    async def _tell(self, request: Request) -> None:
        try:
            await self._door.tell(request)
        except Exception:  # nobody waits for this: else it would be asyncio that tells of it, and `stop` that fails
            logger.exception("a provider could not be told")
