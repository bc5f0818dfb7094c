"""The benchmark still runs: a short run of everything, which asserts no speeds."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from service import phone
from tests.bench.__main__ import main, numbers
from tests.bench.load import Expected, drive
from tests.bench.servers import Gateway
from tests.bench.targets import wrong

SHORT = ["--seconds=0.1", "--connections=1,4", "--rounds=1", "--starts=1", "--replicas"]
ACTS = {
    "create": "verification_start",
    "receipt": "delivery_receipt",
    "wrong check": "check_settle",
    "right check": "check_settle",
}
"""What is measured, each with a script that it cannot do without."""
CODE = "424242"


def test_the_numbers_are_valid_mobiles() -> None:
    """Else refusals would be measured."""
    for number, _ in zip(numbers(), range(100), strict=False):
        assert phone.parse(number).kind == "mobile"
    assert phone.parse("+447419999999").kind == "mobile"


def test_a_wrong_code_is_wrong_for_every_last_digit() -> None:
    """Else a check that is meant to fail would succeed."""
    assert all(wrong(f"12345{digit}") != f"12345{digit}" for digit in range(10))


def test_a_load_counts_the_answers_that_are_not_as_expected() -> None:
    """Else an error that is answered fast would look like speed."""
    gateway = Gateway()
    try:
        requests = iter([b"GET / HTTP/1.1\r\n\r\n"] * 5)
        load = drive([gateway.address], requests, Expected(b"200", b"not there"), connections=2, seconds=5)
    finally:
        gateway.stop()
    assert load.unexpected == {"200": 5}
    assert len(load.sent) == len(load.took) == 5


def test_at_a_rate_requests_have_their_turns_in_time() -> None:
    """However fast the answers are."""
    gateway = Gateway()
    try:
        requests = iter([b"GET / HTTP/1.1\r\n\r\n"] * 11)
        load = drive([gateway.address], requests, Expected(b"200", b""), connections=2, seconds=5, rate=100)
    finally:
        gateway.stop()
    assert load.sent == pytest.approx([load.began + turn / 100 for turn in range(11)])
    assert not load.unexpected


@pytest.mark.redis
def test_a_short_run_measures_everything_with_a_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verifyd, two replicas of it, and something that answers as otpgateway does, in one run."""
    file = tmp_path / "figures.json"
    with peer() as (url, gateway_port):
        arguments = [f"--otpgateway={url}", "--otpgateway-credentials=shop:s3cret", f"--gateway-port={gateway_port}"]
        assert main([*SHORT, *arguments, f"--json={file}"]) == 0
    said = json.loads(file.read_bytes())
    measured = {(one["service"], one["act"], one["connections"]) for one in said["figures"]}
    assert measured == {
        (service, act, count)
        for service, acts in (("verifyd", ACTS.keys()), ("otpgateway", ACTS.keys() - {"receipt"}))
        for act in acts
        for count in (1, 4)
    }
    assert said["cascades"]["ended"] == said["cascades"]["started"] > 0
    assert 0 < said["cascades"]["p50_ms"] <= said["cascades"]["p99_ms"]
    assert not any(one["unexpected"] for one in said["figures"])
    for one in said["figures"]:
        if one["service"] == "verifyd":
            assert one["requests"] > 0
            assert 0 < one["p50_ms"] <= one["p99_ms"]
            assert one["scripts"][ACTS[one["act"]]] >= 0.9
    assert {one["act"] for one in said["two"]} == ACTS.keys()
    assert [one["service"] for one in said["latencies"]] == ["verifyd", "otpgateway"]
    table = capsys.readouterr().out
    ratios = ("verifyd to otpgateway, create, 4 connections", "two replicas to one, create, 4 connections")
    for words in ("CPython", "cascades: 1,000 a minute", "redis", "start to ready", *ratios):
        assert words in table


@contextmanager
def peer() -> Iterator[tuple[str, int]]:
    """A server that answers as `tests.bench.targets` takes otpgateway to answer, and the port it sends messages to."""
    gateway = Gateway()
    port = gateway.address[1]
    gateway.stop()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    server.daemon_threads = True
    Peer.gateway = f"http://127.0.0.1:{port}/messages"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Peer(BaseHTTPRequestHandler):
    """Every code is `CODE`."""

    protocol_version = "HTTP/1.1"
    gateway = ""

    def do_PUT(self) -> None:
        """Send a code while the caller waits."""
        form = self._form()
        assert form["provider"] == "bench"
        message = {"otp": {"id": self._id, "to": form["to"], "otp": CODE}, "subject": "", "body": ""}
        request = urllib.request.Request(self.gateway, json.dumps(message).encode())  # noqa: S310 - our own http URL
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own http URL
            answer.read()
        self._answer(200, {"status": "success", "data": {"id": self._id}})

    def do_POST(self) -> None:
        """Check a code."""
        if self._form()["otp"] == CODE:
            self._answer(200, {"status": "success", "data": {"id": self._id}})
        else:
            self._answer(400, {"status": "error", "message": "Incorrect OTP"})

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    @property
    def _id(self) -> str:
        return self.path.removeprefix("/api/otp/")

    def _form(self) -> dict[str, str]:
        assert self.headers["authorization"] == f"Basic {base64.b64encode(b'shop:s3cret').decode()}"
        assert self.headers["content-type"] == "application/x-www-form-urlencoded"
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        return {name: values[0] for name, values in parse_qs(body).items()}

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
