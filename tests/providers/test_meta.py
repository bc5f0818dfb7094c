"""Meta's WhatsApp Cloud API: the template that is sent, the answers, and the receipts of a whole app."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from pydantic import ValidationError

from service.errors import BadWebhook, Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Request, Response, Status, Webhook
from service.providers.meta import Meta

DATA = Path(__file__).parent.parent / "data" / "meta"
EXAMPLE: dict[str, Any] = json.loads((DATA / "send-example.json").read_text())
CASES: list[dict[str, Any]] = json.loads((DATA / "receipts.json").read_text())["cases"]
VECTORS: list[dict[str, Any]] = json.loads((DATA / "signatures.json").read_text())["vectors"]
CODES: dict[str, dict[str, Any]] = json.loads((DATA / "error-codes.json").read_text())["codes"]
OPENAPI: dict[str, Any] = json.loads((DATA / "openapi.json").read_text())

NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
APP_SECRET = "6fe2e0f6071ac2bb8d0b1ef26d1b691e"
OLD_APP_SECRET = "0d7e6f5c4b3a29181716151413121110"
SETTINGS: dict[str, Any] = {
    "access_token": "EAAx-system-user-token",
    "app_secret": APP_SECRET,
    "verify_token": "my-verify-token",
    "whatsapp_from": "106540352242922",
    "template": "otp_code",
}
META = Meta.model_validate(SETTINGS)
MESSAGE = Message(
    delivery="att_7Q2f9cV1",
    channel=Channel.WHATSAPP,
    to="+14155550123",
    text="482913 is your Shop code.",
    code="482913",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW + timedelta(minutes=10),
    receipt_url="https://otp.example.com/receipts/meta/att_7Q2f9cV1",
)
REQUEST = Request("https://graph.facebook.com/v23.0/1/messages", {}, b"")
STATES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "failed_permanent": Status.FAILED,
    "failed_transient": Status.FAILED,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside, max_size=3),
    max_leaves=8,
)


def webhook(body: str, headers: dict[str, str] | None = None, *, query: str = "") -> Webhook:
    """A webhook as the listener hands it on."""
    return Webhook(f"https://otp.example.com/receipts/meta{query}", headers or {}, body.encode())


def signed(body: str, secret: str = APP_SECRET) -> Webhook:
    """A webhook that is rightly signed."""
    digest = hmac.new(secret.encode(), body.encode(), "sha256").hexdigest()
    return webhook(body, {"x-hub-signature-256": f"sha256={digest}"})


def statuses(*said: Any) -> str:
    """A webhook's body around statuses."""
    return json.dumps({"entry": [{"id": "1", "changes": [{"field": "messages", "value": {"statuses": said}}]}]})


def answer(status: int, said: Any, headers: dict[str, str] | None = None) -> Response:
    """An answer to a send."""
    return Response(REQUEST, status, headers or {}, json.dumps(said).encode())


def sent(meta: Meta, message: Message) -> dict[str, Any]:
    """The body of the request for a message."""
    said = json.loads(meta.request(message, NOW).body)
    assert isinstance(said, dict)
    return said


