"""Random lives of a verification against a small model of the rules.

The model says what the status, the deliveries, and what is left of checks and sends must be after any sequence of
create, resend, check, cancel, receipt and time. What must never happen is asserted along the way: a second code, a
message after the end, two advances from one step, more guesses than allowed, a verification without an end.

Steps have two providers. One reports by the token in an address, the other by its own message id, at one address for
all; both report in any order, late, again, and before they have answered.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.world import NUMBER, PUBLIC_URL, Sent, signed, table, world, wrong

TTL, CHECKS, SENDS, WRONG_A_DAY = 300, 3, 3, 7
PAUSES = (30, 60)
STEPS = (("sms", 20, ("at", "gw")), ("whatsapp", 20, ("gw",)), ("voice", 40, ("voice", "gw")))
"""Channel, wait, providers."""
AFRICAS_TALKING = {
    "kind": "africastalking",
    "api_url": "https://at.example",
    "username": "shop",
    "api_key": "a-key",
    "webhook_secret": "a-secret-in-the-address",
}
"""A vendor whose receipts name its own message id and nothing else."""
AT_REFUSALS = {"carrier_blocked": 502, "landline": 404, "invalid_number": 403, "opted_out": 406}
AT_REPORTS = {
    "sent": {"status": "Sent"},
    "delivered": {"status": "Success"},
    "failed": {"status": "AbsentSubscriber"},
    "unknown": {"status": "Pondering"},
}
"""What Africa's Talking, `at`, calls things. It has no word for `read`, and its failures are all `unreachable` here."""
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
STATUSES = st.sampled_from(["failed", "sent", "failed", "read", "delivered", "unknown"])
REASONS = st.sampled_from(["unreachable", "landline", "not_on_channel", "invalid_number"])
PROVIDERS = st.sampled_from(["at", "gw", "voice"])
REFUSALS = st.sampled_from(["carrier_blocked", "carrier_blocked", "landline", "opted_out", "invalid_number"])
EARLY = st.none() | st.none() | st.tuples(STATUSES, REASONS, st.integers(1, 3))
POINTLESS = {"landline": {"sms", "whatsapp"}, "invalid_number": {"sms", "whatsapp", "voice"}}
REMEMBERED = {"landline", "not_on_channel", "opted_out"}
"""Reasons that shut their channels for the number; a whole run takes less than the day for which they do."""


@dataclass
class Vendors:
    """How the providers behave, and what is known by what they said: the same for all verifications of the number."""

    refusing: dict[str, str] = field(default_factory=dict)
    """Why a provider refuses, for those that do."""
    early: tuple[str, str, int] | None = None
    """Status, reason and number of the receipts that each sends before it answers, if they do."""
    shut: set[str] = field(default_factory=set)
    """The channels on which the number is known not to be reached."""
    carried: list[str] = field(default_factory=list)
    """The deliveries that `at` was asked to carry, which do not name themselves to it."""


