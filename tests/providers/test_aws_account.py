"""An account of AWS: each provider on it signs as botocore does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from service.provider import Channel
from service.providers.aws_account import AwsAccount
from tests.providers.examples import MESSAGE, NOW, documented
from tests.providers.test_contract import adapter, secrets

VECTORS: list[dict[str, Any]] = documented("aws/sigv4")["vectors"] + documented("sns/sigv4")["vectors"]
OF_THE_REQUEST = {"content-type", "x-amz-target"}
"""The headers that are there before it is signed."""


@pytest.mark.parametrize(
    ("kind", "channel", "service"),
    [("aws", Channel.SMS, "sms-voice"), ("aws", Channel.VOICE, "sms-voice"), ("sns", Channel.SMS, "sns")],
)
def test_botocore_signs_the_same(kind: str, channel: Channel, service: str) -> None:
    """Its own way, by the clock; ours is dated with the time that we are given."""
    one = adapter(kind)
    request = one.request(replace(MESSAGE, channel=channel), NOW)
    headers = {name: value for name, value in request.headers.items() if name in OF_THE_REQUEST}
    theirs = AWSRequest("POST", request.url, headers=headers, data=request.body)
    keys = Credentials(one.access_key_id, secrets(one)["secret_access_key"], secrets(one)["session_token"])
    with time_machine.travel(NOW, tick=False):
        SigV4Auth(keys, service, "us-east-1").add_auth(theirs)
    assert {name.lower(): value for name, value in theirs.headers.items()} == request.headers


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_signatures_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    """Each vector's bytes, credentials and time."""
    signer = AwsAccount(
        region=vector["region"],
        access_key_id=vector["access_key"],
        secret_access_key=vector["secret"],
        session_token=vector["session_token"],
    )
    at = datetime.strptime(vector["date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    unsigned = {name: value for name, value in headers.items() if name in OF_THE_REQUEST}
    signed = signer.signed(vector["service"], unsigned, vector["body"].encode(), at)
    assert (signed.url, signed.headers) == (vector["url"], headers)