def test_the_request_is_the_documented_one() -> None:
    """As in the example, and as Meta's own description has it."""
    request = META.request(MESSAGE, NOW)
    assert (request.method, request.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    assert request.headers == {"content-type": "application/json", "authorization": "Bearer EAAx-system-user-token"}
    assert json.loads(request.body) == EXAMPLE["request"]["body"]
    schema = {"$ref": "#/components/schemas/Message", "components": OPENAPI["components"]}
    assert list(OAS31Validator(schema).iter_errors(json.loads(request.body))) == []


def test_number_code_and_secrets_are_in_the_body_only_and_in_no_repr() -> None:
    """The token, too, is in its header only."""
    request = META.request(MESSAGE, NOW)
    public = f"{request.url} {sorted(request.headers)} {request!r} {META!r}"
    hidden = ("482913", "4155550123", "EAAx", APP_SECRET, "my-verify-token")
    assert not any(secret in public for secret in hidden)
    assert "482913" not in str(request.headers)


@pytest.mark.parametrize(
    ("locale", "language"),
    [("de", "de"), ("de-AT", "de"), ("pt-BR", "pt_BR"), ("pt", "en_US"), ("zh-Hans-CN", "zh_CN"), ("fr", "en_US")],
)
def test_the_template_is_in_the_nearest_language_that_is_approved(locale: str, language: str) -> None:
    """And in the default language where none is near."""
    languages = {"de": "de", "pt-BR": "pt_BR", "zh-Hans": "zh_CN"}
    meta = Meta.model_validate({**SETTINGS, "languages": languages})
    assert sent(meta, replace(MESSAGE, locale=locale))["template"]["language"]["code"] == language


def test_only_whatsapp_is_carried() -> None:
    """Whatever else is configured."""
    assert META.channels == {Channel.WHATSAPP}


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert META.read(answer(200, EXAMPLE["success"]["body"])) == Accepted("wamid.HBgLMTQxNTU1NTAxMjMVAgARGBI5QUE")
    without: list[Any] = [{}, {"messages": []}, {"messages": [{"id": 7}]}, [], None]
    assert [META.read(answer(200, said)) for said in without] == [Accepted("")] * 5


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """Also where they hide in a 200."""
    assert META.read(answer(error["status"], error["body"], {"retry-after": "3"})) == Rejected(error["class"], 3.0)
    assert META.read(answer(200, error["body"])) == Rejected(error["class"])


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_reason_in_answers_and_in_receipts(code: str) -> None:
    """One of ours."""
    reason = CODES[code]["class"]
    assert reason in REASONS
    assert META.read(answer(400, {"error": {"code": int(code)}})) == Rejected(reason)
    said = {"id": "wamid.A", "status": "failed", "errors": [{"code": int(code)}]}
    assert META.receipts(signed(statuses(said)), NOW) == [Receipt(Status.FAILED, reason, "wamid.A")]


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (403, {"code": 200}, "auth"),
        (400, {"code": 299}, "auth"),
        (400, {"code": 424242}, "request"),
        (400, {"code": 424242, "is_transient": True}, "provider_error"),
        (400, {"code": 131026, "is_transient": True}, "not_on_channel"),
        (400, {"code": "131026"}, "request"),
        (401, {"code": [131026]}, "auth"),
        (503, None, "provider_error"),
        (429, None, "rate_limited"),
    ],
)
def test_what_is_in_no_table_is_read_from_the_rest_of_the_answer(status: int, error: Any, reason: str) -> None:
    """Permissions are a range of codes; then Meta's own word on whether it passes; then the HTTP status."""
    assert META.read(answer(status, {"error": error})) == Rejected(reason)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_signatures_are_judged_as_they_should_be(vector: dict[str, Any]) -> None:
    """Each vector, right or tampered with."""
    meta = Meta.model_validate({**SETTINGS, "app_secret": vector["secret"]})
    given_webhook = webhook(vector["body"], {name.lower(): value for name, value in vector["headers"].items()})
    if vector["valid"]:
        assert all(receipt.message_id == "wamid.A" for receipt in meta.receipts(given_webhook, NOW))
    else:
        with pytest.raises(Forged):
            meta.receipts(given_webhook, NOW)


def test_one_changed_byte_is_refused() -> None:
    """Anywhere in the body or in the header."""
    right = signed(statuses({"id": "wamid.A", "status": "sent"}))
    header = right.headers["x-hub-signature-256"]
    for place in range(len(right.body)):
        changed = right.body[:place] + bytes([right.body[place] ^ 1]) + right.body[place + 1 :]
        with pytest.raises(Forged):
            META.receipts(replace(right, body=changed), NOW)
    for place in range(len(header)):
        changed_header = header[:place] + chr(ord(header[place]) ^ 1) + header[place + 1 :]
        with pytest.raises(Forged):
            META.receipts(replace(right, headers={"x-hub-signature-256": changed_header}), NOW)


def test_both_app_secrets_are_taken_while_one_is_changed() -> None:
    """And the old one no longer than it is configured."""
    webhook_of_old = signed(statuses({"id": "wamid.A", "status": "read"}), OLD_APP_SECRET)
    changing = Meta.model_validate({**SETTINGS, "old_app_secret": OLD_APP_SECRET})
    assert changing.receipts(webhook_of_old, NOW) == [Receipt(Status.READ, None, "wamid.A")]
    with pytest.raises(Forged):
        META.receipts(webhook_of_old, NOW)


