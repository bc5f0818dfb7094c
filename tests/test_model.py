"""Random lives of a verification against a small model of the rules.

The model says what the status, the deliveries, and what is left of checks and sends must be after any sequence of
create, resend, check, cancel, receipt and time. What must never happen is asserted along the way: a second code, a
message after the end, two advances from one step, more guesses than allowed, a verification without an end.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.world import NUMBER, Sent, world, wrong

TTL, CHECKS, SENDS, WRONG_A_DAY = 300, 3, 3, 7
PAUSES = (30, 60)
STEPS = (("sms", 20), ("whatsapp", 20), ("voice", 40))
RANK = {
    "queued": 0,
    "sending": 1,
    "accepted": 2,
    "sent": 3,
    "unknown": 4,
    "rejected": 5,
    "failed": 5,
    "delivered": 6,
    "read": 7,
}
LIVE = {"pending", "undeliverable"}
POINTLESS = {"landline": {"sms", "whatsapp"}, "invalid_number": {"sms", "whatsapp", "voice"}}
REMEMBERED = {"landline", "not_on_channel"}
"""Reasons that shut their channels for the number; a whole run takes less than the day for which they do."""


@dataclass
class Model:
    """One verification, by the rules of its life."""

    id: str
    code: str
    now: float
    refusing: str | None
    shut: set[str]
    """The channels on which the number is known not to be reached, by all its verifications."""
    status: str = "pending"
    wrong: int = 0
    sends: int = 1
    step: int = -1
    until: float = 0
    deliveries: list[list[str]] = field(default_factory=list)
    """Channel and status of each."""
    skipped: set[int] = field(default_factory=set)
    """Those that were never sent, since their channel was shut."""

    def __post_init__(self) -> None:
        self.expires = self.now + TTL
        self.resend = self.now + PAUSES[0]
        if not self.deliver(0):
            self.advance("shut")

    @property
    def live(self) -> bool:
        """Whether guesses and sends are taken."""
        return self.status in LIVE

    @property
    def sent(self) -> list[int]:
        """The deliveries that went to the gateway."""
        return [n for n in range(len(self.deliveries)) if n not in self.skipped]

    def deliver(self, step: int) -> bool:
        """Open a delivery on a step; the gateway takes it or refuses it at once. False where its channel is shut."""
        self.step, self.status = step, "pending"
        channel, wait = STEPS[step]
        self.deliveries.append([channel, "accepted"])
        self.until = self.now + wait
        if channel in self.shut:
            self.deliveries[-1][1] = "rejected"
            self.skipped.add(len(self.deliveries) - 1)
            return False
        if self.refusing is not None:
            self.deliveries[-1][1] = "rejected"
            self.learn(channel, self.refusing)
            self.advance(self.refusing)
        return True

    def send_again(self) -> None:
        """Open the next step whose channel is not shut, and around again."""
        following = [(self.step + 1 + i) % len(STEPS) for i in range(len(STEPS))]
        if not any(self.deliver(step) for step in following):
            self.rest()

    def learn(self, channel: str, reason: str) -> None:
        """Remember a failure that the recipient causes."""
        if reason in REMEMBERED:
            self.shut |= {channel} | POINTLESS.get(reason, set())

    def advance(self, reason: str) -> None:
        """Leave the step for the next that is not pointless."""
        left = range(self.step + 1, len(STEPS))
        following = [step for step in left if STEPS[step][0] not in POINTLESS.get(reason, set())]
        if not any(self.deliver(step) for step in following):
            self.rest()

    def rest(self) -> None:
        """Nothing left to do: undeliverable when nothing can have arrived."""
        if all(status in {"rejected", "failed"} for _, status in self.deliveries):
            self.status = "undeliverable"

    def wake(self, now: float) -> None:
        """Time has passed and the worker has looked."""
        self.now = now
        if self.live and now >= self.expires:
            self.status = "expired"
        elif self.live and self.deliveries[-1][1] in {"accepted", "sent"} and now >= self.until:
            self.deliveries[-1][1] = "unknown"
            self.advance("silence")

    def receive(self, n: int, status: str, reason: str) -> None:
        """A receipt, in whatever order it comes."""
        delivery = self.deliveries[n]
        if RANK[status] <= RANK[delivery[1]]:
            return
        delivery[1] = status
        if status == "failed":
            self.learn(delivery[0], reason)
        if not self.live:
            return
        current = n == len(self.deliveries) - 1
        if status in {"delivered", "read"}:
            self.status = "pending"
        elif status == "failed" and current:
            self.advance(reason)
        elif status == "failed" and RANK[self.deliveries[-1][1]] >= RANK["unknown"]:
            self.rest()


class Lives(RuleBasedStateMachine):
    """Drives a service and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        limits: dict[str, Any] = {"guard": {"limits": {"number": []}}}
        cascade = [{"channel": channel, "providers": ["gw"], "wait": f"{wait}s"} for channel, wait in STEPS]
        changes: dict[str, Any] = {"ttl": f"{TTL}s", "checks": CHECKS, "sends": SENDS, "cascade": cascade}
        changes |= {"resend_after": [f"{pause}s" for pause in PAUSES], "wrong_checks_per_day": WRONG_A_DAY}
        self.one = self.runner.run(self.stack.enter_async_context(world(_top=limits, **changes)))
        self.one.gateway.answer = self._answer
        self.refusing: str | None = None
        self.now = 0.0
        self.past: list[Model] = []
        self.model: Model | None = None
        self.wrong_today = 0
        self.shut: set[str] = set()

    def teardown(self) -> None:
        """Every verification has an end."""
        self._travel(TTL + 1)
        if self.model is not None:
            found = self._run(self.one.api.get(f"/verifications/{self.model.id}")).json()
            assert found["status"] not in LIVE
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def _run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def _answer(self, sent: Sent) -> httpx.Response:
        if self.refusing is not None:
            return httpx.Response(422, json={"reason": self.refusing})
        return httpx.Response(200, json={"message_id": sent.data["delivery"]})

    def _travel(self, seconds: float) -> None:
        self.now += seconds
        self._run(self.one.travel(seconds))
        if self.model is not None:
            self.model.refusing = self.refusing
            self.model.wake(self.now)

    @rule(reason=st.sampled_from([None, None, "carrier_blocked", "landline", "not_on_channel", "invalid_number"]))
    def gateway_changes_its_mind(self, reason: str | None) -> None:
        """From now on the gateway refuses, or takes everything again."""
        self.refusing = reason
        if self.model is not None:
            self.model.refusing = reason

    @rule(joining=st.booleans())
    def create_or_resend(self, joining: bool) -> None:
        """A create joins what is live, as a resend does, and starts anew otherwise."""
        model = self.model
        path = f"/verifications/{model.id}/resend" if model and model.live and not joining else "/verifications"
        answer = self._run(self.one.post(path, {"to": NUMBER} if path == "/verifications" else {}))
        self._run(self.one.work())
        if model is None or not model.live:
            assert answer.status_code == 201
            if model is not None:
                self.past.append(model)
            code = self.one.gateway.last.code if self.one.gateway.sent else ""
            self.model = Model(answer.json()["id"], code, self.now, self.refusing, self.shut)
        elif self.now < model.resend or model.sends >= SENDS:
            assert (answer.status_code, answer.json()["id"]) == (429, model.id)
            assert answer.json()["limit"] == ("resend" if self.now < model.resend else "sends")
        else:
            assert (answer.status_code, answer.json()["id"]) == (200, model.id)
            model.sends += 1
            model.resend = self.now + PAUSES[min(model.sends, len(PAUSES)) - 1]
            model.send_again()

    @precondition(lambda self: self.model is not None and self.model.sent)
    @rule(right=st.booleans())
    def check(self, right: bool) -> None:
        """A guess at the current code."""
        model = self.model
        assert model is not None
        guess = model.code if right else wrong(model.code)
        answer = self._run(self.one.post("/verifications/check", {"to": NUMBER, "code": guess}))
        if self._gone(model):
            assert answer.status_code == 404
            return
        if model.live and self.wrong_today >= WRONG_A_DAY:
            assert (answer.status_code, answer.json()["limit"]) == (429, "wrong_checks")
            return
        assert answer.status_code == 200
        assert answer.json()["valid"] == (right and model.live)
        if not model.live:
            return
        if right:
            model.status = "approved"
        else:
            model.wrong += 1
            self.wrong_today += 1
            if model.wrong == CHECKS:
                model.status = "max_attempts_reached"

    @precondition(lambda self: self.model is not None)
    @rule()
    def cancel(self) -> None:
        """The caller ends it."""
        model = self.model
        assert model is not None
        answer = self._run(self.one.post(f"/verifications/{model.id}/cancel"))
        assert answer.status_code == (404 if self._gone(model) else 200 if model.live else 409)
        if model.live:
            model.status = "canceled"

    @precondition(lambda self: self.model is not None and self.model.sent)
    @rule(
        n=st.integers(0, 9),
        status=st.sampled_from(["sent", "delivered", "read", "failed"]),
        reason=st.sampled_from(["unreachable", "landline", "not_on_channel", "invalid_number"]),
    )
    def receipt(self, n: int, status: str, reason: str) -> None:
        """Any receipt for any delivery, in any order, as often as it likes."""
        model = self.model
        assert model is not None
        n = model.sent[n % len(model.sent)]
        sent = next(sent for sent in self.one.gateway.sent if sent.data["delivery"] == f"{model.id}.{n}")
        assert self._run(self.one.report(sent, status, reason)).status_code == 200
        model.receive(n, status, reason)

    @precondition(lambda self: self.model is not None)
    @rule(seconds=st.sampled_from([1, 10, 21, 31, 61, 299]))
    def time_passes(self, seconds: int) -> None:
        """Seconds to minutes."""
        self._travel(seconds)

    @invariant()
    def the_service_is_where_the_model_is(self) -> None:
        """Status, deliveries, and what is left."""
        model = self.model
        if model is None:
            return
        answer = self._run(self.one.api.get(f"/verifications/{model.id}"))
        if self._gone(model):
            assert answer.status_code == 404
            return
        found = answer.json()
        assert found["status"] == model.status
        assert [[d["channel"], d["status"]] for d in found["deliveries"]] == model.deliveries
        assert found["checks_remaining"] == CHECKS - model.wrong - (model.status == "approved")
        assert found["sends_remaining"] == SENDS - model.sends

    @invariant()
    def one_verification_has_one_code_and_each_delivery_one_message(self) -> None:
        """Nothing is sent twice, nothing that the model does not know of, and never another code."""
        known = {f"{model.id}.{n}" for model in self._all() for n in model.sent}
        sent = [message.data["delivery"] for message in self.one.gateway.sent]
        assert sorted(sent) == sorted(known)
        codes = {model.id: model.code for model in self._all()}
        assert all(
            message.code == codes[message.data["delivery"].partition(".")[0]] for message in self.one.gateway.sent
        )

    def _gone(self, model: Model) -> bool:
        """Whether its second TTL has passed too: after that nobody knows it."""
        return self.now >= model.expires + TTL

    def _all(self) -> list[Model]:
        return [*self.past, *([self.model] if self.model else [])]


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
