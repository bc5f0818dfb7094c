"""SNS Publish: what it is sent and what it answers, the latter by moto's server too."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import time_machine
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from service import provider
from service.errors import Forged
from service.provider import REASONS, Accepted, Channel, Message, Rejected, Request, Response
from service.providers import sns
from service.providers.sns import Sns

DATA = Path(__file__).parent.parent / "data" / "sns"
MODEL = ServiceModel(json.loads((DATA / "service.json").read_text()), "sns")
OUTGOING: list[dict[str, Any]] = json.loads((DATA / "sigv4.json").read_text())["vectors"]
NOW = datetime(2026, 10, 6, 10, tzinfo=UTC)
ACCOUNT = Sns(
    region="us-east-1",
    access_key_id="AKIDEXAMPLE",
    secret_access_key=SecretStr("the-secret-key"),
    session_token=SecretStr("the-session"),
    sms_from="Shop",
)
MESSAGE = Message(
    delivery="ver_00aaaaaaaaaaaaaaaaaaaa.0",
    channel=Channel.SMS,
    to="+14155550123",
    text="482913 is your code & nobody's else: é",
    code="482913",
    locale="en",
    application="shop",
    brand="Shop",
    purpose="login",
    expires_at=NOW + timedelta(minutes=2),
    receipt_url="https://otp.example.com/receipts/sns/x",
)
REQUEST = Request("https://sns.us-east-1.amazonaws.com/", {}, b"")


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


def test_botocore_signs_the_same() -> None:
    """Its own way, by the clock; ours is dated with the time that we are given."""
    request = ACCOUNT.request(MESSAGE, NOW)
    theirs = AWSRequest(
        "POST", request.url, headers={"content-type": request.headers["content-type"]}, data=request.body
    )
    with time_machine.travel(NOW, tick=False):
        SigV4Auth(Credentials("AKIDEXAMPLE", "the-secret-key", "the-session"), "sns", "us-east-1").add_auth(theirs)
    assert {name.lower(): value for name, value in theirs.headers.items()} == request.headers


@pytest.mark.parametrize("vector", OUTGOING, ids=[vector["id"] for vector in OUTGOING])
def test_signatures_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    """Each vector's bytes, credentials and time."""
    signer = Sns(
        region=vector["region"], access_key_id=vector["access_key"], secret_access_key=SecretStr(vector["secret"])
    )
    at = datetime.strptime(vector["date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    signed = signer.signed("sns", {"content-type": headers["content-type"]}, vector["body"].encode(), at)
    assert signed.headers == headers


def test_moto_takes_what_we_send(moto: str) -> None:
    """And its answer has the id of the message."""
    request = ACCOUNT.model_copy(update={"api_url": moto}).request(MESSAGE, NOW)
    answer = httpx.post(request.url, headers=dict(request.headers), content=request.body)
    outcome = ACCOUNT.read(Response(request, answer.status_code, answer.headers, answer.content))
    assert isinstance(outcome, Accepted)
    assert outcome.message_id in answer.text
    assert len(outcome.message_id) == 36


def test_moto_refuses_a_number_that_is_none(moto: str) -> None:
    """Which is our request's fault."""
    request = ACCOUNT.model_copy(update={"api_url": moto}).request(replace(MESSAGE, to="NAA+15551234567"), NOW)
    answer = httpx.post(request.url, headers=dict(request.headers), content=request.body)
    outcome = ACCOUNT.read(Response(request, answer.status_code, answer.headers, answer.content))
    assert (answer.status_code, outcome) == (400, Rejected("request"))


def test_nothing_secret_shows() -> None:
    """No number and no code in URL, headers or repr; no key in any of them but the session, which goes along."""
    request = ACCOUNT.request(MESSAGE, NOW)
    assert not any(
        secret in f"{request.url} {request.headers}" for secret in ("482913", "4155550123", "the-secret-key")
    )
    secrets = ("482913", "4155550123", "the-secret-key", "the-session")
    assert not any(secret in f"{request!r} {ACCOUNT!r}" for secret in secrets)


def error(code: str) -> bytes:
    """An error as SNS writes it."""
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>-</Message></Error>"
    return f'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{inner}</ErrorResponse>'.encode()


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b"<PublishResult>\n<MessageId>m-1</MessageId></PublishResult>", Accepted("m-1")),
        (200, b"", Accepted("")),
        (400, error("Throttling"), Rejected("rate_limited", 7.0)),
        (400, error("ExpiredToken"), Rejected("auth", 7.0)),
        (400, error("InvalidParameter"), Rejected("request", 7.0)),
        (400, error("EndpointDisabled"), Rejected("sender_config", 7.0)),
        (403, error("SignatureDoesNotMatch"), Rejected("auth", 7.0)),
        (404, error("NotFound"), Rejected("sender_config", 7.0)),
        (500, error("InternalError"), Rejected("provider_error", 7.0)),
        (503, b"<html>", Rejected("provider_error", 7.0)),
    ],
)
def test_answers_are_read_as_documented(status: int, body: bytes, meaning: Accepted | Rejected) -> None:
    """The code of an error says more than the status."""
    assert ACCOUNT.read(Response(REQUEST, status, {"retry-after": "7"}, body)) == meaning


def test_every_reason_is_one_of_ours() -> None:
    """Else a refusal would lead nowhere."""
    assert set(sns._REASONS.values()) <= REASONS.keys()  # noqa: SLF001 - the table


@settings(max_examples=50)
@given(body=st.binary(max_size=200), headers=st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_rubbish_is_forged_and_never_breaks_reading(body: bytes, headers: dict[str, str]) -> None:
    """Nobody is believed as a receipt of what has none."""
    with pytest.raises(Forged):
        ACCOUNT.receipts(provider.Webhook("https://otp.example.com/receipts/sns/x", headers, body), NOW)
    for rubbish in (body, b"<MessageId>" + body, b"<MessageId>" + body + b"</MessageId>"):
        assert isinstance(ACCOUNT.read(Response(REQUEST, 200, headers, rubbish)), Accepted)
        assert isinstance(ACCOUNT.read(Response(REQUEST, 400, headers, rubbish)), Rejected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"region": "us-east-1.evil.example/"}, "region"),
        ({"access_key_id": ""}, "access_key_id"),
        ({"secret_access_key": ""}, "secret_access_key"),
        ({"sms_from": "A name too long"}, "sms_from"),
        ({"api_url": "https://user:password@sns.us-east-1.amazonaws.com"}, "api_url"),
        ({"topic": "arn"}, "topic"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    """At the start, not at the first message."""
    right = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "s"}
    assert Sns.model_validate(right).channels == {Channel.SMS}
    with pytest.raises(ValidationError, match=message):
        Sns.model_validate({**right, **wrong})
