"""The configuration: one TOML file, checked as a whole, every problem told at once with its key.

Any text value may be `env:NAME` or `file:/path`. The models below are the reference of what can be set;
`docker/otp.toml` shows each with its default.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from service import code as codes
from service import ids, phone
from service.errors import ConfigError
from service.guard.limits import Rate, seconds
from service.provider import Channel, Provider
from service.providers import Console
from service.sealing import KEY_BYTES
from service.store import connect
from service.texts import TextError, Texts

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_DAY = 86_400

SLOW_CHECK = 0.05
"""Seconds for one argon2 hash above which a check is slower than it should be."""

Problem = tuple[str, str]
B = TypeVar("B", bound=BaseModel)


def _duration(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


def _rate(value: object) -> Rate:
    return Rate.parse(value if isinstance(value, str) else "")


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


Duration = Annotated[int, BeforeValidator(_duration)]
RateText = Annotated[Rate, BeforeValidator(_rate)]
Country = Annotated[str, AfterValidator(_country)]
Address = Annotated[str, AfterValidator(_address)]


class Section(BaseModel):
    """A table of the file. Unknown keys are found before, by `_unknown`, so that they come with a suggestion."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, arbitrary_types_allowed=True)


class Server(Section):
    """Where verifyd listens, and where providers reach it."""

    api: Address = "127.0.0.1:8080"
    receipts: Address = "0.0.0.0:8081"
    ops: Address = "0.0.0.0:9090"
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    grace: Annotated[Duration, Field(ge=1, le=600)] = 20
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Secrets(Section):
    """The key ring, and what argon2id costs."""

    keys: tuple[Annotated[SecretStr, AfterValidator(_key)], ...] = ()
    argon2: Literal["otp", "owasp"] = "otp"


class ApiKey(Section):
    """An API key by its hash, what it may do, and from where."""

    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    scopes: tuple[Literal["verify", "read", "guard"], ...] = ("verify",)
    allow_from: tuple[Annotated[str, AfterValidator(_network)], ...] = ()


class CascadeStep(Section):
    """One step of a cascade."""

    channel: Channel
    providers: Annotated[tuple[str, ...], Field(min_length=1)]
    wait: Annotated[Duration, Field(ge=1, le=900)] = 20


Steps = Annotated[tuple[CascadeStep, ...], Field(min_length=1)]


def _api_key(value: object) -> object:
    return {"hash": value} if isinstance(value, str) else value


class Application(Section):
    """A caller: its keys, its brand, its policy."""

    brand: Annotated[str, Field(min_length=1, max_length=40)]
    api_keys: Annotated[tuple[Annotated[ApiKey, BeforeValidator(_api_key)], ...], Field(min_length=1)]
    cascade: Steps
    cascade_by_prefix: dict[Annotated[str, Field(pattern=r"^\+[1-9][0-9]{0,14}$")], Steps] = {}
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
    texts: dict[str, dict[str, dict[str, str]]] = {}


class Limits(Section):
    """Limits as text, for example `"5/10m"`."""

    number: tuple[RateText, ...] = (Rate(1, 30), Rate(5, 600), Rate(10, _DAY))


class Guard(Section):
    """What decides if a send may happen."""

    limits: Limits = Limits()


class Settings(Section):
    """The whole file, but for `[providers]`, whose tables are read by their kinds."""

    redis: Annotated[SecretStr, AfterValidator(_redis)] = SecretStr("memory://")
    shards: Annotated[int, Field(ge=1, le=ids.MAX_SHARDS)] = 64
    server: Server = Server()
    secrets: Secrets = Secrets()
    applications: dict[str, Application] = {}
    guard: Guard = Guard()


class _ApplicationInPart(Application):
    """An application of which nothing is needed: what is left of one that has problems."""

    brand: str = ""
    api_keys: tuple[Annotated[ApiKey, BeforeValidator(_api_key)], ...] = ()
    cascade: tuple[CascadeStep, ...] = ()


