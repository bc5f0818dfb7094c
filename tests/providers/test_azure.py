"""Azure Communication Services: signed requests, refusals inside a 202, and receipts by Event Grid."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Self
from uuid import UUID

import pytest
import time_machine
from azure.communication.sms import SmsClient
from azure.core.credentials import AzureKeyCredential
from hypothesis import given, settings
from openapi_schema_validator import OAS31Validator
from pydantic import ValidationError

from service.errors import Forged, Malformed
from service.provider import REASONS, Accepted, Channel, Receipt, Rejected, Request, Status, Webhook
from service.providers.azure import Azure, signed
from tests.providers.examples import MESSAGE, NOW, STATES, answer, documented
from tests.providers.rubbish import JSON, receipts_of, understood

EXAMPLE: dict[str, Any] = documented("azure/send-example")
CASES: list[dict[str, Any]] = documented("azure/receipts")["cases"]
VECTORS: list[dict[str, Any]] = documented("azure/signatures")["vectors"]
CODES: dict[str, dict[str, Any]] = documented("azure/error-codes")["codes"]
SWAGGER: dict[str, Any] = documented("azure/swagger")

ACCESS_KEY: str = VECTORS[0]["secret"]
SECRET = "s3cret-of-the-subscription"
SETTINGS: dict[str, Any] = {
    "api_url": "https://contoso.communication.azure.com",
    "access_key": ACCESS_KEY,
    "webhook_secret": SECRET,
    "sms_from": "+15005550006",
}
AZURE = Azure.model_validate(SETTINGS)


def webhook(body: str, secret: str = SECRET) -> Webhook:
    """A webhook with a secret."""
    return Webhook(f"https://otp.example.com/receipts/azure?secret={secret}", {}, body.encode())


def report(data: Any, event_type: Any = "Microsoft.Communication.SMSDeliveryReportReceived") -> str:
    """A webhook's body around a delivery report."""
    return json.dumps([{"id": "e1", "eventType": event_type, "data": data}])


class Network:
    """What Microsoft's own client sends into: keeps the request, and answers nothing."""

    request: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, request: Any, **_: Any) -> None:
        """Take the request and go no further."""
        self.request = request
        raise ConnectionAbortedError


def test_the_request_is_the_documented_one() -> None:
    """As in the example, whose request id is another, and as Microsoft's own description has it."""
    request = AZURE.request(MESSAGE, NOW)
    assert (request.method, request.url) == (EXAMPLE["request"]["method"], EXAMPLE["request"]["url"])
    said = json.loads(request.body)
    expected = EXAMPLE["request"]["body"]
    assert UUID(said["smsRecipients"][0]["repeatabilityRequestId"]).version == 4
    said["smsRecipients"][0]["repeatabilityRequestId"] = expected["smsRecipients"][0]["repeatabilityRequestId"]
    assert said == expected
    schema = {"$ref": "#/definitions/SendMessageRequest", "definitions": SWAGGER["definitions"]}
    assert list(OAS31Validator(schema).iter_errors(said)) == []
    assert AZURE.channels == {Channel.SMS}


def test_the_same_delivery_has_the_same_request_id_and_another_has_another() -> None:
    """So that Azure sends it once, however often we ask."""
    messages = [(MESSAGE, NOW), (MESSAGE, NOW + timedelta(seconds=9)), (replace(MESSAGE, delivery="att_other"), NOW)]
    recipients = [json.loads(AZURE.request(message, now).body)["smsRecipients"][0] for message, now in messages]
    first, again, other = (recipient["repeatabilityRequestId"] for recipient in recipients)
    assert first == again != other


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_requests_are_signed_as_in_the_vectors(vector: dict[str, Any]) -> None:
    """All three headers."""
    unsigned = Request(vector["url"], {}, vector["body"].encode(), vector["method"])
    headers = signed(unsigned, vector["secret"], parsedate_to_datetime(vector["date"])).headers
    assert headers == {name.lower(): value for name, value in vector["headers"].items()}


@pytest.mark.parametrize("api_url", ["https://contoso.communication.azure.com", "http://127.0.0.1:8443"])
def test_requests_are_signed_as_by_microsofts_own_client(api_url: str) -> None:
    """What it sends is signed the same by us, and has the same fields."""
    network = Network()
    client: Any = SmsClient(api_url, AzureKeyCredential(ACCESS_KEY), transport=network)
    with time_machine.travel(NOW, tick=False), pytest.raises(ConnectionAbortedError):
        client.send("+15005550006", "+14155550123", "Ваш код 482913", enable_delivery_report=True, tag="att_7Q2f9cV1")
    theirs = network.request
    ours = signed(Request(theirs.url, {}, theirs.data.encode(), theirs.method), ACCESS_KEY, NOW).headers
    assert ours == {name: theirs.headers[name] for name in ours}
    request = Azure.model_validate({**SETTINGS, "api_url": api_url}).request(MESSAGE, NOW)
    assert request.url.partition("?")[0] == theirs.url.partition("?")[0]
    said, documented = json.loads(request.body), json.loads(theirs.data)
    assert (said.keys(), said["smsRecipients"][0].keys()) == (documented.keys(), documented["smsRecipients"][0].keys())
    assert said["smsSendOptions"] == documented["smsSendOptions"]


def test_an_accepted_message_has_its_id() -> None:
    """From the example; an answer without an id accepts as well."""
    assert AZURE.read(answer(202, EXAMPLE["success"]["body"])) == Accepted("Outgoing_20261006_x")
    without: list[Any] = [{"value": []}, {"value": [{"messageId": 7, "successful": True}]}]
    assert [AZURE.read(answer(202, said)) for said in without] == [Accepted("")] * 2