@pytest.mark.parametrize("case", [case for case in CASES if case["method"] == "POST"], ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each with its delivery, in order, several in one webhook; what is no receipt is passed over."""
    assert META.receipts(signed(case["body"]), NOW) == [
        Receipt(STATES[event["state"]], event.get("error_class"), event["message_id"], event["reference"])
        for event in case["expect"]
    ]


@pytest.mark.parametrize(
    ("said", "receipts"),
    [
        ({"id": "m", "status": "played"}, [Receipt(Status.READ, None, "m")]),
        ({"id": "m", "status": "failed"}, [Receipt(Status.FAILED, "unknown", "m")]),
        ({"id": "m", "status": "failed", "errors": [{"code": 424242}]}, [Receipt(Status.FAILED, "unknown", "m")]),
        ({"id": "m", "status": "sent", "errors": [{"code": 131026}]}, [Receipt(Status.SENT, None, "m")]),
        ({"id": "m", "status": "deleted"}, []),
        ({"id": "m", "status": ["sent"]}, []),
        ({"status": "sent", "id": 7, "biz_opaque_callback_data": 7}, [Receipt(Status.SENT)]),
    ],
)
def test_words_and_codes_that_are_not_known_are_unknown(said: dict[str, Any], receipts: list[Receipt]) -> None:
    """A status is passed over, a failure keeps its status."""
    assert META.receipts(signed(statuses(said)), NOW) == receipts


@pytest.mark.parametrize("body", ["", "[]", "sent", "7"])
def test_what_is_no_object_is_malformed(body: str) -> None:
    """Though it is rightly signed."""
    with pytest.raises(Malformed):
        META.receipts(signed(body), NOW)


def test_the_handshake_gives_the_challenge_back_to_whoever_has_the_token() -> None:
    """And to nobody else."""
    right, wrong = (case for case in CASES if case["method"] == "GET")
    assert META.handshake(Webhook(right["url"], {}, b"")) == right["respond"]["text"].encode()
    with pytest.raises(Forged):
        META.handshake(Webhook(wrong["url"], {}, b""))
    for query in ("?hub.mode=subscribe&hub.challenge=1", "?hub.mode=subscribe&hub.verify_token=%FF"):
        with pytest.raises(Forged):
            META.handshake(webhook("", query=query))


@pytest.mark.parametrize("query", ["", "?hub.challenge=1", "?hub.mode=unsubscribe&hub.verify_token=my-verify-token"])
def test_what_is_no_handshake_gets_no_answer_of_one(query: str) -> None:
    """A receipt, for example."""
    assert META.handshake(webhook("", query=query)) is None


@settings(max_examples=50)
@given(body=st.text(max_size=100), header=st.text(max_size=80), said=JSON)
def test_rubbish_never_raises_anything_but_the_documented_errors(body: str, header: str, said: Any) -> None:
    """Neither unsigned, nor rightly signed, wherever it stands; nor as an answer."""
    with pytest.raises(BadWebhook):
        META.receipts(webhook(body, {"x-hub-signature-256": header}), NOW)
    status = {"id": said, "status": "failed", "errors": said, "biz_opaque_callback_data": said}
    shapes = [{"entry": said}, {"entry": [{"changes": said}]}, {"entry": [{"changes": [{"value": said}]}]}]
    for shape in (json.dumps(said), *map(json.dumps, shapes), statuses(said, status)):
        try:
            receipts = META.receipts(signed(shape), NOW)
        except BadWebhook:
            continue
        assert all(receipt.reason is None or receipt.reason in REASONS for receipt in receipts)
    answers = [said, {"error": said}, {"error": {"code": said}}, {"messages": said}, {"messages": [said]}]
    for http in (200, 400, 500):
        assert all(isinstance(META.read(answer(http, one)), (Accepted, Rejected)) for one in answers)
    assert isinstance(META.read(Response(REQUEST, 200, {}, body.encode())), Accepted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_url": "graph.facebook.com"},
        {"api_url": "https://user:password@graph.facebook.com/v23.0"},
        {"whatsapp_from": "+15550783881"},
        {"template": "OTP code"},
        {"language": "en-US"},
        {"languages": {"de": "German"}},
        {"app_secret": ""},
        {"verify_token": ""},
        {"sms_from": "+15550783881"},
    ],
    ids=lambda wrong: str(*wrong),
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Meta.model_validate({**SETTINGS, **wrong})
