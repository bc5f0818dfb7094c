"""The pumping benchmark is fair: the same for everybody, silent about who is honest, and it still runs."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache

import pytest

from service import phone
from tests.bench.pumping import baselines
from tests.bench.pumping.__main__ import UNDEFENDED, main, run, score
from tests.bench.pumping.guards import KNOWN
from tests.bench.pumping.judge import Event, play
from tests.bench.pumping.scenarios import ATTACKS, HONEST, SCENARIOS, day
from tests.bench.pumping.table import Outcome
from tests.bench.pumping.world import World

FEW = 60
"""Honest sends a day: enough to have all kinds of people."""

TOLD = {
    "create": {"t", "type", "ref", "to", "ip", "device_id", "user_agent", "application", "channel"},
    "receipt": {"t", "type", "ref", "status"},
    "check": {"t", "type", "ref", "correct"},
}
"""What a traffic log holds."""


class Listener(baselines.Open):
    """Allows or refuses everything, and keeps what it is told."""

    def __init__(self, rule: str | None = None) -> None:
        self.events: list[Event] = []
        self._rule = rule

    def create(self, event: Event) -> str | None:
        """Keep it."""
        self.events.append(event)
        return self._rule

    def receipt(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    check = receipt

    @property
    def creates(self) -> list[Event]:
        """The requests to send."""
        return [event for event in self.events if event["type"] == "create"]


def heard(scenario: str, seed: int = 1) -> Listener:
    """What a guard that allows everything is told on a day."""
    listener, world = Listener(), World(seed, FEW)
    play(listener, world, day(scenario, world), lambda *_: 1.0)
    return listener


first_heard = cache(heard)
"""For what only looks at it: the same days again are the same events."""


@cache
def on_a_burst(guard: str) -> Outcome:
    """What a guard makes of a burst."""
    return run(FEW, [1], ["burst"], [guard])["burst", guard][0]


@pytest.mark.parametrize("scenario", ["rollout", "mixed", "adaptive"])
def test_a_seed_always_gives_the_same_day(scenario: str) -> None:
    """And another seed another one."""
    assert heard(scenario).events == first_heard(scenario).events
    assert first_heard(scenario).creates != heard(scenario, seed=2).creates


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_guard_is_told_what_a_log_holds_and_nothing_else(scenario: str) -> None:
    """In order of time. Who is honest is the judge's secret: not even the names of the fields tell."""
    events = first_heard(scenario).events
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)
    asked: set[str] = set()
    for event in events:
        assert set(event) - {"device_id"} == TOLD[event["type"]] - {"device_id"}
        if event["type"] == "create":
            assert event["ref"] not in asked
            asked.add(event["ref"])
        assert event["ref"] in asked


@pytest.mark.parametrize(
    "scenario", ["launch", "rollout", "sequential", "mixed", "adaptive", "tiny ranges", "SIM farm"]
)
def test_everybody_has_a_number_that_exists(scenario: str) -> None:
    """A mobile, as far as the plan can tell; only the attack by voice has others."""
    numbers = sorted({event["to"] for event in first_heard(scenario).creates})
    kinds = Counter(phone.parse(number).kind for number in numbers[:: max(1, len(numbers) // 100)])
    assert set(kinds) <= {"mobile", "fixed_line_or_mobile"}


def test_people_who_are_refused_ask_again_or_leave() -> None:
    """The loop is closed: what the guard answers changes what comes."""
    refused, allowed = (
        play(Listener(rule), World(1, FEW), day("ordinary day", World(1, FEW)), lambda *_: 1.0)
        for rule in ("never", None)
    )
    assert refused.people == allowed.people == refused.locked_out
    assert allowed.locked_out == 0
    assert refused.honest > allowed.honest > allowed.people


def test_about_a_quarter_of_honest_sends_never_convert() -> None:
    """And the others do within a minute, mostly."""
    listener, world = Listener(), World(1, 2000)
    play(listener, world, day("ordinary day", world), lambda *_: 1.0)
    sent = {event["ref"]: event["t"] for event in listener.creates}
    entered = {e["ref"]: e["t"] for e in listener.events if e["type"] == "check" and e["correct"]}
    assert 0.72 < len(entered) / len(sent) < 0.79
    soon = sum(10 <= at - sent[ref] <= 60 for ref, at in entered.items())
    assert soon > 0.8 * len(entered)


@pytest.mark.parametrize("baseline", sorted(set(KNOWN) - {"verifyd"}))
def test_verifyd_beats_what_others_do_on_a_burst(baseline: str) -> None:
    """It lets less through and refuses no more people."""
    ours, theirs = on_a_burst("verifyd"), on_a_burst(baseline)
    assert ours.let_through < theirs.let_through
    assert ours.refused <= theirs.refused
    assert ours.score.unnoticed <= 5


def test_without_a_guard_an_attack_gets_everything() -> None:
    """Which is what the others are measured by."""
    outcome = run(FEW, [1], ["slow drip"], [UNDEFENDED])["slow drip", UNDEFENDED][0]
    assert outcome.let_through == 1
    assert outcome.score.money > 0


def test_a_program_that_speaks_the_replay_protocol_is_judged_alike() -> None:
    """As an outside judge would drive it."""
    program = score(FEW, "slow drip", f"{sys.executable} -m service replay -", 1)
    assert program == score(FEW, "slow drip", "verifyd", 1)


def test_the_table_has_every_scenario_and_guard(capsys: pytest.CaptureFixture[str]) -> None:
    """With money, people and detection for verifyd's."""
    main(["--volume=20", "--scenario=ordinary day", "--scenario=burst", "--rules", "--processes=1"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in KNOWN)
    assert "| burst |" in printed
    assert "| ordinary day |" in printed
    assert "burst, attack: block4" in printed


def test_every_scenario_says_what_it_is() -> None:
    """In a sentence."""
    assert not set(HONEST) & set(ATTACKS)
    assert all((build.__doc__ or "").endswith(".") for build in SCENARIOS.values())
