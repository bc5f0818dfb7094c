"""The README, held to the code: what it shows is run, what it lists is compared.

What a reader would type into a shell runs in bash, with curl, against a service on free ports. Answers must be those
shown but for ids and times, and the same id must stay the same.
"""

from __future__ import annotations

import hmac
import json
import re
import runpy
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from service import config
from service.api.auth import digest
from service.api.problems import CODES
from service.cascade import Next, after_rejection
from service.config import Settings
from service.errors import Forged
from service.events import TYPES
from service.provider import REASONS, Accepted, Channel, Receipt, Rejected, Request, Response, Status
from service.provider import Webhook as Arrived
from service.providers import KINDS
from service.providers.simulator import ENDINGS, behaviour
from tests.providers import examples
from tests.providers.test_contract import adapter
from tests.redis_server import wait_until
from tests.test_cli import PATIENCE, Process, client, free
from tests.test_metrics import NAMES
from tests.world import KEY, NUMBER, READ_KEY, SECRET_KEY, SUBSCRIBER, WEBHOOK_SECRET, world

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

DEMO = (
    "import sys; from service import __main__, demo; demo.API, demo.OPS = sys.argv[1:3]; "
    "sys.exit(__main__.main(sys.argv[3:]))"
)
"""The demo as `make run` starts it, at other addresses."""

ENVIRONMENT = {
    "REDIS_URL": "memory://",
    "VERIFYD_KEY": SECRET_KEY,
    "SHOP_API_KEY_HASH": digest(KEY),
    "GATEWAY_SECRET": WEBHOOK_SECRET,
    "EVENTS_SECRET": WEBHOOK_SECRET,
}
"""What the files in the README take from elsewhere."""

