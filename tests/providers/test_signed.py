"""Vendors that sign: who has not the key can say nothing, and a key can be changed without a receipt being lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadWebhook, Forged
from service.provider import Webhook
from tests.providers import test_dexatel as dexatel
from tests.providers import test_messagebird as messagebird
from tests.providers import test_meta as meta
from tests.providers import test_plivo as plivo
from tests.providers import test_prelude as prelude
from tests.providers import test_sinch as sinch
from tests.providers import test_telegram as telegram
from tests.providers import test_telnyx as telnyx
from tests.providers import test_twilio as twilio
from tests.providers import test_vonage as vonage
from tests.providers import test_webhook as webhook
from tests.providers.examples import NOW
from tests.providers.test_contract import adapter


@dataclass(frozen=True)
class Case:
    """A receipt that is signed by the key in use unless another is given, and the key that was before it."""

    kind: str
    sign: Callable[..., Webhook]
    setting: str
    """In which the old key is written, while one is changed."""
    old: Any
    written: Callable[[Any], str] = str
    signs_body: bool = True
    signs_url: bool = False

    def adapter(self, *, changing: bool) -> Any:
        """The adapter, while the key is changed or afterwards."""
        one = adapter(self.kind)
        return type(one).model_validate({**dict(one), self.setting: self.written(self.old) if changing else None})

    def forged(self) -> Iterator[Webhook]:
        """The receipt with one byte changed, anywhere in what is signed and in the headers, or without a header."""
        right = self.sign()
        if self.signs_body:
            yield from (replace(right, body=body) for body in one_byte_off(right.body))
        if self.signs_url:
            yield from (replace(right, url=url.decode()) for url in one_byte_off(right.url.encode()))
        for name, value in right.headers.items():
            for other in one_byte_off(value.encode()):
                yield replace(right, headers={**right.headers, name: other.decode()})
            yield replace(right, headers={other: right.headers[other] for other in right.headers if other != name})


def one_byte_off(right: bytes) -> Iterator[bytes]:
    """What it becomes by one changed byte."""
    for place in range(len(right)):
        yield right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :]


CASES = [
    Case("dexatel", partial(dexatel.signed, dexatel.CASES[0]["body"]), "old_webhook_secret", dexatel.OLD_SECRET),
    Case(
        "messagebird",
        partial(messagebird.reported, messagebird.RECEIPT, body=b"body"),
        "old_signing_key",
        messagebird.OLD_KEY,
        signs_url=True,
    ),
    Case("meta", partial(meta.signed, meta.statuses({"id": "m", "status": "sent"})), "old_app_secret", meta.OLD_SECRET),
    Case(
        "plivo",
        partial(plivo.signed, plivo.DELIVERED, version="v2"),
        "old_auth_token",
        plivo.OLD_TOKEN,
        signs_body=False,
        signs_url=True,
    ),
    Case("plivo", partial(plivo.signed, plivo.DELIVERED), "old_auth_token", plivo.OLD_TOKEN, signs_url=True),
    Case(
        "prelude",
        partial(prelude.signed, prelude.CASES[1]["body"]),
        "old_public_key",
        prelude.OLD_KEY,
        written=prelude.public,
    ),
    Case(
        "sinch",
        partial(sinch.sms_report, sinch.RECEIPTS["sms"][2]["body"]),
        "old_sms_webhook_secret",
        sinch.OLD_SMS_SECRET,
    ),
    Case(
        "sinch",
        partial(sinch.call_event, sinch.RECEIPTS["voice"][0]["body"]),
        "old_application_secret",
        sinch.OLD_VOICE_SECRET,
    ),
    Case("telegram", partial(telegram.signed, telegram.CASES[0]["body"]), "old_api_token", telegram.OLD_TOKEN),
    Case(
        "telnyx",
        partial(telnyx.signed, telnyx.event({"id": "m", "to": [{"status": "sent"}]})),
        "old_public_key",
        telnyx.OLD_KEY,
        written=telnyx.public,
    ),
    Case("twilio", partial(twilio.signed, twilio.DELIVERED), "old_auth_token", twilio.OLD_TOKEN, signs_url=True),
    Case("vonage", partial(vonage.signed, vonage.MESSAGES[0]["body"]), "old_signature_secret", vonage.OLD_SECRET),
    Case("webhook", partial(webhook.signed, webhook.DELIVERED), "old_secret", webhook.OLD_SECRET),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.setting}")


@every_case
def test_one_changed_byte_is_refused(case: Case) -> None:
    """So is what lacks a header."""
    one = case.adapter(changing=False)
    assert one.receipts(case.sign(), NOW)
    for forged in case.forged():
        with pytest.raises(Forged):
            one.receipts(forged, NOW)


@every_case
def test_both_keys_are_taken_while_one_is_changed(case: Case) -> None:
    """And the old one no longer than it is configured."""
    changing, changed = case.adapter(changing=True), case.adapter(changing=False)
    assert changing.receipts(case.sign(), NOW) == changing.receipts(case.sign(case.old), NOW) != []
    with pytest.raises(Forged):
        changed.receipts(case.sign(case.old), NOW)


@every_case
@settings(max_examples=50)
@given(data=st.data(), body=st.binary(max_size=100))
def test_rubbish_is_refused(case: Case, data: st.DataObject, body: bytes) -> None:
    """Whatever stands where a signature should be."""
    words = st.text(max_size=60) | st.from_regex(r"\ABearer \S{0,9}(\.\S{0,9}){2}\Z")
    right = case.sign()
    headers = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(right.headers, words)))
    with pytest.raises(BadWebhook):
        case.adapter(changing=True).receipts(replace(right, headers=headers, body=body), NOW)
