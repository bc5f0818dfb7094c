"""SNS Publish: what it is sent and what it answers, the latter by moto's server too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from service import provider
from service.errors import Forged
from service.provider import Accepted, Channel, Rejected, Response
from service.providers.sns import Sns
from tests.providers import examples
from tests.providers.examples import NOW, answer, documented
from tests.providers.rubbish import understood

MODEL = ServiceModel(documented("sns/service"), "sns")
ACCOUNT = Sns(
    region="us-east-1",
    access_key_id="AKIDEXAMPLE",
    secret_access_key=SecretStr("the-secret-key"),
    session_token=SecretStr("the-session"),
    sms_from="Shop",
)
PATIENCE = 60
"""Seconds for moto's first answer, for which it loads all that it knows of SNS."""
MESSAGE = replace(examples.MESSAGE, text="482913 is your code & nobody's else: é")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of moto's server, which plays SNS."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize(
    ("sender", "attribute"),
    [("Shop", "AWS.SNS.SMS.SenderID"), ("+15005550006", "AWS.MM.SMS.OriginationNumber"), (None, None)],
)
def test_botocore_writes_the_same(sender: str | None, attribute: str | None) -> None:
    """The request that it makes of the same parameters by the service's model."""
    attributes = {"AWS.SNS.SMS.SMSType": {"DataType": "String", "StringValue": "Transactional"}}
    if attribute:
        attributes[attribute] = {"DataType": "String", "StringValue": str(sender)}
    said = {"PhoneNumber": MESSAGE.to, "Message": MESSAGE.text, "MessageAttributes": attributes}
    theirs = create_serializer("query").serialize_to_request(said, MODEL.operation_model("Publish"))
    request = ACCOUNT.model_copy(update={"sms_from": sender}).request(MESSAGE, NOW)
    assert (request.method, request.url) == ("POST", "https://sns.us-east-1.amazonaws.com/")
    assert request.headers["content-type"] == theirs["headers"]["Content-Type"]
    assert {name: values[0] for name, values in parse_qs(request.body.decode()).items()} == theirs["body"]


def test_moto_takes_what_we_send(moto: str) -> None:
    """And its answer has the id of the message."""
    request = ACCOUNT.model_copy(update={"api_url": moto}).request(MESSAGE, NOW)
    said = httpx.post(request.url, headers=dict(request.headers), content=request.body, timeout=PATIENCE)
    outcome = ACCOUNT.read(Response(request, said.status_code, said.headers, said.content))
    assert isinstance(outcome, Accepted)
    assert outcome.message_id in said.text
    assert len(outcome.message_id) == 36


def test_moto_refuses_a_number_that_is_none(moto: str) -> None:
    """Which is our request's fault."""
    request = ACCOUNT.model_copy(update={"api_url": moto}).request(replace(MESSAGE, to="NAA+15551234567"), NOW)
    said = httpx.post(request.url, headers=dict(request.headers), content=request.body, timeout=PATIENCE)
    outcome = ACCOUNT.read(Response(request, said.status_code, said.headers, said.content))
    assert (said.status_code, outcome) == (400, Rejected("request"))


def error(code: str) -> bytes:
    """An error as SNS writes it."""
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>-</Message></Error>"
    return f'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{inner}</ErrorResponse>'.encode()


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b"<PublishResult>\n<MessageId>m-1</MessageId></PublishResult>", Accepted("m-1")),
        (400, error("Throttling"), Rejected("rate_limited", 7.0)),
        (400, error("ExpiredToken"), Rejected("auth", 7.0)),
        (400, error("InvalidParameter"), Rejected("request", 7.0)),
        (400, error("EndpointDisabled"), Rejected("sender_config", 7.0)),
        (403, error("SignatureDoesNotMatch"), Rejected("auth", 7.0)),
        (404, error("NotFound"), Rejected("sender_config", 7.0)),
        (500, error("InternalError"), Rejected("provider_error", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: bytes, meaning: Accepted | Rejected) -> None:
    """The code of an error says more than the status."""
    assert ACCOUNT.read(answer(status, body, retry_after="7")) == meaning


@settings(max_examples=50)
@given(body=st.binary(max_size=200), headers=st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_rubbish_is_forged_and_never_breaks_reading(body: bytes, headers: dict[str, str]) -> None:
    """Nobody is believed as a receipt of what has none."""
    with pytest.raises(Forged):
        ACCOUNT.receipts(provider.Webhook("https://otp.example.com/receipts/sns/x", headers, body), NOW)
    understood(ACCOUNT, body, b"<MessageId>" + body, b"<MessageId>" + body + b"</MessageId>", b"<Code>" + body)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"region": "us-east-1.evil.example/"}, "region"),
        ({"access_key_id": ""}, "access_key_id"),
        ({"sms_from": "A name too long"}, "sms_from"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "s"}
    assert Sns.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError, match=message):
        Sns.model_validate({**right, **wrong})
