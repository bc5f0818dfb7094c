"""The processes that are measured and that measure, each on its core, and what can be counted of them from outside.

The first core that we may use belongs to the service (the first two to two replicas); the load generator, the gateway
and Redis share the others, as long as there are others.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from service.api.auth import digest
from tests.bench.load import Address
from tests.bench.targets import Target, verifyd
from tests.redis_server import HOST, RedisServer, wait_until

_ROOT = Path(__file__).resolve().parent.parent.parent
_SECONDS = 10.0
_STOP_SECONDS = 40.0
_SCRIPT_CALLS = re.compile(r'^otp_redis_seconds_count\{script="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_PROC = Path("/proc")

# `bench` has a single step that waits as long as it may, so that no wait is over while something else is measured;
# `cascades` has three. No limits for a number, and a guard that is off or has room for all: what is measured are sends.
_CONFIGURATION = """
redis = "{redis}"
[server]
api = "{host}:{api}"
receipts = "{host}:{receipts}"
ops = "{host}:{ops}"
public_url = "http://{host}:{receipts}"
log_level = "warning"
[secrets]
keys = ["{secret}"]
argon2 = "otp"
[guard]
mode = "{guard}"
[guard.limits]
number = []
[guard.rules]
lone_block3 = 1e9
lone_block4 = 1e9
[guard.rules.cap]
block3 = 1e6
block4 = 1e6
range = 1e6
country = 1e6
ip = 1e6
device = 1e6
[providers.gateway]
kind = "webhook"
url = "{gateway}"
secret = "{signing}"
channels = ["sms"]
[applications.bench]
brand = "Bench"
api_keys = ["{key}"]
countries = ["GB"]
cascade = [{{channel = "sms", providers = ["gateway"], wait = "900s"}}]
[providers.simulator]
kind = "simulator"
[applications.cascades]
brand = "Bench"
api_keys = ["{cascades_key}"]
countries = ["GB"]
cascade = [
  {{channel = "sms", providers = ["simulator"], wait = "3s"}},
  {{channel = "whatsapp", providers = ["simulator"], wait = "3s"}},
  {{channel = "voice", providers = ["simulator"], wait = "3s"}},
]
"""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the service (one set for each replica) and everything else run on."""

    service: tuple[frozenset[int], ...]
    others: frozenset[int]
    count: int
    note: str

    @classmethod
    def plan(cls, replicas: int) -> Cores:
        """Share out the cores that this process may use."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(
                (frozenset(),) * replicas,
                frozenset(),
                os.cpu_count() or 1,
                "not pinned: this system has no means for it",
            )
        free = sorted(os.sched_getaffinity(0))
        if len(free) == 1:
            return cls((frozenset(free),) * replicas, frozenset(free), 1, "one core only: everything shares it")
        own = [frozenset({free[i % len(free)]}) for i in range(replicas)]
        rest = frozenset(free[replicas:]) or frozenset(free[1:])
        shared = ", which a replica shares" if len(free) <= replicas else ""
        cores = ",".join(str(core) for core in sorted(rest))
        return cls(
            tuple(own),
            rest,
            len(free),
            f"pinned: service on {','.join(str(min(core)) for core in own)}, all else on {cores}{shared}",
        )


@contextlib.contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Run on these cores, with every process that is started meanwhile; afterwards where it was before."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Message:
    """A message at the gateway, and when it came (`time.monotonic`)."""

    at: float
    to: str
    verification: str
    code: str
    receipts: str


class Gateway:
    """The gateway's process; `port` 0 is any."""

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.gateway", str(port)], cwd=_ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"the gateway cannot listen on port {port}")
        self.address: Address = (HOST, int(line))
        self.url = f"http://{HOST}:{int(line)}/messages"

    def take(self, target: Target) -> list[Message]:
        """The messages that came since the last asking, which are `target`'s."""
        taken: list[tuple[float, str]] = orjson.loads(_get(self.address[1], "/taken")[1])
        return [Message(at, *target.read(orjson.loads(body))) for at, body in taken]

    def stop(self) -> None:
        """End the process."""
        _end(self._process, signal.SIGKILL)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Counters:
    """What was counted up to a moment; the difference of two is what happened between them."""

    cpu: float
    """Seconds of CPU, of all replicas."""
    redis_cpu: float
    scripts: Counter[str]
    """Calls of scripts, by their name, as the service counts them."""
    commands: int
    """Commands that Redis ran, those inside scripts included."""
    reads: int
    """Times that Redis found something to read on a connection: about one for each round trip."""

    def since(self, before: Counters) -> Counters:
        """What was counted since."""
        return Counters(
            self.cpu - before.cpu,
            self.redis_cpu - before.redis_cpu,
            self.scripts - before.scripts,
            self.commands - before.commands,
            self.reads - before.reads,
        )


