"""Planning: which steps, and what follows a rejection."""

from __future__ import annotations

from collections import Counter

import pytest

from service.cascade import Cascade, Next, Route, Step, after_rejection, in_turn, pointless, refusal, written
from service.provider import REASONS, Channel

SMS, WHATSAPP, VOICE = Channel.SMS, Channel.WHATSAPP, Channel.VOICE
A, B, C = Route("a"), Route("b"), Route("c")
CASCADE = Cascade((Step(SMS, (A, B), 20), Step(WHATSAPP, (C,), 20), Step(VOICE, (A,), 40)))
EVERYWHERE = frozenset(Channel)
BRITISH, GERMAN = ("+447400123456", "GB"), ("+4915112345678", "DE")


@pytest.mark.parametrize(
    ("reach", "wanted", "planned"),
    [
        (EVERYWHERE, None, [SMS, WHATSAPP, VOICE]),
        (EVERYWHERE, [VOICE], [VOICE]),
        (EVERYWHERE, [VOICE, SMS], [VOICE, SMS]),
        ({"voice"}, None, [VOICE]),
        ({"voice"}, [SMS], []),
        (set(), None, []),
    ],
)
def test_a_plan_has_the_steps_that_reach_the_number_in_the_order_wanted(
    reach: set[str], wanted: list[Channel] | None, planned: list[Channel]
) -> None:
    """An override reorders and leaves out, it never adds."""
    assert [step.channel for step in CASCADE.plan(*BRITISH, reach, wanted)] == planned


def test_a_plan_is_written_with_its_waits() -> None:
    """In milliseconds, since Redis keeps the time."""
    assert written(CASCADE.steps) == "sms:20000 whatsapp:20000 voice:40000"
    assert written(CASCADE.steps, lambda step: step.wait / 2) == "sms:10000 whatsapp:10000 voice:20000"


def test_providers_come_as_they_are_listed() -> None:
    """And there are none where the configuration no longer has the channel."""
    assert CASCADE.providers(SMS, *BRITISH, "ver_1") == ("a", "b")
    assert Cascade(CASCADE.steps[:1]).providers(VOICE, *BRITISH, "ver_1") == ()


@pytest.mark.parametrize(
    ("route", "british", "german"),
    [
        (Route("b"), True, True),
        (Route("b", countries=frozenset({"GB", "FR"})), True, False),
        (Route("b", prefixes=("+4915", "+1")), False, True),
        (Route("b", countries=frozenset({"GB"}), prefixes=("+4915",)), True, True),
    ],
)
def test_a_provider_can_be_for_some_numbers_only(route: Route, british: bool, german: bool) -> None:
    """By country or by prefix; a step that nobody carries for a number is left out of its plan."""
    step = Step(SMS, (route, Route("us", countries=frozenset({"US"}))), 20)
    for number, served in ((BRITISH, british), (GERMAN, german)):
        assert step.providers(*number, "ver_1") == (("b",) if served else ())
        assert Cascade((step,)).plan(*number, EVERYWHERE) == ((step,) if served else ())


def test_weights_share_out_verifications_and_the_others_follow() -> None:
    """Each verification has its own draw, the same whenever it is asked for."""
    step = Step(SMS, (C, Route("a", weight=3), Route("b", weight=1)), 20)
    orders = Counter(step.providers(*BRITISH, f"ver_{n}") for n in range(4000))
    assert orders.keys() == {("a", "b", "c"), ("b", "a", "c")}
    assert orders["a", "b", "c"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert all(step.providers(*BRITISH, f"ver_{n}") == step.providers(*BRITISH, f"ver_{n}") for n in range(50))


def test_providers_take_turns() -> None:
    """Each in order, then around again; who could not be asked meanwhile comes first, once it can."""
    refusals: list[str] = []
    for turn in ("a", "b", "c", "a", "b"):
        assert in_turn(("a", "b", "c"), refusals)[0] == turn
        refusals.append(refusal(turn, "rate_limited"))
    assert in_turn(("a", "b", "c"), ["b", "c"]) == ["a", "b", "c"]


def test_who_refused_for_good_is_not_asked_again() -> None:
    """Nor is anybody else skipped for it."""
    assert in_turn(("a", "b", "c"), [refusal("a", "route")]) == ["b", "c"]
    assert in_turn(("a", "b"), [refusal("a", "balance"), refusal("b", "provider_error")]) == ["b"]
    assert in_turn(("a",), [refusal("a", "nobody knows")]) == []


@pytest.mark.parametrize(
    ("reason", "providers", "attempt", "expected", "delay"),
    [
        ("provider_error", 2, 0, Next.SWITCH, 0),
        ("provider_error", 2, 1, Next.SWITCH, 1),
        ("provider_error", 2, 3, Next.SWITCH, 2),
        ("provider_error", 1, 0, Next.RETRY, 1),
        ("provider_error", 1, 1, Next.RETRY, 2),
        ("provider_error", 1, 2, Next.RETRY, 4),
        ("provider_error", 1, 9, Next.RETRY, 15),
        ("rate_limited", 1, 0, Next.RETRY, 1),
        ("auth", 2, 0, Next.SWITCH, 0),
        ("auth", 2, 1, Next.ADVANCE, 0),
        ("landline", 2, 0, Next.ADVANCE, 0),
        ("unreachable", 2, 0, Next.ADVANCE, 0),
        ("fraud_blocked", 2, 0, Next.ADVANCE, 0),
        ("nobody knows", 2, 0, Next.SWITCH, 0),
        ("nobody knows", 1, 0, Next.ADVANCE, 0),
    ],
)
def test_what_follows_a_rejection(reason: str, providers: int, attempt: int, expected: Next, delay: float) -> None:
    """Other providers while they may help, then patience, then the next step."""
    move = after_rejection(reason, providers, attempt)
    assert (move.next, move.delay) == (expected, delay)


def test_a_provider_may_ask_for_more_patience_but_not_for_less() -> None:
    """`Retry-After` is a lower bound."""
    assert after_rejection("rate_limited", 1, 0, 30).delay == 30
    assert after_rejection("rate_limited", 1, 3, 0.1).delay == 8


def test_a_reason_tells_which_channels_are_pointless() -> None:
    """A dead number all, a landline those of a mobile, most none beyond their own step."""
    assert pointless("invalid_number") == pointless("fraud_blocked") == EVERYWHERE
    assert pointless("landline") == {SMS, WHATSAPP, Channel.TELEGRAM}
    others = {reason for reason in REASONS if REASONS[reason].next_channel} - {"landline"}
    assert all(not pointless(reason) for reason in others)
