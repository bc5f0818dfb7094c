"""Services as operators run them: `python -m service serve FILE`, each a process of its own, on one Redis."""

from __future__ import annotations

import copy
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.gateway import Gateway
from tests.redis_server import wait_until
from tests.world import KEY, Table

ROOT = Path(__file__).parent.parent.parent

PATIENCE = 3.0
"""Seconds that a probe waits for its answer."""


class Process:
    """One service. It listens on unix sockets in `directory`, so that no two can want the same port.

    It may be stopped or killed and started again with the same configuration.
    """

    def __init__(self, name: str, configuration: Table, directory: Path) -> None:
        self.name = name
        self._sockets = {listener: directory / f"{name}.{listener}" for listener in ("api", "receipts", "ops")}
        self._file = directory / f"{name}.toml"
        self._log = directory / f"{name}.log"
        addresses = {listener: f"unix:{path}" for listener, path in self._sockets.items()}
        table = copy.deepcopy(configuration)
        table["server"] |= addresses
        self._file.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in table.items()))

    def start(self) -> None:
        """Start it; `wait_until_ready` says when it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", str(self._file)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Ends it should the tests themselves be killed: their end of the pipe closes then.
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read -r _; kill -KILL {self._process.pid}"], stdin=subprocess.PIPE, start_new_session=True
        )

    def wait_until_ready(self) -> None:
        """Return once it is ready; raises RuntimeError with its log if it ends instead."""
        wait_until(self._has_started, f"the service {self.name} is ready")

    def _has_started(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the service ended with {self._process.returncode}:\n{self.log}")
        return self.probe("/readyz") == httpx.codes.OK

    def probe(self, path: str) -> int:
        """The status of a probe over a connection of its own, as a platform asks; 0 where nobody answers."""
        ops = http.client.HTTPConnection("ops")
        with socket.socket(socket.AF_UNIX) as connection:  # httpx would leave its socket open when it is refused
            connection.settimeout(PATIENCE)
            ops.sock = connection
            try:
                connection.connect(str(self._sockets["ops"]))
                ops.request("GET", path, headers={"connection": "close"})
                answer = ops.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return 0
            return answer.status

    @property
    def log(self) -> str:
        """Everything that it has written."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to end, as a platform does, by SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended; raises subprocess.TimeoutExpired."""
        status = self._process.wait(seconds)
        self._unguard()
        return status

    def kill(self) -> None:
        """End it at once, by SIGKILL, whether it runs or has ended already."""
        self._unguard()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)

    def _unguard(self) -> None:
        """Before the process id can become another's."""
        with self._guard:
            self._guard.kill()

    def client(self, key: str = KEY) -> httpx.AsyncClient:
        """A caller of its API, with this API key."""
        return self._client("api", {"authorization": f"Bearer {key}"})

    def receipts(self) -> httpx.AsyncClient:
        """A provider that reports."""
        return self._client("receipts", {})

    def ops(self) -> httpx.AsyncClient:
        """A client of its probes and metrics."""
        return self._client("ops", {})

    def _client(self, listener: str, headers: dict[str, str]) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(
            uds=str(self._sockets[listener]), verify=False
        )  # nothing is encrypted on it
        return httpx.AsyncClient(transport=transport, base_url="http://verifyd", headers=headers, timeout=30)


@contextmanager
def processes(configuration: Table, gateway: Gateway | None, count: int) -> Iterator[Sequence[Process]]:
    """So many services, ready, named "0", "1", …; when left, they are dead.

    Each sends through the providers of `configuration`, all of them at `gateway`, if there is one, under its own name.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verifyd-")))
        started = []
        for name in map(str, range(count)):
            place = {} if gateway is None else {"url": gateway.url(name)}
            providers = {key: one | place for key, one in configuration["providers"].items()}
            process = Process(name, configuration | {"providers": providers}, directory)
            process.start()
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            process.wait_until_ready()
        yield started


async def metric(running: Sequence[Process], name: str, **labels: str) -> float:
    """The sum of a metric over all processes."""
    total = 0.0
    for process in running:
        async with process.ops() as ops:
            text = (await ops.get("/metrics")).text
        total += sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
    return total


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(value)  # TOML writes text, numbers and truth as JSON does