class Replicas:
    """One or more processes of the service on one Redis, with the guard off unless `guarded`.

    Those with the guard on have a database of their own: the jobs of others would be none that they can read.
    """

    def __init__(
        self, cores: Sequence[frozenset[int]], redis: RedisServer, gateway: Gateway, *, guarded: bool = False
    ) -> None:
        self._redis = redis
        self._key, self._cascades_key = (f"vk_{secrets.token_urlsafe(16)}" for _ in range(2))
        self._guarded = guarded
        self._folder = tempfile.TemporaryDirectory(prefix="verifyd-bench-")
        self._secrets = [base64.b64encode(secrets.token_bytes(size)).decode() for size in (32, 24)]
        self._running: list[tuple[subprocess.Popen[bytes], dict[str, int]]] = []
        try:
            for some in cores:
                self._start(some, gateway)
        except BaseException:
            self.stop()
            raise

    @property
    def target(self) -> Target:
        """How to ask it."""
        addresses = tuple((HOST, ports["api"]) for _, ports in self._running)
        return verifyd(addresses, self._key, guarded=self._guarded)

    @property
    def cascades(self) -> Target:
        """How to ask for cascades over the simulator."""
        return verifyd(self.target.addresses, self._cascades_key)

    @property
    def receipts(self) -> tuple[Address, ...]:
        """Where receipts are taken."""
        return tuple((HOST, ports["receipts"]) for _, ports in self._running)

    @property
    def signing(self) -> str:
        """What the gateway signs them with."""
        return f"whsec_{self._secrets[1]}"

    def samples(self, name: str) -> Iterator[Sample]:
        """What the metrics have under a name."""
        for _, ports in self._running:
            for family in text_string_to_metric_families(_get(ports["ops"], "/metrics")[1].decode()):
                yield from (sample for sample in family.samples if sample.name == name)

    def lags(self) -> Counter[float]:
        """How many due jobs were late by no more than so many seconds."""
        found: Counter[float] = Counter()
        for sample in self.samples("otp_job_lag_seconds_bucket"):
            found[float(sample.labels["le"])] += int(sample.value)
        return found

    def delivered(self, channel: str) -> int:
        """How many messages the simulator reported as delivered over a channel."""
        labels = {"provider": "simulator", "channel": channel, "status": "delivered"}
        found = self.samples("otp_deliveries_total")
        return sum(int(sample.value) for sample in found if labels.items() <= sample.labels.items())

    def counters(self) -> Counters:
        """What was counted up to now."""
        scripts: Counter[str] = Counter()
        for _, ports in self._running:
            for name, count in _SCRIPT_CALLS.findall(_get(ports["ops"], "/metrics")[1].decode()):
                scripts[name] += int(float(count))
        stats = info(self._redis)
        return Counters(
            cpu=sum(_cpu(process.pid) for process, _ in self._running),
            redis_cpu=float(stats["used_cpu_user"]) + float(stats["used_cpu_sys"]),
            scripts=scripts,
            commands=int(stats["total_commands_processed"]),
            reads=int(stats.get("total_reads_processed", 0)),
        )

    def memory(self) -> float:
        """Resident bytes of the first replica; not a number where there is no /proc."""
        status = _PROC / str(self._running[0][0].pid) / "status"
        found = _RSS.search(status.read_text()) if status.exists() else None
        return int(found[1]) * 1024 if found else float("nan")

    def stop(self) -> None:
        """End all, as an operator does."""
        for process, _ in self._running:
            _end(process, signal.SIGTERM)
        self._folder.cleanup()

    def _start(self, cores: frozenset[int], gateway: Gateway) -> None:
        ports = dict(zip(("api", "receipts", "ops"), _free_ports(3), strict=True))
        secret = self._secrets[0]
        file = Path(self._folder.name, f"{ports['api']}.toml")
        file.write_text(
            _CONFIGURATION.format(
                guard="enforce" if self._guarded else "off",
                redis=self._redis.url.removesuffix("0") + str(int(self._guarded)),
                host=HOST,
                secret=secret,
                signing=self.signing,
                gateway=gateway.url,
                key=digest(self._key),
                cascades_key=digest(self._cascades_key),
                **ports,
            )
        )
        log = file.with_suffix(".log")
        with on(cores), log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", str(file)], cwd=_ROOT, stdout=output, stderr=output
            )
        self._running.append((process, ports))

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the service did not start:\n{log.read_text()}")
            with contextlib.suppress(ConnectionError):
                return _get(ports["ops"], "/readyz")[0] == HTTPStatus.OK
            return False

        wait_until(ready, "the service is ready")


def start_seconds(cores: frozenset[int], redis: RedisServer, gateway: Gateway, times: int) -> float:
    """From starting a process to its first 200 at /readyz: the median, to some 10 ms."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        one = Replicas([cores], redis, gateway)
        took.append(time.monotonic() - began)
        one.stop()
    return statistics.median(took)


def info(redis: RedisServer) -> dict[str, str]:
    """What Redis says of itself."""
    lines = str(redis.command("INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _get(port: int, path: str) -> tuple[int, bytes]:
    with contextlib.closing(HTTPConnection(HOST, port, timeout=_SECONDS)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _cpu(process: int) -> float:
    """Seconds of CPU of a process (proc(5): user and system ticks, behind the name in parentheses)."""
    stat = _PROC / str(process) / "stat"
    if not stat.exists():
        return float("nan")
    words = stat.read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in bound]


def _end(process: subprocess.Popen[Any], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
