"""`/receipts`: what providers tell us."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.problems import Problem
from service.delivery import Deliveries
from service.errors import BadWebhook, Forged
from service.metrics import Metrics
from service.provider import Webhook


class ReceiptsApi:
    """Takes receipts. `nudge` tells the schedule of what they set in motion."""

    def __init__(
        self, deliveries: Deliveries, metrics: Metrics, *, public_url: str, nudge: Callable[[str], None]
    ) -> None:
        self._deliveries = deliveries
        self._metrics = metrics
        self._public_url = public_url
        self._nudge = nudge

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [Route("/receipts/{provider}/{token}", self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """`POST /receipts/{provider}/{token}`: the raw body is judged before anything is read from it."""
        provider = request.path_params["provider"]
        # The URL that a signature may cover is the one we gave out, whatever a proxy says in its headers.
        webhook = Webhook(self._public_url + request.url.path, dict(request.headers), request.state.body)
        try:
            due = await self._deliveries.receive(provider, request.path_params["token"], webhook)
        except BadWebhook as error:
            forged = isinstance(error, Forged)
            known = provider if self._deliveries.knows(provider) else "unknown"
            self._metrics.receipt_refused(known, "forged" if forged else "malformed").inc()
            headers = {"www-authenticate": "Signature"} if forged else {}
            raise Problem("forged_receipt" if forged else "malformed_receipt", str(error), headers=headers) from None
        for verification in due:
            self._nudge(verification)
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")
