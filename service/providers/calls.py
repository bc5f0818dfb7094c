"""How long a call must last for its code to have been heard."""

from __future__ import annotations

HEARD = 5
"""Seconds: whoever hangs up before has not heard the code, and a mailbox mostly takes less. Our judgement."""


def heard(seconds: str) -> bool:
    """Whether a call of this length was long enough; what is no number was not."""
    return seconds.isascii() and seconds.isdigit() and float(seconds) >= HEARD
