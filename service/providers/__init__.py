"""One file for each provider, and the table of their kinds."""

from __future__ import annotations

from collections.abc import Mapping

from service.providers.console import Console
from service.providers.webhook import Webhook

KINDS: Mapping[str, type[Console | Webhook]] = {"console": Console, "webhook": Webhook}

__all__ = ["KINDS", "Console", "Webhook"]
