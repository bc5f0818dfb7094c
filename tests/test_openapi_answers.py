"""Every answer that `openapi.yaml` describes, got from the service on purpose."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import yaml

from service import config
from service.api import problems
from service.api.auth import digest
from service.api.listener import MAX_BODY, MAX_WEBHOOK
from service.errors import Unavailable
from service.sealing import KeyRing
from tests.openapi import DOCUMENT, faults, operations, resolved
from tests.world import KEY, READ_KEY, Sent, World, signed, table, world, wrong

GUARD_KEY = "vk_guard"
ANY_ID = "ver_0000000000000000000000"

# Providers with one address for a whole account, who ask whether it is ours: by GET, and in the body of a POST.
META = {
    "kind": "meta",
    "access_token": "token",
    "app_secret": "app-secret",
    "verify_token": "verify-token",
    "whatsapp_from": "106540352242922",
    "template": "otp_code",
}
AZURE = {
    "kind": "azure",
    "api_url": "https://contoso.communication.azure.com",
    "access_key": "c2VjcmV0",
    "webhook_secret": "secret-of-the-subscription",
    "sms_from": "+15005550006",
}
INFOBIP = {
    "kind": "infobip",
    "api_url": "https://xxxxx.api.infobip.com",
    "api_key": "key",
    "inbound_secret": "secret-of-the-address",
    "sms_from": "Shop",
}


class Caller:
    """Calls operations by their ids and holds every answer to the file.

    `seen` is what was answered: operation, status, media type.
    """

    def __init__(self, one: World) -> None:
        self._one = one
        self.seen: set[tuple[str, str, str]] = set()

    async def __call__(
        self,
        name: str,
        body: object = None,
        *,
        key: str | None = KEY,
        raw: str | None = None,
        headers: Mapping[str, str] | None = None,
        of: str = ANY_ID,
        receipt: tuple[str, str] = ("gw", "x"),
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Call, and check the answer against what the file says of its status."""
        operation = operations()[name]
        sent = dict(headers or {})
        if key is not None and operation.said.get("security") != []:
            sent["authorization"] = f"Bearer {key}"
        content = raw if raw is not None else None if body is None else json.dumps(body)
        listener = self._one.service.listeners[operation.server.removeprefix("http://")]
        transport = httpx.ASGITransport(listener)
        async with httpx.AsyncClient(transport=transport, base_url=operation.server) as client:
            path = operation.path.format(id=of, prefix=of, number=of, provider=receipt[0], token=receipt[1])
            response = await client.request(operation.method, path, content=content, headers=sent, params=query)
        answer = resolved(operation.said["responses"][str(response.status_code)])
        media = response.headers["content-type"].partition(";")[0]
        self.seen.add((name, str(response.status_code), media))
        said = answer["content"][media]
        read = json.loads if media.endswith("json") else yaml.safe_load if media.endswith("yaml") else str
        given: Any = read(response.text)
        assert faults(said["schema"], given) == []
        for header, bounds in answer["headers"].items():
            schema = resolved(bounds)["schema"]
            value = response.headers[header]
            assert faults(schema, int(value) if schema["type"] == "integer" else value) == []
        if media == "application/problem+json":
            assert given["title"] == problems.CODES[given["code"]][1]
        return response


async def _refusals(call: Caller, name: str) -> None:
    """What every operation of its sort refuses."""
    operation = operations()[name]
    documented = operation.said["responses"]
    good: Any = None
    if "requestBody" in operation.said:
        (content,) = operation.said["requestBody"]["content"].values()
        good = next(iter(content["examples"].values()))["value"]
        await call(
            name, raw="x" * (1 + (MAX_WEBHOOK if operation.path.startswith(("/receipts", "/inbound")) else MAX_BODY))
        )
    of_guard = operation.said["tags"] == ["guard"]
    key, stranger = (GUARD_KEY, KEY) if of_guard else (KEY, GUARD_KEY)
    if "security" not in operation.said:
        await call(name, good, key=None)
        await call(name, good, key=stranger)
    if "400" in documented and "422" in documented:
        await call(name, raw="{", key=key)
        await call(name, {"colour": "red"}, key=key)
    if "{id}" in operation.path or (of_guard and "{" in operation.path):
        await call(name, good, key=key)


async def _sends_and_checks(call: Caller, one: World) -> Sent:
    """Starts, joins, resends and guesses, up to the limits of each; the first message."""
    number, key = {"to": "+447400123456"}, {"Idempotency-Key": "a"}
    started = (await call("startVerification", number, headers=key)).json()
    await call("startVerification", {"to": "+447400123457"}, headers=key)
    await one.work()
    message = one.gateway.last
    await call("startVerification", {"to": "+447400123"})
    assert (await call("startVerification", number)).json()["limit"] == "resend"
    assert (await call("resendVerification", of=started["id"])).json()["limit"] == "resend"
    await one.travel(31)
    assert (await call("startVerification", number)).status_code == 200
    await one.travel(61)
    assert (await call("resendVerification", of=started["id"])).json()["limit"] == "sends"
    guess = {"id": started["id"], "code": wrong(message.code)}
    await call("checkCode", guess, headers=key)
    await call("checkCode", guess | {"code": message.code}, headers=key)
    assert (await call("checkCode", guess)).json()["limit"] == "wrong_checks"
    await call("checkCode", guess | {"id": ANY_ID})
    return message


