"""The command line, as processes: what they print, what they answer, how they end.

The demo listens on fixed ports, 8080 and 9090: they must be free for these tests.
"""

from __future__ import annotations

import importlib
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from service import config
from service.__main__ import main
from service.api.auth import digest
from service.demo import API, OPS
from service.providers import KINDS
from tests.redis_server import wait_until
from tests.world import KEY, NUMBER, OTHER_NUMBER, SECRET_KEY, WEBHOOK_SECRET, signed, table, wrong

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docker" / "otp.toml"
ENVIRONMENT = {
    "REDIS_URL": "memory://",
    "VERIFYD_KEY": SECRET_KEY,
    "PUBLIC_URL": "https://otp.example.com",
    "SHOP_API_KEY_HASH": digest(KEY),
    "GATEWAY_URL": "http://127.0.0.1:9/send",
    "GATEWAY_SECRET": WEBHOOK_SECRET,
}
COMMAND = [sys.executable, "-W", "error", "-m", "service"]
PATIENCE = 60.0
"""Seconds for a process to end that takes one or two when it may use a whole core."""


def surroundings(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment that has nothing of the one that the tests run in."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}


def run(
    *arguments: str | Path, home: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing on its standard input."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=surroundings(home, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Process:
    """A command that runs meanwhile; killed when left. It speaks into files, so that it never waits for a reader."""

    def __init__(self, *arguments: str | Path, home: Path, environment: Mapping[str, str] | None = None) -> None:
        name = f"{arguments[0]}-{time.monotonic_ns()}"
        self._out, self._err = home / f"{name}.out", home / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._running = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=ROOT,
                env=surroundings(home, environment),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.kill()
        self._running.communicate()

    @property
    def out(self) -> str:
        """Its standard output up to now."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Its standard error up to now."""
        return self._err.read_text()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._running.pid

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until it has said this, on either stream."""

        def found() -> bool:
            assert self._running.poll() is None, f"it ended:\n{self.out}\n{self.err}"
            return re.search(pattern, self.out + self.err) is not None

        wait_until(found, f"it says {pattern}")
        match = re.search(pattern, self.out + self.err)
        assert match is not None
        return match

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._running.stdin is not None
        print(line, file=self._running.stdin, flush=True)

    def signal(self, how: signal.Signals) -> None:
        """Send it a signal."""
        self._running.send_signal(how)

    def status(self) -> int:
        """Its exit status, once it has ended."""
        return self._running.wait(PATIENCE)


def free() -> str:
    """A loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def written(folder: Path, **server: object) -> tuple[Path, dict[str, str]]:
    """A configuration file with free addresses but for what `server` gives, and where it listens."""
    places = {"api": free(), "receipts": free(), "ops": free(), **server}
    lines = [
        'redis = "memory://"',
        "[server]",
        'public_url = "https://otp.example.com"',
        *(f"{name} = {json.dumps(value)}" for name, value in places.items() if name != "gateway"),
        "[applications.shop]",
        'brand = "Shop"',
        f'api_keys = ["{digest(KEY)}"]',
        'cascade = [{ channel = "sms", providers = ["gateway"] }]',
        "[providers.gateway]",
        'kind = "webhook"',
        f'url = "http://{places.get("gateway", "127.0.0.1:9")}/send"',
        f'secret = "{WEBHOOK_SECRET}"',
    ]
    path = folder / "otp.toml"
    path.write_text("\n".join(lines))
    return path, {name: str(place) for name, place in places.items()}


def client(address: str, key: str = KEY) -> httpx.Client:
    """A caller of the service at an address."""
    unix = address.startswith("unix:")
    return httpx.Client(
        base_url="http://verifyd" if unix else f"http://{address}",
        transport=httpx.HTTPTransport(uds=address.removeprefix("unix:")) if unix else None,
        headers={"authorization": f"Bearer {key}"},
        trust_env=False,
    )


class Gateway(ThreadingHTTPServer):
    """An operator's gateway that takes its time: it answers once `release` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.received = threading.Event()
        self.release = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        """Take a message."""
        self.rfile.read(int(self.headers["content-length"]))
        self.server.received.set()
        self.server.release.wait(PATIENCE)
        answer = b'{"message_id": "m1"}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the library gives it
        """Say nothing."""


@contextmanager
def slow_gateway() -> Iterator[Gateway]:
    """A gateway in a thread, let go at the end."""
    with Gateway() as gateway:
        threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield gateway
        finally:
            gateway.release.set()
            gateway.shutdown()


@contextmanager
def demo(home: Path) -> Iterator[tuple[Process, str]]:
    """The demo, serving, and its API key."""
    for address in (API, OPS):
        host, _, port = address.partition(":")
        try:
            socket.create_server((host, int(port))).close()
        except OSError as error:
            pytest.fail(f"this test runs the demo, which needs {address}, and that is taken: {error.strerror}")
    with Process("serve", home=home) as process:
        key = process.said(r"API key: (vk_[0-9a-f]{40})\n")[1]
        wait_until(lambda: _serves(API), "the demo answers")
        yield process, key


def _serves(address: str) -> bool:
    try:
        with client(address) as http:
            http.get("/")
    except httpx.TransportError:
        return False
    return True


def test_the_command_is_this_one() -> None:
    """What `pip` installs as `verifyd` is `python -m service`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["verifyd"].partition(":")
    assert getattr(importlib.import_module(module), name) is main


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["check"], ["try"], ["serve", "a", "b"]], ids=" ".join)
def test_a_command_line_that_makes_no_sense_shows_how_to_use_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: verifyd" in capsys.readouterr().err


