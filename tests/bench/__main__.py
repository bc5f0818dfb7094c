"""The benchmark: `python -m tests.bench` measures verifyd on a real Redis, and beside it otpgateway where there is one.

In a round every service gets the same work at every number of connections: creates for a while, until all their
messages are at the gateway; then, for verifyd, a receipt for each; then a wrong guess for each; then the right one. The
services take turns, and the median round counts. At last there are cascades, over the simulator. Figures of two runs,
or of two machines, say little beside each other: ratios within one do.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

from tests.bench.load import Expected, Load, drive, percentile
from tests.bench.report import Cascades, Figures, Latency, Report
from tests.bench.servers import Cores, Counters, Gateway, Message, Replicas, info, on, start_seconds
from tests.bench.targets import TAKEN, Target, otpgateway, receipt, verifyd, wrong
from tests.redis_server import HOST, RedisServer, wait_until

_DRAIN_SECONDS = 60
_SHORT = 0.5
"""Seconds for warming up, and for the ceiling; less when everything is to be short."""
_PERIODIC = "jobs_claim"
PER_MINUTE = 1_000
"""Cascades."""
_CASCADE_ROUNDS = 10
"""For how many times the seconds of a round cascades are started: they are few in a second."""

Service = Replicas | None
"""What can be looked into, which a peer cannot."""


def numbers() -> Iterator[str]:
    """Twenty million British mobile numbers, each once."""
    return map("+4474{:08d}".format, range(20_000_000))


@dataclass
class Bench:
    """What all measurements share."""

    redis: RedisServer
    gateway: Gateway
    fresh: Iterator[str] = field(default_factory=numbers)

    def round(self, target: Target, service: Service, connections: int, seconds: float) -> list[Figures]:
        """Create for so many seconds, report each message where receipts are taken, guess wrongly, guess rightly."""
        self.redis.command("FLUSHALL")
        used = int(info(self.redis)["used_memory"])
        before = service.counters() if service else None
        load, _, messages = self.create(target, connections, seconds)
        created = replace(
            _figures(target, "create", connections, load, service, before),
            messages_per_second=len(messages) / (max(message.at for message in messages) - load.began),
            pending_bytes=(int(info(self.redis)["used_memory"]) - used) / len(messages) if service else math.nan,
        )
        reported = [_receipts(target, service, messages, connections)] if service else []
        guesses = [(one.verification, one.code) for one in messages]
        mistaken = (target.check(name, wrong(code)) for name, code in guesses)
        right = (target.check(name, code) for name, code in guesses)
        return [
            created,
            *reported,
            _check(target, "wrong check", mistaken, target.wrong, connections, service),
            _check(target, "right check", right, target.right, connections, service),
        ]

    def create(
        self, target: Target, connections: int, seconds: float, rate: float = 0.0
    ) -> tuple[Load, Sequence[str], Sequence[Message]]:
        """Create for a while; the numbers in order, and all the messages. Raises TimeoutError when some do not come."""
        used: list[str] = []

        def requests() -> Iterator[bytes]:
            for number in self.fresh:
                used.append(number)
                yield target.create(number)

        load = drive(target.addresses, requests(), target.created, connections=connections, seconds=seconds, rate=rate)
        return load, used, self._drained(target, len(load.took) - load.unexpected.total())

    def latency(self, target: Target, connections: int, seconds: float, rate: float) -> Latency:
        """From the turn of a create to its message at the gateway, at this rate."""
        load, used, messages = self.create(target, connections, seconds, rate)
        turns = dict(zip(used, load.sent, strict=True))
        took = [message.at - turns[message.to] for message in messages]
        return Latency(
            service=target.name, rate=rate, p50_ms=percentile(took, 50) * 1000, p99_ms=percentile(took, 99) * 1000
        )

    def cascades(self, service: Replicas, seconds: float) -> Cascades:
        """Start cascades at `PER_MINUTE` for so many seconds, and wait until each has come to its end."""
        target, endings = service.cascades, cycle(("06", "07"))
        before, lags, delivered = service.counters(), service.lags(), service.delivered("voice")
        requests = (target.create(f"{number[:-2]}{next(endings)}") for number in islice(self.fresh, 0, None, 100))
        rate = PER_MINUTE / 60
        load = drive(target.addresses, requests, target.created, connections=4, seconds=seconds, rate=rate)
        started = len(load.took) - load.unexpected.total()

        def all_ended() -> bool:
            return service.delivered("voice") - delivered >= started

        with suppress(TimeoutError):  # the report says how many have; each question costs the service time
            wait_until(all_ended, "all have ended", _DRAIN_SECONDS, step=0.1)
        ended = service.delivered("voice") - delivered
        late = service.lags() - lags
        return Cascades(
            per_minute=PER_MINUTE,
            started=started,
            ended=ended,
            p50_ms=_within(late, 50) * 1000,
            p99_ms=_within(late, 99) * 1000,
            cpu_us=service.counters().since(before).cpu / started * 1e6,
        )

    def _drained(self, target: Target, expected: int) -> Sequence[Message]:
        """The first message of every verification, once there are so many."""
        arrived: dict[str, Message] = {}

        def all_here() -> bool:
            for message in self.gateway.take(target):
                arrived.setdefault(message.verification, message)
            return len(arrived) >= expected

        wait_until(all_here, f"{expected} messages of {target.name} at {self.gateway.url}", _DRAIN_SECONDS)
        return list(arrived.values())


def _within(late: Mapping[float, int], percent: float) -> float:
    """The first edge of a histogram's buckets that so many percent do not exceed; not a number when there are none."""
    most = max(late.values(), default=0) * percent / 100
    return next((edge for edge, count in sorted(late.items()) if count >= most), math.nan)