@dataclass
class Model:
    """One verification, by the rules of its life."""

    id: str
    code: str
    now: float
    vendors: Vendors
    status: str = "pending"
    wrong: int = 0
    sends: int = 1
    step: int = -1
    until: float = 0
    deliveries: list[list[str | None]] = field(default_factory=list)
    """Channel, provider and status of each."""
    steps: list[int] = field(default_factory=list)
    """The step of each."""
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
        """The deliveries that went to a provider."""
        return [n for n in range(len(self.deliveries)) if n not in self.skipped]

    @property
    def left_behind(self) -> list[int]:
        """The deliveries before the latest that might still arrive."""
        open_ones = {"accepted", "sent", "unknown"}
        return [n for n, (_, _, status) in enumerate(self.deliveries[:-1]) if status in open_ones]

    def deliver(self, step: int, attempt: int = 0) -> bool:
        """Open a delivery on a step; its provider takes or refuses it at once. False where its channel is shut."""
        self.step, self.status = step, "pending"
        channel, wait, providers = STEPS[step]
        n, provider = len(self.deliveries), providers[attempt]
        self.until = self.now + wait
        self.steps.append(step)
        if channel in self.vendors.shut:
            self.deliveries.append([channel, None, "rejected"])
            self.skipped.add(n)
            return False
        self.deliveries.append([channel, provider, "accepted"])
        if provider == "at":
            self.vendors.carried.append(f"{self.id}.{n}")
        reason = self.vendors.refusing.get(provider)
        # A refusal tells no message id to find receipts by; where they need none, they know better.
        if self.vendors.early is not None and (reason is None or provider != "at"):
            self.receive(n, *self.vendors.early[:2])
        elif reason is not None:
            self.deliveries[n][2] = "rejected"
            self.learn(channel, reason)
            if reason == "carrier_blocked" and attempt + 1 < len(providers):
                self.deliver(step, attempt + 1)
            else:
                self.advance(reason)
        return True

    def send_again(self) -> None:
        """Open the next step whose channel is not shut, and around again."""
        following = [(self.step + 1 + i) % len(STEPS) for i in range(len(STEPS))]
        if not any(self.deliver(step) for step in following):
            self.rest()

    def learn(self, channel: str, reason: str) -> None:
        """Remember a failure that the recipient causes."""
        if reason in REMEMBERED:
            self.vendors.shut |= {channel} | POINTLESS.get(reason, set())

    def advance(self, reason: str) -> None:
        """Leave the step for the next that is not pointless."""
        left = range(self.step + 1, len(STEPS))
        following = [step for step in left if STEPS[step][0] not in POINTLESS.get(reason, set())]
        if not any(self.deliver(step) for step in following):
            self.rest()

    def rest(self) -> None:
        """Nothing left to do: undeliverable when nothing can have arrived."""
        if all(status in {"rejected", "failed"} for _, _, status in self.deliveries):
            self.status = "undeliverable"

    def wake(self, now: float) -> None:
        """Time has passed and the worker has looked."""
        self.now = now
        if self.live and now >= self.expires:
            self.status = "expired"
        elif self.live and self.deliveries[-1][2] in {"accepted", "sent", "unknown"} and now >= self.until:
            self.deliveries[-1][2] = "unknown"
            self.advance("silence")

    def receive(self, n: int, status: str, reason: str) -> None:
        """A receipt, in whatever order it comes."""
        channel, provider, before = self.deliveries[n]
        if provider == "at":
            status, reason = "delivered" if status == "read" else status, "unreachable"
        if RANK[status] <= RANK[str(before)]:
            return
        self.deliveries[n][2] = status
        if status == "failed":
            self.learn(str(channel), reason)
        if not self.live:
            return
        current = n == len(self.deliveries) - 1
        if status in {"delivered", "read"}:
            self.status = "pending"
            if self.steps[n] == self.step:
                self.until = math.inf
        elif status == "failed" and current:
            self.advance(reason)
        elif status == "failed" and RANK[str(self.deliveries[-1][2])] >= RANK["unknown"]:
            self.rest()


