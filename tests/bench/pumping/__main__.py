"""The pumping benchmark: `python -m tests.bench.pumping --volume 2000 --seeds 1,2`.

Each scenario is played by itself, 72 hours in virtual time, before each guard; what the same attack gets where there is
no guard is what it is measured by. The same seeds give the same people and the same attackers everywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

from service import phone
from service.guard.prices import shipped
from tests.bench.pumping.guards import KNOWN, guard
from tests.bench.pumping.judge import Score, play
from tests.bench.pumping.scenarios import SCENARIOS, day
from tests.bench.pumping.table import Outcome, Outcomes, by_rule, details, ordered, summary
from tests.bench.pumping.world import World

UNDEFENDED = "none"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, and print a table."""
    options = _options().parse_args(arguments)
    scenarios = ordered(options.scenario or list(SCENARIOS))
    guards = options.guard or list(KNOWN)
    outcomes = run(options.volume, options.seeds, scenarios, guards, options.processes)
    parts = [
        f"72 hours at {options.volume:,} sends a day, seeds {', '.join(map(str, options.seeds))}.",
        "Honest days: requests refused. Attacks: let through, of the undefended attack's sends / honest refused.",
        summary(outcomes, scenarios, guards),
    ]
    for name in guards:
        if name == "verifyd" or len(guards) == 1:
            parts += [f"{name}:", details(outcomes, scenarios, name)]
            parts += [by_rule(outcomes, scenarios, name)] if options.rules else []
    sys.stdout.write("\n\n".join(parts) + "\n")


def run(
    volume: int, seeds: Sequence[int], scenarios: Sequence[str], guards: Sequence[str], processes: int = 1
) -> Outcomes:
    """Play every scenario before every guard, for each seed."""
    jobs = list(product(scenarios, dict.fromkeys([UNDEFENDED, *guards]), seeds))
    scores = dict(zip(jobs, _played(partial(_job, volume), jobs, processes), strict=True))
    return {
        (scenario, name): [Outcome(scores[scenario, name, seed], scores[scenario, UNDEFENDED, seed]) for seed in seeds]
        for scenario, name in product(scenarios, guards)
    }


def score(volume: int, scenario: str, name: str, seed: int) -> Score:
    """Play one day before one guard."""
    world = World(seed, volume)
    with guard(name) as judged:
        return play(judged, world, day(scenario, world), price)


def price(number: str, channel: str) -> float:
    """What a message to a number costs, by the shipped list."""
    return shipped().price(phone.parse(number).country, channel)


def _job(volume: int, job: tuple[str, str, int]) -> Score:
    return score(volume, *job)


def _played(play_one: partial[Score], jobs: Sequence[tuple[str, str, int]], processes: int) -> Iterator[Score]:
    if processes == 1:
        yield from map(play_one, jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        for number, found in enumerate(pool.map(play_one, jobs), 1):
            sys.stderr.write(f"\r{number} of {len(jobs)} days played")
            yield found
    sys.stderr.write("\n")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.pumping", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--volume", type=int, default=2000, help="honest sends a day (default: %(default)s)")
    parser.add_argument("--seeds", type=_numbers, default=[1], metavar="1,2", help="(default: 1)")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="one of them; may be repeated")
    parser.add_argument(
        "--guard", action="append", metavar="NAME", help=f"{', '.join(KNOWN)}, or a command that speaks `replay -`"
    )
    parser.add_argument("--rules", action="store_true", help="say which rules refused whom")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="days played at once")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
