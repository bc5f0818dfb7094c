"""A real Prometheus for the tests, and promtool, which comes with it.

`VERIFYD_TEST_PROMETHEUS` is the path of the server to run, with promtool beside it; without it, the one on PATH, else
the one that `make test` unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.redis_server import wait_until

UNPACKED = Path(__file__).parent.parent / ".tools" / "prometheus" / "usr" / "bin" / "prometheus"


def find_server() -> Path:
    """The server; raises `RuntimeError` if there is none, as tests that do not run look like tests that pass."""
    given = os.environ.get("VERIFYD_TEST_PROMETHEUS") or shutil.which("prometheus") or str(UNPACKED)
    if shutil.which(given) is None:
        raise RuntimeError(f"there is no Prometheus at {given}: run the tests by make test, which gets one")
    return Path(given)


def promtool(*arguments: str | Path) -> str:
    """What promtool prints; raises `AssertionError` with that if it finds something wrong."""
    ended = subprocess.run(
        [find_server().with_name("promtool"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


class Prometheus:
    """A running server, asked over its HTTP API."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, timeout=60)

    def ask(self, call: str, **parameters: str) -> Any:
        """The data of an answer; raises `AssertionError` with what is wrong with a question."""
        answer = self._http.get(call, params=parameters)
        assert answer.status_code == httpx.codes.OK, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def up(self) -> bool:
        """Whether it serves and its target answered at least one scrape."""
        try:
            answer = self._http.get("targets")
        except httpx.TransportError:
            return False
        return answer.is_success and any(one["health"] == "up" for one in answer.json()["data"]["activeTargets"])

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@contextmanager
def scraping(target: str, rules: Path, address: str) -> Iterator[Prometheus]:
    """A Prometheus at `address` that scrapes `target` and evaluates `rules` several times a second."""
    with tempfile.TemporaryDirectory(prefix="verifyd-prometheus-") as folder:
        often = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        scrape = [{"job_name": "verifyd", "static_configs": [{"targets": [target]}]}]
        configuration = {"global": often, "rule_files": [str(rules)], "scrape_configs": scrape}
        file, log = Path(folder, "prometheus.yml"), Path(folder, "log")
        file.write_text(yaml.safe_dump(configuration))
        with (
            log.open("wb") as out,
            subprocess.Popen(
                [
                    find_server(),
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            server = Prometheus(address)
            try:
                try:
                    wait_until(server.up, f"Prometheus scrapes {target}")
                except TimeoutError as error:
                    error.add_note(log.read_text())
                    raise
                yield server
            finally:
                server.close()
                process.kill()