async def _resend_and_end(call: Caller, one: World) -> None:
    """What can be done with one verification by its id, and that it is over then."""
    name = (await call("startVerification", {"to": "+447400123458", "code": "4321"})).json()["id"]
    await one.travel(31)
    await call("resendVerification", {"channel": "voice"}, of=name)
    await call("cancelVerification", of=name)
    await call("cancelVerification", of=name)
    await call("resendVerification", of=name)
    await call("giveFeedback", {"converted": True}, of=name)
    await call("readVerification", key=READ_KEY, of=name)


async def _guard(call: Caller) -> None:
    """Somebody is shut out, told why, and let in again."""
    number, prefix = "+447400123459", "+99299"
    why = {"reason": "a farm", "until": "2999-01-01T00:00:00Z"}
    await call("markNumber", {"action": "deny", **why}, of=number, key=GUARD_KEY)
    await call("readNumber", of=number, key=READ_KEY)
    await call("readStats", key=READ_KEY)
    await call("readStats", query={"group_by": "hour", "from": "2026-01-01T00:00:00"}, key=GUARD_KEY)
    refused = await call("startVerification", {"to": number})
    await call("readDecision", of=refused.json()["decision_id"], key=READ_KEY)
    await call("unmarkNumber", of=number, key=GUARD_KEY)
    await call("unmarkNumber", of=number, key=GUARD_KEY)
    await call("markPrefix", {"action": "block", **why}, of=prefix, key=GUARD_KEY)
    await call("listPrefixes", query={"country": "TJ"}, key=READ_KEY)
    await call("listPrefixes", query={"country": "GB"}, key=READ_KEY)
    await call("listPrefixes", query={"country": "gb", "state": "closed"}, key=READ_KEY)
    await call("unmarkPrefix", of=prefix, key=GUARD_KEY)
    await call("unmarkPrefix", of=prefix, key=GUARD_KEY)


async def _receipts(call: Caller, one: World, message: Sent) -> None:
    """By each way one that is right, one that cannot be read, one that is not signed, one at no address."""
    _, provider, token = message.data["receipt_url"].rsplit("/", 2)
    for name in ("takeReceipt", "takeReceiptByGet"):
        for status in ("delivered", 1):
            body = json.dumps({"type": "delivery.receipt", "data": {"status": status}})
            await call(name, raw=body, headers=signed(body), receipt=(provider, token))
        await call(name, {}, receipt=(provider, token))
        await call(name, {}, receipt=("", token))
    reported = {"status": "delivered", "biz_opaque_callback_data": _token_for("meta", one, message)}
    for entry in ([{"changes": [{"value": {"statuses": [reported]}}]}], None):
        body = json.dumps({"entry": entry} if entry else {})
        mac = hmac.new(META["app_secret"].encode(), body.encode(), "sha256").hexdigest()
        await call("takeReceipts", raw=body, headers={"x-hub-signature-256": f"sha256={mac}"}, receipt=("meta", ""))
    await call("takeReceipts", {}, receipt=("meta", ""))
    await call("takeReceipts", {}, receipt=("", ""))


async def _replies(call: Caller) -> None:
    """One that is right, one that cannot be read, one without its secret, and some that nobody hears."""
    secret, body = {"secret": INFOBIP["inbound_secret"]}, {"results": [{"from": "447400123456", "text": "STOP"}]}
    await call("takeReplies", body, receipt=("infobip", ""), query=secret)
    await call("takeReplies", {}, receipt=("infobip", ""), query=secret)
    await call("takeReplies", body, receipt=("infobip", ""))
    for provider in ("gw", "nobody", ""):
        await call("takeReplies", body, receipt=(provider, ""))


async def _handshakes(call: Caller, one: World, message: Sent) -> None:
    """Questions that are right, that cannot be read, that are not the provider's, and none at all."""
    asked = {"hub.mode": "subscribe", "hub.verify_token": META["verify_token"], "hub.challenge": "1158201444"}
    assert (await call("shakeHands", receipt=("meta", ""), query=asked)).text == "1158201444"
    await call("shakeHands", receipt=("meta", ""), query=asked | {"hub.verify_token": "another"})
    await call("shakeHands", receipt=("meta", ""))
    secret = {"secret": AZURE["webhook_secret"]}
    await call("shakeHands", receipt=("azure", ""), query=secret)
    event = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512d"}}
    answer = await call("takeReceipts", [event], receipt=("azure", ""), query=secret)
    assert answer.json() == {"validationResponse": "512d"}
    # An answer's media type goes by how it begins, wherever it is asked for.
    for name in ("takeReceipts", "takeReceipt", "takeReceiptByGet"):
        for challenge in ("1158201444", "<Response/>"):
            query = asked | {"hub.challenge": challenge}
            answer = await call(name, receipt=("meta", _token_for("meta", one, message)), query=query)
            assert answer.text == challenge


