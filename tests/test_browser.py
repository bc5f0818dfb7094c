"""The console in a real browser: a code is read off the phone, a receipt fails, a person is approved.

The service is a process as operators run it. Time is real here, so nothing waits for more than the page's own updates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from service.api.auth import digest
from tests.browser import DESKTOP, PHONE, Scheme, barriers, browser, page
from tests.redis_server import wait_until
from tests.test_cli import Process, client, free
from tests.test_console import GUARD_KEY, PAGES
from tests.test_readme import reachable
from tests.world import KEY, NUMBER, READ_KEY

CONFIGURATION = """
redis = "memory://"
[server]
api = "{api}"
receipts = "{api}"
ops = "{ops}"
log_level = "warning"
[applications.shop]
brand = "Shop"
api_keys = [
  "{verify}",
  {{ hash = "{read}", scopes = ["read"] }},
  {{ hash = "{guard}", scopes = ["read", "guard"] }},
]
cascade = [
  {{ channel = "sms", providers = ["phone"], wait = "5m" }},
  {{ channel = "whatsapp", providers = ["phone"], wait = "5m" }},
  {{ channel = "voice", providers = ["phone"], wait = "5m" }},
]
[guard.limits]
number = []
[providers.phone]
kind = "simulator"
delay = "5m"
"""


class Running(NamedTuple):
    """A service: where it answers callers, where people."""

    api: str
    ops: str

    def start(self, number: str) -> str:
        """Start a verification; its id."""
        with client(self.api) as caller:
            return str(caller.post("/verifications", json={"to": number}).json()["id"])

    def check(self, name: str, code: str) -> bool:
        """Check a code."""
        with client(self.api) as caller:
            return bool(caller.post("/verifications/check", json={"id": name, "code": code}).json()["valid"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for all tests: it takes seconds to start."""
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests, each of which has numbers of its own."""
    folder = tmp_path_factory.mktemp("console")
    one = Running(free(), free())
    keys = {"verify": digest(KEY), "read": digest(READ_KEY), "guard": digest(GUARD_KEY)}
    path = folder / "otp.toml"
    path.write_text(CONFIGURATION.format(api=one.api, ops=one.ops, **keys))
    with Process("serve", path, home=folder):
        wait_until(lambda: reachable(one.ops), "it serves")
        yield one


def message(one: Page, channel: str, number: str) -> Locator:
    """The message to a number over a channel."""
    return one.locator(".message", has=one.get_by_text(channel, exact=True), has_text=number[-4:])


def test_a_person_is_approved_by_whatsapp_after_their_sms_failed(chromium: Browser, running: Running) -> None:
    """The phone shows each message as it arrives; *Live* shows how it went, and keeps what is open open."""
    with page(chromium, running.ops, key=GUARD_KEY) as phone, page(chromium, running.ops, key=READ_KEY) as live:
        phone.goto("/")
        live.goto("/console/live")
        name = running.start(NUMBER)
        sms = message(phone, "SMS", NUMBER)
        expect(sms.locator(".code")).to_have_text(re.compile(r"^\d{6}$"))
        code = sms.locator(".code").inner_text()
        row = live.locator(f"#{name}")
        row.locator("summary").click()
        sms.get_by_role("button", name="Fail").click()
        expect(sms.locator(".status")).to_have_text("failed")
        whatsapp = message(phone, "WhatsApp", NUMBER)
        expect(whatsapp.locator(".code")).to_have_text(code)
        expect(row.locator(".step")).to_have_text(["SMS failed, unreachable", "WhatsApp accepted", "Voice"])
        assert running.check(name, code)
        expect(row.locator("summary > .status")).to_have_text("approved")
        expect(row.locator(".timeline li").last).to_contain_text("approved")
        expect(row).to_have_attribute("open", "")
        assert code not in live.content()


def test_an_analyst_blocks_a_prefix_and_sees_what_comes_of_it(chromium: Browser, running: Running) -> None:
    """The rule with its reason, who made it, and each refusal explained."""
    with page(chromium, running.ops, key=GUARD_KEY) as one:
        one.goto("/console/guard")
        rule = one.locator("form", has_text="Rule over a prefix")
        rule.get_by_label("Prefix").fill("+447400550")
        rule.get_by_label("Reason").fill("a farm")
        rule.get_by_label("Holds").select_option("for a day")
        rule.get_by_role("button", name="Block").click()
        expect(one.get_by_role("heading", name="GB")).to_be_visible()
        expect(one.get_by_role("row", name="+447400550")).to_contain_text("a farm ada")
        with client(running.api) as caller:
            assert caller.post("/verifications", json={"to": "+447400550456"}).status_code == httpx.codes.FORBIDDEN
        one.get_by_role("navigation").get_by_role("link", name="Guard").click()
        refusal = one.locator("#decisions details", has_text="+447400550")
        refusal.locator("summary").click()
        expect(refusal).to_contain_text("denied by hand: +447400550")
        refusal.get_by_role("link", name="Everything that was known").click()
        expect(one.get_by_role("heading", name="Decision")).to_be_visible()
        one.goto("/console/guard")
        expect(one.get_by_role("row", name="a farm")).to_contain_text("prefix block")


def test_it_works_by_keyboard(chromium: Browser, running: Running) -> None:
    """The first tab leads over the bar to the page; the focus stays where it is while the page changes."""
    running.start("+447400110460")
    with page(chromium, running.ops, key=GUARD_KEY) as one:
        one.goto("/console/inbox")
        one.keyboard.press("Tab")
        expect(one.get_by_role("link", name="Skip to content")).to_be_focused()
        one.keyboard.press("Enter")
        expect(one.locator("#main")).to_be_focused()
        first = one.get_by_role("button", name="Deliver").first
        one.keyboard.press("Tab")
        one.keyboard.press("Tab")
        expect(first).to_be_focused()
        running.start("+447400110461")
        expect(one.locator(".message").first).to_contain_text("0461")
        expect(one.locator(".message").nth(1).get_by_role("button", name="Deliver")).to_be_focused()
        one.keyboard.press("Enter")
        expect(one.locator(".message").nth(1).locator(".status")).to_have_text("delivered")


def test_without_javascript_a_reload_does(chromium: Browser, running: Running) -> None:
    """Buttons too."""
    running.start("+447400220462")
    with page(chromium, running.ops, key=GUARD_KEY, scripts=False) as one:
        one.goto("/console/inbox")
        sms = one.locator(".message", has_text="0462")
        sms.get_by_role("button", name="Stay silent").click()
        expect(sms).to_contain_text("by hand")
        assert one.url.endswith("/console/inbox")


def test_updates_can_be_paused(chromium: Browser, running: Running) -> None:
    """And say when nothing answers."""
    with page(chromium, running.ops, key=READ_KEY) as one:
        one.goto("/console/live")
        one.get_by_role("button", name="Updating").click()
        name = running.start("+447400330463")
        paused = one.get_by_role("button", name="Paused")
        expect(paused).to_be_visible()
        assert one.locator(f"#{name}").count() == 0
        paused.click()
        expect(one.locator(f"#{name}")).to_be_visible()


@pytest.mark.parametrize(
    ("size", "scheme", "number"),
    [(DESKTOP, "light", "+447400440464"), (PHONE, "dark", "+447400440465")],
    ids=["desktop", "phone"],
)
def test_every_page_has_no_barriers(
    chromium: Browser, running: Running, size: ViewportSize, scheme: Scheme, number: str
) -> None:
    """By the rules of axe, and nothing sticks out at the side."""
    running.start(number)
    with page(chromium, running.ops, key=GUARD_KEY, size=size, scheme=scheme) as one:
        for path in [*PAGES, "/console/guard/countries/GB"]:
            one.goto(path)
            expect(one.get_by_role("button", name="Updating")).to_be_visible()
            assert barriers(one) == [], path
            assert one.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        dark = one.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 19, 22)"
        assert dark == (scheme == "dark")
