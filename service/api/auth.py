"""Who is calling: API keys, by their SHA-256 only."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from service import log
from service.api.problems import Problem
from service.application import Application

_SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a key opens: an application, some scopes, from some networks (none: from everywhere)."""

    application: Application
    scopes: frozenset[str]
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


def digest(key: str) -> str:
    """An API key as it is kept."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


class Gate:
    """Knows the API keys by their hashes."""

    def __init__(self, keys: Mapping[str, ApiKey]) -> None:
        self._keys = keys

    def admit(self, request: Request, *scopes: str) -> Application:
        """The application of the key that came with a request, if it has one of `scopes`; raises Problem."""
        header = request.headers.get("authorization", "")
        given = header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
        return self.accept(request, given, *scopes).application

    def accept(self, request: Request, given: str, *scopes: str) -> ApiKey:
        """What a key opens, if it has one of `scopes`; raises Problem.

        The address is that of the connection: no header can choose it.
        """
        key = self._keys.get(digest(given))
        if key is None:
            raise Problem(
                "unauthorized", "send `Authorization: Bearer <api key>`", headers={"www-authenticate": "Bearer"}
            )
        if key.networks and not self._from(request, key):
            raise Problem("forbidden", "this API key may not be used from this address (`allow_from`)")
        if key.scopes.isdisjoint(scopes):
            raise Problem("forbidden", f"this API key needs the scope {' or '.join(scopes)}")
        log.note(application=key.application.name)
        return key

    @staticmethod
    def _from(request: Request, key: ApiKey) -> bool:
        # On a unix socket there is no address: whoever may open the socket is on this machine.
        host = request.client.host if request.client else "127.0.0.1"
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in key.networks)
