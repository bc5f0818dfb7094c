"""How pages come to look: templates, assets, and the headers that keep everything else out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from service.api.problems import Problem

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_CODE = re.compile(r"(?<![+\d])\*?\d{4,10}\*?(?!\d)|\d(?:, \d){3,9}")
"""A code, as it is written (WhatsApp: bold) or said."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content Security Policy Level 3 (W3C)."""

_GUARDED = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Looks:
    """Writes pages and hands out what they need."""

    def __init__(self) -> None:
        self._assets = dict(_assets(_HERE / "assets"))
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = self._address
        self._templates.filters |= {
            "clock": _clock,
            "brief": _brief,
            "hour": _hour,
            "moment": _moment,
            "parts": _parts,
            "watched": _watched,
            "words": _words,
        }

    def page(
        self, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """A page. It holds what is to be seen now, and by one person: nobody keeps it."""
        text = self._templates.get_template(template).render(values)
        return Response(
            text, status, {**_GUARDED, "cache-control": "no-store", **(headers or {})}, media_type="text/html"
        )

    def asset(self, name: str) -> Response:
        """A file that pages need; raises Problem. Its address changes with its content, so that it can be kept."""
        if name not in self._assets:
            raise Problem("not_found", "there is nothing at this path")
        content, media_type, _ = self._assets[name]
        headers = {**_GUARDED, "cache-control": "public, max-age=31536000, immutable"}
        return Response(content, headers=headers, media_type=media_type)

    def _address(self, name: str) -> str:
        return f"/console/assets/{name}?{self._assets[name][2]}"


def _assets(folder: Path) -> Iterator[tuple[str, tuple[bytes, str, str]]]:
    """Every file by its name: content, media type, and a mark of the content."""
    for path in folder.rglob("*"):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            yield path.name, (content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


def _clock(at: datetime) -> str:
    """A time of day in UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S")


def _brief(at: datetime) -> str:
    """A time in UTC, to the minute."""
    return at.astimezone(UTC).strftime("%d %b %H:%M")


def _hour(at: datetime) -> str:
    """An hour of the day in UTC."""
    return at.astimezone(UTC).strftime("%H:00")


def _moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _words(name: str) -> str:
    """A name as people write it."""
    return name.replace("_", " ")


def _watched(decision: Mapping[str, Any]) -> bool:
    """Whether a message went out against a decision, since the guard only watches. Limits hold all the same."""
    limited = any(reason["rule"] == "limit" for reason in decision["reasons"])
    return decision["mode"] == "monitor" and decision["verdict"] != "allow" and not limited


def _parts(text: str) -> list[tuple[str, bool]]:
    """The parts of a message, and whether each is the code."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [(text[end : found.start()], False), (found[0].strip("*"), True)]
        end = found.end()
    return [*parts, (text[end:], False)]
