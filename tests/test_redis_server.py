"""The real servers that other tests rely on: they start, hang, die and come back as those tests expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.redis_server import HOST, RedisCluster, RedisSentinel, RedisServer, find_server, wait_until

pytestmark = pytest.mark.redis


def test_a_server_keeps_what_it_answered_when_stopped_and_started_again() -> None:
    """The port, and with it the URL that a service holds, stays the same too."""
    with RedisServer() as server:
        server.command("SET", "code", "sealed")
        server.stop()
        server.start()
        assert server.command("GET", "code") == "sealed"


def test_a_server_keeps_what_it_answered_when_killed() -> None:
    """The append-only file is written before the answer, and the kernel keeps what a dead process wrote."""
    with RedisServer() as server:
        server.command("SET", "code", "sealed")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            server.command("PING")
        server.start()
        assert server.command("GET", "code") == "sealed"


def test_a_server_without_append_only_file_forgets_when_stopped() -> None:
    """So that tests can show what a service loses, and says, on such a server."""
    with RedisServer(appendonly=False) as server:
        server.command("SET", "code", "sealed")
        server.stop()
        server.start()
        assert server.command("GET", "code") is None


def test_a_server_is_set_up_as_asked() -> None:
    """Named options and further settings all reach the configuration file."""
    with RedisServer(appendonly=False, maxmemory_policy="allkeys-lru", settings={"maxmemory": "64mb"}) as server:
        assert server.command("CONFIG", "GET", "appendonly") == ["appendonly", "no"]
        assert server.command("CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "allkeys-lru"]
        assert server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(64 * 1024 * 1024)]


def test_a_paused_server_answers_nothing_until_resumed() -> None:
    """Unlike a dead one, it refuses no connection: only a timeout tells."""
    with RedisServer() as server, redis.Redis.from_url(server.url, socket_timeout=0.1, retry=None) as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("code")
        server.resume()
        assert server.command("GET", "code") is None


def test_a_paused_server_can_be_stopped() -> None:
    """It would never see SIGTERM while it is paused, so it is resumed for it."""
    with RedisServer() as server:
        server.command("SET", "code", "sealed")
        server.pause()
        server.stop()
        server.start()
        assert server.command("GET", "code") == "sealed"


def test_a_server_is_gone_after_its_context_even_when_the_test_fails() -> None:
    """No failing test may leave a process behind."""
    with pytest.raises(ZeroDivisionError), RedisServer() as server:
        _ = 1 / 0
    with pytest.raises(redis.ConnectionError):
        server.command("PING")


def test_a_server_is_gone_when_the_tests_are_killed() -> None:
    """Nothing of the tests runs any more then, so something else must end the server."""
    tests = subprocess.Popen(
        [sys.executable, "-c", "from tests.redis_server import *; print(RedisServer().__enter__().port); input()"],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tests:
        assert tests.stdout is not None
        url = f"redis://{HOST}:{int(tests.stdout.readline())}"
        tests.kill()

    def gone() -> bool:
        with redis.Redis.from_url(url, retry=None) as client:
            try:
                client.ping()
            except redis.ConnectionError:
                return True
            return False

    wait_until(gone, "the server is gone")


def test_a_server_that_cannot_start_says_why() -> None:
    """The server's log is in the error, as the file that it was in is gone."""
    with pytest.raises(RuntimeError, match="no-such-setting"), RedisServer(settings={"no-such-setting": "1"}):
        pass


def test_a_missing_server_is_an_error_that_tells_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a skip: tests that did not run would look like tests that passed."""
    monkeypatch.setenv("VERIFYD_TEST_REDIS", "/nowhere/redis-server")
    with pytest.raises(RuntimeError, match="make test"):
        find_server()


@pytest.mark.cluster
def test_a_cluster_spreads_keys_over_three_masters() -> None:
    """The 64 hash tags of the shards reach every master."""
    with RedisCluster() as cluster, redis.RedisCluster(HOST, cluster.nodes[0].port) as client:
        for shard in range(64):
            client.set(f"{{v{shard}}}", shard)
        counts = [node.command("DBSIZE") for node in cluster.nodes]
    assert sum(map(int, map(str, counts))) == 64
    assert 0 not in counts


def test_a_sentinel_names_the_replica_once_the_master_is_gone() -> None:
    """It is promoted, so it takes writes."""
    with RedisSentinel() as group:
        named = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]
        assert group.sentinel.command(*named) == [HOST, str(group.master.port)]
        group.master.kill()
        wait_until(lambda: group.sentinel.command(*named) == [HOST, str(group.replica.port)], "the replica is master")
        assert group.replica.command("SET", "code", "sealed") == "OK"
