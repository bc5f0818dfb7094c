"""Replies: what people answer to messages, of which only the words that stop them and start them again are heeded."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from service import phone
from service.errors import InvalidNumber
from service.metrics import Metrics
from service.optout import OptOuts
from service.phone import Number
from service.provider import HearsReplies, Provider, Reply, Webhook
from service.stopwords import Word, meaning
from service.store import Store

logger = logging.getLogger(__name__)


class Replies:
    """Takes replies, in the order in which they come."""

    def __init__(self, store: Store, optouts: OptOuts, metrics: Metrics, *, providers: Mapping[str, Provider]) -> None:
        self._store = store
        self._optouts = optouts
        self._metrics = metrics
        self._hearing = {name: one for name, one in providers.items() if isinstance(one, HearsReplies)}

    def heard_by(self, provider: str) -> bool:
        """Whether a provider of this name is configured, and hands on replies."""
        return provider in self._hearing

    async def take(self, provider: str, webhook: Webhook) -> None:
        """Heed the replies in a webhook of a provider that hands them on. Raises Forged, Malformed, Unavailable."""
        for reply in self._hearing[provider].replies(webhook, self._store.now()):
            word = await self._heed(provider, reply)
            self._metrics.reply(provider, word or "other").inc()

    async def _heed(self, provider: str, reply: Reply) -> Word | None:
        word = meaning(reply.text)
        if word is None:
            return None
        number = _number(reply)
        if number is None:
            return None  # a short code or a name: nothing was ever sent to it
        act = self._optouts.stop if word is Word.STOP else self._optouts.start
        await act(number.e164, reply.channel)
        fields = {"provider": provider, "channel": reply.channel, "word": word, "to": number.masked}
        logger.info("reply", extra={"fields": fields})
        return word


def _number(reply: Reply) -> Number | None:
    """Who replied, read as callers' numbers are, so that it is the same one: also where a rule by hand let it in."""
    written = "+" + reply.number.removeprefix("+")
    try:
        return phone.parse(written)
    except InvalidNumber:
        return phone.possible(written)
