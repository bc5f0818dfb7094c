"""The file `openapi.yaml`, and what is held to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from openapi_schema_validator import OAS31Validator

FILE = Path(__file__).resolve().parent.parent / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_bytes())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


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
