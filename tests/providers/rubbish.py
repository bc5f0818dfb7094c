"""What nobody would send, where a vendor's words should be; an adapter makes something of it, and never breaks."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import strategies as st

from service.errors import Malformed
from service.provider import REASONS, Accepted, Provider, Receipt, Rejected, Webhook
from tests.providers.examples import NOW, answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside, max_size=3),
    max_leaves=8,
)
"""Whatever JSON can hold."""


def receipts_of(one: Provider, webhook: Webhook) -> list[Receipt]:
    """The receipts in a webhook that is rightly signed, none if it is malformed; each for a reason of ours, if any."""
    receipts: list[Receipt] = []
    with suppress(Malformed):
        receipts = one.receipts(webhook, NOW)
    assert all(receipt.reason is None or receipt.reason in REASONS for receipt in receipts)
    return receipts


def understood(one: Provider, *answers: object) -> None:
    """Each answer, under whatever status, accepts or is a refusal for a reason of ours."""
    for said in answers:
        for status in (200, 400, 500):
            outcome = one.read(answer(status, said))
            assert isinstance(outcome, Accepted | Rejected)
            assert isinstance(outcome, Accepted) or outcome.reason in REASONS