class _SettingsInPart(Settings):
    """What is left of settings that have problems."""

    applications: dict[str, _ApplicationInPart] = {}  # type: ignore[assignment]  # nothing is ever put into it


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was checked: the settings and the providers by name."""

    settings: Settings
    providers: Mapping[str, Provider]

    @property
    def embedded(self) -> bool:
        """Whether the store is the one in this process."""
        return self.settings.redis.get_secret_value().startswith("memory:")


Kinds = Mapping[str, type[BaseModel]]


def load(path: Path, kinds: Kinds, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file; raises ConfigError with every problem that it has."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([(str(path), error.strerror or "cannot be read")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"not TOML: {error}")]) from None
    return check(data, kinds, environment)


def check(data: Mapping[str, Any], kinds: Kinds, environment: Mapping[str, str] = os.environ) -> Config:
    """Check a configuration as read from TOML; raises ConfigError with every problem that it has."""
    problems: list[Problem] = []
    resolved = _resolve(dict(data), "", environment, problems)
    tables = resolved.pop("providers", {})
    found = list(_unknown(Settings, resolved, "", also=["providers"]))
    if resolved.get("applications", {}) == {}:
        found.append(("applications", "write a table for each application: [applications.name]"))
    settings = _settings(resolved, found)
    providers = _providers(tables, kinds, found)
    problems += _unrelated(found, problems)
    broken = [problem for rule in _RULES for problem in rule(settings, providers, _table(tables))]
    problems += _unrelated(broken, problems)
    if problems:
        raise ConfigError(sorted(set(problems)))
    return Config(settings, providers)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unrelated(found: Iterable[Problem], earlier: Iterable[Problem]) -> list[Problem]:
    """Those that do not merely follow from an earlier problem with the same setting, or with its whole."""
    keys = [key for key, _ in earlier]
    return [problem for problem in found if not any(_follows(problem[0], key) for key in keys)]


def _follows(key: str, earlier: str) -> bool:
    return key == earlier or key.startswith((f"{earlier}.", f"{earlier}[")) or earlier.startswith(f"{key}[")


def _resolve(value: Any, path: str, environment: Mapping[str, str], problems: list[Problem]) -> Any:
    """The value with every `env:` and `file:` in it replaced."""
    match value:
        case dict():
            return {key: _resolve(item, _join(path, key), environment, problems) for key, item in value.items()}
        case list():
            return [_resolve(item, f"{path}[{index}]", environment, problems) for index, item in enumerate(value)]
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if name not in environment:
                problems.append((path, f"the environment variable {name} is not set"))
            return environment.get(name, value)
        case str() if value.startswith("file:"):
            try:
                return Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                problems.append((path, f"the file {value.removeprefix('file:')} cannot be read"))
    return value


def _unknown(model: type[BaseModel], data: Any, path: str, also: Iterable[str] = ()) -> Iterator[Problem]:
    """The keys that the model does not have, each with the one that may have been meant."""
    if not isinstance(data, dict):
        return
    known = [*model.model_fields, *also]
    for key, value in data.items():
        if key not in known:
            yield _join(path, key), f"unknown key{_meant(key, known)}"
        elif key in model.model_fields:
            yield from _unknown_inside(model.model_fields[key].annotation, value, _join(path, key))


def _unknown_inside(annotation: Any, value: Any, path: str) -> Iterator[Problem]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _unknown(annotation, value, path)
    elif origin is Annotated:
        yield from _unknown_inside(inside[0], value, path)
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _unknown_inside(inside[1], item, _join(path, key))
    elif origin is tuple and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_inside(inside[0], item, f"{path}[{index}]")
    elif origin in {Union, types.UnionType}:
        for one in inside:
            yield from _unknown_inside(one, value, path)


def _validated(model: type[B], data: Any, path: str, problems: list[Problem]) -> B | None:
    try:
        # From TOML there are lists where the models have tuples, and text where they have secrets: the mode of JSON.
        return model.model_validate(data, strict=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
    wrong = [one["loc"] for one in found]
    for one in found:
        # A list in which nothing is right is called too short as well.
        depth = len(one["loc"])
        if one["type"] != "too_short" or not any(place[:depth] == one["loc"] and place[depth:] for place in wrong):
            problems.append((_location(path, one["loc"]), _message(one["type"], one["msg"])))
    return None


def _settings(data: dict[str, Any], problems: list[Problem]) -> Settings:
    """The settings. What is wrong is told once and then cut out, so that the rules judge all that is left."""
    settings = _validated(Settings, data, "", problems)
    while settings is None:
        try:
            settings = _SettingsInPart.model_validate(data, strict=False)
        except ValidationError as error:
            _cut(data, error.errors(include_input=False)[0]["loc"])
    return settings


def _cut(data: Any, places: Iterable[int | str]) -> None:
    """Remove what is at these places; where nothing is (a setting is missing), remove what should have it.

    A list ends there, so that what is left in it keeps its index.
    """
    holder: Any = data
    last: Any = None
    for place in places:
        inside = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if place not in inside:
            break
        holder, last, data = data, place, data[place]
    if isinstance(holder, list):
        del holder[last:]
    else:
        del holder[last]


def _providers(tables: Any, kinds: Kinds, problems: list[Problem]) -> dict[str, Provider]:
    if not isinstance(tables, dict):
        problems.append(("providers", "write a table for each provider: [providers.name]"))
        return {}
    providers: dict[str, Provider] = {}
    for name, table in tables.items():
        path = _join("providers", name)
        if not _NAME.fullmatch(name):
            problems.append((path, "name a provider in small letters, digits, - and _, at most 32"))
        if not isinstance(table, dict) or "kind" not in table:
            problems.append((path, f"say its kind, one of {', '.join(sorted(kinds))}"))
        elif (kind := str(table["kind"])) not in kinds:
            problems.append(
                (f"{path}.kind", f"unknown kind{_meant(kind, kinds)}; there are {', '.join(sorted(kinds))}")
            )
        else:
            model = kinds[kind]
            unknown = list(_unknown(model, table, path))
            problems += unknown
            known = {key: value for key, value in table.items() if key in model.model_fields}
            provider: Any = _validated(model, known, path, problems)
            if provider is not None:
                providers[name] = provider
    return providers


Rule = Callable[[Settings, Mapping[str, Provider], Mapping[str, Any]], Iterator[Problem]]


def _names(settings: Settings, _providers: Mapping[str, Provider], _tables: Mapping[str, Any]) -> Iterator[Problem]:
    for name in settings.applications:
        if not _NAME.fullmatch(name):
            yield _join("applications", name), "name an application in small letters, digits, - and _, at most 32"


def _steps(settings: Settings, providers: Mapping[str, Provider], tables: Mapping[str, Any]) -> Iterator[Problem]:
    for name, application in settings.applications.items():
        cascades = {"cascade": application.cascade} | {
            f'cascade_by_prefix."{prefix}"': steps for prefix, steps in application.cascade_by_prefix.items()
        }
        for key, steps in cascades.items():
            channels = [step.channel for step in steps]
            for index, step in enumerate(steps):
                path = f"{_join('applications', name)}.{key}[{index}]"
                if step.channel in channels[:index]:
                    yield path, f"{step.channel} has a step already: list all its providers there"
                for provider in step.providers:
                    if provider not in tables:
                        yield f"{path}.providers", f"no provider {provider!r}{_meant(provider, tables)}"
                    elif provider in providers and step.channel not in providers[provider].channels:
                        have = ", ".join(sorted(providers[provider].channels))
                        yield f"{path}.providers", f"{provider} does not carry {step.channel}; it carries {have}"


def _ring(settings: Settings, _providers: Mapping[str, Provider], _tables: Mapping[str, Any]) -> Iterator[Problem]:
    keys = [base64.b64decode(key.get_secret_value()) for key in settings.secrets.keys]
    if not keys and not settings.redis.get_secret_value().startswith("memory:"):
        yield "secrets.keys", "needed with a Redis: `verifyd keys` makes one"
    if len(set(keys)) != len(keys):
        yield "secrets.keys", "the same key is there twice"


def _reachable(settings: Settings, _providers: Mapping[str, Provider], tables: Mapping[str, Any]) -> Iterator[Problem]:
    reporting = [name for name, table in tables.items() if isinstance(table, dict) and table.get("kind") != "console"]
    if reporting and settings.server.public_url is None:
        yield "server.public_url", f"needed: {', '.join(reporting)} must know where to send receipts"


def _api_keys(settings: Settings, _providers: Mapping[str, Provider], _tables: Mapping[str, Any]) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, application in settings.applications.items():
        for index, key in enumerate(application.api_keys):
            path = f"{_join('applications', name)}.api_keys[{index}]"
            if key.hash in owners:
                yield path, f"this key is already that of {owners[key.hash]}"
            owners[key.hash] = name


def _words(settings: Settings, _providers: Mapping[str, Provider], _tables: Mapping[str, Any]) -> Iterator[Problem]:
    for name, application in settings.applications.items():
        path = _join("applications", name)
        try:
            texts = Texts(application.texts)
        except TextError as error:
            for place, message in error.problems:
                yield f"{path}.texts.{place}", message
        else:
            if application.locale not in texts.locales:
                yield f"{path}.locale", f"no texts in this language{_meant(application.locale, texts.locales)}"
        for kind in application.allow_types:
            if kind not in phone.REFUSABLE:
                there = ", ".join(sorted(phone.REFUSABLE))
                yield (
                    f"{path}.allow_types",
                    f"{kind!r} cannot be allowed{_meant(kind, phone.REFUSABLE)}; there are {there}",
                )


_RULES: tuple[Rule, ...] = (_names, _steps, _ring, _reachable, _api_keys, _words)


def _join(path: str, key: str) -> str:
    if path.endswith(".test_numbers"):
        key = _masked(key)
    name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
    return f"{path}.{name}" if path else name


def _location(path: str, places: Iterable[int | str]) -> str:
    for place in places:
        path = f"{path}[{place}]" if isinstance(place, int) else _join(path, place) if place != "[key]" else path
    return path


def _message(kind: str, text: str) -> str:
    if kind == "missing":
        return "needed"
    return text.removeprefix("Value error, ")


def _masked(number: str) -> str:
    """A number as it may be seen, however it is written."""
    return f"{number[:3]}…{number[-2:] if len(number) > 8 else ''}"


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def key_bytes(config: Config) -> list[bytes]:
    """The keys of the ring."""
    return [base64.b64decode(key.get_secret_value()) for key in config.settings.secrets.keys]


def worries(config: Config) -> Iterator[Problem]:
    """What works but should be known: each with its key."""
    took = codes.seconds(codes.PROFILES[config.settings.secrets.argon2])
    if took > SLOW_CHECK:
        yield "secrets.argon2", f"one hash takes {took * 1000:.0f} ms on this machine, and a check waits for it"
    if config.embedded:
        yield "redis", "memory:// is for trying out: everything is forgotten when the process ends"
    for name, table in config.providers.items():
        if name in _used(config) and isinstance(table, Console):
            yield f"providers.{name}", "the console prints codes and numbers to the terminal: for trying out only"
    for name, given in config.settings.applications.items():
        for number in given.test_numbers:
            yield f"applications.{name}.test_numbers", f"{_masked(number)} has a fixed code and no limits"


def _used(config: Config) -> set[str]:
    return {
        provider
        for given in config.settings.applications.values()
        for steps in (given.cascade, *given.cascade_by_prefix.values())
        for step in steps
        for provider in step.providers
    }
