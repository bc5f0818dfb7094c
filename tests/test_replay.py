"""`verifyd replay`: a log in, decisions and a summary out, the same each time."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.guard.oracle import Oracle
from tests.test_cli import COMMAND, ROOT, surroundings
from tests.world import table

BLOCK = "+447400123"


def create(n: int, t: float = 0.0, **fields: object) -> dict[str, Any]:
    """A create to one of the numbers of a block."""
    return {"t": t, "type": "create", "ref": f"r{n}", "to": f"{BLOCK}{n:03}", "channel": "sms", **fields}


def log_of(*events: object) -> bytes:
    """A log, an event a line; what is bytes already stands as it is."""
    return b"".join(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events)


def replayed(folder: Path, log: bytes, *options: str | Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    """The decisions on a log."""
    source, out = folder / name, folder / "out.jsonl"
    source.write_bytes(gzip.compress(log) if name.endswith(".gz") else log)
    assert main(["replay", str(source), "--decisions", str(out), *map(str, options)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_each_create_has_its_decision_and_the_rest_is_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third to a block whose codes nobody uses is refused; events of what was refused are passed over."""
    ignored = [
        {"t": 1, "type": "check", "ref": "r2", "correct": True},
        {"t": 1, "type": "receipt", "ref": "r2", "status": "failed"},
    ]
    found = replayed(tmp_path, log_of(*[create(n) for n in range(3)], *ignored, create(5, 2.0)))
    assert [one["verdict"] for one in found] == ["allow"] * 2 + ["block"] * 2
    assert found[0] == {"ref": "r0", "verdict": "allow", "reasons": [], "at": 0.0}
    reason = found[2]["reasons"][0]
    assert (reason["rule"], reason["prefix"]) == ("block3", BLOCK)
    summary = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "0", "0", "2", "0.12", "0.12"] in summary
    assert ["GB", "2", "0", "0", "2", "0.12", "0.12"] in summary
    assert ["+447400", "2", "0", "0", "2", "0.12", "0.12"] in summary
    assert ["block3", "0", "0", "0", "2", "0.00", "0.12"] in summary


def test_used_codes_and_failed_receipts_make_room(tmp_path: Path) -> None:
    """As in production, each once."""
    used = [{"t": 1, "type": "check", "ref": "r0", "correct": right} for right in (False, True, True)]
    failed = [{"t": 1, "type": "receipt", "ref": "r1", "status": word} for word in ("delivered", "failed", "failed")]
    found = replayed(
        tmp_path, log_of(*[create(n) for n in range(2)], *used, *failed, *[create(n, 2) for n in range(5, 8)])
    )
    assert [one["verdict"] for one in found] == ["allow"] * 4 + ["block"]