@pytest.mark.parametrize("error", EXAMPLE["errors"], ids=lambda error: error["class"])
def test_documented_refusals_have_their_reason(error: dict[str, Any]) -> None:
    """They hide in a 202."""
    assert AZURE.read(answer(error["status"], error["body"])) == Rejected(error["class"])


@pytest.mark.parametrize(
    ("status", "recipient", "rejected"),
    [
        (202, {"httpStatusCode": 400, "successful": False, "repeatabilityResult": "rejected"}, Rejected("request", 3)),
        (202, {"httpStatusCode": 429, "successful": False}, Rejected("rate_limited", 3)),
        (202, {"httpStatusCode": 500}, Rejected("provider_error", 3)),
        (202, {"successful": False}, Rejected("request", 3)),
        (202, {"successful": False, "httpStatusCode": "401", "errorMessage": 7}, Rejected("request", 3)),
        (400, {"successful": True}, Rejected("request", 3)),
    ],
)
def test_refusals_are_read_by_status(status: int, recipient: dict[str, Any], rejected: Rejected) -> None:
    """The recipient's own where there is one; that a request is bad says nothing of the number."""
    assert AZURE.read(answer(status, {"value": [recipient]}, retry_after="3")) == rejected


@pytest.mark.parametrize("case", [case for case in CASES if case["expect"]], ids=lambda case: case["name"])
def test_receipts_are_read_as_documented(case: dict[str, Any]) -> None:
    """Each with its delivery."""
    assert AZURE.receipts(webhook(case["body"]), NOW) == [
        Receipt(STATES[event["state"]], event.get("error_class"), event["message_id"], event["reference"])
        for event in case["expect"]
    ]
    assert AZURE.handshake(webhook(case["body"])) is None


@pytest.mark.parametrize("code", [code for code in CODES if CODES[code]["class"]])
@pytest.mark.parametrize("details", ["{}", "Error {}: see table (attempt 1 of 20261006)."])
def test_every_code_has_its_reason(code: str, details: str) -> None:
    """Alone or within words."""
    said = report({"messageId": "m", "deliveryStatus": "Failed", "deliveryStatusDetails": details.format(code)})
    assert CODES[code]["class"] in REASONS
    assert AZURE.receipts(webhook(said), NOW) == [Receipt(Status.FAILED, CODES[code]["class"], "m")]


@pytest.mark.parametrize(
    ("data", "receipts"),
    [
        ({"MessageId": "m", "DeliveryStatus": "Delivered", "Tag": "t"}, [Receipt(Status.DELIVERED, None, "m", "t")]),
        ({"deliveryStatus": "Delivered", "deliveryStatusDetails": "4006"}, [Receipt(Status.DELIVERED)]),
        ({"deliveryStatus": "Failed"}, [Receipt(Status.FAILED, "unknown")]),
        ({"deliveryStatus": "Failed", "deliveryStatusDetails": "4999"}, [Receipt(Status.FAILED, "unknown")]),
        ({"deliveryStatus": "Failed", "deliveryStatusDetails": "14006"}, [Receipt(Status.FAILED, "unknown")]),
        ({"deliveryStatus": "Expired"}, [Receipt(Status.FAILED, "expired")]),
        ({"deliveryStatus": "Unknown", "messageId": 7, "tag": 7}, [Receipt(Status.UNKNOWN)]),
        ({"deliveryStatus": "Pondering"}, [Receipt(Status.UNKNOWN)]),
        ({"deliveryStatus": ["Delivered"]}, []),
        ([], []),
    ],
)
def test_words_and_codes_that_are_not_known_are_unknown(data: Any, receipts: list[Receipt]) -> None:
    """A failure keeps its status; capitals in names do not matter."""
    assert AZURE.receipts(webhook(report(data)), NOW) == receipts
    assert AZURE.receipts(webhook(report(data, "Microsoft.Communication.SMSReceived")), NOW) == []


def test_the_handshake_is_answered_to_whoever_has_the_secret() -> None:
    """And the question holds no receipt."""
    (case,) = (case for case in CASES if "respond" in case)
    said = AZURE.handshake(webhook(case["body"]))
    assert said is not None
    assert json.loads(said) == case["respond"]["json"]
    assert AZURE.receipts(webhook(case["body"]), NOW) == []
    with pytest.raises(Forged):
        AZURE.handshake(webhook(case["body"], ""))


@pytest.mark.parametrize("body", ["", "{}", "sent", '{"specversion": "1.0"}'])
def test_what_is_no_list_of_events_is_malformed(body: str) -> None:
    """CloudEvents, for example."""
    with pytest.raises(Malformed):
        AZURE.receipts(webhook(body), NOW)


@settings(max_examples=50)
@given(JSON)
def test_rubbish_with_the_secret_is_malformed_or_noise(said: Any) -> None:
    """Wherever it stands; as it is in an answer."""
    failed = {"messageId": said, "deliveryStatus": "Failed", "deliveryStatusDetails": said, "tag": said}
    question = report({"validationCode": said}, "Microsoft.EventGrid.SubscriptionValidationEvent")
    shapes = [json.dumps(said), json.dumps([said]), report(said), report(failed), report(failed, said), question]
    for shape in shapes:
        receipts_of(AZURE, webhook(shape))
        with suppress(Malformed):
            AZURE.handshake(webhook(shape))
    recipient = {"httpStatusCode": said, "successful": said, "errorMessage": said, "messageId": said}
    understood(AZURE, said, {"value": said}, {"value": [said]}, {"value": [recipient]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_url": "https://contoso.communication.azure.com/sms"},
        {"access_key": "no base64"},
        {"sms_from": ""},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at the first message."""
    with pytest.raises(ValidationError):
        Azure.model_validate({**SETTINGS, **wrong})
