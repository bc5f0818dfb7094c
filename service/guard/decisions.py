"""The guard's decisions, for those who want to look at them: counted, logged, and kept under their names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import orjson

from service import log
from service.answer import Answer
from service.guard.ask import Ask
from service.guard.credit import DAY
from service.guard.parts import country_tag
from service.guard.verdict import Decision, Reason
from service.metrics import Metrics
from service.phone import Number
from service.recent import Recent
from service.sealing import KeyRing
from service.stats import Amounts, Stats, Subject, millionths
from service.store import Act, Store

logger = logging.getLogger(__name__)

DECISION_KEPT: Final = 7 * DAY
"""How long (ms) a decision can be looked up."""


class Decisions:
    """Tells of decisions, keeps them, and knows in which countries prefixes have no room."""

    def __init__(self, store: Store, ring: KeyRing, metrics: Metrics, stats: Stats, recent: Recent) -> None:
        self._store = store
        self._ring = ring
        self._metrics = metrics
        self._stats = stats
        self._recent = recent
        self._blocked: set[str] = set()

    def tell(self, ask: Ask, decision: Decision, alerts: Sequence[str], name: str | None) -> None:
        """Count a decision, and log what was refused and which budgets (`alerts`) are nearly spent."""
        application, country = ask.policy.application, ask.number.country
        rule = decision.reasons[0].rule if decision.reasons else "none"
        enforced = decision.verdict == "allow" or ask.policy.mode == "enforce" or decision.limited is not None
        verdict = decision.verdict if enforced else f"would_{decision.verdict}"
        self._metrics.guard_verdict(application, country, verdict, rule).inc()
        for budget in alerts:
            logger.warning(
                "a budget is nearly spent",
                extra={"fields": {"budget": budget, "application": application, "country": country}},
            )
        if decision.verdict == "allow":
            return
        saved = ask.price if enforced else 0.0
        self._metrics.saved(application, country).inc(saved)
        challenged = decision.verdict == "challenge"
        self._stats.count(
            Subject(application, country, f"+{ask.prefixes.range}", ask.channel),
            Amounts(blocked=int(not challenged), challenged=int(challenged), saved=millionths(saved)),
        )
        self._recent.note(application, "decisions", name or "")
        first, to = decision.reasons[0], _veiled(ask.number, decision.reasons)
        # In the request's own line too: its last digits beside the prefix in this one would be the whole number.
        log.note(to=to)
        fields = {
            "decision": name,
            "verdict": decision.verdict,
            "mode": ask.policy.mode,
            "application": application,
            "country": country,
            "to": to,
            "rule": first.rule,
            "prefix": first.prefix,
            "exposure": first.exposure,
            "cap": first.cap,
        }
        logger.info("guard", extra={"fields": fields})

    def keep(self, ask: Ask, decision: Decision, name: str) -> Act:
        """The act that keeps a decision for those who want to look at it."""
        sealed = self._ring.writer.seal(orjson.dumps(self._explained(ask, decision, name)), name.encode())
        return Act("decision_keep", [f"{{d:{name}}}:decision"], [sealed, DECISION_KEPT])

    async def refuse(self, ask: Ask, decision: Decision, name: str, acts: Sequence[Act]) -> list[Answer]:
        """Note a refusal and the prefixes that have no room; what these acts answered, which go with it.

        Raises Unavailable.
        """
        country = ask.number.country
        blocked = [word for one in decision.reasons if one.bucket and one.wait for word in (one.wait, one.bucket)]
        noted = [self.keep(ask, decision, name)]
        if blocked:
            noted.append(Act("prefixes_block", [f"{country_tag(country)}blocked"], blocked))
        answers = await self._store.together([*acts, *noted])
        if blocked:
            self._note_blocked(country, answers[-1])
        return answers[: len(acts)]

    async def refresh(self) -> None:
        """Count again how many prefixes have no room, in the countries where some had none; raises Unavailable."""
        countries = sorted(self._blocked)
        acts = [Act("prefixes_block", [f"{country_tag(country)}blocked"]) for country in countries]
        for country, answer in zip(countries, await self._store.together(acts), strict=True):
            self._note_blocked(country, answer)

    def _note_blocked(self, country: str, answer: Answer) -> None:
        self._metrics.blocked_prefixes(country).set(answer.number)
        (self._blocked.add if answer.number else self._blocked.discard)(country)

    def _explained(self, ask: Ask, decision: Decision, name: str) -> dict[str, Any]:
        signals = ask.signals
        return {
            "id": name,
            "at": self._store.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "application": ask.policy.application,
            "mode": ask.policy.mode,
            "to": _veiled(ask.number, decision.reasons),
            "country": ask.number.country,
            "channel": ask.channel,
            "signals": {
                "ip": signals.ip and _half(signals.ip),
                "device_id": signals.device and _half(signals.device),
                "session_id": signals.session and _half(signals.session),
                "trusted": signals.trusted,
                "challenge_passed": signals.challenge_passed,
            },
            "price": ask.price,
            "weight": ask.weight,
            "verdict": decision.verdict,
            "reasons": [reason.shown() for reason in decision.reasons],
            "retry_after": decision.retry_after,
        }


def _veiled(number: Number, reasons: Sequence[Reason]) -> str:
    """A number as it may be seen beside these reasons: where one shows a prefix, the last digits are hidden instead."""
    longest = max((reason.prefix or "" for reason in reasons), key=len, default="")
    return f"{longest}{'*' * (len(number.e164) - len(longest))}" if longest else number.masked


def _half(text: str) -> str:
    """The first half of a text: enough to compare two by, too little to be one."""
    return f"{text[: len(text) // 2]}…"
