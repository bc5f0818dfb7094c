"""Who may see the console, and who may act: HTTP Basic or a bearer, with the API keys that there are.

The user is whatever name the person gives, and stands in the record of what they do; the password is an API key. A
browser sends these credentials along with requests that other sites make it send, so an act needs two things more that
other sites do not have: a form that was made for these credentials, and the browser's word that it was sent from here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from service.api.auth import Gate, digest
from service.api.problems import Problem
from service.sealing import KeyRing

CHALLENGE = 'Basic realm="verifyd", charset="UTF-8"'
"""RFC 7617."""
MOST_FIELDS = 20
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: by which name, at whose things (None: everybody's), and whether they may change any.

    `token` belongs into their forms.
    """

    name: str
    application: str | None
    acts: bool
    token: str = field(repr=False)


class Access:
    """Tells visitors by their credentials. `is_open`: nothing is real, so everybody may see, and try the simulator."""

    def __init__(self, gate: Gate, ring: KeyRing, *, is_open: bool) -> None:
        self._gate = gate
        self._ring = ring
        self.is_open = is_open

    def visitor(self, request: Request) -> Visitor:
        """Who looks, with the scope to read or to guard; raises Problem."""
        name, key = _credentials(request)
        token = self._tokens(name, key)[0]
        if self.is_open and not key:
            return Visitor("", None, acts=True, token=token)
        return self._known(request, name, key, token)

    def known(self, request: Request) -> Visitor:
        """The same, with credentials even where everybody may see; raises Problem."""
        name, key = _credentials(request)
        return self._known(request, name, key, self._tokens(name, key)[0])

    def actor(self, request: Request, visitor: Visitor, form: Mapping[str, str]) -> Visitor:
        """A visitor who may do what a form says, which was made for them and sent from here; raises Problem."""
        if not visitor.acts:
            raise Problem("forbidden", "to change something, sign in with an API key that has the scope guard")
        tokens = self._tokens(*_credentials(request))
        given = form.get("token", "").encode("utf-8", "replace")
        fits = [hmac.compare_digest(given, token.encode()) for token in tokens]
        if not any(fits) or not _from_here(request):
            raise Problem("forbidden", "this form is not one of this page's: load the page again, then send it")
        return visitor

    def _known(self, request: Request, name: str, key: str, token: str) -> Visitor:
        try:
            opened = self._gate.accept(request, key, "read", "guard")
        except Problem as problem:
            if problem.code != "unauthorized":
                raise
            detail = "sign in: any name of yours as the user, an API key with the scope read or guard as the password"
            raise Problem("unauthorized", detail, headers={"www-authenticate": CHALLENGE}) from None
        return Visitor(name, opened.application.name, acts="guard" in opened.scopes, token=token)

    def _tokens(self, name: str, key: str) -> list[str]:
        """What marks the forms of these credentials, under each key of the ring: every replica knows them."""
        parts = (b"console", name.encode(), digest(key).encode())
        return [one.fingerprint(*parts) for one in self._ring.keys]


def form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent; raises Problem."""
    try:
        text = request.state.body.decode()
        return {
            name: value.strip() for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        }
    except ValueError:
        raise Problem("invalid_request", "this is not a form of these pages") from None


def _credentials(request: Request) -> tuple[str, str]:
    """The name and the API key that came with a request; both empty for none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return "", given.strip()
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, key = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME], key


def _from_here(request: Request) -> bool:
    """Whether the browser says that the request came from a page of this very origin (W3C Fetch Metadata; RFC 6454).

    A browser too old to say so tells at least the origin, and a client that is none has no credentials by itself.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