API, OPS = "127.0.0.1:8080", "127.0.0.1:9090"
ID = re.compile(r"ver_[0-9a-v]{22}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
CODE = re.compile(r"(?<![+\d])\d{6,8}(?!\d)")
SPOKEN = re.compile(r"\d(, \d){5}")
"""A code as it is said."""
EVENT = re.compile(r"(evt_[0-9a-f]{3}-)?\d{13}-\d+")
WAIT = re.compile(r'"retry_after": \d+')
REST = re.compile(r",\s*…\s*}")
"""What stands for the members of an answer that are not shown."""


def blocks(title: str = "") -> list[tuple[str, str]]:
    """The fenced blocks of a section, or of all: language and text."""
    _, _, rest = README.partition(f"\n## {title}\n" if title else "# verifyd")
    section = rest.partition("\n## ")[0] if title else rest
    assert section
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def block(start: str, title: str = "") -> str:
    """The one block that begins so."""
    [found] = [text for _, text in blocks(title) if text.startswith(start)]
    return found


def table(header: str) -> list[list[str]]:
    """The cells under a table's header."""
    [rest] = README.split(f"\n{header}\n")[1:]
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    """What is in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def coded(text: str) -> str:
    """A text without its code, written or said."""
    return SPOKEN.sub("…", CODE.sub("…", text))


class Reader:
    """Somebody who follows the README, in a shell beside the terminal of a service."""

    def __init__(self, service: Process, api: str, ops: str, key: str) -> None:
        self._service = service
        self._places = {API: api, OPS: ops}
        self._names = {"API": f"http://{api}", "KEY": key}
        self._ids: dict[str, str] = {}
        self._read = 0
        self._command = ""
        self._answer: dict[str, Any] = {}

    def follow(self, title: str) -> None:
        """Run each curl of a section, and compare each answer and each message with what is shown."""
        for language, text in blocks(title):
            if language == "sh" and "curl" in text:
                self._command = text
                self._run()
            elif language == "json":
                self._compare(text)
            elif re.match(r"\[\w+\] ", text):
                for line in text.splitlines():
                    assert coded(self.message(line)) == coded(line)

    def message(self, like: str) -> str:
        """The next message in the service's terminal; its code is then `$CODE`."""

        def there() -> bool:
            return self._service.out.count("\n[") + self._service.out.startswith("[") > self._read

        wait_until(there, f"there is a message like {like}")
        message = re.findall(r"^\[.*$", self._service.out, re.MULTILINE)[self._read]
        self._read += 1
        if written := CODE.search(message):
            self._names["CODE"] = written[0]
        return str(message)

    def _run(self) -> None:
        command, status = re.fullmatch(r"(.*?) # (\d{3})\n", self._command, re.DOTALL).groups()  # type: ignore[union-attr]  # a block that says no status is wrong
        if "\nID=" in f"\n{command}":
            self._names["ID"] = self._answer["id"]
        command = re.sub(r"^(API|KEY|ID|CODE)=.*\n", "", command, flags=re.MULTILINE)
        for place, other in self._places.items():
            command = command.replace(place, other)
        curl = "curl() { command curl --noproxy '*' -w '\\n%{http_code}' \"$@\"; }"
        ended = subprocess.run(
            ["bash", "-c", f"{curl}; {command}"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", **self._names},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        body, _, code = ended.stdout.rpartition("\n")
        assert code == status, body
        self._answer = json.loads(body)

    def _compare(self, text: str) -> None:
        shown, some = json.loads(REST.sub("}", text)), REST.search(text) is not None
        changes = " -d " in self._command or " -X " in self._command
        until = time.monotonic() + PATIENCE  # what is read may take a moment to come about
        while True:
            actual = {key: value for key, value in self._answer.items() if key in shown or not some}
            expected, found = self._settled(shown, actual)
            if changes or found == expected or time.monotonic() > until:
                break
            self._run()
        assert found == expected

    def _settled(self, shown: Any, actual: Any) -> tuple[str, str]:
        """Both as text, alike in what no two runs share. An id that is shown again must be the same again."""
        one, other = (
            EVENT.sub("", WAIT.sub("", TIME.sub("", json.dumps(value, indent=1, sort_keys=True))))
            for value in (shown, actual)
        )
        for mine, theirs in zip(ID.findall(one), ID.findall(other), strict=False):
            if theirs not in self._ids.values():
                self._ids.setdefault(mine, theirs)
        return coded(ID.sub(lambda found: self._ids.get(found[0], found[0]), one)), coded(other)


def test_the_first_minute_goes_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo, the first two calls, then `verifyd try`."""
    api, ops = free(), free()
    monkeypatch.setattr("tests.test_cli.COMMAND", [sys.executable, "-W", "error", "-c", DEMO, api, ops])
    with Process("serve", home=tmp_path) as service:
        key = service.said(r"API key: (vk_[0-9a-f]{40})\n")[1]
        wait_until(lambda: reachable(ops), "the demo serves")
        reader = Reader(service, api, ops, key)
        reader.follow("Run it in a minute")
        begin, asked, end = block("A code is on its way").splitlines()
        with Process("try", "+447400123457", home=tmp_path) as trial:
            trial.said(re.escape(begin))
            trial.tell(CODE.findall(reader.message(asked))[0])
            assert trial.status() == 0
            assert trial.out.replace("Code: ", "").splitlines() == [begin, end]


def test_the_api_answers_as_it_is_shown(tmp_path: Path) -> None:
    """Every call, in the README's order, with its file."""
    api, ops = free(), free()
    path = tmp_path / "otp.toml"
    path.write_text(block('redis = "memory://"').replace(API, api).replace(OPS, ops))
    with Process("serve", path, home=tmp_path) as service:
        wait_until(lambda: reachable(ops), "it serves")
        reader = Reader(service, api, ops, "vk_example")
        reader.follow("The API by curl")
        reader.follow("Operating")


def reachable(ops: str) -> bool:
    """Whether a service is ready."""
    try:
        with client(ops) as http:
            return http.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_every_call_of_the_description_is_shown() -> None:
    """By curl, or at least by its path."""
    description = (ROOT / "openapi.yaml").read_text(encoding="utf-8")
    paths = re.findall(r"^  (/[\w{}./]+):$", description, re.MULTILINE)
    assert len(paths) > 5
    written = README.replace("$ID", "{id}")
    assert [path for path in paths if path.partition("{provider}")[0] not in written] == []


def test_the_problems_are_those_of_the_code() -> None:
    """Code, status and title, in order."""
    rows = table("| code | status | title | what to do |")
    assert [(quoted(code)[0], (int(status), title)) for code, status, title, _ in rows] == list(CODES.items())


def test_the_metrics_are_those_of_the_code() -> None:
    """Names, labels, and which are histograms."""
    rows = table("| metric | labels | meaning |")
    found = {
        quoted(name)[0]: (meaning.startswith("histogram: "), set(quoted(labels))) for name, labels, meaning in rows
    }
    assert found == {name: (kind == "histogram", labels) for name, (kind, labels) in NAMES.items()}


def test_the_settings_of_an_application_are_those_of_the_model() -> None:
    """All of them, in order, with their defaults: to write a default changes nothing."""
    fields = config.ApplicationTable.model_fields
    rows = {quoted(name)[0]: default for name, default, _ in table("| setting | default | meaning |")}
    assert list(rows) == list(fields)
    assert {name for name, default in rows.items() if default == "required"} == {
        name for name, one in fields.items() if one.is_required()
    }
    assert [name for name, default in rows.items() if default in {"all", "none"}] == ["countries", "events"]
    defaults = "\n".join(f"{name} = {quoted(default)[0]}" for name, default in rows.items() if quoted(default))
    plain = minimal()
    changed = minimal()
    changed["applications"]["shop"] |= tomllib.loads(defaults)
    assert len(rows) - 5 == len(tomllib.loads(defaults))
    assert config.check(changed, KINDS, ENVIRONMENT) == config.check(plain, KINDS, ENVIRONMENT)


def test_every_setting_that_is_named_exists() -> None:
    """By its dotted name."""
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    named = [re.match(r"(server|secrets|guard)\.[a-z0-9_.]+", name) for name in quoted(prose)]
    names = [one[0] for one in named if one]
    assert {"server.api", "secrets.argon2", "guard.limits.number"} <= set(names)
    for name in names:
        model: type[BaseModel] = Settings
        for part in name.split("."):
            assert part in model.model_fields, name
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation


def test_the_listeners_have_the_defaults_that_are_told() -> None:
    """Address by address."""
    server = config.Server()
    rows = table("| setting | default | who reaches it |")
    found = {quoted(name)[0].removeprefix("server."): quoted(default)[0] for name, default, _ in rows}
    assert found == {"api": server.api, "receipts": server.receipts, "ops": server.ops}


def test_every_file_and_every_part_of_one_can_be_used() -> None:
    """A part is put over the complete file, to which providers with the names of vendors are added."""
    found = [tomllib.loads(text) for language, text in blocks() if language == "toml"]
    assert len(found) > 2
    anything = {"kind": "webhook", "url": "https://gw.example", "secret": WEBHOOK_SECRET, "channels": list(Channel)}
    whole = merged(minimal(), {"providers": dict.fromkeys(KINDS.keys() | {"msg91"}, anything)})
    for part in found:
        config.check(part if "providers" in part else merged(whole, part), KINDS, ENVIRONMENT)


def minimal() -> dict[str, Any]:
    """The complete file under Configuration."""
    return tomllib.loads(block('redis = "env:REDIS_URL"'))


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """One table over another."""
    both = under.keys() & over.keys()
    return under | over | {key: merged(under[key], over[key]) for key in both if isinstance(over[key], dict)}


def test_the_kinds_of_providers_are_those_of_the_code() -> None:
    """With the channels that they carry when all their senders are configured."""
    rows = table("| provider kind | channels | receipts | signature | duplicate protection on send |")
    words = {quoted(kind)[0]: channels.removesuffix(", or as configured").split(", ") for kind, channels, *_ in rows}
    found = {kind: {Channel(name) for name in channels} for kind, channels in words.items()}
    assert found == {kind: adapter(kind).channels for kind in KINDS}


def test_the_simulator_does_what_is_told() -> None:
    """By each ending, on each channel."""
    channels = (
        (Channel.SMS,),
        (Channel.WHATSAPP, Channel.TELEGRAM),
        (Channel.VOICE, Channel.EMAIL),
    )
    rows = table("| last digits | by SMS | by WhatsApp, Telegram | by voice, e-mail |")
    assert [ending for ending, *_ in rows] == [*ENDINGS, "others"]
    for ending, *told in rows:
        number = f"+4474001239{ending.replace('others', '56')}"
        found = [[behaviour(number, channel) for channel in some] for some in channels]
        assert found == [[words] * len(some) for words, some in zip(told, channels, strict=True)]


def test_the_reasons_have_the_consequences_that_are_told() -> None:
    """Each once; two providers on the step, first asked, then both asked."""
    told = {
        "the step's next provider, then the next step": (Next.SWITCH, Next.ADVANCE, frozenset[Channel]()),
        "the step's next provider, then around again with a growing pause, then the next step": (
            Next.SWITCH,
            Next.SWITCH,
            frozenset[Channel](),
        ),
        "the next step": (Next.ADVANCE, Next.ADVANCE, frozenset[Channel]()),
        "the next step by voice or e-mail": (
            Next.ADVANCE,
            Next.ADVANCE,
            frozenset(Channel) - {Channel.VOICE, Channel.EMAIL},
        ),
        "nothing: no further step can help": (Next.ADVANCE, Next.ADVANCE, frozenset(Channel)),
        "the message was taken before, by a try whose answer was lost: its receipts, or silence": (
            Next.WAIT,
            Next.WAIT,
            frozenset(),
        ),
    }
    rows = table("| reasons | what follows a rejection |")
    assert sorted(name for reasons, _ in rows for name in quoted(reasons)) == sorted(REASONS)
    for reasons, consequence in rows:
        for reason in quoted(reasons):
            first, last = after_rejection(reason, 2, 0), after_rejection(reason, 2, 1)
            assert (first.next, last.next, last.pointless) == told[consequence], reason


@pytest.mark.anyio
async def test_what_goes_to_and_from_a_gateway_is_as_shown() -> None:
    """The same members as in a real message; and the receipt is taken."""
    sent, receipt = (
        json.loads(block('{\n  "type": "delivery.send"')),
        json.loads(block('{\n  "type": "delivery.receipt"')),
    )
    async with world() as one:
        await one.create(to=sent["data"]["to"])
        actual = one.gateway.last.data
        assert actual.keys() == sent["data"].keys()
        for name in ("channel", "to", "locale", "application", "purpose"):
            assert actual[name] == sent["data"][name]
        assert actual["text"].replace(actual["code"], sent["data"]["code"]) == sent["data"]["text"]
        data = receipt["data"] | {"message_id": actual["delivery"]}
        answer = await one.report(one.gateway.last, **data)
        assert answer.status_code == httpx.codes.OK
        found = await one.get(actual["delivery"].partition(".")[0])
        assert found["deliveries"][0]["status"] == receipt["data"]["status"]


def test_the_gateway_carries_messages_and_reports_them(tmp_path: Path) -> None:
    """With the complete file under Configuration, each as a process; a forged message is refused."""
    api, receipts, ops, gateway = free(), free(), free(), free()
    path = tmp_path / "otp.toml"
    text = block('redis = "env:REDIS_URL"').replace("https://otp.example.com", f"http://{receipts}")
    text = text.replace("https://gateway.example.com/send", f"http://{gateway}")
    path.write_text(text.replace("[server]\n", f'[server]\napi = "{api}"\nreceipts = "{receipts}"\nops = "{ops}"\n'))
    with (
        running(
            tmp_path / "gateway.py", block("import json, os").replace("7000", gateway.rpartition(":")[2])
        ) as printed,
        Process("serve", path, home=tmp_path, environment=ENVIRONMENT) as service,
        client(api) as http,
    ):
        wait_until(lambda: reachable(ops), "it serves")
        started = http.post("/verifications", json={"to": NUMBER}).json()

        def delivered() -> bool:
            found = http.get(f"/verifications/{started['id']}").json()
            return bool(found["deliveries"][0]["status"] == "delivered")

        wait_until(delivered, f"the message is reported as delivered\n{service.err}\n{printed.read_text()}")
        assert printed.read_text().startswith(f"sms {NUMBER} Shop: your sign-in code is ")
        forged = http.post(f"http://{gateway}/", json={}, headers={"webhook-id": "1"})
        assert forged.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.anyio
async def test_a_number_is_described_as_shown() -> None:
    """But for the guard's view, which is left out there."""
    shown = json.loads(block('{"number": "+44******3456"'))
    async with world() as one:
        answer = await one.api.get(f"/numbers/{NUMBER}", headers={"authorization": f"Bearer {READ_KEY}"})
    assert {name: value for name, value in answer.json().items() if name != "guard"} == shown


@pytest.mark.anyio
async def test_an_event_is_as_shown() -> None:
    """The same members and the same words as in a real one; every type is explained."""
    shown = json.loads(block('{\n  "type": "verification.advanced"'))
    async with world(events={"url": f"https://{SUBSCRIBER}", "secret": WEBHOOK_SECRET}) as one:
        await one.create(metadata=shown["data"]["metadata"])
        await one.travel(21)
        posted = one.subscriber.taken[-1]
        assert {**posted, "timestamp": ""} == {
            **shown,
            "timestamp": "",
            "data": shown["data"] | {"id": posted["data"]["id"]},
        }
    rows = table("| event | when |")
    assert {name for names, _ in rows for name in quoted(names)} == set(TYPES)


def test_the_receiver_that_is_shown_takes_events(tmp_path: Path) -> None:
    """From a service with the section's settings; a forged one is refused."""
    api, ops, receiver = free(), free(), free()
    path = tmp_path / "otp.toml"
    text = block('redis = "memory://"').replace(API, api).replace(OPS, ops).replace("[applications.shop.events]\n", "")
    path.write_text(
        text + block("[applications.shop.events]").replace("https://shop.example.com", f"http://{receiver}")
    )
    program = block("import os\n").replace("7001", receiver.rpartition(":")[2])
    with (
        running(tmp_path / "receiver.py", program) as printed,
        Process("serve", path, home=tmp_path, environment=ENVIRONMENT) as service,
        client(api, "vk_example") as http,
    ):
        wait_until(lambda: reachable(ops), "it serves")
        http.post("/verifications", json={"to": NUMBER, "metadata": {"user": "4711"}})
        told = "verification.created +44******3456 {'user': '4711'}\n"
        wait_until(lambda: printed.read_text().startswith(told), f"it is told\n{service.err}\n{printed.read_text()}")
        forged = http.post(f"http://{receiver}/", json={}, headers={"webhook-id": "1"})
        assert forged.status_code == httpx.codes.UNAUTHORIZED


@contextmanager
def running(path: Path, program: str) -> Iterator[Path]:
    """A program, and the file that it prints into; killed when left."""
    path.write_text(program)
    printed = path.with_suffix(".out")
    with (
        printed.open("w") as out,
        subprocess.Popen([sys.executable, path], env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield printed
        finally:
            process.kill()


ACME = block('"""Acme', "Add a provider")
MESSAGE = replace(examples.MESSAGE, to=NUMBER)


def test_the_provider_that_is_shown_has_the_right_types(tmp_path: Path) -> None:
    """It is a `Provider` to mypy, under the rules of this project."""
    path = tmp_path / "acme.py"
    path.write_text(f"{ACME}\n\ndef provided(acme: Acme) -> provider.Provider:\n    return acme\n")
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_the_provider_that_is_shown_works(tmp_path: Path) -> None:
    """The configuration takes it, and it builds, reads and judges as its text says."""
    path = tmp_path / "acme.py"
    path.write_text(ACME)
    kind = runpy.run_path(str(path), run_name="acme")["Acme"]
    data = minimal()
    data["providers"]["gateway"] = {"kind": "acme", "token": "t0ken", "sender": "Shop"}
    data["applications"]["shop"]["cascade"].pop()
    acme = config.check(data, {**KINDS, "acme": kind}, ENVIRONMENT).providers["gateway"]
    now = datetime.now(UTC)
    request = acme.request(MESSAGE, now)
    assert isinstance(request, Request)
    assert json.loads(request.body) == {
        "from": "Shop",
        "to": NUMBER,
        "text": MESSAGE.text,
        "report_to": MESSAGE.receipt_url,
        "reference": MESSAGE.delivery,
    }
    assert "t0ken" not in repr((acme, request))
    for status, body, outcome in (
        (200, b'{"id": "m1"}', Accepted("m1")),
        (400, b'{"error": "E21"}', Rejected("landline")),
        (400, b'{"error": "E77"}', Rejected("request")),
        (503, b"<html>", Rejected("provider_error")),
        (401, b"[]", Rejected("auth")),
    ):
        assert acme.read(Response(request, status, {}, body)) == outcome
    arrived = b'{"id": "m1", "reference": "att_7Q2f9cV1", "status": "arrived"}'
    lost = b'{"id": "m1", "reference": "att_7Q2f9cV1", "status": "lost", "error": "E10"}'
    assert acme.receipts(signed(arrived), now) == [Receipt(Status.DELIVERED, None, "m1", "att_7Q2f9cV1")]
    assert acme.receipts(signed(lost), now) == [Receipt(Status.FAILED, "invalid_number", "m1", "att_7Q2f9cV1")]
    assert acme.receipts(signed(b"[]"), now) == []
    for headers in ({}, signed(lost).headers, {"acme-signature": "é"}):
        with pytest.raises(Forged):
            acme.receipts(Arrived("https://otp.example.com", headers, arrived), now)


def signed(body: bytes) -> Arrived:
    """A webhook of Acme's."""
    return Arrived("https://otp.example.com", {"acme-signature": hmac.digest(b"t0ken", body, "sha256").hex()}, body)


def test_every_link_leads_somewhere() -> None:
    """To a file, or to a heading of the README."""
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) > len(headings) / 2
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_every_target_of_make_is_told() -> None:
    """With those that there are, and no other."""
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    rows = table("| command | does |")
    assert {quoted(command)[0].removeprefix("make ") for command, _ in rows} == targets - {"help"}
