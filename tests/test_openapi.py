"""`openapi.yaml` says what the service does, no less and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from openapi_spec_validator import validate

from service.api import bodies, problems
from service.events import TYPES
from service.provider import REASONS, Channel, Status
from service.stats import Group
from tests.openapi import DOCUMENT, FILE, SCHEMAS, faults, operations, resolved
from tests.world import WEBHOOK_SECRET, table, world


def test_the_file_is_valid() -> None:
    """By the rules of OpenAPI 3.1."""
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")


@pytest.mark.anyio
async def test_the_file_and_the_routes_are_the_same() -> None:
    """Each path with its methods is in the file and on the listener that the file says, and nothing else is."""
    async with world(_top={"providers": table()["providers"] | {"simulator": {"kind": "simulator"}}}) as one:
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
    "UnmarkRequest": bodies.UnmarkBody,
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
