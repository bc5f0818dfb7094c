"""Meta's WhatsApp Cloud API: the template that is sent, the answers, and the receipts of a whole app."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from openapi_schema_validator import OAS31Validator
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Message, Receipt, Rejected, Status, Webhook
from service.providers.meta import Meta
from tests.providers import examples
from tests.providers.examples import NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("meta/send-example")
CASES: list[dict[str, Any]] = documented("meta/receipts")["cases"]
VECTORS: list[dict[str, Any]] = documented("meta/signatures")["vectors"]
CODES: dict[str, dict[str, Any]] = documented("meta/error-codes")["codes"]
OPENAPI: dict[str, Any] = documented("meta/openapi")

APP_SECRET = "6fe2e0f6071ac2bb8d0b1ef26d1b691e"
OLD_SECRET = "0d7e6f5c4b3a29181716151413121110"
SETTINGS: dict[str, Any] = {
    "access_token": "EAAx-system-user-token",
    "app_secret": APP_SECRET,
    "verify_token": "my-verify-token",
    "whatsapp_from": "106540352242922",
    "template": "otp_code",
}
META = Meta.model_validate(SETTINGS)
MESSAGE = replace(examples.MESSAGE, channel=Channel.WHATSAPP)


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
    without: list[Any] = [{"messages": []}, {"messages": [{"id": 7}]}]
    assert [META.read(answer(200, said)) for said in without] == [Accepted("")] * 2


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """Also where they hide in a 200."""
    assert META.read(answer(error["status"], error["body"], retry_after="3")) == Rejected(error["class"], 3.0)
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
        ({"id": "m", "status": "teleported"}, [Receipt(Status.UNKNOWN, None, "m")]),
        ({"id": "m", "status": ["sent"]}, []),
        ({"status": "sent", "id": 7, "biz_opaque_callback_data": 7}, [Receipt(Status.SENT)]),
    ],
)
def test_words_and_codes_that_are_not_known_are_unknown(said: dict[str, Any], receipts: list[Receipt]) -> None:
    """A failure keeps its status; what is told of something else than delivery is passed over."""
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
@given(JSON)
def test_rubbish_that_is_rightly_signed_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    status = {"id": said, "status": "failed", "errors": said, "biz_opaque_callback_data": said}
    shapes = [said, {"entry": said}, {"entry": [{"changes": said}]}, {"entry": [{"changes": [{"value": said}]}]}]
    for shape in [*map(json.dumps, shapes), statuses(said, status)]:
        receipts_of(META, signed(shape))
    understood(META, said, {"error": said}, {"error": {"code": said}}, {"messages": said}, {"messages": [said]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"whatsapp_from": "+15550783881"},
        {"template": "OTP code"},
        {"language": "en-US"},
        {"languages": {"de": "German"}},
    ],
    ids=lambda wrong: str(*wrong),
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Meta.model_validate({**SETTINGS, **wrong})
