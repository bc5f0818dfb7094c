"""The service without a configuration: all in this process, the simulator's messages in this terminal. To try out."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from service import config as settings
from service.api.auth import digest
from service.config import Config
from service.providers import KINDS

API = "127.0.0.1:8080"
OPS = "127.0.0.1:9090"


def new_api_key() -> str:
    """A new API key: 160 random bits behind `vk_`."""
    return f"vk_{secrets.token_hex(20)}"


def config(key: str) -> Config:
    """The configuration of the demo, opened by this API key."""
    steps = [{"channel": channel, "providers": ["simulator"], "wait": "5s"} for channel in ("sms", "whatsapp", "voice")]
    api_key = {"hash": digest(key), "scopes": ["verify", "read", "guard"]}
    data = {
        "redis": "memory://",
        "shards": 4,
        "server": {"api": API, "receipts": API, "ops": OPS, "log_level": "warning"},
        "providers": {"simulator": {"kind": "simulator", "open": True, "late": "8s", "slow": "3s"}},
        # Whoever tries it out sends to a few neighbouring numbers, which is what the guard is there to refuse.
        "guard": {"mode": "monitor"},
        "applications": {"demo": {"brand": "Demo", "api_keys": [api_key], "cascade": steps}},
    }
    return settings.check(data, KINDS, {})


@contextlib.contextmanager
def announced(key: str) -> Iterator[None]:
    """Print the API key, and keep it for `verifyd try` in a file of this user's for as long as the demo runs."""
    print(f"API key: {key}", flush=True)
    path = None
    try:
        path = _key_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"url": f"http://{API}", "key": key}, file)
    except (OSError, RuntimeError):
        # No home, or one that cannot be written to: `verifyd try` is then told the key by its environment.
        path = None
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def running() -> tuple[str, str] | None:
    """URL and API key of this user's demo, if one was started."""
    try:
        found = json.loads(_key_file().read_text())
        return str(found["url"]), str(found["key"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def _key_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "verifyd" / "demo.json"
