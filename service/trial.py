"""`verifyd try`: one verification against a running service, from a terminal.

This is a client of the service, so it speaks HTTP itself.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from service import config, demo
from service.errors import ConfigError
from service.providers import KINDS

_KEY = "VERIFYD_API_KEY"


def run(number: str, file: Path | None) -> int:
    """Start a verification for a number, ask for the code until it is over; 0 when it was approved."""
    url, key = _service(file)
    transport = httpx.HTTPTransport(uds=url.removeprefix("unix:")) if url.startswith("unix:") else None
    base = "http://localhost" if transport else url
    with httpx.Client(base_url=base, transport=transport, headers={"authorization": f"Bearer {key}"}) as client:
        try:
            return _talk(client, number)
        except httpx.TransportError as error:
            raise ConfigError([("server.api", f"no answer from {url}: {error}; is the service running?")]) from None
        except (EOFError, KeyboardInterrupt):
            print()
            return 1


def _talk(client: httpx.Client, number: str) -> int:
    started = client.post("/verifications", json={"to": number})
    said = _said(started)
    if started.is_error and "id" not in said:
        print(f"{said['title']}: {said['detail']}", file=sys.stderr)
        return 1
    if started.is_error:
        print(said["detail"])
    name = said["id"]
    found = _said(client.get(f"/verifications/{name}"))
    print(f"A code is on its way to {found['to']} by {found['channel']}.")
    while True:
        guess = input("Code: ").strip()
        answer = client.post("/verifications/check", json={"id": name, "code": guess})
        said = _said(answer)
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            print("Write the digits of the code.")
        elif answer.is_error:
            print(f"{said['title']}: {said['detail']}", file=sys.stderr)
            return 1
        elif said["valid"]:
            print("Approved.")
            return 0
        elif said["status"] in {"pending", "undeliverable"} and said["checks_remaining"]:
            print(f"Wrong; {said['checks_remaining']} left.")
        else:
            print(f"Over: {said['status'].replace('_', ' ')}.")
            return 1


def _said(answer: httpx.Response) -> dict[str, Any]:
    """A verification or a problem; raises ConfigError when something else than verifyd answers there."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.keys().isdisjoint({"id", "title"}):
        raise ConfigError([("server.api", f"what answers at {answer.url} is not verifyd")])
    return said


def _service(file: Path | None) -> tuple[str, str]:
    """Where the service is, and a key for it: of the configuration and the environment, else of the demo."""
    key = os.environ.get(_KEY)
    if file is None:
        found = demo.running()
        if found is None and key is None:
            raise ConfigError([("--config", "name the service's configuration, or start the demo: `verifyd serve`")])
        return found[0] if found else f"http://{demo.API}", key or (found[1] if found else "")
    address = config.load(file, KINDS).settings.server.api
    url = address if address.startswith("unix:") else f"http://{address}"
    return url, key or getpass.getpass(f"API key (or set {_KEY}): ")
