"""The days that a guard has to live through: each is some honest people, their troubles, and perhaps an attack."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from tests.bench.pumping.campaigns import (
    Adaptation,
    Anywhere,
    Calls,
    Cards,
    Consecutive,
    Effort,
    Pump,
    Range,
    Ranges,
    Rotation,
)
from tests.bench.pumping.world import DEAR, HOUR, MAIN, Day, Surge, Trouble, World, address

Build = Callable[[World, random.Random], Day]


def _ranges(world: World, dice: random.Random, countries: list[str], count: int, free: int = 4) -> list[Range]:
    return [Range(world.plan(countries[i % len(countries)]).rented(dice, free), free) for i in range(count)]


def _ordinary(world: World, dice: random.Random) -> Day:
    """Nothing happens."""
    return Day()


def _flash_crowd(world: World, dice: random.Random) -> Day:
    """A push message to the customers of one country: 25 times its traffic at once, fading within two hours."""
    country = dice.choice(MAIN)
    count = round(world.per_day[country] / 24 * 25)
    return Day(surges=[Surge(start=(40 + dice.random() * 6) * HOUR, seconds=2 * HOUR, count=count, country=country)])


def _campus(world: World, dice: random.Random) -> Day:
    """Enrolment day at a university: everybody behind one address, a fifth with a number from abroad."""
    return Day(
        surges=[
            Surge(
                start=(32 + dice.random() * 8) * HOUR,
                seconds=8 * HOUR,
                count=max(300, world.volume // 50),
                country=dice.choice(MAIN),
                steady=True,
                addresses=(address(dice),),
                strangers=0.2,
            )
        ]
    )


def _carrier_nat(world: World, dice: random.Random) -> Day:
    """A country where nearly everybody is behind a handful of carriers' addresses."""
    return Day(crowded={dice.choice(MAIN): 6})


def _carrier_outage(world: World, dice: random.Random) -> Day:
    """For four hours nothing arrives at four of ten carriers of a large country."""
    start = 34 + dice.random() * 12
    carriers = frozenset(dice.sample(range(10), 4))
    return Day(
        troubles=[
            Trouble(country=dice.choice(MAIN), start=start * HOUR, end=(start + 4) * HOUR, lost=0.95, carriers=carriers)
        ]
    )


def _launch(world: World, dice: random.Random) -> Day:
    """A new country opens with a campaign: from nothing to two fifths of all traffic."""
    start = 28 + dice.random() * 8
    return Day(
        surges=[
            Surge(
                start=start * HOUR,
                seconds=(72 - start) * HOUR,
                count=round(0.4 * world.volume * (72 - start) / 24),
                country=dice.choice(("KR", "PE", "ZA", "HU", "CZ")),
                steady=True,
            )
        ]
    )


def _bad_route(world: World, dice: random.Random) -> Day:
    """A cheap route to a large country: from the second day on, a third of its sends convert."""
    return Day(troubles=[Trouble(country=dice.choice(MAIN), start=24 * HOUR, end=72 * HOUR, lost=0.58)])


def _rollout(world: World, dice: random.Random) -> Day:
    """A company enrols the 300 consecutive numbers of its staff within three hours, four of five from its offices."""
    country = dice.choice(MAIN)
    block = Range(world.plan(country).rented(dice, 3), 3)
    first = dice.randrange(700)
    staff = [block.number(first + i) for i in range(300)]
    dice.shuffle(staff)
    return Day(
        surges=[
            Surge(
                start=(33 + dice.random() * 10) * HOUR,
                seconds=3 * HOUR,
                count=300,
                country=country,
                steady=True,
                addresses=tuple(address(dice) for _ in range(3)),
                at_home=0.2,
                numbers=tuple(staff),
                converts=0.92,
            )
        ]
    )


def _start(dice: random.Random) -> float:
    return 36 + dice.random() * 6


def _one(pump: Pump) -> Day:
    return Day(campaigns=[pump])


def _burst(world: World, dice: random.Random) -> Day:
    """Five thousand sends in an hour to a block of ten thousand numbers, from 40 rented machines."""
    effort = Effort(start=_start(dice), hours=1, sends=5000, machines=40)
    return _one(Ranges(world, "burst", effort, _ranges(world, dice, [dice.choice(DEAR)], 1)))


def _sequential(world: World, dice: random.Random) -> Day:
    """Consecutive numbers, one every two seconds."""
    effort = Effort(start=_start(dice), hours=2, sends=4000, machines=25)
    return _one(Consecutive(world, "sequential", effort, _ranges(world, dice, [dice.choice(DEAR)], 1)))


def _distributed(world: World, dice: random.Random) -> Day:
    """Two blocks, each address used once or twice."""
    effort = Effort(start=_start(dice), hours=3, sends=4000)
    return _one(Ranges(world, "distributed", effort, _ranges(world, dice, [dice.choice(DEAR)], 2)))


def _rotating(world: World, dice: random.Random) -> Day:
    """24 blocks in eight countries, another every few minutes."""
    effort = Effort(start=_start(dice), hours=6, sends=12_000)
    ranges = _ranges(world, dice, dice.sample(DEAR, 8), 24)
    return _one(Rotation(world, "rotating", effort, ranges, minutes=4, patience=10))


def _hidden(world: World, dice: random.Random) -> Day:
    """Five blocks in the country that has most of the honest traffic."""
    effort = Effort(start=_start(dice), hours=6, sends=6000)
    return _one(Ranges(world, "hidden", effort, _ranges(world, dice, [MAIN[0]], 5)))


