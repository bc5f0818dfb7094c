"""The service does what `openapi.yaml` says, whatever a machine makes up from it."""

from __future__ import annotations

import copy
from typing import Any

import phonenumbers
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from schemathesis.config import SchemathesisConfig
from starlette.types import Receive, Scope, Send

from service import config
from service.app import Service
from service.providers import KINDS
from tests.openapi import DOCUMENT, SCHEMAS, faults
from tests.world import KEY, table

TEST_NUMBERS = {"+447700900123": "424242", "+447700900124": "131313"}


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
        top = {"server": server, "providers": table()["providers"] | {"simulator": {"kind": "simulator"}}}
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
one_service = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


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
