"""`/receipts` and `/inbound`: what providers tell us, and what people tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.problems import Problem
from service.errors import BadWebhook, Forged
from service.metrics import Metrics
from service.provider import Webhook
from service.receipts import Receipts
from service.replies import Replies

_MEDIA = {b"{": "application/json", b"<": "application/xml"}
"""What a handshake is written in, by how it begins."""

_NO_ANSWER = "<Response/>"
"""Twilio would send any other text back to the person; the others ask for a 200 alone."""


class ReceiptsApi:
    """Takes receipts and replies. `nudge` tells the schedule of what receipts set in motion."""

    def __init__(
        self,
        receipts: Receipts,
        replies: Replies,
        metrics: Metrics,
        *,
        public_url: str,
        nudge: Callable[[str], None],
    ) -> None:
        self._receipts = receipts
        self._replies = replies
        self._metrics = metrics
        self._public_url = public_url
        self._nudge = nudge

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/receipts/{provider}", self.shake_hands, methods=["GET"]),
            Route("/receipts/{provider}", self.take, methods=["POST"]),
            # MessageBird reports by GET, and so does Vonage where an account says so.
            Route("/receipts/{provider}/{token}", self.take, methods=["GET", "POST"]),
            Route("/inbound/{provider}", self.hear, methods=["POST"]),
        ]

    async def take(self, request: Request) -> Response:
        """`/receipts/{provider}[/{token}]`: the raw body is judged before anything is read from it."""
        provider, token = request.path_params["provider"], request.path_params.get("token")
        webhook = self._webhook(request)
        with self._judged(provider):
            if (hand := self._receipts.handshake(provider, token, webhook)) is not None:
                return Response(hand, media_type=_MEDIA.get(hand[:1], "text/plain"))
            due = await self._receipts.receive(provider, token, webhook)
        for verification in due:
            self._nudge(verification)
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")

    async def shake_hands(self, request: Request) -> Response:
        """`GET /receipts/{provider}`: a provider asks whether this address is ours."""
        provider = request.path_params["provider"]
        with self._judged(provider):
            hand = self._receipts.handshake(provider, None, self._webhook(request))
        if hand is None:
            raise Problem("not_found", "this provider asks nothing here")
        return Response(hand, media_type="text/plain")

    async def hear(self, request: Request) -> Response:
        """`POST /inbound/{provider}`: what people answered to messages."""
        provider = request.path_params["provider"]
        if not self._replies.heard_by(provider):
            raise Problem("not_found", "no provider of this name hands on replies")
        with self._judged(provider):
            await self._replies.take(provider, self._webhook(request))
        return Response(_NO_ANSWER, media_type="application/xml")

    def _webhook(self, request: Request) -> Webhook:
        # The URL that a signature may cover is the one we gave out, whatever Host and a proxy's headers say.
        path, query = (request.scope[part].decode("latin-1") for part in ("raw_path", "query_string"))
        url = f"{self._public_url}{path}{'?' if query else ''}{query}"
        return Webhook(url, dict(request.headers), request.state.body)

    @contextmanager
    def _judged(self, provider: str) -> Iterator[None]:
        try:
            yield
        except BadWebhook as error:
            forged = isinstance(error, Forged)
            known = provider if self._receipts.knows(provider) else "unknown"
            self._metrics.receipt_refused(known, "forged" if forged else "malformed").inc()
            headers = {"www-authenticate": "Signature"} if forged else {}
            raise Problem("forged_receipt" if forged else "malformed_receipt", str(error), headers=headers) from None
