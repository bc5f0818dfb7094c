"""A real Chromium for the tests, driven by Playwright.

`VERIFYD_TEST_CHROMIUM` is its path; without it, the one on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

QUIET = [
    "--no-sandbox",  # which needs rights that root in a container lacks; it sees our own pages only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}

Scheme = Literal["light", "dark"]


def find_browser() -> str:
    """Its path; raises `RuntimeError` if there is none, as tests that do not run look like tests that pass."""
    named = os.environ.get("VERIFYD_TEST_CHROMIUM")
    for name in [named] if named else ["chromium", "chromium-browser", "google-chrome"]:
        if path := shutil.which(name):
            return path
    raise RuntimeError("no Chromium: `make test` installs one, or VERIFYD_TEST_CHROMIUM names its path")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, which goes with it."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=QUIET)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def page(
    chromium: Browser,
    address: str,
    *,
    key: str,
    size: ViewportSize = DESKTOP,
    scheme: Scheme = "light",
    scripts: bool = True,
) -> Iterator[Page]:
    """A page of a person called ada, at an address; whatever it complains of fails the test."""
    complaints: list[str] = []
    context = chromium.new_context(
        base_url=f"http://{address}",
        http_credentials={"username": "ada", "password": key},
        viewport=size,
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    try:
        one = context.new_page()
        one.set_default_timeout(30_000)
        one.on("console", lambda message: complaints.append(message.text))
        one.on("pageerror", lambda error: complaints.append(str(error)))
        yield one
    finally:
        context.close()
    assert complaints == []


def barriers(one: Page) -> list[str]:
    """What keeps people from using a page, as axe finds it: labels, contrast, landmarks, names, focus."""
    found: list[dict[str, Any]] = Axe().run(one).response["violations"]
    return [f"{barrier['id']}: {node['html']}" for barrier in found for node in barrier["nodes"]]
