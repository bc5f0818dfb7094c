"""Waiting for what other processes do, whose clocks no test can set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

STEP = 0.02


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Ask every 20 ms whether `condition` holds; raises AssertionError, naming `what` was awaited, after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            for _ in count():
                if await condition():
                    return
                await asyncio.sleep(STEP)
    except TimeoutError:
        raise AssertionError(f"after {seconds:g} seconds not yet: {what}") from None
