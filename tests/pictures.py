"""Takes the pictures of the console that the README shows, of a demo with some traffic: `python -m tests.pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Browser, ViewportSize

from service.api.auth import digest
from tests.browser import PHONE, Scheme, browser, page
from tests.redis_server import wait_until
from tests.test_cli import Process, client, free
from tests.test_readme import reachable
from tests.world import KEY

FOLDER = Path(__file__).parent.parent / "docker" / "console"
CONFIGURATION = """
redis = "memory://"
[server]
api = "{api}"
receipts = "{api}"
ops = "{ops}"
log_level = "warning"
[applications.shop]
brand = "Shop"
api_keys = [{{ hash = "{key}", scopes = ["verify", "read", "guard"] }}]
cascade = [
  {{ channel = "sms", providers = ["simulator"], wait = "3s" }},
  {{ channel = "whatsapp", providers = ["simulator"], wait = "3s" }},
  {{ channel = "voice", providers = ["simulator"], wait = "3s" }},
]
[providers.simulator]
kind = "simulator"
open = true
"""
USED = ["+447400123456", "+447520123457", "+4915123456780", "+4915223456781", "+33612345670"]
UNUSED = ["+447400223402", "+447400323406", "+447400423407", "+4915123456703", "+33612345614"]
VOICES = 2
"""Of those, how many are called in the end."""
REFUSED = [f"+22890112{n}" for n in range(450, 459)]


def traffic(caller: httpx.Client, service: Process) -> None:
    """People who use their codes, cascades of every kind, and a block that is pumped."""
    for number in USED:
        caller.post("/verifications", json={"to": number})
        code = service.said(rf"to \{number}: .*?(\d{{6}})")[1]
        caller.post("/verifications/check", json={"to": number, "code": code})
    for number in [*REFUSED, *UNUSED]:
        caller.post("/verifications", json={"to": number})
    wait_until(lambda: service.out.count("] voice to") >= VOICES, "the cascades come to their ends")


def take(chromium: Browser, address: str, name: str, place: str, size: ViewportSize, scheme: Scheme) -> None:
    """Take one picture."""
    with page(chromium, address, key=KEY, size=size, scheme=scheme) as one:
        one.goto(place)
        if name == "live":
            one.locator(".row", has_text="Voice delivered").first.locator("summary").click()
        if name == "guard":
            one.locator("#decisions summary").first.click()
        one.evaluate("scrollTo(0, 0)")
        one.wait_for_timeout(400)  # for what appears to have appeared
        one.screenshot(path=FOLDER / f"{name}.png")


def main() -> int:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    api, ops = free(), free()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "otp.toml")
        path.write_text(CONFIGURATION.format(api=api, ops=ops, key=digest(KEY)))
        with Process("serve", path, home=Path(folder)) as service, client(api) as caller, browser() as chromium:
            wait_until(lambda: reachable(ops), "it serves")
            traffic(caller, service)
            pictures: tuple[tuple[str, str, ViewportSize, Scheme], ...] = (
                ("inbox", "/console/inbox", {"width": 1060, "height": 620}, "light"),
                ("live", "/console/live", {"width": 1060, "height": 620}, "light"),
                ("guard", "/console/guard", {"width": 1200, "height": 960}, "light"),
                ("country", "/console/guard/countries/TG", {"width": 1240, "height": 440}, "dark"),
                ("providers", "/console/providers", {"width": 1240, "height": 680}, "dark"),
                ("phone", "/console/live", PHONE, "dark"),
            )
            for name, place, size, scheme in pictures:
                take(chromium, ops, name, place, size, scheme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
