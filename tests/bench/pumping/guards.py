"""What is judged: verifyd's guard, any program that speaks `replay -`, and the rules that other systems use."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from service.guard.oracle import Oracle
from tests.bench.pumping import baselines
from tests.bench.pumping.judge import Event, Guard


class Verifyd:
    """verifyd's guard as `replay` runs it: with its defaults, in memory and in virtual time."""

    def __init__(self) -> None:
        self._oracle = Oracle()

    def create(self, event: Event) -> str | None:
        """Answer as verifyd answers."""
        decision = self._oracle.create(event)
        return None if decision.verdict == "allow" else decision.reasons[0].rule

    def receipt(self, event: Event) -> None:
        """Tell it."""
        self._oracle.receipt(event)

    def check(self, event: Event) -> None:
        """Tell it."""
        self._oracle.check(event)


class Program:
    """A program that reads events on its standard input and answers every create with a line at once."""

    def __init__(self, into: IO[str], out: IO[str]) -> None:
        self._into, self._out = into, out

    def create(self, event: Event) -> str | None:
        """Ask, and wait for the answer."""
        self._into.write(json.dumps(event) + "\n")
        self._into.flush()
        answer = json.loads(self._out.readline())
        if answer["ref"] != event["ref"]:
            raise ValueError(f"an answer to {answer['ref']} where one to {event['ref']} was due")
        if answer["verdict"] == "allow":
            return None
        reason = (answer["reasons"] or ["?"])[0]
        return str(reason["rule"] if isinstance(reason, dict) else reason)

    def receipt(self, event: Event) -> None:
        """Tell it."""
        self._into.write(json.dumps(event) + "\n")

    check = receipt


KNOWN: Final[dict[str, Callable[[], Guard]]] = {
    "verifyd": Verifyd,
    "none": baselines.Open,
    "per number": baselines.PerNumber,
    "common caps": baselines.CommonCaps,
    "prefix window": baselines.PrefixWindow,
    "conversion threshold": baselines.ConversionThreshold,
    "unverified budget": baselines.UnverifiedBudget,
    "Beta-Binomial": baselines.BetaBinomial,
}
"""Guards by name."""


@contextmanager
def guard(name: str) -> Iterator[Guard]:
    """A guard that remembers nothing yet: one of `KNOWN`, or a command line such as `verifyd replay -`."""
    if name in KNOWN:
        yield KNOWN[name]()
        return
    with subprocess.Popen(shlex.split(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError(f"no pipes to {name}")
        try:
            yield Program(process.stdin, process.stdout)
        finally:
            process.stdin.close()
            process.terminate()
