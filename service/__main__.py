"""The command line: `verifyd serve | check | keys | try | replay`."""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from service import demo, log
from service.api.auth import digest
from service.config import load, policy, worries
from service.errors import ConfigError
from service.providers import KINDS
from service.sealing import KEY_BYTES


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 for a configuration or a command line that cannot be used."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for key, message in error.problems:
            print(f"{key}: {message}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="verifyd", description="Self-hosted one-time codes.")
    commands = parser.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("serve", help="serve the API (without a file: a demo on an embedded store)")
    one.add_argument("file", nargs="?", type=Path, default=_from_environment(), help="the configuration (TOML)")
    one.set_defaults(run=_serve)
    one = commands.add_parser("check", help="check a configuration and list every problem it has")
    one.add_argument("file", type=Path, help="the configuration (TOML)")
    one.set_defaults(run=_check)
    one = commands.add_parser("keys", help="make an API key with its hash, a secret key and a webhook secret")
    one.set_defaults(run=_keys)
    one = commands.add_parser("try", help="verify a number against a running service, in this terminal")
    one.add_argument("number", help="an E.164 number, for example +447400123456")
    one.add_argument("--config", type=Path, default=_from_environment(), help="the service's configuration")
    one.set_defaults(run=_try)
    one = commands.add_parser("replay", help="run a log of traffic through the guard, in virtual time")
    one.add_argument("traffic", help="events as JSON lines, also compressed (.gz); - for standard input")
    one.add_argument("--config", type=Path, default=_from_environment(), help="the configuration (default: the demo's)")
    one.add_argument("--decisions", type=Path, help="where to write each decision, as JSON lines")
    one.set_defaults(run=_replay)
    return parser


def _from_environment() -> Path | None:
    path = os.environ.get("VERIFYD_CONFIG")
    return Path(path) if path else None


def _serve(arguments: argparse.Namespace) -> int:
    import uvloop

    from service import server

    if arguments.file is not None:
        config = load(arguments.file, KINDS)
        log.set_up(config.settings.server.log_level)
        uvloop.run(server.serve(config))
        return 0
    key = demo.new_api_key()
    config = demo.config(key)
    log.set_up(config.settings.server.log_level)
    with demo.announced(key):
        uvloop.run(server.serve(config))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    config = load(arguments.file, KINDS)
    for key, message in worries(config):
        print(f"warning: {key}: {message}")
    print(f"{arguments.file}: ok")
    return 0


def _keys(_arguments: argparse.Namespace) -> int:
    key = demo.new_api_key()
    print(f"API key:        {key}")
    print(f"  its hash:     {digest(key)}")
    print(f"secret key:     {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}")
    print(f"webhook secret: whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}")
    return 0


def _try(arguments: argparse.Namespace) -> int:
    from service import trial

    return trial.run(arguments.number, arguments.config)


def _replay(arguments: argparse.Namespace) -> int:
    from service import replay
    from service.guard.oracle import Oracle

    config = load(arguments.config, KINDS) if arguments.config else demo.config(demo.new_api_key())
    policies = [policy(name, config) for name in config.settings.applications]
    guard = config.settings.guard
    oracle = Oracle(policies, guard.rules.rules, guard.price_list)
    piped = arguments.traffic == "-"
    try:
        summary = replay.run(arguments.traffic, arguments.decisions, oracle)
    except (OSError, EOFError, zlib.error) as error:
        # What gzip finds wrong with a file comes without its name.
        name = getattr(error, "filename", None) or arguments.traffic
        print(f"{name}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
    for line in summary.lines():
        print(line, file=sys.stderr if piped else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
