"""Serves until told to stop: the addresses, the signals, and the order in which all comes to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import uvicorn

from service.api.listener import Listener
from service.api.protocol import BoundedProtocol
from service.app import Service
from service.config import Config, worries
from service.errors import ConfigError

logger = logging.getLogger(__name__)


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, drain, then stop accepting, finish, and return within the grace period.

    Only SIGTERM drains, until a second signal: who types Ctrl-C waits for it.
    Raises ConfigError when an address cannot be listened on.
    """
    service = Service(config)
    server = config.settings.server
    sockets = _listen_all(service.listeners)
    service.warm()
    # What is loaded by now stays: the collector need not walk it again and again.
    gc.freeze()
    servers = {address: _Server(_uvicorn(listener, server.grace)) for address, listener in service.listeners.items()}
    for warning in worries(config):
        logger.warning("%s: %s", *warning)
    stopping, drained = asyncio.Event(), asyncio.Event()

    def end(number: signal.Signals) -> None:
        if stopping.is_set() or number == signal.SIGINT:
            drained.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    await service.start()
    running = {address: loop.create_task(one.serve(sockets=[sockets[address]])) for address, one in servers.items()}
    logger.info("serving", extra={"fields": {"api": server.api, "receipts": server.receipts, "ops": server.ops}})
    await stopping.wait()
    logger.info("stopping")
    service.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(drained.wait(), server.drain)
    # Half of the grace is for requests (uvicorn keeps that time), half for deliveries. Probes and metrics are answered
    # until the end, unless they share an address with what must stop first.
    shared = server.ops in {server.api, server.receipts}
    first = [address for address in running if shared or address != server.ops]
    for address in first:
        servers[address].should_exit = True
    await asyncio.gather(*[running[address] for address in first])
    await service.stop(server.grace / 2)
    for one in servers.values():
        one.should_exit = True
    await asyncio.gather(*running.values())
    _remove_sockets(sockets)
    logger.info("stopped")


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`, which has several of them to stop in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def _uvicorn(listener: Listener, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        listener,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, grace // 2),
    )


def _listen_all(addresses: Iterable[str]) -> dict[str, socket.socket]:
    """Listen on every address, or on none; raises ConfigError."""
    listening: dict[str, socket.socket] = {}
    try:
        for address in addresses:
            listening[address] = _listen(address)
    except OSError as error:
        for one in listening.values():
            one.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError([("server", f"cannot listen on {address}: {reason}")]) from None
    return listening


def _listen(address: str) -> socket.socket:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        _remove_dead_socket(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        path.chmod(0o660)
    else:
        host, _, port = address.rpartition(":")
        bare = host.strip("[]")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        listening = socket.create_server((bare, int(port)), family=family, backlog=2048)
    listening.setblocking(False)
    return listening


def _remove_sockets(addresses: Iterable[str]) -> None:
    for address in addresses:
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    """Make room where a process that was killed left its socket; a living one, or another file, is in the way."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        if caller.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink(missing_ok=True)
