"""Real Redis servers, started once for all tests that leave them as they are and emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisCluster, RedisSentinel, RedisServer


@pytest.fixture(scope="session")
def _server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _sentinel() -> Iterator[RedisSentinel]:
    with RedisSentinel() as sentinel:
        yield sentinel


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """One Redis, empty."""
    _server.command("FLUSHALL")
    return _server


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    """Three masters, empty."""
    for node in _cluster.nodes:
        node.command("FLUSHALL")
    return _cluster


@pytest.fixture
def sentinel(_sentinel: RedisSentinel) -> RedisSentinel:
    """A master and its replica under a sentinel, empty."""
    _sentinel.master.command("FLUSHALL")
    return _sentinel


@pytest.fixture(params=["standalone", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """Where an empty Redis of each kind is."""
    match request.param:
        case "standalone":
            server: RedisServer = request.getfixturevalue("server")
            return server.url
        case "sentinel":
            sentinel: RedisSentinel = request.getfixturevalue("sentinel")
            return sentinel.url
    cluster: RedisCluster = request.getfixturevalue("cluster")
    return cluster.url
