"""From a file to tables: what its values stand for, which keys are unknown, what is left when some are wrong."""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from service.config.faults import Fault, join, meant, named_plainly
from service.config.rules import RULES, Draft
from service.config.tables import ApiKeys, ApplicationTable, CascadeStep, Config, Settings
from service.errors import ConfigError
from service.provider import Provider

Kinds = Mapping[str, type[BaseModel]]
B = TypeVar("B", bound=BaseModel)


class _ApplicationInPart(ApplicationTable):
    """An application of which nothing is needed: what is left of one that has faults."""

    brand: str = ""
    api_keys: ApiKeys = ()
    cascade: tuple[CascadeStep, ...] = ()


class _SettingsInPart(Settings):
    """What is left of settings that have faults."""

    applications: dict[str, _ApplicationInPart] = Field({})  # type: ignore[assignment]  # nothing is ever put into it


def load(path: Path, kinds: Kinds, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file; raises ConfigError with every problem that it has."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([(str(path), error.strerror or "cannot be read")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"not TOML: {error}")]) from None
    return check(data, kinds, environment)


def check(data: Mapping[str, object], kinds: Kinds, environment: Mapping[str, str] = os.environ) -> Config:
    """Check a configuration as read from TOML; raises ConfigError with every problem that it has."""
    faults: list[Fault] = []
    resolved = {key: _resolve(value, join("", key), environment, faults) for key, value in data.items()}
    tables = resolved.pop("providers", {})
    found = list(_unknown(Settings, resolved, "", also=["providers"]))
    if resolved.get("applications", {}) == {}:
        found.append(("applications", "write a table for each application: [applications.name]"))
    settings = _settings(resolved, found)
    providers = _providers(tables, kinds, found)
    faults += _unrelated(found, faults)
    draft = Draft(settings, providers, tables if isinstance(tables, dict) else {})
    broken = [fault for rule in RULES for fault in rule(draft)]
    faults += _unrelated(broken, faults)
    if faults:
        raise ConfigError(sorted(set(faults)))
    return Config(settings, providers)


def _unrelated(found: Iterable[Fault], earlier: Iterable[Fault]) -> list[Fault]:
    """Those that do not merely follow from an earlier fault of the same setting, or of its whole."""
    keys = [key for key, _ in earlier]
    return [fault for fault in found if not any(_follows(fault[0], key) for key in keys)]


def _follows(key: str, earlier: str) -> bool:
    return key == earlier or key.startswith((f"{earlier}.", f"{earlier}[")) or earlier.startswith(f"{key}[")


def _resolve(value: object, path: str, environment: Mapping[str, str], faults: list[Fault]) -> object:
    """The value with every `env:` and `file:` in it replaced."""
    match value:
        case dict():
            return {key: _resolve(item, join(path, key), environment, faults) for key, item in value.items()}
        case list():
            return [_resolve(item, f"{path}[{index}]", environment, faults) for index, item in enumerate(value)]
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if not environment.get(name):
                # An empty one is a secret that did not arrive: it must not become an empty key.
                state = "empty" if name in environment else "not set"
                faults.append((path, f"the environment variable {name} is {state}"))
            return environment.get(name) or value
        case str() if value.startswith("file:"):
            name = value.removeprefix("file:")
            try:
                text = Path(name).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                faults.append((path, f"the file {name} cannot be read"))
            else:
                if text:
                    return text
                faults.append((path, f"the file {name} is empty"))
    return value


def _unknown(model: type[BaseModel], data: object, path: str, also: Iterable[str] = ()) -> Iterator[Fault]:
    """The keys that the model does not have, each with the one that may have been meant."""
    if not isinstance(data, dict):
        return
    known = [*model.model_fields, *also]
    for key, value in data.items():
        if key not in known:
            yield join(path, key), f"unknown key{meant(key, known)}"
        elif key in model.model_fields:
            yield from _unknown_inside(model.model_fields[key].annotation, value, join(path, key))


def _unknown_inside(annotation: object, value: object, path: str) -> Iterator[Fault]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _unknown(annotation, value, path)
    elif origin is Annotated:
        yield from _unknown_inside(inside[0], value, path)
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _unknown_inside(inside[1], item, join(path, key))
    elif origin is tuple and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_inside(inside[0], item, f"{path}[{index}]")
    elif origin in {Union, types.UnionType}:
        for one in inside:
            yield from _unknown_inside(one, value, path)


def _validated(model: type[B], data: object, path: str, faults: list[Fault]) -> B | None:
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
            faults.append((_location(path, one["loc"]), _message(one["type"], one["msg"])))
    return None


def _location(path: str, places: Iterable[int | str]) -> str:
    for place in places:
        path = f"{path}[{place}]" if isinstance(place, int) else join(path, place) if place != "[key]" else path
    return path


def _message(kind: str, text: str) -> str:
    if kind == "missing":
        return "needed"
    if kind == "model_type":
        return "write a table"
    return text.removeprefix("Value error, ")


def _settings(data: dict[str, object], faults: list[Fault]) -> Settings:
    """The settings. What is wrong is told once and then cut out, so that the rules judge all that is left."""
    settings = _validated(Settings, data, "", faults)
    while settings is None:
        try:
            settings = _SettingsInPart.model_validate(data, strict=False)
        except ValidationError as error:
            _cut(data, error.errors(include_input=False)[0]["loc"])
    return settings


def _cut(data: object, places: Sequence[int | str]) -> bool:
    """Remove what is at these places; where nothing is (a setting is missing), remove what should have it.

    A list ends there, so that what is left in it keeps its index. False if not even the first place is there.
    """
    if not places:
        return False
    place, *further = places
    if isinstance(data, dict) and place in data:
        if not _cut(data[place], further):
            del data[place]
        return True
    if isinstance(data, list) and isinstance(place, int) and place < len(data):
        if not _cut(data[place], further):
            del data[place:]
        return True
    return False


def _providers(tables: object, kinds: Kinds, faults: list[Fault]) -> dict[str, Provider]:
    if not isinstance(tables, dict):
        faults.append(("providers", "write a table for each provider: [providers.name]"))
        return {}
    providers: dict[str, Provider] = {}
    for name, table in tables.items():
        path = join("providers", name)
        if not named_plainly(name):
            faults.append((path, "name a provider in small letters, digits, - and _, at most 32"))
        if not isinstance(table, dict) or "kind" not in table:
            faults.append((path, f"say its kind, one of {', '.join(sorted(kinds))}"))
        elif (kind := str(table["kind"])) not in kinds:
            faults.append((f"{path}.kind", f"unknown kind{meant(kind, kinds)}; there are {', '.join(sorted(kinds))}"))
        else:
            model = kinds[kind]
            faults += _unknown(model, table, path)
            known = {key: value for key, value in table.items() if key in model.model_fields}
            provider: Any = _validated(model, known, path, faults)
            if provider is not None:
                providers[name] = provider
    return providers