def test_bad_lines_are_named_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their numbers, on standard error."""
    bad: list[object] = [
        b"not json\n",
        b"[]\n",
        b"\n",
        {"type": "create", "ref": "x", "to": "+447400123456"},
        {"t": "1", "type": "create", "ref": "x", "to": "+447400123456"},
        {"t": 1, "type": "create", "ref": 1, "to": "+447400123456"},
        {"t": 1, "type": "create", "ref": "x", "to": 447400123456},
        {"t": 1, "type": "create", "ref": "x", "to": "+447400123456", "ip": "nowhere"},
        {"t": 1, "type": "create", "ref": "x", "to": "+447400123456", "device_id": 7},
        {"t": 1, "type": "check", "ref": "x"},
        {"t": 1, "type": "dance", "ref": "x"},
        {"t": 1, "type": "check", "ref": "r1", "correct": "no"},
        create(3, challenge_passed="no"),
        create(3, limit_keys=["tenant"]),
        create(3, limit_keys={"tenant": 7}),
    ]
    found = replayed(tmp_path, log_of(create(1), *bad, create(2, 3)))
    assert [one["ref"] for one in found] == ["r1", "r2"]
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in errors] == [f"line {n}" for n in (2, 3, *range(5, 17))]


def test_the_time_of_a_bad_line_does_not_count(tmp_path: Path) -> None:
    """One in milliseconds, say, after which time would stand still."""
    bad = {"t": 9e11, "type": "dance", "ref": "x"}
    found = replayed(tmp_path, log_of(create(1), bad, create(2, 3)))
    assert [one["at"] for one in found] == [0.0, 3]


def test_numbers_that_are_none_are_refused_not_bad(tmp_path: Path) -> None:
    """Nor are those of special calling codes numbers that one texts."""
    numbers = ["+4474001", "+881612345678", "+12", "nobody", "+447400123456"]
    found = replayed(tmp_path, log_of(*[create(n) | {"to": number} for n, number in enumerate(numbers)]))
    assert [one["verdict"] for one in found] == ["block"] * 4 + ["allow"]
    assert {reason["rule"] for one in found for reason in one["reasons"]} == {"type"}


def test_the_same_log_has_the_same_answer_compressed_or_not(tmp_path: Path) -> None:
    """Byte for byte."""
    log = log_of(*[create(n, n / 10, ip=f"192.0.2.{n % 7}", device_id=f"d{n % 5}") for n in range(200)])
    assert replayed(tmp_path, log) == replayed(tmp_path, log, name="log.jsonl.gz")


def test_the_configuration_counts_and_an_unknown_application_is_the_first(tmp_path: Path) -> None:
    """Its rules, its limits (but for mere spacing), its budgets, its countries, whatever the mode."""
    guard = {
        "mode": "monitor",
        "challenge": True,
        "limits": {"number": ["1/30s", "2/1h"]},
        "rules": {"cap": {"block3": 2.0, "block4": 9.0}},
    }
    config = tmp_path / "otp.toml"
    config.write_text(
        "\n".join(f"{key} = {_toml(value)}" for key, value in table(_top={"guard": guard}, countries=["GB"]).items())
    )
    events = [
        *[create(n) for n in range(3)],
        create(3, challenge_passed=True),
        *[create(500, t) | {"to": "+447911234567"} for t in (10, 11, 12)],
        create(7, 20, application="nobody") | {"to": "+33612345678"},
        create(8, 20, application="other") | {"to": "+33612345678"},
    ]
    found = replayed(tmp_path, log_of(*events), "--config", config)
    assert [(one["verdict"], [reason["rule"] for reason in one["reasons"]]) for one in found] == [
        ("allow", []),
        ("allow", []),
        ("challenge", ["block3"]),
        ("allow", []),
        ("allow", []),
        ("allow", []),
        ("block", ["limit"]),
        ("block", ["countries"]),
        ("allow", []),
    ]


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an exit status of 2."""
    assert main(["replay", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "broken",
    [b"no gzip at all", gzip.compress(b"{}\n" * 9)[:-9], b"\x1f\x8b\x08" + b"\xff" * 99],
    ids=["none", "cut off", "damaged"],
)
def test_a_log_that_cannot_be_unpacked_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: bytes
) -> None:
    """One that is none, one that was cut off, one that is damaged: with an exit status of 2 as well."""
    source = tmp_path / "log.jsonl.gz"
    source.write_bytes(broken)
    assert main(["replay", str(source)]) == 2
    assert str(source) in capsys.readouterr().err.splitlines()[-1]


def test_a_driver_may_wait_for_each_decision(tmp_path: Path) -> None:
    """With `-` each comes at once, and nothing else is on standard output."""
    command = [*COMMAND, "replay", "-"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=surroundings(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for n in range(5):
            running.stdin.write(log_of(create(n), {"t": 0.1, "type": "receipt", "ref": f"r{n}", "status": "delivered"}))
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["ref"] == f"r{n}"
        rest, errors = running.communicate(timeout=60)
    assert (running.returncode, rest) == (0, b"")
    assert b"refused by" in errors


def test_the_oracle_forgets_as_redis_does() -> None:
    """A bucket after its time, a send after a day."""
    oracle = Oracle()
    for n in range(2):
        assert oracle.create(create(n)).verdict == "allow"
    later = 2 * 86_400 + 1
    assert oracle.exposure("block3", f"GB:{BLOCK[1:]}", 10) > 1
    assert oracle.exposure("block3", f"GB:{BLOCK[1:]}", later) == 0
    assert oracle.create(create(9, later)).verdict == "allow"
    assert oracle.check({"t": later, "type": "check", "ref": "r0", "correct": True}) is None
    assert oracle.check({"t": later, "type": "check", "ref": "r9", "correct": True}) is not None


def _toml(value: object) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
