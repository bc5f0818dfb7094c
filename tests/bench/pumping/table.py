"""What came out, as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from tests.bench.pumping.judge import Score
from tests.bench.pumping.scenarios import ATTACKS, HONEST


@dataclass(frozen=True, slots=True)
class Outcome:
    """One day before one guard, and the same day before none."""

    score: Score
    undefended: Score

    @property
    def let_through(self) -> float:
        """The part of the undefended attack's sends that were allowed."""
        return self.score.attack_allowed / self.undefended.attack_allowed

    @property
    def refused(self) -> float:
        """The part of the honest requests that were refused."""
        return self.score.honest_refused / self.score.honest


Outcomes = Mapping[tuple[str, str], Sequence[Outcome]]
"""By scenario and guard: one for each seed."""


def summary(outcomes: Outcomes, scenarios: Sequence[str], guards: Sequence[str]) -> str:
    """All guards beside each other: of honest days what was refused, of attacks what was let through / refused."""
    head = [f"| | {' | '.join(guards)} |", f"|---|{'---:|' * len(guards)}"]
    rows = []
    for scenario in scenarios:
        cells = [_short(outcomes[scenario, guard], scenario in ATTACKS) for guard in guards]
        rows.append(f"| {scenario} | {' | '.join(cells)} |")
    return "\n".join(head + rows)


def details(outcomes: Outcomes, scenarios: Sequence[str], guard: str) -> str:
    """Everything about one guard."""
    lines = [
        "| | let through | money lost | sends before detection | honest refused | people locked out |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for scenario in scenarios:
        some = outcomes[scenario, guard]
        attack = ["", "", ""]
        if scenario in ATTACKS:
            lost, whole = (mean(score.money for score in scores) for scores in _both(some))
            found = max(o.score.unnoticed for o in some)
            never = any(o.score.unnoticed == o.score.attack for o in some)
            attack = [
                _percent(mean(o.let_through for o in some)),
                f"{lost:,.0f} of {whole:,.0f}",
                "never found" if never else str(found),
            ]
        out = f"{sum(o.score.locked_out for o in some)} of {sum(o.score.people for o in some):,}"
        lines.append(f"| {scenario} | {' | '.join(attack)} | {_percent(mean(o.refused for o in some), 3)} | {out} |")
    return "\n".join(lines)


def by_rule(outcomes: Outcomes, scenarios: Sequence[str], guard: str) -> str:
    """Which rules refused whom, most often first."""
    lines = []
    for scenario in scenarios:
        for attack, whom in ((False, "honest"), (True, "attack")):
            counts: dict[str, int] = {}
            for outcome in outcomes[scenario, guard]:
                for (of_attack, rule), count in outcome.score.rules.items():
                    if of_attack == attack:
                        counts[rule] = counts.get(rule, 0) + count
            found = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items(), key=lambda item: -item[1]))
            if found:
                lines.append(f"{scenario}, {whom}: {found}")
    return "\n".join(lines)


def ordered(names: Sequence[str]) -> list[str]:
    """Scenarios in the order of the table."""
    return [name for name in (*HONEST, *ATTACKS) if name in names]


def _both(some: Sequence[Outcome]) -> tuple[list[Score], list[Score]]:
    return [outcome.score for outcome in some], [outcome.undefended for outcome in some]


def _short(some: Sequence[Outcome], attack: bool) -> str:
    refused = _percent(mean(outcome.refused for outcome in some))
    return f"{_percent(mean(outcome.let_through for outcome in some), 1)} / {refused}" if attack else refused


def _percent(part: float, digits: int = 2) -> str:
    return f"{100 * part:.{digits}f} %"
