"""What is called to trace, and the form of it that traces nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self


class Span:
    """A part of a trace, from its `with` on until it is left; this one is in no trace."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End, with the type of the error that ended it."""

    def answered(self, status: int, about: Mapping[str, object]) -> None:
        """The answer had this HTTP status; of what it was about, that which is no number is told."""

    def failed(self, error: BaseException) -> None:
        """It failed: the type of the error is told, never its text."""


class Tracing(Protocol):
    """What is told of requests, jobs, and what happens in them."""

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Span:
        """A request, which goes on with the trace of its caller where `headers` name one (W3C Trace Context)."""

    def script(self, name: str) -> Span:
        """A call of a script, within a request or a job."""

    def exchange(self, what: str, url: str = "") -> Span:
        """A request to a provider and its answer, within a request or a job; of the URL the host is told."""

    def job(self, verification: str, cause: object) -> Span:
        """A run of a job; `cause` is what `here` gave when it was set in motion."""

    def here(self) -> object:
        """What is being traced here; None for nothing."""

    def event(self, what: str, fields: Mapping[str, object]) -> None:
        """Something that happens within a request or a job."""

    async def stop(self) -> None:
        """Hand over what is left."""


class _Off:
    """Traces nothing."""

    def request(self, *_: object, **_named: object) -> Span:
        return NOWHERE

    script = exchange = job = request

    def here(self) -> object:
        return None

    def event(self, what: str, fields: Mapping[str, object]) -> None:
        pass

    async def stop(self) -> None:
        pass


NOWHERE = Span()
OFF: Tracing = _Off()
