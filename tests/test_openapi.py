"""`openapi.yaml` says what the service does, no less and no more."""

from __future__ import annotations

import copy
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import httpx
import phonenumbers
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from schemathesis.config import SchemathesisConfig
from starlette.types import Receive, Scope, Send

from service import config
from service.api import bodies, problems
from service.api.auth import digest
from service.api.listener import MAX_BODY, MAX_WEBHOOK
from service.app import Service
from service.errors import Unavailable
from service.events import TYPES
from service.provider import REASONS, Channel, Status
from service.providers import KINDS
from service.sealing import KeyRing
from service.stats import Group
from tests.world import KEY, READ_KEY, WEBHOOK_SECRET, Sent, World, signed, table, world, wrong

FILE = Path(__file__).resolve().parent.parent / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_bytes())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]

GUARD_KEY = "vk_guard"
TEST_NUMBERS = {"+447700900123": "424242", "+447700900124": "131313"}
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
SIMULATOR = {"kind": "simulator"}
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


class Operation(NamedTuple):
    """One method of one path, on the listener that has it."""

    server: str
    path: str
    method: str
    said: dict[str, Any]


def resolved(said: Any) -> Any:
    """What a reference points to; anything else as it is."""
    while isinstance(said, dict) and "$ref" in said:
        found: Any = DOCUMENT
        for step in said["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        said = {key: value for key, value in said.items() if key != "$ref"} | found
    return said


def operations() -> dict[str, Operation]:
    """Every operation of the file by its id."""
    return {
        item[method]["operationId"]: Operation(
            item.get("servers", DOCUMENT["servers"])[0]["url"], path, method, item[method]
        )
        for path, item in DOCUMENT["paths"].items()
        for method in ("get", "post", "put", "patch", "delete")
        if method in item
    }


def faults(schema: Mapping[str, Any], value: object) -> list[str]:
    """What a value has against a schema of the file."""
    whole = {**schema, "components": DOCUMENT["components"]}
    validator = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_the_file_is_valid() -> None:
    """By the rules of OpenAPI 3.1."""
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")


@pytest.mark.anyio
async def test_the_file_and_the_routes_are_the_same() -> None:
    """Each path with its methods is in the file and on the listener that the file says, and nothing else is."""
    async with world(_top={"providers": table()["providers"] | {"simulator": SIMULATOR}}) as one:
        routes = {
            (f"http://{address}", route.path, method.lower())
            for address, listener in one.service.listeners.items()
            for route in listener.routes
            for method in (route.methods or ())
            if method != "HEAD"  # comes with every GET
            # The console's pages are for people: no program is to rely on them, so nothing is promised of them.
            if route.path != "/" and not route.path.startswith("/console")
        }
    assert {found[:3] for found in operations().values()} == routes


@pytest.mark.anyio
async def test_the_file_is_served_byte_for_byte() -> None:
    """Whoever asks the service gets this very document."""
    async with world() as one:
        assert (await one.ops.get("/openapi.yaml")).content == FILE.read_bytes()


def test_every_problem_has_its_code_in_the_file() -> None:
    """The table of the service and that of the file have the same codes, with the same status and title."""
    said = {code: (entry["status"], entry["title"]) for code, entry in DOCUMENT["x-problems"].items()}
    assert said == dict(problems.CODES)


OF_NO_OPERATION = {"method_not_allowed", "request_timeout", "invalid_http", "headers_too_large"}
"""What is said in `info`: for methods that the file does not have, and for what is not yet a request."""


def test_every_problem_has_a_schema_with_its_own_type_code_and_status() -> None:
    """Schemas that are problems name a code of the table, under its status; `OF_NO_OPERATION` have none."""
    said = {
        (found["type"]["const"], found["code"]["const"], found["status"]["const"])
        for schema in SCHEMAS.values()
        if "const" in (found := schema.get("properties", {})).get("code", {})
    }
    codes = {
        (f"urn:verifyd:problem:{code}", code, status)
        for code, (status, _) in problems.CODES.items()
        if code not in OF_NO_OPERATION
    }
    assert said == codes


def test_every_problem_is_under_its_own_status() -> None:
    """A code is documented only for answers that have its status."""
    for operation in operations().values():
        for status, answer in operation.said["responses"].items():
            said = resolved(answer)["content"].get("application/problem+json")
            for schema in [] if said is None else said["schema"].get("oneOf", [said["schema"]]):
                assert resolved(schema)["properties"]["status"]["const"] == int(status)


def shape(schema: Any, root: Mapping[str, Any]) -> Any:
    """A schema without words, references, and the several ways in which two languages say the same.

    What pydantic cannot say is left out: rules between fields, and formats.
    """
    while "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    schema = dict(schema)
    choices = [
        shape(one, root) for one in schema.pop("anyOf", schema.pop("oneOf", [])) if "type" in one or "$ref" in one
    ]
    if {"type": {"null"}} in choices:
        (one,) = [one for one in choices if one != {"type": {"null"}}]
        return one | {"type": one["type"] | {"null"}}
    kind = schema.get("type")
    found = {
        name: schema[name]
        for name in ("pattern", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")
        if name in schema
    }
    found["type"] = {kind} if isinstance(kind, str) else set(kind)
    if "enum" in schema:
        found["enum"] = {word for word in schema["enum"] if word is not None}
    if "items" in schema:
        found["items"] = shape(schema["items"], root)
    for pattern, value in schema.get("patternProperties", {}).items():
        schema |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
    if "propertyNames" in schema:
        found["propertyNames"] = schema["propertyNames"]
    if kind == "object":
        others = schema.get("additionalProperties", True)
        found["additionalProperties"] = others if isinstance(others, bool) else shape(others, root)
        found["required"] = set(schema.get("required", []))
        found["properties"] = {name: shape(one, root) for name, one in schema.get("properties", {}).items()}
    return found


REQUESTS: dict[str, type[bodies.Body]] = {
    "StartRequest": bodies.CreateBody,
    "CheckRequest": bodies.CheckBody,
    "ResendRequest": bodies.ResendBody,
    "CancelRequest": bodies.CancelBody,
    "FeedbackRequest": bodies.FeedbackBody,
    "InboxRequest": bodies.InboxBody,
    "PrefixRequest": bodies.PrefixBody,
    "NumberRequest": bodies.NumberBody,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_fields_and_the_bounds_that_are_read(name: str) -> None:
    """Names, types, what is required, and every bound."""
    model = REQUESTS[name].model_json_schema()
    assert shape(SCHEMAS[name], DOCUMENT) == shape(model, model)


def test_every_model_of_a_body_is_in_the_file() -> None:
    """No body is read that the file does not describe."""
    inner = {bodies.TransactionBody, bodies.Signals}
    found = {one for model in bodies.Body.__subclasses__() for one in (model.__subclasses__() or [model])}
    assert found == {*REQUESTS.values()} | inner


def test_the_words_of_answers_are_those_of_the_service() -> None:
    """Channels, statuses of deliveries, reasons, and what numbers are grouped by."""
    assert SCHEMAS["Channel"]["enum"] == list(Channel)
    assert SCHEMAS["DeliveryStatus"]["enum"] == list(Status)
    assert SCHEMAS["Reason"]["enum"] == list(REASONS)
    assert SCHEMAS["StatsGroup"]["enum"] == list(get_args(Group))


def test_the_types_of_events_are_those_of_the_service() -> None:
    """All of them, in order."""
    assert SCHEMAS["EventType"]["enum"] == list(TYPES)


@pytest.mark.anyio
async def test_what_is_posted_to_an_application_is_as_it_is_described() -> None:
    """Headers and body of each event, from the first to the last."""
    [webhook] = [item["post"] for item in DOCUMENT["webhooks"].values()]
    [(media, content)] = webhook["requestBody"]["content"].items()
    async with world(events={"url": "https://shop.example/otp", "secret": WEBHOOK_SECRET}) as one:
        one.gateway.refuse("landline", "sms")
        started = await one.create(metadata={"user": "4711"})
        await one.report(one.gateway.last, "delivered")
        await one.check(started["id"], one.gateway.last.code)
        await one.work()
    assert len(one.subscriber.requests) == 4
    for request in one.subscriber.requests:
        assert request.headers["content-type"] == media
        assert faults(content["schema"], json.loads(request.content)) == []
        for parameter in webhook["parameters"]:
            assert faults(parameter["schema"], request.headers[parameter["name"]]) == []


def examples() -> Iterator[tuple[str, Mapping[str, Any], object]]:
    """Every example in the file: where it is, its schema, and the example itself."""
    for name, operation in operations().items():
        item = DOCUMENT["paths"][operation.path]
        for parameter in map(resolved, [*item.get("parameters", []), *operation.said.get("parameters", [])]):
            yield f"{name} {parameter['name']}", parameter["schema"], parameter["example"]
        contents = {"request": operation.said.get("requestBody", {"content": {}})["content"]}
        for status, answer in operation.said["responses"].items():
            contents[status] = resolved(answer)["content"]
            for header, said in resolved(answer)["headers"].items():
                yield f"{name} {status} {header}", resolved(said)["schema"], resolved(said)["example"]
        for place, content in contents.items():
            for said in content.values():
                assert said["examples"], f"{name} {place} has no example"
                for title, example in said["examples"].items():
                    yield f"{name} {place} {title}", said["schema"], resolved(example)["value"]
    for name, schema in SCHEMAS.items():
        for example in schema.get("examples", []):
            yield name, schema, example


def posted_examples() -> Iterator[tuple[str, Mapping[str, Any], object]]:
    """Those of what is posted to applications."""
    for name, item in DOCUMENT["webhooks"].items():
        for parameter in item["post"]["parameters"]:
            yield f"{name} {parameter['name']}", parameter["schema"], parameter["example"]
        for said in item["post"]["requestBody"]["content"].values():
            for title, example in said["examples"].items():
                yield f"{name} {title}", said["schema"], resolved(example)["value"]


def test_every_example_fits_its_schema() -> None:
    """Of requests, answers, parameters, headers and schemas; each content has at least one."""
    every = [*examples(), *posted_examples()]
    misfits = {where: found for where, schema, value in every if (found := faults(schema, value))}
    assert misfits == {}


def test_every_component_is_used() -> None:
    """Nothing is left in the file that no path needs."""
    used = set(re.findall(r"#/components/([A-Za-z/]+)", FILE.read_text()))
    there = {f"{kind}/{name}" for kind, some in DOCUMENT["components"].items() for name in some}
    assert there - used == {"securitySchemes/apiKey"}, "security is by name, not by reference"
    assert DOCUMENT["security"] == [{"apiKey": []}]


# Every answer of the file, got from the service on purpose.


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
    more = {"meta": META, "azure": AZURE, "infobip": INFOBIP, "simulator": SIMULATOR}
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


# And whatever a machine makes up from the file.


def _mobile_numbers() -> list[str]:
    """A valid mobile number of each country, as libphonenumber has them."""
    found = [
        phonenumbers.example_number_for_type(country, PhoneNumberType.MOBILE)
        for country in sorted(phonenumbers.SUPPORTED_REGIONS)
    ]
    return [phonenumbers.format_number(number, PhoneNumberFormat.E164) for number in found if number is not None]


schemathesis.openapi.format("phone-number", st.sampled_from([*TEST_NUMBERS]) | st.sampled_from(_mobile_numbers()))
schemathesis.openapi.format("country-code", st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))


class Latest:
    """An ASGI application: the service that was built last, all its listeners on one address."""

    ADDRESS = "127.0.0.1:8080"

    def __init__(self) -> None:
        self._services: list[Service] = []

    def renew(self) -> None:
        """Build another service, that nothing has happened to."""
        server = table()["server"] | dict.fromkeys(("api", "receipts", "ops"), self.ADDRESS)
        top = {"server": server, "providers": table()["providers"] | {"simulator": SIMULATOR}}
        changes = {"own_code": True, "test_numbers": TEST_NUMBERS, "events": {}, "_top": top}
        self._services.append(Service(config.check(table(**changes), KINDS, {})))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; at the end of the run, stop every service."""
        if scope["type"] == "http":
            await self._services[-1].listeners[self.ADDRESS](scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for service in self._services:
            await service.stop()
        await send({"type": "lifespan.shutdown.complete"})


LATEST = Latest()


def _described() -> schemathesis.BaseSchema:
    document = copy.deepcopy(DOCUMENT)
    # The example of a key would come with many bodies. The fields of examples are mixed, and a national number is a
    # number only with its own country.
    del document["components"]["parameters"]["IdempotencyKey"]["example"]
    del document["paths"]["/verifications"]["post"]["requestBody"]["content"]["application/json"]["examples"][
        "national"
    ]
    chosen = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "generation": {"deterministic": True, "max-examples": 25, "database": "none"},
            # Words out of our source are no phone numbers, and would make other tests of every change.
            "analysis": {"constants": {"enabled": False}},
        }
    )
    described = schemathesis.openapi.from_dict(document, config=chosen)
    described.app = LATEST
    return described


DESCRIBED = _described()


@pytest.fixture
def started() -> str:
    """The id of the only verification of a new service, to a test number."""
    LATEST.renew()
    case = DESCRIBED["/verifications"]["POST"].Case(
        body={"to": next(iter(TEST_NUMBERS))}, media_type="application/json", headers={"Authorization": f"Bearer {KEY}"}
    )
    return str(case.call().json()["id"])


# All that is made up for an operation goes to the same service, on purpose.
one_service = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def use(case: schemathesis.Case[Any], verification: str) -> None:
    """Put an id that is there in the place of one that could be."""
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict) and not faults(SCHEMAS["VerificationId"], place.get("id")):
            place["id"] = verification


@DESCRIBED.parametrize()
@one_service
def test_with_a_key_the_service_does_what_the_file_says(case: schemathesis.Case[Any], started: str) -> None:
    """All checks of Schemathesis, on what fits the file and on what does not."""
    use(case, started)
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"})


@DESCRIBED.include(path_regex="^/verifications").parametrize()
@one_service
def test_without_a_right_key_nothing_is_done(case: schemathesis.Case[Any], started: str) -> None:
    """With no key or an invented one there is a 401 as described, whatever else is sent."""
    use(case, started)
    response = case.call_and_validate()
    assert response.status_code in {401, 405}