def test_check_approves_a_good_configuration_with_its_warnings(tmp_path: Path) -> None:
    """They are on standard output, and the exit status is 0."""
    ended = run("check", EXAMPLE, home=tmp_path, environment=ENVIRONMENT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "warning: redis: memory:// is for trying out" in ended.stdout
    assert ended.stdout.endswith(f"{EXAMPLE}: ok\n")


def test_check_lists_all_problems_of_a_bad_configuration(tmp_path: Path) -> None:
    """One a line with its key on standard error, and the exit status is 2."""
    ended = run("check", EXAMPLE, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "applications.shop.api_keys[0]: the environment variable SHOP_API_KEY_HASH is not set",
        "providers.gateway.secret: the environment variable GATEWAY_SECRET is not set",
        "providers.gateway.url: the environment variable GATEWAY_URL is not set",
        "redis: the environment variable REDIS_URL is not set",
        "secrets.keys[0]: the environment variable VERIFYD_KEY is not set",
        "server.public_url: the environment variable PUBLIC_URL is not set",
    ]


def test_check_and_serve_say_which_file_is_not_there(tmp_path: Path) -> None:
    """The exit status is 2."""
    for command in ("check", "serve"):
        ended = run(command, tmp_path / "nothing.toml", home=tmp_path)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"{tmp_path}/nothing.toml: No such file or directory\n"


def test_keys_prints_keys_that_can_be_used(tmp_path: Path) -> None:
    """The hash is that of the API key, a configuration takes the secrets, and no two calls print the same."""
    pattern = r"API key: +(vk_\w+)\n +its hash: +(\S+)\nsecret key: +(\S+)\nwebhook secret: +(\S+)\n"
    seen = set()
    for _ in range(2):
        ended = run("keys", home=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        match = re.fullmatch(pattern, ended.stdout)
        assert match is not None
        key, hashed, secret_key, webhook_secret = match.groups()
        assert hashed == digest(key)
        data = table(api_keys=[hashed], _top={"redis": "redis://h", "secrets": {"keys": [secret_key]}})
        data["providers"]["gw"]["secret"] = webhook_secret
        config.check(data, KINDS, {})
        assert signed("{}", secret=webhook_secret)
        seen |= {key, secret_key, webhook_secret}
    assert len(seen) == 6


def test_the_demo_answers_the_first_two_calls_and_ends_at_once(tmp_path: Path) -> None:
    """It prints its API key and every message; on SIGTERM it takes its key file with it."""
    with demo(tmp_path) as (process, key):
        with client(API, key) as http:
            started = http.post("/verifications", json={"to": NUMBER})
            assert started.status_code == 201
            code = process.said(rf"\[demo\] sms to \{NUMBER}: .*code is (\d{{6}})\.")[1]
            checked = http.post("/verifications/check", json={"to": NUMBER, "code": code})
            assert (checked.json()["valid"], checked.json()["status"]) == (True, "approved")
            assert http.get(f"http://{OPS}/readyz").json()["status"] == "ready"
        [kept] = tmp_path.glob(".cache/verifyd/*")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert "for trying out" in process.err
        assert key not in process.err
        assert code not in process.err
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.status() == 0
        assert time.monotonic() - began < 5
        assert not kept.exists()


def test_try_verifies_a_number_against_the_demo(tmp_path: Path) -> None:
    """A wrong code, no code at all, then the right one; the key is that of the demo of the same user."""
    with demo(tmp_path) as (service, _), Process("try", NUMBER, home=tmp_path) as trial:
        trial.said(r"A code is on its way to \+44\*+3456 by sms\.")
        code = service.said(r"code is (\d{6})\.")[1]
        trial.tell(wrong(code))
        trial.said(r"Wrong; 4 left\.")
        trial.tell("what?")
        trial.said(r"Write the digits of the code\.")
        trial.tell(code)
        assert trial.status() == 0
        assert "Approved." in trial.out
        assert trial.err == ""


def test_try_says_why_it_cannot_go_on(tmp_path: Path) -> None:
    """A number that is none, and an end of the input, which is nobody's error; both exit with 1."""
    with demo(tmp_path):
        refused = run("try", "+4479", home=tmp_path)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "The number cannot be used" in refused.stderr
        left = run("try", OTHER_NUMBER, home=tmp_path)
        assert (left.returncode, left.stderr) == (1, "")


def test_try_needs_a_service(tmp_path: Path) -> None:
    """Neither a demo nor a configuration, or one that nobody serves: exit status 2."""
    ended = run("try", NUMBER, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("--config: name the service's configuration")
    path, places = written(tmp_path)
    ended = run("try", NUMBER, "--config", path, home=tmp_path, environment={"VERIFYD_API_KEY": KEY})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"server.api: no answer from http://{places['api']}")


def test_try_knows_when_something_else_answers(tmp_path: Path) -> None:
    """Here a gateway, at the address that is the service's in the configuration: exit status 2."""
    with slow_gateway() as gateway:
        gateway.release.set()
        path, _ = written(tmp_path, api=gateway.address)
        ended = run("try", NUMBER, "--config", path, home=tmp_path, environment={"VERIFYD_API_KEY": KEY})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"server.api: what answers at http://{gateway.address}/verifications is not verifyd\n"


def test_serve_takes_its_file_from_the_environment_and_listens_on_a_socket(tmp_path: Path) -> None:
    """`VERIFYD_CONFIG` stands for the file for `try` too; each listener answers only what is its own."""
    path, places = written(tmp_path, api=f"unix:{tmp_path}/api.sock")
    environment = {"VERIFYD_CONFIG": str(path), "VERIFYD_API_KEY": KEY}
    with Process("serve", home=tmp_path, environment=environment) as process:
        process.said('"message":"serving"')
        assert stat.S_IMODE((tmp_path / "api.sock").stat().st_mode) == 0o660
        with client(places["api"]) as api, client(places["receipts"]) as receipts, client(places["ops"]) as ops:
            assert api.post("/verifications", json={"to": OTHER_NUMBER}).status_code == 201
            assert [http.get("/readyz").status_code for http in (api, receipts, ops)] == [404, 404, 200]
            assert [http.get("/verifications/x").status_code for http in (receipts, ops)] == [404, 404]
        with Process("try", NUMBER, home=tmp_path, environment=environment) as trial:
            trial.said("A code is on its way")
        process.signal(signal.SIGINT)
        assert process.status() == 0


def test_serve_loads_no_provider_that_is_not_configured(tmp_path: Path) -> None:
    """Each costs memory; Python itself tells what it imports. Two small ones are always there."""
    path, _ = written(tmp_path)
    with Process("serve", path, home=tmp_path, environment={"PYTHONVERBOSE": "1"}) as process:
        process.said('"message":"serving"')
        loaded = re.findall(r"^import 'service\.providers\.(\w+)'", process.err, re.MULTILINE)
        assert set(loaded) & set(KINDS) == {"console", "simulator", "webhook"}


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    """The exit status is 2."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        path, _ = written(tmp_path, api=taken)
        ended = run("serve", path, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"server: cannot listen on {taken}: Address already in use.*\n", ended.stderr)


def test_what_is_under_way_at_sigterm_is_finished(tmp_path: Path) -> None:
    """A request of which half is there, and a message that the gateway has not taken yet."""
    with slow_gateway() as gateway:
        path, places = written(tmp_path, gateway=gateway.address)
        with Process("serve", path, home=tmp_path) as process:
            process.said('"message":"serving"')
            with client(places["api"]) as http:
                name = http.post("/verifications", json={"to": NUMBER}).json()["id"]
            assert gateway.received.wait(PATIENCE)
            body = json.dumps({"id": name, "code": "0000"}).encode()
            with half_sent(places["api"], "/verifications/check", len(body)) as connection:
                process.signal(signal.SIGTERM)
                process.said('"message":"stopping"')
                wait_until(lambda: not _serves(places["api"]), "nobody is let in any more")
                connection.sendall(body)
                answer = answered(connection)
            assert answer["status"] == "pending"
            assert answer["valid"] is False
            assert _serves(places["ops"])
            gateway.release.set()
            assert process.status() == 0
    lines = [json.loads(line) for line in process.err.splitlines()]
    assert [line["message"] for line in lines][-1] == "stopped"
    assert [line["status"] for line in lines if line["message"] == "delivery"] == ["accepted"]


def test_nothing_holds_up_the_end_beyond_the_grace(tmp_path: Path) -> None:
    """A gateway that never answers is left behind, and the exit status is 0 all the same."""
    with slow_gateway() as gateway:
        path, places = written(tmp_path, gateway=gateway.address, grace="1s")
        with Process("serve", path, home=tmp_path) as process:
            process.said('"message":"serving"')
            with client(places["api"]) as http:
                assert http.post("/verifications", json={"to": NUMBER}).status_code == 201
            assert gateway.received.wait(PATIENCE)
            began = time.monotonic()
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            assert time.monotonic() - began < 5


@contextmanager
def half_sent(address: str, path: str, length: int) -> Iterator[socket.socket]:
    """A request whose head has been read: the service waits for the body, as its `100 Continue` says."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n"
        connection.sendall(f"{head}content-length: {length}\r\nexpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
        yield connection


def answered(connection: socket.socket) -> Any:
    """The JSON of the answer on a connection that the service closes after it."""
    answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    return json.loads(answer.partition(b"\r\n\r\n")[2])
