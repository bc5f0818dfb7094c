"""Logs: one JSON object a line, with the ids of the request and the verification that it is about.

What may be logged: names, masked numbers, ids, outcomes. Never a code, a whole number, a key, a body.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
trace: ContextVar[tuple[str, str] | None] = ContextVar("trace", default=None)
"""The ids of the trace and of the span in it that a line belongs to, in hex; set by `service.tracing`."""
_about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)


def begin(request: str) -> dict[str, Any]:
    """A request begins: the dictionary that `note` will fill for its log line."""
    request_id.set(request)
    about: dict[str, Any] = {}
    _about.set(about)
    return about


def note(**fields: str) -> None:
    """Say in the log line of the current request what it is about; what was said first stays."""
    about = _about.get()
    if about is not None:
        about.update({name: value for name, value in fields.items() if name not in about})


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what `extra={"fields": {...}}` gives is merged in."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        if (ids := trace.get()) is not None:
            line["trace_id"], line["span_id"] = ids
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = _frames(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _frames(
    info: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
) -> list[str]:
    """Where an exception came from and its type, never its text: a library's message may quote what it was given."""
    kind, _, trace = info
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
    return [*places, kind.__name__ if kind else "unknown"]


def set_up(level: str) -> None:
    """Send everything to standard error as JSON; what libraries say, from warnings on.

    What they say below that has secrets, whatever level they set themselves: httpx tells URLs, botocore what it signs.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(lambda record: _ours(record) or record.levelno >= logging.WARNING)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("smpplib").setLevel(logging.ERROR)  # it warns of each parameter that is a vendor's own


def _ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("service.")


def _message(record: logging.LogRecord) -> str:
    """What is said; of a library the first line, since asyncio quotes an exception that nobody caught in the next."""
    said = record.getMessage()
    return said if _ours(record) else said.partition("\n")[0]
