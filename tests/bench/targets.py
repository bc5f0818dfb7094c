"""What is measured: services that send codes and check them, as the bytes of their requests.

otpgateway (https://github.com/knadh/otpgateway, v3; its handlers and its webhook provider) is taken to work like this:

- `PUT /api/otp/<id>` with HTTP Basic `namespace:secret` and the form fields `provider` and `to` makes a code, sends it
  while the caller waits, and answers 200 with `"status":"success"`. The id is the caller's, 6 characters or more.
- `POST /api/otp/<id>` with `otp` (and `action=check`, which it documents and does not read) answers a right code with
  200 and `"status":"success"`, a wrong one with 400 and `"Incorrect OTP"`.
- A webhook provider posts `{"otp": {"id", "to", "otp", …}, "subject", "body"}` to its URL.

It must be running with a webhook that points at the benchmark's gateway (`--gateway-port`), with keep-alive enough:

    [webhooks.bench]
    enabled = true
    url = "http://127.0.0.1:7000/messages"
    max_conns = 64
    request_timeout = "5s"
    max_otp_len = 6

and, to be compared fairly, on the core and with the kind of Redis that verifyd gets here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from standardwebhooks import Webhook

from tests.bench.load import Address, Expected

Sent = tuple[str, str, str, str]
"""The number that a message went to, the name of its verification, the code in it, and the path for its receipts."""


@dataclass(frozen=True, slots=True)
class Target:
    """A service: where it is, how it is asked, what it answers, and how its messages are read."""

    name: str
    addresses: tuple[Address, ...]
    create: Callable[[str], bytes]
    check: Callable[[str, str], bytes]
    read: Callable[[Any], Sent]
    created: Expected
    right: Expected
    wrong: Expected


def verifyd(addresses: tuple[Address, ...], key: str, *, guarded: bool = False) -> Target:
    """This service, on one or more replicas; with the guard on, each create comes from an address and a device."""
    authorization = f"Bearer {key}"

    def read(message: Any) -> Sent:
        data = message["data"]
        return data["to"], data["delivery"].partition(".")[0], data["code"], urlsplit(data["receipt_url"]).path

    def create(to: str) -> bytes:
        digits = int(to[-8:])
        signals = {"ip": f"10.{digits >> 16 & 255}.{digits >> 8 & 255}.{digits & 255}", "device_id": f"device-{digits}"}
        return _json("/verifications", authorization, {"to": to, "signals": signals} if guarded else {"to": to})

    return Target(
        name="verifyd, guard on" if guarded else "verifyd",
        addresses=addresses,
        create=create,
        check=lambda name, code: _json("/verifications/check", authorization, {"id": name, "code": code}),
        read=read,
        created=Expected(b"201", b'"status":"pending"'),
        right=Expected(b"200", b'"valid":true'),
        wrong=Expected(b"200", b'"valid":false'),
    )


def receipt(path: str, secret: str) -> bytes:
    """What a gateway reports of a message that was delivered, signed with this secret."""
    now = datetime.now(UTC)
    data = {"status": "delivered", "reason": None}
    body = orjson.dumps({"type": "delivery.receipt", "timestamp": now, "data": data})
    name = path.rpartition("/")[2]
    signature = Webhook(secret).sign(name, now, body.decode())
    signed = f"webhook-id: {name}\r\nwebhook-timestamp: {int(now.timestamp())}\r\nwebhook-signature: {signature}\r\n"
    return _request("POST", path, "none", "application/json", body, signed)


TAKEN = Expected(b"200", b'"status":"ok"')
"""The answer to a receipt."""


def otpgateway(url: str, credentials: str, provider: str) -> Target:
    """The peer at `url`; `credentials` are `namespace:secret`, `provider` the name of its webhook."""
    parts = urlsplit(url)
    authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"

    def read(message: Any) -> Sent:
        data = message["otp"]
        return data["to"], data["id"], data["otp"], ""

    return Target(
        name="otpgateway",
        addresses=((parts.hostname or "127.0.0.1", parts.port or 80),),
        create=lambda to: _form("PUT", to[1:], authorization, f"provider={provider}&to={quote(to)}"),
        check=lambda name, code: _form("POST", name, authorization, f"action=check&otp={code}"),
        read=read,
        created=Expected(b"200", b'"status":"success"'),
        right=Expected(b"200", b'"status":"success"'),
        wrong=Expected(b"400", b"Incorrect OTP"),
    )


def wrong(code: str) -> str:
    """A code that is not this one."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


def _json(path: str, authorization: str, body: Mapping[str, object]) -> bytes:
    return _request("POST", path, authorization, "application/json", orjson.dumps(body))


def _form(method: str, name: str, authorization: str, body: str) -> bytes:
    return _request(method, f"/api/otp/{name}", authorization, "application/x-www-form-urlencoded", body.encode())


def _request(method: str, path: str, authorization: str, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: {authorization}\r\n{more}"
        f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