def _mixed(world: World, dice: random.Random) -> Day:
    """A burst, a rotation, a drip and some random numbers at once."""
    start = _start(dice)
    burst = Effort(start=start, hours=1, sends=2000, machines=20)
    rotation = Effort(start=start, hours=4, sends=3000)
    drip = Effort(start=start, hours=20, sends=600)
    random_ = Effort(start=start, hours=4, sends=1000)
    dear = dice.sample(DEAR, 8)
    return Day(
        campaigns=[
            Ranges(world, "mixed burst", burst, _ranges(world, dice, dear[:1], 1)),
            Rotation(world, "mixed rotation", rotation, _ranges(world, dice, dear[1:5], 12), minutes=5, patience=10),
            Ranges(world, "mixed drip", drip, _ranges(world, dice, dear[5:7], 4)),
            Anywhere(world, "mixed random", random_, dear[7:]),
        ]
    )


def _random_premium(world: World, dice: random.Random) -> Day:
    """Numbers from all over one dear country."""
    effort = Effort(start=_start(dice), hours=6, sends=4000)
    return _one(Anywhere(world, "random premium", effort, [dice.choice(DEAR)]))


def _converting(part: float) -> Build:
    def build(world: World, dice: random.Random) -> Day:
        effort = Effort(start=_start(dice), hours=6, sends=6000, converts=part)
        return _one(Ranges(world, f"converting {part}", effort, _ranges(world, dice, dice.sample(DEAR, 2), 3)))

    build.__doc__ = f"Three blocks whose owner enters {part:.0%} of the codes."
    return build


def _slow_drip(world: World, dice: random.Random) -> Day:
    """Five blocks, for a day, each some dozen sends an hour."""
    effort = Effort(start=_start(dice), hours=24, sends=1440)
    return _one(Ranges(world, "slow drip", effort, _ranges(world, dice, dice.sample(DEAR, 3), 5)))


def _adaptive(world: World, dice: random.Random) -> Day:
    """Sixty blocks in ten countries, a third converted; those that are refused rest, those that are not are used."""
    effort = Effort(start=_start(dice), hours=12, sends=4000, converts=0.3)
    return _one(Adaptation(world, "adaptive", effort, _ranges(world, dice, dice.sample(DEAR, 10), 60)))


def _tiny_ranges(world: World, dice: random.Random) -> Day:
    """300 ranges of a hundred numbers each, in eight countries."""
    effort = Effort(start=_start(dice), hours=12, sends=4000)
    return _one(Ranges(world, "tiny ranges", effort, _ranges(world, dice, dice.sample(DEAR, 8), 300, free=2)))


def _reused(world: World, dice: random.Random) -> Day:
    """Eighty numbers of four blocks again and again, half of the codes entered."""
    effort = Effort(start=_start(dice), hours=24, sends=5000, converts=0.5)
    ranges = _ranges(world, dice, dice.sample(DEAR, 2), 4)
    return _one(Cards(world, "reused", effort, ranges, cards=80))


def _sim_farm(world: World, dice: random.Random) -> Day:
    """500 cards of four blocks, nearly all codes entered, some ten sends to each within a day."""
    effort = Effort(start=_start(dice), hours=24, sends=5000, converts=0.92)
    ranges = _ranges(world, dice, dice.sample(DEAR, 2), 4)
    return _one(Cards(world, "farm", effort, ranges, cards=500))


def _false_office(world: World, dice: random.Random) -> Day:
    """Consecutive numbers, nearly all codes entered, from twelve rented machines: by its looks a company's rollout."""
    effort = Effort(start=_start(dice), hours=6, sends=6000, machines=12, converts=0.92)
    return _one(Consecutive(world, "false office", effort, _ranges(world, dice, [dice.choice(DEAR)], 1)))


def _random_converting(world: World, dice: random.Random) -> Day:
    """Numbers from all over a country that has honest traffic too, from households, 70 % of the codes entered."""
    effort = Effort(start=_start(dice), hours=6, sends=6000, converts=0.7)
    return _one(Anywhere(world, "random converting", effort, [dice.choice(("NG", "PK", "EG", "MA", "BD"))]))


def _voice(world: World, dice: random.Random) -> Day:
    """Messages that nobody answers, so that calls follow, which cost more; a tenth are premium-rate numbers."""
    effort = Effort(start=_start(dice), hours=6, sends=2000, falls_back=True)
    countries = dice.sample(DEAR, 3)
    ranges = _ranges(world, dice, countries, 6)
    return Day(campaigns=[Calls(world, "voice", effort, ranges, [*countries, *MAIN])], calls=True)


HONEST: Final[dict[str, Build]] = {
    "ordinary day": _ordinary,
    "flash crowd": _flash_crowd,
    "campus": _campus,
    "carrier NAT": _carrier_nat,
    "carrier outage": _carrier_outage,
    "launch": _launch,
    "bad route": _bad_route,
    "rollout": _rollout,
}
"""Days without an attack."""

ATTACKS: Final[dict[str, Build]] = {
    "burst": _burst,
    "sequential": _sequential,
    "distributed": _distributed,
    "rotating": _rotating,
    "hidden": _hidden,
    "mixed": _mixed,
    "random premium": _random_premium,
    "converting 30 %": _converting(0.3),
    "slow drip": _slow_drip,
    "adaptive": _adaptive,
    "tiny ranges": _tiny_ranges,
    "converting 70 %": _converting(0.7),
    "reused numbers": _reused,
    "SIM farm": _sim_farm,
    "false office": _false_office,
    "random, converting 70 %": _random_converting,
    "voice": _voice,
}
"""Days with one, over an ordinary day."""

SCENARIOS: Final = HONEST | ATTACKS


def day(name: str, world: World) -> Day:
    """What is special about a day of this name; always the same in the same world."""
    return SCENARIOS[name](world, random.Random(f"{name} {world.seed} {world.volume}"))
