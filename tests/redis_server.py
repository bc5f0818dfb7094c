"""Real Redis servers for the tests: one alone, a cluster of three masters, or a master and replica under a sentinel.

Each is a context manager: entered, it answers; left, its processes are dead and its data is gone. They listen on free
loopback ports and keep their files in temporary directories. `VERIFYD_TEST_REDIS` is the path of the Redis or Valkey
server to run; without it, the one on PATH, else the one that `make test` installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
MASTER = "mymaster"
SLOTS = 16384
TOOLS = Path(__file__).parent.parent / ".tools" / "bin"
# A cluster bus listens 10000 above its server; both stay below the ports that systems hand to clients, from 32768.
BUS = 10000
PORTS = range(20000, 32768 - BUS)


class _Context(ABC):
    """What is set up when entered, and undone when left or when that fails."""

    @abstractmethod
    def _set_up(self, stack: ExitStack) -> None: ...

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class _Server(_Context):
    """One process, its port and its directory, which outlive `stop` and `kill` until the context is left."""

    def __init__(self, configuration: Sequence[str], *arguments: str) -> None:
        self.port = _free_port()
        self._configuration = configuration
        self._arguments = arguments

    def _set_up(self, stack: ExitStack) -> None:
        # A process that the server forked may still write for a moment after it was killed.
        scratch = tempfile.TemporaryDirectory(prefix="verifyd-redis-", ignore_cleanup_errors=True)
        directory = stack.enter_context(scratch)
        self._file = Path(directory, "redis.conf")
        self._log = Path(directory, "log")
        lines = [f"bind {HOST}", f"port {self.port}", f"dir {directory}", "daemonize no", *self._configuration]
        self._file.write_text("\n".join(lines) + "\n")
        self.start()
        stack.callback(self.kill)

    def start(self) -> None:
        """Start on the same port with what the directory holds; return once it answers.

        Raises `RuntimeError`, with the server's log, if it ends instead.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [find_server(), str(self._file), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )
        # Cleans up should the tests themselves be killed: their end of the pipe closes then.
        clean_up = f"read -r _; kill -KILL -{self._process.pid}; rm -rf '{self._file.parent}'"
        self._guard = subprocess.Popen(["sh", "-c", clean_up], stdin=subprocess.PIPE, start_new_session=True)
        try:
            wait_until(self._answers, "the server answers")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it as an operator does, by SIGTERM."""
        self.resume()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, by SIGKILL, whether it runs, is paused or has ended already."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay open and nothing answers, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str | int) -> object:
        """Return what it answers to one command, unparsed; raises `redis.RedisError`."""
        with redis.Redis(HOST, self.port, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the Redis server did not start:\n{self._log.read_text()}")
        with suppress(redis.ConnectionError):  # not listening yet, or loading its data
            return self.command("PING") == "PONG"
        return False

    def _end(self, how: signal.Signals) -> None:
        with self._guard:
            self._guard.kill()  # before the process id can become another's
        if self._process.poll() is None:
            os.killpg(self._process.pid, how)  # with what it forked
            self._process.wait(timeout=30)


class RedisServer(_Server):
    """One Redis.

    With `appendonly`, what it has answered survives `stop` and `kill`; without, each start is empty. `settings` are
    further lines of its configuration file.
    """

    def __init__(
        self,
        *,
        appendonly: bool = True,
        maxmemory_policy: str = "noeviction",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            [
                'save ""',
                f"appendonly {'yes' if appendonly else 'no'}",
                f"maxmemory-policy {maxmemory_policy}",
                *(f"{name} {value}" for name, value in (settings or {}).items()),
            ]
        )

    @property
    def url(self) -> str:
        """Where it is, as the service's configuration writes it."""
        return f"redis://{HOST}:{self.port}/0"


class RedisCluster(_Context):
    """A Redis Cluster of three masters without replicas, in `nodes`; each has a third of the slots, in order."""

    nodes: list[RedisServer]

    def _set_up(self, stack: ExitStack) -> None:
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "5000"}
        self.nodes = [stack.enter_context(RedisServer(settings=settings)) for _ in range(3)]
        for i, node in enumerate(self.nodes):
            node.command("CLUSTER", "ADDSLOTS", *range(SLOTS * i // 3, SLOTS * (i + 1) // 3))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            self.nodes[0].command("CLUSTER", "MEET", HOST, node.port)
        wait_until(lambda: all(map(_in_whole_cluster, self.nodes)), "each node sees the whole cluster")

    @property
    def url(self) -> str:
        """Where it is, as the service's configuration writes it."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)


class RedisSentinel(_Context):
    """A `master` and its `replica` under one `sentinel`, which promotes the replica a second after a failure."""

    master: RedisServer
    replica: RedisServer
    sentinel: _Server

    def _set_up(self, stack: ExitStack) -> None:
        at_once = {"repl-diskless-sync-delay": "0"}
        self.master = stack.enter_context(RedisServer(settings=at_once))
        of_master = {"replicaof": f"{HOST} {self.master.port}"}
        self.replica = stack.enter_context(RedisServer(settings=at_once | of_master))
        # Before the sentinel comes, which asks the master for its replicas at once, and then only every 10 seconds.
        wait_until(
            lambda: "state=online" in str(self.master.command("INFO", "replication")), "the replica has all data"
        )
        self.sentinel = stack.enter_context(
            _Server(
                [
                    f"sentinel monitor {MASTER} {HOST} {self.master.port} 1",
                    f"sentinel down-after-milliseconds {MASTER} 1000",
                    f"sentinel failover-timeout {MASTER} 5000",
                ],
                "--sentinel",
            )
        )
        wait_until(
            lambda: str(self.replica.port) in str(self.sentinel.command("SENTINEL", "REPLICAS", MASTER)),
            "the sentinel knows the replica",
        )

    @property
    def url(self) -> str:
        """Where it is, as the service's configuration writes it."""
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/{MASTER}/0"


def find_server() -> str:
    """Return the path of the Redis or Valkey server to run; raises `RuntimeError` if there is none."""
    named = os.environ.get("VERIFYD_TEST_REDIS")
    for name in [named] if named else ["redis-server", "valkey-server", str(TOOLS / "redis-server")]:
        if path := shutil.which(name):
            return path
    raise RuntimeError("no Redis or Valkey server: `make test` installs one, or VERIFYD_TEST_REDIS names its path")


def wait_until(condition: Callable[[], bool], what: str, seconds: int = 30, step: float = 0.01) -> None:
    """Ask every `step` seconds if `condition` holds; raises `TimeoutError`, naming `what`, after so many `seconds`.

    For servers, whose clock no test can set. It counts its tries, so that a test may set its own clock meanwhile.
    """
    for _ in range(round(seconds / step)):
        if condition():
            return
        time.sleep(step)
    raise TimeoutError(f"after {seconds} seconds not yet: {what}")


def _in_whole_cluster(node: RedisServer) -> bool:
    state = str(node.command("CLUSTER", "INFO")).splitlines()
    return {"cluster_state:ok", f"cluster_slots_ok:{SLOTS}", "cluster_known_nodes:3"}.issubset(state)


def _free_port() -> int:
    while True:
        port = SystemRandom().choice(PORTS)
        with suppress(OSError), socket.socket() as server, socket.socket() as bus:
            server.bind((HOST, port))
            bus.bind((HOST, port + BUS))
            return port
