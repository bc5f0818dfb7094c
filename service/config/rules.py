"""What no table can know alone: the rules between the tables of one file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from service import code as codes
from service import phone, tracing
from service.config.faults import Fault, join, meant, named_plainly
from service.config.tables import Settings, Steps
from service.errors import TextError
from service.guard import prices
from service.provider import Channel, LimitsAddresses, LimitsCodes, Provider
from service.texts import Texts


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be read of a file, right or not; `tables` are those of `[providers]` as they are written."""

    settings: Settings
    providers: Mapping[str, Provider]
    tables: Mapping[str, object]


Rule = Callable[[Draft], Iterator[Fault]]


def _names(draft: Draft) -> Iterator[Fault]:
    for name in draft.settings.applications:
        if not named_plainly(name):
            yield join("applications", name), "name an application in small letters, digits, - and _, at most 32"


def _cascades(draft: Draft) -> Iterator[Fault]:
    for name, application in draft.settings.applications.items():
        path = join("applications", name)
        yield from _steps(draft, f"{path}.cascade", application.cascade, application.code_length)
        for prefix, steps in application.cascade_by_prefix.items():
            yield from _steps(draft, join(f"{path}.cascade_by_prefix", prefix), steps, application.code_length)


def _steps(draft: Draft, path: str, steps: Steps, code_length: int) -> Iterator[Fault]:
    channels = [step.channel for step in steps]
    for index, step in enumerate(steps):
        if step.channel in channels[:index]:
            yield f"{path}[{index}]", f"{step.channel} has a step already: list all its providers there"
        names = [route.provider for route in step.providers]
        if len(set(names)) < len(names):
            yield f"{path}[{index}].providers", "a provider is named twice"
        if step.wait_least > step.wait_most:
            yield f"{path}[{index}].wait_most", "write at least wait_least"
        for name in names:
            if name not in draft.tables:
                yield f"{path}[{index}].providers", f"no provider {name!r}{meant(name, draft.tables)}"
            elif name in draft.providers and step.channel not in draft.providers[name].channels:
                have = ", ".join(sorted(draft.providers[name].channels))
                yield f"{path}[{index}].providers", f"{name} does not carry {step.channel}; it carries {have}"
            elif (longest := longest_code(draft.providers.get(name), step.channel)) < code_length:
                said = f"{name} takes codes of {longest} digits at most over {step.channel}"
                yield f"{path}[{index}].providers", f"{said}; code_length is {code_length}"


def longest_code(provider: Provider | None, channel: Channel) -> int:
    """How many digits a code may have for a provider (None for one that cannot be read) to take it on a channel."""
    limit = provider.longest_code(channel) if isinstance(provider, LimitsCodes) else None
    return limit or codes.MAX_LENGTH


def _ring(draft: Draft) -> Iterator[Fault]:
    ring = draft.settings.secrets.ring
    if not ring and not draft.settings.embedded:
        yield "secrets.keys", "needed with a Redis: `verifyd keys` makes one"
    if len(set(ring)) != len(ring):
        yield "secrets.keys", "the same key is there twice"


_MUTE = {"console", "simulator", "smpp", "smtp", "sns"}
"""The kinds that post no receipts."""


def _reachable(draft: Draft) -> Iterator[Fault]:
    reporting = [
        name for name, table in draft.tables.items() if isinstance(table, dict) and str(table.get("kind")) not in _MUTE
    ]
    if reporting and draft.settings.server.public_url is None:
        yield "server.public_url", f"needed: {', '.join(reporting)} must know where to send receipts"


_TOKEN = 52
"""Characters of a receipt's token: a verification's id, the number of a delivery below a hundred, a MAC, two dots."""


def _addresses(draft: Draft) -> Iterator[Fault]:
    for name, provider in draft.providers.items():
        room = provider.longest_address if isinstance(provider, LimitsAddresses) else math.inf
        address = f"{draft.settings.server.public_url or ''}/receipts/{name}/"
        if (over := len(address) + _TOKEN - room) > 0:
            yield (
                join("providers", name),
                f"it takes receipt addresses of {room} characters: shorten its name or server.public_url by {over}",
            )


def _api_keys(draft: Draft) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for name, application in draft.settings.applications.items():
        for index, key in enumerate(application.api_keys):
            path = f"{join('applications', name)}.api_keys[{index}]"
            if key.hash in owners:
                yield path, f"this key is already that of {owners[key.hash]}"
            owners[key.hash] = name


def _texts(draft: Draft) -> Iterator[Fault]:
    for name, application in draft.settings.applications.items():
        path = join("applications", name)
        try:
            texts = Texts(application.texts)
        except TextError as error:
            for place, message in error.problems:
                yield f"{path}.texts.{place}", message
        else:
            if application.locale not in texts.locales:
                yield f"{path}.locale", f"no texts in this language{meant(application.locale, texts.locales)}"


def _types(draft: Draft) -> Iterator[Fault]:
    there = ", ".join(sorted(phone.REFUSABLE))
    for name, application in draft.settings.applications.items():
        path = f"{join('applications', name)}.allow_types"
        for kind in application.allow_types:
            if kind not in phone.REFUSABLE:
                yield path, f"{kind!r} cannot be allowed{meant(kind, phone.REFUSABLE)}; there are {there}"


def _events(draft: Draft) -> Iterator[Fault]:
    for name, application in draft.settings.applications.items():
        path, events = join("applications", name), application.events
        if events is not None and events.url is not None and events.secret is None:
            yield f"{path}.events.secret", "needed with url; `verifyd keys` makes one"
        if events is not None and events.url is None and (events.secret or events.old_secret):
            yield f"{path}.events.url", "needed with a secret: without it nothing is signed"


def _priced(draft: Draft) -> Iterator[Fault]:
    guard = draft.settings.guard
    shipped = prices.shipped().currency
    if guard.currency != shipped and not (guard.prices and guard.price_list.whole):
        needed = "give your own in guard.prices, with a row for the country *"
        yield "guard.currency", f"the prices that come with verifyd are in {shipped}: {needed}"


def _traced(draft: Draft) -> Iterator[Fault]:
    if draft.settings.tracing.endpoint is not None and not tracing.available():
        yield "tracing.endpoint", "its packages are not installed: pip install 'verifyd[otel]'"


RULES: tuple[Rule, ...] = (
    _names,
    _cascades,
    _ring,
    _reachable,
    _addresses,
    _api_keys,
    _texts,
    _types,
    _events,
    _priced,
    _traced,
)
"""All of them; each yields what breaks it."""