class Lives(RuleBasedStateMachine):
    """Drives a service and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        top: dict[str, Any] = {"guard": {"limits": {"number": []}}}
        top["providers"] = table()["providers"] | {"at": AFRICAS_TALKING}
        cascade = [{"channel": one, "providers": [*providers], "wait": f"{wait}s"} for one, wait, providers in STEPS]
        changes: dict[str, Any] = {"ttl": f"{TTL}s", "checks": CHECKS, "sends": SENDS, "cascade": cascade}
        changes |= {"resend_after": [f"{pause}s" for pause in PAUSES], "wrong_checks_per_day": WRONG_A_DAY}
        self.one = self.runner.run(self.stack.enter_async_context(world(_top=top, **changes)))
        self.one.gateway.answer = self._answer
        self.one.gateway.vendors["at.example"] = self._at
        self.vendors = Vendors()
        self.codes: list[str] = []
        self.at_codes: list[str] = []
        self.now = 0.0
        self.past: list[Model] = []
        self.model: Model | None = None
        self.wrong_today = 0

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

    async def _answer(self, sent: Sent) -> httpx.Response:
        self.codes.append(sent.code)
        status, reason, times = self.vendors.early or ("", "", 0)
        for _ in range(times):
            await self._report(sent, status, reason)
        provider = sent.data["receipt_url"].split("/")[-2]
        if refusal := self.vendors.refusing.get(provider):
            return httpx.Response(422, json={"reason": refusal})
        return httpx.Response(200, json={"message_id": sent.data["delivery"]})

    async def _at(self, request: httpx.Request) -> httpx.Response:
        [text] = parse_qs(request.content.decode())["message"]
        found = re.search(r"\d{6}", text)
        assert found
        self.codes.append(found[0])
        self.at_codes.append(found[0])
        message_id = f"ATXid_{len(self.at_codes)}"
        status, _, times = self.vendors.early or ("", "", 0)
        for _ in range(times):
            await self._report_at(message_id, status)
        refusal = self.vendors.refusing.get("at")
        recipient: dict[str, object] = {"statusCode": 101, "messageId": message_id}
        if refusal:
            recipient = {"statusCode": AT_REFUSALS[refusal], "messageId": "None"}
        return httpx.Response(200, json={"SMSMessageData": {"Recipients": [recipient]}})

    async def _report(self, sent: Sent, status: str, reason: str) -> None:
        receipt = {"message_id": sent.data["delivery"], "status": status, "reason": reason}
        body = json.dumps({"type": "delivery.receipt", "data": receipt})
        path = sent.data["receipt_url"].removeprefix(PUBLIC_URL)
        answer = await self.one.receipts.post(path, content=body, headers=signed(body))
        assert answer.status_code == 200

    async def _report_at(self, message_id: str, status: str) -> None:
        form = urlencode({"id": message_id, **AT_REPORTS["delivered" if status == "read" else status]})
        path = f"/receipts/at?secret={AFRICAS_TALKING['webhook_secret']}"
        assert (await self.one.receipts.post(path, content=form)).status_code == 200

    def _travel(self, seconds: float) -> None:
        self.now += seconds
        self._run(self.one.travel(seconds))
        if self.model is not None:
            self.model.wake(self.now)

    @rule(provider=PROVIDERS, reason=st.none() | REFUSALS)
    def a_provider_changes_its_mind(self, provider: str, reason: str | None) -> None:
        """From now on it refuses, or takes everything again."""
        self.vendors.refusing.pop(provider, None)
        if reason is not None:
            self.vendors.refusing[provider] = reason

    @rule(early=EARLY)
    def receipts_are_faster_than_answers(self, early: tuple[str, str, int] | None) -> None:
        """Or slower again: a provider reports, so often, before it answers."""
        self.vendors.early = early

    @initialize(refusing=st.dictionaries(PROVIDERS, REFUSALS, max_size=1))
    def create(self, refusing: dict[str, str]) -> None:
        """Every life begins."""
        self.vendors.refusing |= refusing
        self.create_or_resend(joining=False)

    @rule(joining=st.booleans())
    def create_or_resend(self, joining: bool) -> None:
        """A create joins what is live, as a resend does, and starts anew otherwise."""
        model = self.model
        path = f"/verifications/{model.id}/resend" if model and model.live and not joining else "/verifications"
        before = len(self.codes)
        answer = self._run(self.one.post(path, {"to": NUMBER} if path == "/verifications" else {}))
        self._run(self.one.work())
        if model is None or not model.live:
            assert answer.status_code == 201
            if model is not None:
                self.past.append(model)
            code = self.codes[before] if len(self.codes) > before else ""
            self.model = Model(answer.json()["id"], code, self.now, self.vendors)
        elif self.now < model.resend or model.sends >= SENDS:
            assert (answer.status_code, answer.json()["id"]) == (429, model.id)
            assert answer.json()["limit"] == ("resend" if self.now < model.resend else "sends")
        else:
            assert (answer.status_code, answer.json()["id"]) == (200, model.id)
            model.sends += 1
            model.resend = self.now + PAUSES[min(model.sends, len(PAUSES)) - 1]
            model.send_again()

    @precondition(lambda self: self.model is not None and self.model.sent)
    @rule(right=st.sampled_from([False, False, False, True]))
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
    @rule(sure=st.sampled_from([False, False, True]))
    def cancel(self, sure: bool) -> None:
        """The caller ends it."""
        model = self.model
        assert model is not None
        if not sure:
            return
        answer = self._run(self.one.post(f"/verifications/{model.id}/cancel"))
        assert answer.status_code == (404 if self._gone(model) else 200 if model.live else 409)
        if model.live:
            model.status = "canceled"

    @precondition(lambda self: self.codes)
    @rule(reports=st.lists(st.tuples(st.integers(0, 5), STATUSES, REASONS), min_size=1, max_size=4))
    def receipts(self, reports: list[tuple[int, str, str]]) -> None:
        """Any receipts for any deliveries of any verification, in any order, as often as they like."""
        for back, status, reason in reports:
            sent = [(model, n) for model in self._all() for n in model.sent]
            self._receive(*sent[-1 - back % len(sent)], status, reason)

    @precondition(lambda self: self.model is not None and self.model.left_behind)
    @rule(status=STATUSES, reason=REASONS)
    def late_receipt(self, status: str, reason: str) -> None:
        """One for a delivery whose step was left, while it might still arrive."""
        model = self.model
        assert model is not None
        self._receive(model, model.left_behind[0], status, reason)

    def _receive(self, model: Model, n: int, status: str, reason: str) -> None:
        delivery = f"{model.id}.{n}"
        if delivery in self.vendors.carried:
            number = 1 + self.vendors.carried.index(delivery)
            self._run(self._report_at(f"ATXid_{number}", status))
        else:
            sent = next(one for one in self.one.gateway.sent if one.data["delivery"] == delivery)
            self._run(self._report(sent, status, reason))
        self._run(self.one.work())
        known = model.deliveries[n][1:] != ["at", "rejected"]
        if known and not self._gone(model):
            model.receive(n, status, reason)

    @rule(seconds=st.sampled_from([1, 10, 21, 21, 31, 41, 61, 299]))
    def time_passes(self, seconds: int) -> None:
        """Seconds to minutes."""
        self._travel(seconds)

    @invariant()
    def the_service_is_where_the_model_is(self) -> None:
        """Status, deliveries, what is left, each event once: of the latest verification, and of the one before it."""
        for model in self._all()[-2:]:
            answer = self._run(self.one.api.get(f"/verifications/{model.id}"))
            if self._gone(model):
                assert answer.status_code == 404
                continue
            found = answer.json()
            assert found["status"] == model.status
            assert [[d["channel"], d["provider"], d["status"]] for d in found["deliveries"]] == model.deliveries
            assert found["checks_remaining"] == CHECKS - model.wrong - (model.status == "approved")
            assert found["sends_remaining"] == SENDS - model.sends
            noted = [(line["event"], line["n"]) for line in found["timeline"] if line["n"] is not None]
            assert len(noted) == len(set(noted))

    @invariant()
    def one_verification_has_one_code_and_each_delivery_one_message(self) -> None:
        """Nothing is sent twice, nothing that the model does not know of, and never another code."""
        known = [f"{model.id}.{n}" for model in self._all() for n in model.sent]
        sent = [(message.data["delivery"], message.code) for message in self.one.gateway.sent]
        sent += zip(self.vendors.carried, self.at_codes, strict=True)
        assert sorted(delivery for delivery, _ in sent) == sorted(known)
        codes = {model.id: model.code for model in self._all()}
        assert all(code == codes[delivery.partition(".")[0]] for delivery, code in sent)

    def _gone(self, model: Model) -> bool:
        """Whether its second TTL has passed too: after that nobody knows it."""
        return self.now >= model.expires + TTL

    def _all(self) -> list[Model]:
        return [*self.past, *([self.model] if self.model else [])]


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30)
