"""A client of Redis, for a URL."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

SECONDS: Final = 0.9
"""How long one round trip may take. Two of them fit into the two seconds within which a caller gets a 503."""


def connect(url: str) -> Redis | RedisCluster:
    """A client for `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://` or `memory://`.

    `redis+sentinel://[user:password@]host:port[,host:port…]/<master>[/<db>]`, `redis+cluster://host:port[,host:port…]`;
    with `rediss+…` both speak TLS. Raises ValueError for anything else.
    """
    # Scripts are not repeated behind our back: what takes an attempt must not take two. Time is kept for a whole round
    # trip, not for each of its reads.
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": SECONDS,
    }
    parts = urlsplit(url)
    scheme, _, mode = parts.scheme.partition("+")
    if parts.scheme == "memory":
        from fakeredis import FakeAsyncRedis

        return FakeAsyncRedis()
    if scheme not in {"redis", "rediss"} or mode not in {"", "sentinel", "cluster"} or not parts.netloc:
        raise ValueError("write redis://, rediss://, redis+sentinel://, redis+cluster:// or memory://")
    if not mode:
        return _single(url, options)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if scheme == "rediss":
        options["ssl"] = True
    places = [_host_port(place, 26379 if mode == "sentinel" else 6379) for place in hosts.split(",")]
    if mode == "cluster":
        nodes = [ClusterNode(host, port) for host, port in places]
        return RedisCluster(startup_nodes=nodes, **options)
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("name the master: redis+sentinel://host:26379/mymaster")
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves this constructor without types
        places, sentinel_kwargs={"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    )
    client: Redis = sentinel.master_for(master, db=int(db or 0), **options)
    return client


def _single(url: str, options: dict[str, Any]) -> Redis:
    if not re.fullmatch(r"/?\d*", urlsplit(url).path):
        raise ValueError("write the database as a number: redis://host:6379/0")
    strange = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)} - _OPTIONS
    if strange:
        raise ValueError(f"behind the ? there may be {', '.join(sorted(_OPTIONS))}")
    client: Redis = Redis.from_url(url, **options)
    return client


_OPTIONS = {"client_name", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}


def _host_port(place: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(f"{place!r} is not host:port")
    return parts.hostname, parts.port or default
