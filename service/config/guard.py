"""The tables of `[guard]`: what decides whether a send may happen."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from service.config.values import Duration, Prefix, RateText, Section
from service.guard import prices
from service.guard.credit import DEFAULTS, Level, Rules
from service.guard.limits import Rate
from service.guard.policy import Budget, Limits
from service.guard.prices import Prices
from service.guard.verdict import Mode

_DAY = 86_400

Rates = tuple[RateText, ...]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=0, le=100)]
Cap = Annotated[float, Field(ge=1, le=1_000_000)]
Keep = Annotated[Duration, Field(ge=3600, le=365 * _DAY)]
HalfLife = Annotated[Duration, Field(ge=60, le=365 * _DAY)]


def _price_list(value: str) -> str:
    prices.read(value)
    return value


class LimitsTable(Section):
    """Limits as text, for example `"5/10m"`, by what they count."""

    number: Rates = (Rate(1, 30), Rate(5, 600), Rate(10, _DAY))
    ip: Rates = ()
    device: Rates = ()
    session: Rates = ()
    country: Rates = ()
    application: Rates = ()
    prefix: dict[Prefix, Rates] = Field(default={})
    keys: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Rates] = Field(default={})

    @property
    def limits(self) -> Limits:
        """As the guard takes them."""
        return Limits(**{name: getattr(self, name) for name in type(self).model_fields})


class BudgetTable(Section):
    """Money that may be spent, in the price list's currency."""

    country_hour: Amount | None = None
    country_day: Amount | None = None
    application_hour: Amount | None = None
    application_day: Amount | None = None
    total_hour: Amount | None = None
    total_day: Amount | None = None
    alert: Annotated[float, Field(gt=0, le=1)] = 0.8

    @property
    def budget(self) -> Budget:
        """As the guard takes it."""
        return Budget(**{name: getattr(self, name) for name in type(self).model_fields})


class CapTable(Section):
    """What a bucket of each level may have unpaid, in sends."""

    block3: Cap = DEFAULTS.block3.cap
    block4: Cap = DEFAULTS.block4.cap
    range: Cap = DEFAULTS.range.cap
    country: Cap = DEFAULTS.country.cap
    ip: Cap = DEFAULTS.ip.cap
    device: Cap = DEFAULTS.device.cap


class LeakTable(Section):
    """What time forgives, in sends per hour."""

    block3: Positive = DEFAULTS.block3.leak
    block4: Positive = DEFAULTS.block4.leak
    range: Positive = DEFAULTS.range.leak
    country: Positive = DEFAULTS.country.leak
    ip: Positive = DEFAULTS.ip.leak
    device: Positive = DEFAULTS.device.leak


class EarnedTable(Section):
    """What approvals may add to a cap."""

    country: Factor = DEFAULTS.country.earned


class RoomTable(Section):
    """By how much of what a bucket is used to its cap grows."""

    range: Factor = DEFAULTS.range.room
    country: Factor = DEFAULTS.country.room
    ip: Factor = DEFAULTS.ip.room
    device: Factor = DEFAULTS.device.room


class KeepTable(Section):
    """How long a bucket is remembered after its last change."""

    block3: Keep = DEFAULTS.block3.keep // 1000
    block4: Keep = DEFAULTS.block4.keep // 1000
    range: Keep = DEFAULTS.range.keep // 1000
    country: Keep = DEFAULTS.country.keep // 1000
    ip: Keep = DEFAULTS.ip.keep // 1000
    device: Keep = DEFAULTS.device.keep // 1000


class RulesTable(Section):
    """The constants of the guard."""

    cap: CapTable = CapTable()
    earned: EarnedTable = EarnedTable()
    leak: LeakTable = LeakTable()
    room: RoomTable = RoomTable()
    keep: KeepTable = KeepTable()
    payback: Positive = DEFAULTS.payback
    history: Factor = DEFAULTS.history
    earning: Factor = DEFAULTS.earning
    crowding: Factor = DEFAULTS.crowding
    again: Share = DEFAULTS.again
    again_within: Annotated[Duration, Field(ge=0, le=_DAY)] = DEFAULTS.again_within // 1000
    memory: HalfLife = DEFAULTS.memory // 1000
    spread: Annotated[float, Field(ge=0, le=1000)] = DEFAULTS.spread
    recently: HalfLife = DEFAULTS.recently // 1000
    lone_block3: Annotated[float, Field(ge=2)] = DEFAULTS.lone_block3
    lone_block4: Annotated[float, Field(ge=2)] = DEFAULTS.lone_block4
    share_block3: Share = DEFAULTS.share_block3
    share_block4: Share = DEFAULTS.share_block4
    share_country: Share = DEFAULTS.share_country
    burst: Annotated[int, Field(ge=1, le=100)] = DEFAULTS.burst
    pause: Annotated[Duration, Field(ge=1, le=_DAY)] = DEFAULTS.pause // 1000
    unconverted: Annotated[float, Field(ge=2, le=1000)] = DEFAULTS.unconverted
    unconverted_memory: HalfLife = DEFAULTS.unconverted_memory // 1000
    trust: Annotated[Duration, Field(ge=0, le=365 * _DAY)] = DEFAULTS.trust // 1000
    ripe: Annotated[Duration, Field(ge=0, le=365 * _DAY)] = DEFAULTS.ripe // 1000
    trusted_share: Share = DEFAULTS.trusted_share
    trust_memory: HalfLife = DEFAULTS.trust_memory // 1000
    number_keep: Keep = DEFAULTS.number_keep // 1000
    proof: Annotated[float, Field(ge=1, le=100)] = DEFAULTS.proof
    vouching: Annotated[float, Field(ge=0, le=1_000_000)] = DEFAULTS.vouching
    vouching_sends: Annotated[float, Field(ge=0, le=1_000_000)] = DEFAULTS.vouching_sends

    @property
    def rules(self) -> Rules:
        """As the guard takes them."""
        values: dict[str, Any] = {name: self._level(name) for name in CapTable.model_fields}
        for name in set(type(self).model_fields) - _LEVELS:
            values[name] = getattr(self, name) * (1000 if name in _TIMES else 1)
        return Rules(**values)

    def _level(self, name: str) -> Level:
        return Level(
            cap=getattr(self.cap, name),
            leak=getattr(self.leak, name),
            room=getattr(self.room, name, 0),
            earned=getattr(self.earned, name, 0),
            keep=getattr(self.keep, name) * 1000,
        )


_LEVELS = frozenset({"cap", "earned", "leak", "room", "keep"})
_TIMES = frozenset(
    {
        "memory",
        "recently",
        "pause",
        "again_within",
        "ripe",
        "unconverted_memory",
        "trust",
        "trust_memory",
        "number_keep",
    }
)


class Guard(Section):
    """What decides if a send may happen."""

    mode: Mode = "enforce"
    challenge: bool = False
    prices: Annotated[str, AfterValidator(_price_list)] | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    limits: LimitsTable = LimitsTable()
    budget: BudgetTable = BudgetTable()
    rules: RulesTable = RulesTable()

    @property
    def price_list(self) -> Prices:
        """The operator's own prices; where they do not say what all countries cost, over those of verifyd."""
        if self.prices is None:
            return prices.shipped()
        own = prices.read(self.prices, self.currency)
        return own if own.whole else own.over(prices.shipped())


class ApplicationGuard(Section):
    """Where one application differs."""

    mode: Mode | None = None
    challenge: bool | None = None
