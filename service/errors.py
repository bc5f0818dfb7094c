"""Every error that verifyd raises on purpose, and whose it is to fix.

    VerifydError
    ├── ConfigError       the operator: the configuration, all problems at once
    ├── TextError         the operator: an application's own texts, all problems at once
    ├── InvalidNumber     the caller: a telephone number that cannot be used
    ├── Unavailable       the platform: Redis is away or too slow
    ├── Undelivered       a provider: it could not be reached, or did not answer so that it can be read
    ├── Unreadable        the operator: sealed under a key that is no longer in the ring, or altered
    └── BadWebhook        a provider, or somebody who poses as one
        ├── Forged        its signature or token does not fit
        └── Malformed     its body is not what the provider documents

A refusal that belongs to the life of a verification (too early, too often, over) is no error but a value:
see `service.requests.Refusal`. `service.api.problems.Problem` is not in the tree: it is an answer over HTTP, which
ends a request and never leaves `api`.
"""

from __future__ import annotations

from collections.abc import Sequence


class VerifydError(Exception):
    """Whatever verifyd raises on purpose."""


class ConfigError(VerifydError):
    """The configuration cannot be used.

    `problems` holds `(key, message)` pairs: the dotted key in the file and what to do about it.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{key}: {message}" for key, message in self.problems))


class TextError(VerifydError, ValueError):
    """Some of the operator's texts cannot be used; `problems` has the path (`en.login.sms`) and the fault of each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in problems))
        self.problems = problems


class InvalidNumber(VerifydError):
    """A telephone number cannot be used; `detail` says why and what to write instead, never the number."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class Unavailable(VerifydError):
    """Redis did not answer in time: nothing was decided, nothing was sent."""


class Undelivered(VerifydError):
    """A provider could not be reached, or did not answer in a way that can be read; what was sent may still arrive."""


class Unreadable(VerifydError):
    """A sealed value cannot be opened: its key has left the ring, or it was altered."""


class BadWebhook(VerifydError):
    """A webhook that cannot be taken."""


class Forged(BadWebhook):
    """A webhook whose signature, timestamp or token does not fit."""


class Malformed(BadWebhook):
    """A webhook, rightly signed, whose body is not what the provider documents."""
