"""Replay: a log of traffic through the real guard and limits, in virtual time, with the same answer every time.

What it tells is what *would* have been refused, whatever mode the applications are in; limits that only space sends out
(one per period) are left out, since who asks too soon goes on with the code that is pending.
"""

from __future__ import annotations

import gzip
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from service.guard.oracle import Oracle
from service.guard.verdict import Decision

MOST_ROWS: Final = 20
"""Rows of each part of the summary: the ones where most money is."""

Tell = Callable[[bytes], object]
Complain = Callable[[str], object]


@dataclass(slots=True)
class Row:
    """What was seen of one country, range or rule. Money is in the price list's currency."""

    sends: int = 0
    approved: int = 0
    challenged: int = 0
    blocked: int = 0
    spent: float = 0.0
    saved: float = 0.0


@dataclass(slots=True)
class Summary:
    """What came of a log: its creates by country and range, its refusals by rule."""

    currency: str
    total: Row = field(default_factory=Row)
    countries: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    ranges: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    rules: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    bad: int = 0

    def count(self, decision: Decision) -> None:
        """Count one decision."""
        rows = self._of(decision)
        if decision.verdict != "allow":
            rows.append(self.rules[decision.reasons[0].rule])
        for row in rows:
            if decision.verdict == "allow":
                row.sends += 1
                row.spent += decision.price
            elif decision.verdict == "challenge":
                row.challenged += 1
                row.saved += decision.price
            else:
                row.blocked += 1
                row.saved += decision.price

    def approve(self, decision: Decision) -> None:
        """Count one approval."""
        for row in self._of(decision):
            row.approved += 1

    def _of(self, decision: Decision) -> list[Row]:
        return [self.total, self.countries[decision.country or "-"], self.ranges[decision.range or "-"]]

    def lines(self) -> Iterator[str]:
        """The summary as text."""
        money = (f"spent {self.currency}", f"saved {self.currency}")
        for title, rows in (
            ("all", {"": self.total}),
            ("country", self.countries),
            ("prefix", self.ranges),
            ("refused by", self.rules),
        ):
            yield f"{title:<14}" + "".join(
                f"{name:>12}" for name in ("sent", "approved", "challenged", "blocked", *money)
            )
            ranked = sorted(rows.items(), key=lambda item: (-item[1].saved, -item[1].spent, item[0]))
            for name, row in ranked[:MOST_ROWS]:
                counts = "".join(f"{n:>12}" for n in (row.sends, row.approved, row.challenged, row.blocked))
                yield f"{name:<14}{counts}{row.spent:>12.2f}{row.saved:>12.2f}"
            if len(ranked) > MOST_ROWS:
                yield f"and {len(ranked) - MOST_ROWS} more"
            yield ""


def run(traffic: str, decisions: Path | None, oracle: Oracle) -> Summary:
    """Run the log in a file, or (`-`) from standard input; raises OSError, EOFError, zlib.error.

    Decisions go to the file of `decisions`, and with `-` also to standard output, each at once: a driver may wait for
    it. Bad lines are named on standard error, and the rest goes on.
    """
    with ExitStack() as files:
        tells: list[Tell] = []
        if decisions is not None:
            tells.append(files.enter_context(decisions.open("wb")).write)
        if traffic == "-":
            tells.append(_answer)
            # A pipe is read line by line as lines come: iterating would wait for a full buffer.
            events: Iterable[bytes] = iter(sys.stdin.buffer.readline, b"")
        else:
            opened = gzip.open if traffic.endswith(".gz") else open
            events = files.enter_context(opened(traffic, "rb"))
        return replay(events, oracle, lambda line: [tell(line) for tell in tells], _complain)


def _answer(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _complain(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def replay(lines: Iterable[bytes], oracle: Oracle, tell: Tell, complain: Complain) -> Summary:
    """Run a log, a line at a time: `tell` gets a line for each decision, `complain` a sentence for each bad line.

    An event that is earlier than the one before it counts as simultaneous with it. What a bad line says counts for
    nothing, its time included.
    """
    summary = Summary(oracle.prices.currency)
    clock = 0.0
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                event = _event(line)
                event["t"] = max(clock, event["t"])
                _take(event, oracle, summary, tell)
                clock = event["t"]
        except _BAD as error:
            summary.bad += 1
            complain(f"line {number}: {_fault(error)}")
    return summary


_BAD: Final = (KeyError, TypeError, ValueError)


def _event(line: bytes) -> dict[str, Any]:
    event = orjson.loads(line)
    if not isinstance(event, dict):
        raise TypeError("an event is a JSON object")
    if type(event["t"]) not in {int, float} or not 0 <= event["t"] < 1e12:
        raise TypeError("`t` is a number of seconds")
    if not isinstance(event["ref"], str):
        raise TypeError("`ref` is a text")
    return event


def _take(event: dict[str, Any], oracle: Oracle, summary: Summary, tell: Tell) -> None:
    match event["type"]:
        case "create":
            _see_to(event)
            decision = oracle.create(event)
            summary.count(decision)
            tell(_told(event, decision))
        case "check":
            if not isinstance(event["correct"], bool):
                raise TypeError("`correct` is true or false")
            if (approved := oracle.check(event)) is not None:
                summary.approve(approved)
        case "receipt":
            oracle.receipt(event)
        case other:
            raise ValueError(f"no type of event: {str(other)[:20]!r}")


def _see_to(event: dict[str, Any]) -> None:
    """Raise KeyError or TypeError for a create that says what production would not take."""
    if not isinstance(event["to"], str):
        raise TypeError("`to` is a text")
    for name in ("challenge_passed", "trusted"):
        if not isinstance(event.get(name), bool | None):
            raise TypeError(f"`{name}` is true or false")
    keys = event.get("limit_keys") or {}
    if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
        raise TypeError("`limit_keys` is an object of texts")


def _told(event: dict[str, Any], decision: Decision) -> bytes:
    reasons = [reason.shown() for reason in decision.reasons]
    told = {"ref": event["ref"], "verdict": decision.verdict, "reasons": reasons, "at": event["t"]}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _fault(error: Exception) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return "not JSON"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
