"""The tables of the file and what may stand in them: the reference of what can be set."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from service import code as codes
from service import ids, phone
from service.config.guard import ApplicationGuard, Guard
from service.config.values import Duration, Prefix, Section, duration
from service.events import TYPES, Type
from service.provider import Channel, Provider
from service.providers.webhook import Secret, Url
from service.sealing import KEY_BYTES
from service.store import connect

_DAY = 86_400


def _country(value: str) -> str:
    if value not in phone.COUNTRIES:
        raise ValueError("write ISO 3166-1 alpha-2 country codes in capitals, for example GB")
    return value


def _address(value: str) -> str:
    if value.startswith("unix:/"):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not int(port) <= 65_535:
        raise ValueError('write host:port, for example "127.0.0.1:8080", or "unix:/path"')
    return value


def _public_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#@]+", value):
        raise ValueError("write the address that providers reach, for example https://otp.example.com")
    return value.rstrip("/")


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#@]+", value):
        raise ValueError("write the address of a collector's OTLP over HTTP, for example http://collector:4318")
    return value.rstrip("/").removesuffix("/v1/traces")


def _redis(value: SecretStr) -> SecretStr:
    try:
        connect(value.get_secret_value())
    except ValueError:
        # What stands in the way may be a password's own / or #, and the parser would quote it.
        raise ValueError(
            "write redis://host:6379/0, redis+sentinel://host:26379/mymaster/0, redis+cluster://host:6379,host:6379 "
            "(with TLS: rediss://, rediss+…) or memory://; percent-encode what is special in a password"
        ) from None
    return value


def _key(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ValueError(f"write {KEY_BYTES} random bytes in base64; `verifyd keys` makes one")
    return value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


Country = Annotated[str, AfterValidator(_country)]
Address = Annotated[str, AfterValidator(_address)]


class Server(Section):
    """Where verifyd listens, and where providers reach it."""

    api: Address = "127.0.0.1:8080"
    receipts: Address = "0.0.0.0:8081"
    ops: Address = "0.0.0.0:9090"
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    console: bool = True
    drain: Annotated[Duration, Field(ge=0, le=600)] = 0
    grace: Annotated[Duration, Field(ge=1, le=600)] = 20
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Secrets(Section):
    """The key ring, and what argon2id costs."""

    keys: tuple[Annotated[SecretStr, AfterValidator(_key)], ...] = ()
    argon2: Literal["otp", "owasp"] = "otp"

    @property
    def ring(self) -> list[bytes]:
        """The keys themselves, the one that seals first."""
        return [base64.b64decode(key.get_secret_value()) for key in self.keys]


class ApiKeyTable(Section):
    """An API key by its hash, what it may do, and from where."""

    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    scopes: tuple[Literal["verify", "read", "guard"], ...] = ("verify",)
    allow_from: tuple[Annotated[str, AfterValidator(_network)], ...] = ()


def _api_key(value: object) -> object:
    return {"hash": value} if isinstance(value, str) else value


ApiKeys = tuple[Annotated[ApiKeyTable, BeforeValidator(_api_key)], ...]


class RouteTable(Section):
    """A provider of a step: with a weight, or for some countries or prefixes only."""

    provider: str
    weight: Annotated[int, Field(ge=1, le=1000)] | None = None
    countries: tuple[Country, ...] = ()
    prefixes: tuple[Prefix, ...] = ()


def _route(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


_LONGEST_WAIT = 900
Wait = Annotated[Duration, Field(ge=1, le=_LONGEST_WAIT)]


def _wait(value: object) -> int | None:
    if value == "auto":
        return None
    found = duration(value)
    if not isinstance(found, int) or not 1 <= found <= _LONGEST_WAIT:
        raise ValueError('write 1s to 15m, or "auto"')
    return found


class CascadeStep(Section):
    """One step of a cascade."""

    channel: Channel
    providers: Annotated[tuple[Annotated[RouteTable, BeforeValidator(_route)], ...], Field(min_length=1)]
    wait: Annotated[int | None, BeforeValidator(_wait)] = 20
    """Seconds; None for "auto"."""
    wait_least: Wait = 10
    wait_most: Wait = 60


Steps = Annotated[tuple[CascadeStep, ...], Field(min_length=1)]


class EventsTable(Section):
    """Events for an application: kept to be read, and posted to its URL."""

    url: Url | None = None
    secret: Secret | None = None
    old_secret: Secret | None = None
    types: Annotated[tuple[Type, ...], Field(min_length=1)] = TYPES
    keep: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000


class ApplicationTable(Section):
    """A caller: its keys, its brand, its policy."""

    brand: Annotated[str, Field(min_length=1, max_length=40)]
    api_keys: Annotated[ApiKeys, Field(min_length=1)]
    cascade: Steps
    cascade_by_prefix: dict[Prefix, Steps] = Field(default={})
    code_length: Annotated[int, Field(ge=codes.MIN_LENGTH, le=codes.MAX_LENGTH)] = 6
    ttl: Annotated[Duration, Field(ge=30, le=_DAY)] = 600
    checks: Annotated[int, Field(ge=1, le=20)] = 5
    wrong_checks_per_day: Annotated[int, Field(ge=1, le=1000)] = 20
    sends: Annotated[int, Field(ge=1, le=20)] = 5
    resend_after: Annotated[tuple[Annotated[Duration, Field(ge=0, le=_DAY)], ...], Field(min_length=1)] = (30, 60, 120)
    countries: tuple[Country, ...] | None = None
    allow_types: tuple[str, ...] = ()
    own_code: bool = False
    test_numbers: dict[
        Annotated[str, Field(pattern=r"^\+[1-9][0-9]{4,14}$")], Annotated[str, Field(pattern=r"^[0-9]{4,10}$")]
    ] = Field(default={}, repr=False)
    locale: str = "en"
    texts: dict[str, dict[str, dict[str, str]]] = Field(default={})
    guard: ApplicationGuard = ApplicationGuard()
    events: EventsTable | None = None


class TracingTable(Section):
    """Where traces go, and how many."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = None
    service: Annotated[str, Field(min_length=1, max_length=100)] = "verifyd"
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0


class Settings(Section):
    """The whole file, but for `[providers]`, whose tables are read by their kinds."""

    redis: Annotated[SecretStr, AfterValidator(_redis)] = SecretStr("memory://")
    shards: Annotated[int, Field(ge=1, le=ids.MAX_SHARDS)] = 64
    server: Server = Server()
    secrets: Secrets = Secrets()
    applications: dict[str, ApplicationTable] = Field(default={})
    guard: Guard = Guard()
    tracing: TracingTable = TracingTable()

    @property
    def embedded(self) -> bool:
        """Whether the store is the one in this process."""
        return self.redis.get_secret_value().startswith("memory:")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was checked: the settings and the providers by name."""

    settings: Settings
    providers: Mapping[str, Provider]

    @property
    def embedded(self) -> bool:
        """Whether the store is the one in this process."""
        return self.settings.embedded


def key_bytes(config: Config) -> list[bytes]:
    """The keys of the ring."""
    return config.settings.secrets.ring
