"""Opt-outs: a person has told a sender to stop, and the channel is shut for the number until they say otherwise.

They are kept where failures that the recipient causes are remembered (`lua/parts/shut`), over all applications, and
under every key of the ring. Under a key that came later an opt-out is known once the number is asked for, for as long
as a key that it was written under is in the ring.
"""

from __future__ import annotations

from service.provider import Channel
from service.sealing import Key, KeyRing
from service.store import Store

TTL_MS = 5 * 365 * 24 * 3600 * 1000
"""For so long an opt-out holds: the five years of a do-not-call request (47 CFR 64.1200(d)(6))."""


class OptOuts:
    """Keeps who does not want to be written to, by number (E.164) and channel."""

    def __init__(self, store: Store, ring: KeyRing, *, shards: int) -> None:
        self._store = store
        self._ring = ring
        self._shards = shards

    async def stop(self, number: str, channel: Channel) -> None:
        """Send this number nothing more on this channel; raises Unavailable."""
        for key in self._ring.keys:
            await self._store.run("number_shut", [self._shut(key, number)], [channel, "opted_out", TTL_MS])

    async def start(self, number: str, channel: Channel) -> None:
        """Send to it again, also where a provider had said that it opted out; raises Unavailable."""
        for key in self._ring.keys:
            await self._store.run("number_open", [self._shut(key, number)], [channel])

    async def carry(self, number: str) -> None:
        """Let the first key know what is shut under the others, which came before it; raises Unavailable."""
        found: list[bytes] = []
        for key in self._ring.keys[1:]:
            found += await self._store.rows("number_read", [self._shut(key, number)])
        if found:
            await self._store.run("number_shut", [self._shut(self._ring.writer, number)], found)

    def _shut(self, key: Key, number: str) -> str:
        return key.place(number, self._shards).key("shut")
