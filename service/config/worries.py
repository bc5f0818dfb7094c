"""What works but should be known: told at start and by `verifyd check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from service import code as codes
from service.config.faults import Fault, join, masked
from service.config.rules import longest_code
from service.config.tables import ApplicationTable, Config
from service.provider import Channel, Provider
from service.providers.console import Console
from service.providers.simulator import Simulator
from service.segments import measure
from service.texts import Texts

_SLOW_CHECK = 0.05  # Seconds for one hash: with less than that, nobody feels a check wait for it.


def worries(config: Config) -> Iterator[Fault]:
    """What works but should be known: each with its key."""
    took = codes.seconds(codes.PROFILES[config.settings.secrets.argon2])
    if took > _SLOW_CHECK:
        yield "secrets.argon2", f"one hash takes {took * 1000:.0f} ms on this machine, and a check waits for it"
    if config.embedded:
        yield "redis", "memory:// is for trying out: everything is forgotten when the process ends"
    used = _used(config)
    for name, provider in config.providers.items():
        if name in used and isinstance(provider, Console):
            yield f"providers.{name}", "the console prints codes and numbers to the terminal: for trying out only"
        if name in used and isinstance(provider, Simulator):
            seen = "whoever reaches server.ops" if provider.open else "the application's API keys"
            yield f"providers.{name}", f"the simulator sends nothing and shows codes to {seen}: for trying out only"
    for name, application in config.settings.applications.items():
        for number in application.test_numbers:
            yield f"applications.{name}.test_numbers", f"{masked(number)} has a fixed code and no limits"
        if application.own_code:
            yield from sorted({*_long_codes(f"applications.{name}.own_code", application, config.providers)})
        yield from _long_texts(f"applications.{name}.texts", application)


def _used(config: Config) -> set[str]:
    return {name for application in config.settings.applications.values() for _, name in _routes(application)}


def _routes(application: ApplicationTable) -> Iterator[tuple[Channel, str]]:
    """The channels of an application's cascades with the providers of each."""
    for steps in (application.cascade, *application.cascade_by_prefix.values()):
        for step in steps:
            for route in step.providers:
                yield step.channel, route.provider


def _long_codes(path: str, application: ApplicationTable, providers: Mapping[str, Provider]) -> Iterator[Fault]:
    """The providers that do not take every code that a caller may bring."""
    for channel, name in _routes(application):
        if (longest := longest_code(providers[name], channel)) < codes.MAX_LENGTH:
            yield path, f"{name} takes codes of {longest} digits at most over {channel}, and rejects a longer one"


def _long_texts(path: str, application: ApplicationTable) -> Iterator[Fault]:
    """The application's own SMS that cost more than one, filled with values of a common length."""
    texts = Texts(application.texts)
    for locale, book in application.texts.items():
        for purpose in (purpose for purpose, templates in book.items() if "sms" in templates):
            transaction = purpose == "transaction"
            text = texts.render(
                "sms",
                purpose,
                texts.locale(locale, ""),
                code="0" * application.code_length,
                brand=application.brand,
                minutes=10,
                amount="EUR 199.90" if transaction else None,
                payee="Twelve Chars" if transaction else None,
            )
            if (count := measure(text).count) > 1:
                yield f"{join(join(path, locale), purpose)}.sms", f"{count} segments, each is billed"