def _receipts(target: Target, service: Replicas, messages: Sequence[Message], connections: int) -> Figures:
    before = service.counters()
    requests = [receipt(message.receipts, service.signing) for message in messages]
    load = drive(service.receipts, iter(requests), TAKEN, connections=connections, seconds=_DRAIN_SECONDS)
    return _figures(target, "receipt", connections, load, service, before)


def _check(
    target: Target, act: str, guesses: Iterator[bytes], expected: Expected, connections: int, service: Service
) -> Figures:
    before = service.counters() if service else None
    load = drive(target.addresses, guesses, expected, connections=connections, seconds=_DRAIN_SECONDS)
    return _figures(target, act, connections, load, service, before)


def _figures(
    target: Target, act: str, connections: int, load: Load, service: Service, before: Counters | None
) -> Figures:
    requests = len(load.took)
    figures = Figures(
        service=target.name,
        act=act,
        connections=connections,
        requests=requests,
        per_second=load.per_second,
        p50_ms=load.percentile(50) * 1000,
        p99_ms=load.percentile(99) * 1000,
        unexpected=dict(load.unexpected),
    )
    if service is None or before is None:
        return figures
    spent = service.counters().since(before)
    return replace(
        figures,
        cpu_us=spent.cpu / requests * 1e6,
        redis_us=spent.redis_cpu / requests * 1e6,
        scripts={name: calls / requests for name, calls in sorted(spent.scripts.items()) if name != _PERIODIC},
        commands=spent.commands / requests,
        reads=spent.reads / requests,
    )


def run(options: argparse.Namespace) -> Report:
    """Measure all that is asked for."""
    cores = Cores.plan(2 if options.replicas else 1)
    with ExitStack() as stack:
        stack.enter_context(on(cores.others))
        ceiling = _ceiling(cores.service[0], min(_SHORT, options.seconds))
        redis = stack.enter_context(RedisServer(appendonly=options.appendonly))
        gateway = Gateway(options.gateway_port)
        stack.callback(gateway.stop)
        started = start_seconds(cores.service[0], redis, gateway, options.starts)
        service = Replicas(cores.service[:1], redis, gateway)
        stack.callback(service.stop)
        report = Report(
            machine=_machine(redis, cores), ceiling=ceiling, start_seconds=started, memory_idle=service.memory()
        )
        bench = Bench(redis, gateway)
        targets: list[tuple[Target, Service]] = [(service.target, service)]
        if options.guard:
            guarded = Replicas(cores.service[:1], redis, gateway, guarded=True)
            stack.callback(guarded.stop)
            targets.append((guarded.target, guarded))
        if options.otpgateway:
            peer = otpgateway(options.otpgateway, options.otpgateway_credentials, options.otpgateway_provider)
            targets.append((peer, None))
        report.figures = _medians(bench, targets, options.connections, options)
        most = max(options.connections)
        for target, _ in targets:
            half = report.figure(target.name, "create", most).messages_per_second / 2
            report.latencies.append(bench.latency(target, most, options.seconds, half))
        report.cascades = bench.cascades(service, _CASCADE_ROUNDS * options.seconds)
        report.memory_after = service.memory()
        if options.replicas:
            service.stop()
            both = Replicas(cores.service, redis, gateway)
            stack.callback(both.stop)
            report.two = _medians(bench, [(replace(both.target, name="two replicas"), both)], [most], options)
        return report


