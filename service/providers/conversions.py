"""Vonage's Conversion API, to which both of its message APIs belong: whether a code was used."""

from __future__ import annotations

from datetime import datetime

from pydantic import SecretStr

from service.provider import Feedback, Request


def conversion(url: str, feedback: Feedback, now: datetime, api_key: str, api_secret: SecretStr) -> Request:
    """The form that tells of it, as Vonage's own libraries write it."""
    fields = [
        ("message-id", feedback.message_id),
        ("delivered", "true" if feedback.converted else "false"),
        ("timestamp", f"{now:%Y-%m-%d %H:%M:%S}"),
        ("api_key", api_key),
        ("api_secret", api_secret.get_secret_value()),
    ]
    return Request.form(url, fields)