def _token_for(provider: str, one: World, message: Sent) -> str:
    """The token of a message's delivery, had it gone out by another provider."""
    delivery = message.data["delivery"]
    return f"{delivery}.{KeyRing(config.key_bytes(one.service.config)).writer.token(delivery, provider)}"


async def _inbox(call: Caller, one: World) -> None:
    """A message that the simulator took, and what is decided about it."""
    await one.create("+447400123900")
    (message,) = (await call("readInbox", key=READ_KEY)).json()["messages"]
    assert (await call("readInbox", query={"before": message["id"]})).json() == {"messages": [], "before": None}
    await call("readInbox", query={"before": "x"})
    failed = await call("reportOnMessage", {"receipt": "failed"}, of=message["id"])
    assert failed.json()["status"] == "failed"


async def _without_redis(call: Caller, one: World, message: Sent) -> None:
    """Everything that needs Redis, while it is away."""

    async def away(*_: object) -> None:
        raise Unavailable("away")

    with pytest.MonkeyPatch.context() as patch:
        for way in ("run", "rows", "together"):
            patch.setattr(one.service.store, way, away)
        patch.setattr(one.service.store, "probe", away)
        await call("startVerification", {"to": "+447400123456"})
        await call("checkCode", {"id": ANY_ID, "code": "123456"})
        await call("readVerification")
        await call("resendVerification")
        await call("cancelVerification")
        await call("giveFeedback", {"converted": True})
        await call("readEvents")
        await _receipts(call, one, message)
        await _replies(call)
        await call("readInbox")
        await call("reportOnMessage", {"receipt": "none"}, of="1")
        await call("isReady")
        why = {"reason": "a farm"}
        await call("markNumber", {"action": "deny", **why}, of="+447400123456", key=GUARD_KEY)
        await call("markPrefix", {"action": "block", **why}, of="+99299", key=GUARD_KEY)
        await call("unmarkNumber", of="+447400123456", key=GUARD_KEY)
        await call("unmarkPrefix", of="+99299", key=GUARD_KEY)
        await call("readNumber", of="+447400123456", key=GUARD_KEY)
        await call("readStats", key=GUARD_KEY)
        await call("listPrefixes", query={"country": "GB"}, key=GUARD_KEY)
        await call("readDecision", key=GUARD_KEY)


@pytest.mark.anyio
async def test_every_answer_of_the_file_is_given_as_it_is_described() -> None:
    """Status, content type, headers and body of each but 500: that is a defect, and nothing is known to cause it."""
    keys = [
        digest(KEY),
        {"hash": digest(READ_KEY), "scopes": ["read"]},
        {"hash": digest(GUARD_KEY), "scopes": ["guard"]},
    ]
    # The guard is on, and has room for all of it.
    guard = {
        "mode": "enforce",
        "rules": {"cap": {"block3": 100.0, "block4": 100.0}, "burst": 100, "unconverted": 100.0},
    }
    more = {"meta": META, "azure": AZURE, "infobip": INFOBIP, "simulator": {"kind": "simulator"}}
    top = {"providers": table()["providers"] | more, "guard": guard}
    by_prefix = {"+4474001239": [{"channel": "sms", "providers": ["simulator"]}]}
    async with world(
        api_keys=keys,
        own_code=True,
        sends=2,
        wrong_checks_per_day=1,
        cascade_by_prefix=by_prefix,
        events={},
        _top=top,
    ) as one:
        call = Caller(one)
        for name in operations():
            await _refusals(call, name)
        message = await _sends_and_checks(call, one)
        await _resend_and_end(call, one)
        await _guard(call)
        await _receipts(call, one, message)
        await _replies(call)
        await _handshakes(call, one, message)
        await _inbox(call, one)
        await one.work()
        assert (await call("readEvents", query={"limit": "1"})).json()["events"]
        await call("readEvents", query={"after": "yesterday"})
        for name in ("isAlive", "isReady", "readMetrics", "readDescription"):
            await call(name)
        await _without_redis(call, one, message)
    said = {
        (name, status, media)
        for name, operation in operations().items()
        for status, answer in operation.said["responses"].items()
        for media in resolved(answer)["content"]
    }
    assert call.seen == {one for one in said if one[1] != "500"}


@pytest.mark.anyio
@pytest.mark.parametrize("link", DOCUMENT["components"]["links"])
async def test_what_an_answer_links_to_is_there(link: str) -> None:
    """What was just started can be read, sent again, canceled and told about, by what the answer says."""
    said = DOCUMENT["components"]["links"][link]
    async with world() as one:
        call = Caller(one)
        started = await one.create()
        await one.travel(31)
        assert said["parameters"] == {"id": "$response.body#/id"}
        body = {"converted": True} if said["operationId"] == "giveFeedback" else None
        assert (await call(said["operationId"], body, of=started["id"])).status_code == 200