def _medians(
    bench: Bench,
    targets: Sequence[tuple[Target, Service]],
    connections: Sequence[int],
    options: argparse.Namespace,
) -> list[Figures]:
    """The median round of each act, after warming up; the services take turns."""
    for target, service in targets:
        bench.round(target, service, max(connections), min(_SHORT, options.seconds))
    plan = [(number, target, service) for number in connections for target, service in targets]
    rounds = [
        [
            figures
            for number, target, service in plan
            for figures in bench.round(target, service, number, options.seconds)
        ]
        for _ in range(options.rounds)
    ]
    medians = [sorted(same, key=lambda one: one.per_second)[len(same) // 2] for same in zip(*rounds, strict=True)]
    return sorted(medians, key=lambda one: (one.act, one.connections))


def _ceiling(cores: frozenset[int], seconds: float) -> float:
    """Requests a second against a server on the service's core that does nothing."""
    with on(cores):
        idle = Gateway()
    try:
        port = idle.address[1]
        request = verifyd(((HOST, port),), "vk_nobody").create(next(numbers()))
        load = drive([idle.address], iter(lambda: request, b""), Expected(b"200", b""), connections=64, seconds=seconds)
    finally:
        idle.stop()
    return load.per_second


def _machine(redis: RedisServer, cores: Cores) -> dict[str, str]:
    said = info(redis)
    append_only = "yes" if said["aof_enabled"] == "1" else "no"
    return {
        "interpreter": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "store": f"{said.get('server_name', 'redis')} {said['redis_version']}, appendonly {append_only}",
        "machine": f"{platform.system()} {platform.machine()}, {cores.count} cores to use",
        "cores": cores.note,
        "load average": f"{os.getloadavg()[0]:.2f} before, whatever else ran here",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure verifyd on a real Redis.")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to create in each round (default: 3)")
    parser.add_argument(
        "--connections", type=_counts, default=[1, 16, 64], metavar="N,N", help="how many at once (default: 1,16,64)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts (default: 3)")
    parser.add_argument("--starts", type=int, default=3, help="how often to start, for the median (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second at 16 connections, one start")
    parser.add_argument("--appendonly", action="store_true", help="let Redis keep its append-only file")
    parser.add_argument(
        "--replicas", action="store_true", help="measure two replicas too (needs four cores to be fair)"
    )
    parser.add_argument("--guard", action="store_true", help="measure it with the guard on too, side by side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--gateway-port", type=int, default=0, metavar="PORT", help="where messages go (default: any)")
    peer = parser.add_argument_group("otpgateway", "a running one, set up as tests/bench/targets.py says")
    peer.add_argument("--otpgateway", metavar="URL", help="where it is")
    peer.add_argument("--otpgateway-credentials", default="bench:bench", metavar="NAMESPACE:SECRET")
    peer.add_argument("--otpgateway-provider", default="bench", metavar="NAME", help="its webhook to the gateway")
    return parser


def _counts(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit status is 1 when answers were not as they should be."""
    options = _parser().parse_args(argv)
    if options.quick:
        options.seconds, options.connections, options.rounds, options.starts = 1.0, [16], 1, 1
    report = run(options)
    sys.stdout.write(report.text())
    if options.json:
        options.json.write_bytes(report.json())
    return 0 if report.clean else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every process is ended
    sys.exit(main())
