"""The judge: plays a day before a guard, and counts.

It is a closed loop. What the guard answers changes what comes next: people who are refused, or get nothing, ask again
or leave; attackers go where it is easier. The guard is told what production is told, events in the format of `verifyd
replay`; who was honest stays here.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tests.bench.pumping.world import Campaign, Day, Sender, World, lost

Event = dict[str, Any]

CALL_AFTER: Final = 25.0
"""Seconds until an unanswered message is followed by a call, where it is."""
_ASK, _CALL, _TELL, _ATTACK = range(4)


class Guard(Protocol):
    """What is judged."""

    def create(self, event: Event) -> str | None:
        """Answer a request to send: None to allow it, else the rule by which it is refused."""

    def receipt(self, event: Event) -> None:
        """A provider's word on a message that was allowed."""

    def check(self, event: Event) -> None:
        """A guess at the code of a message that was allowed."""


@dataclass(slots=True)
class Score:
    """What was counted, in requests to send unless said otherwise."""

    honest: int = 0
    honest_refused: int = 0
    people: int = 0
    locked_out: int = 0
    """People who were refused, and never got a code."""
    attack: int = 0
    attack_allowed: int = 0
    money: float = 0.0
    """What the attack cost, in the currency of the prices."""
    unnoticed: int = 0
    """Sends of the attack before its first refusal."""
    rules: Counter[tuple[bool, str]] = field(default_factory=Counter)
    """(Whether it was the attack's, rule): refusals."""


def play(guard: Guard, world: World, day: Day, price: Callable[[str, str], float]) -> Score:
    """Play a day. `price` is that of a message to a number over a channel."""
    return _Judge(guard, day, price).play(world.people(day))


class _Judge:
    def __init__(self, guard: Guard, day: Day, price: Callable[[str, str], float]) -> None:
        self._guard, self._day, self._price = guard, day, price
        self._score = Score()
        self._queue: list[tuple[float, int, int, Any, Any]] = []
        self._count = 0
        self._turned_away: list[Sender] = []

    def play(self, people: Iterator[tuple[float, Sender]]) -> Score:
        for campaign in self._day.campaigns:
            self._again(campaign)
        queue, score = self._queue, self._score
        for time, sender in people:
            while queue and queue[0][0] <= time:
                self._step()
            score.people += 1
            if self._day.calls:
                sender.falls_back = True
            self._ask(time, sender, "sms")
        while queue:
            self._step()
        score.locked_out = sum(not sender.got_one for sender in self._turned_away)
        return score

    def _later(self, time: float, kind: int, what: Any, more: Any = None) -> None:
        self._count += 1
        heapq.heappush(self._queue, (time, self._count, kind, what, more))

    def _again(self, campaign: Campaign) -> None:
        time = campaign.next()
        if time is not None:
            self._later(time, _ATTACK, campaign)

    def _step(self) -> None:
        time, _, kind, what, more = heapq.heappop(self._queue)
        if kind == _TELL:
            what(more)
        elif kind == _ATTACK:
            self._ask(time, what.send(time), "sms")
            self._again(what)
        else:
            self._ask(time, what, "voice" if kind == _CALL else "sms")

    def _ask(self, now: float, sender: Sender, channel: str) -> None:
        score = self._score
        self._count += 1
        ref = f"r{self._count}"
        event: Event = {
            "t": now,
            "type": "create",
            "ref": ref,
            "to": sender.to,
            "ip": sender.ip,
            "user_agent": sender.agent,
            "application": sender.application,
            "channel": channel,
        }
        if sender.device is not None:
            event["device_id"] = sender.device
        rule = self._guard.create(event)
        sender.asked += 1
        if sender.attack is not None:
            score.attack += 1
            sender.attack.told(sender, rule is None)
            if rule is None:
                score.attack_allowed += 1
                score.money += self._price(sender.to, channel)
                score.unnoticed += score.attack_allowed == score.attack
        else:
            score.honest += 1
            score.honest_refused += rule is not None
        if rule is None:
            self._deliver(now, sender, channel, ref)
            return
        score.rules[sender.attack is not None, rule] += 1
        if sender.attack is None:
            if not sender.refused:
                sender.refused = True
                self._turned_away.append(sender)
            if channel == "sms":
                self._insist(now, sender, sender.insists)

    def _deliver(self, now: float, sender: Sender, channel: str, ref: str) -> None:
        """What becomes of a message: lost, unanswered, or entered after a wrong guess or none."""
        roll = sender.roll
        arrives = roll() >= 0.06
        if arrives and channel == "sms" and self._day.troubles:
            arrives = not lost(self._day.troubles, sender, now)
        luck = roll()
        if luck > 0.05 and (arrives or luck > 0.45):  # some operators report nothing
            status = "delivered" if arrives else "failed"
            reported = now + 2 + 4 * math.exp(2 * roll() - 0.8)
            self._later(reported, _TELL, self._guard.receipt, self._event(reported, "receipt", ref, status=status))
        if not arrives:
            self._unanswered(now, sender, channel, sender.insists)
            return
        sender.got_one = True
        if roll() >= sender.converts:
            self._unanswered(now, sender, channel, sender.shrugs)
            return
        entered = now + 10 * math.exp(0.5 + 1.1 * (roll() + roll() - 1))
        if roll() < 0.04:
            early = entered - 4
            self._later(early, _TELL, self._guard.check, self._event(early, "check", ref, correct=False))
        self._later(entered, _TELL, self._guard.check, self._event(entered, "check", ref, correct=True))

    def _unanswered(self, now: float, sender: Sender, channel: str, chance: float) -> None:
        if sender.falls_back and channel == "sms":
            self._later(now + CALL_AFTER, _CALL, sender)
        else:
            self._insist(now, sender, chance)

    def _insist(self, now: float, sender: Sender, chance: float) -> None:
        if sender.asked < sender.tries and sender.roll() < chance:
            self._later(now + 30 + 60 * sender.roll(), _ASK, sender)

    @staticmethod
    def _event(now: float, kind: str, ref: str, **more: object) -> Event:
        return {"t": now, "type": kind, "ref": ref, **more}
