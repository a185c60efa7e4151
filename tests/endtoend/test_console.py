"""The console in a real Chromium: what a person sees, presses and hears of, on a desk and on a phone."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI

from cloud_fallback.fleet.console import Deps, attach
from cloud_fallback.fleet.standing import Phase
from tests.simulators.console_data import NOW_S, XSS, Fleet, device, rollout
from tests.simulators.fleet_api import listening

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = (
    "", "/devices", "/devices/store-009", "/deployments", "/deployments/detector-1.5.0",
    "/deployments/detector-1.5.0/halt", "/new", "/releases", "/events", "/audit", "/devices/nobody",
)  # fmt: skip
DESK, PHONE = {"width": 1200, "height": 800}, {"width": 375, "height": 720}

CONTRAST = """() => {
  const lin = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const lum = ([r, g, b]) => 0.2126 * lin(r) + 0.7152 * lin(g) + 0.0722 * lin(b);
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg, option")) continue;
    seen += 1;
    const style = getComputedStyle(node);
    const [a, b] = [lum(parse(style.color)), lum(ground(node))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim()}`);
  }
  return {seen, poor};
}"""
"""WCAG 2.2, 1.4.3, over every text that is shown."""


@dataclass
class Seen:
    """A page, and what the browser complained about on it."""

    page: Any
    complaints: list[str] = field(default_factory=list[str])

    def hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def hear_error(self, error: Any) -> None:
        self.complaints.append(str(error))


class Console:
    """A console of a fleet that tests move, and a browser."""

    def __init__(self, fleet: Fleet, url: str, browser: Any) -> None:
        self.fleet = fleet
        self.url = url
        self._browser = browser

    @contextmanager
    def visited(self, token: str | None = "fleet_operator", **options: Any) -> Generator[Seen]:
        context = self._browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(15_000)
        seen = Seen(context.new_page())
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error('violates', event.violatedDirective, event.blockedURI))"
        )
        seen.page.on("pageerror", seen.hear_error)
        seen.page.on("console", seen.hear)
        try:
            if token is not None:
                seen.page.goto(f"{self.url}/console/login")
                seen.page.get_by_label("API token").fill(token)
                seen.page.get_by_role("button", name="Log in").click()
                seen.page.wait_for_url("**/console")
            yield seen
        finally:
            context.close()


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def console(browser: Any) -> Generator[Console]:
    fleet, app = Fleet.of_a_good_day(), FastAPI()
    attach(app, Deps(fleet, b"k" * 32, lambda: NOW_S, secure=False, tenant="acme"))
    with listening(app) as url:
        yield Console(fleet, url, browser)


def test_login_and_overview(console: Console) -> None:
    with console.visited(None) as seen:
        page = seen.page
        page.goto(f"{console.url}/console")
        page.wait_for_url("**/console/login")
        page.get_by_label("API token").fill("wrong")
        page.keyboard.press("Enter")
        playwright.expect(page.get_by_role("alert")).to_have_text("That token is not good.")
        page.get_by_label("API token").fill("fleet_operator")
        page.keyboard.press("Enter")
        playwright.expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        playwright.expect(page.locator(".tiles")).to_contain_text("40")
        assert page.locator(".tiles div").all_inner_texts()[2].split() == ["In", "trouble", "2"]
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/console/login")
        page.goto(f"{console.url}/console/devices")
        page.wait_for_url("**/console/login")


def test_the_overview_is_live_and_says_when_it_is_not(console: Console) -> None:
    with console.visited() as seen:
        for name in ("store-007", "store-014"):
            console.fleet.listed[name] = device(int(name[-3:]), online=True)
        playwright.expect(seen.page.locator(".tiles div").nth(1)).to_contain_text("37")
        chart = seen.page.get_by_role("heading", name="Online since this page was opened")
        playwright.expect(chart).to_be_visible()
        assert seen.complaints == []
        seen.page.context.set_offline(True)
        playwright.expect(seen.page.get_by_text("Not up to date")).to_be_visible()
        seen.page.context.set_offline(False)
        playwright.expect(seen.page.get_by_text("Not up to date")).to_be_hidden()


def test_a_session_that_ends_leads_to_the_login_by_itself(console: Console) -> None:
    with console.visited() as seen:
        console.fleet.revoked.add("fleet_operator")
        seen.page.wait_for_url("**/console/login")


def test_a_rollout_is_live_until_it_halts_itself(console: Console) -> None:
    with console.visited() as seen:
        page = seen.page
        page.goto(f"{console.url}/console/deployments/detector-1.5.0")
        second = page.locator(".waves > li").nth(1)
        playwright.expect(second).to_contain_text("3 succeeded")
        playwright.expect(page.locator(".chart canvas")).to_be_visible()
        waves = list(rollout().waves)
        waves[1] = waves[1].model_copy(update={"standings": {"succeeded": 3, "failed": 4, "withdrawing": 1}})
        reason = "failure-rate: surely more than 5% fail: 4 of 10"
        console.fleet.rollouts["detector-1.5.0"] = rollout(
            Phase.REVERTING, reason=reason, waves=tuple(waves), failed=4
        )
        playwright.expect(second).to_contain_text("4 failed")
        playwright.expect(page.get_by_text(reason)).to_be_visible()
        playwright.expect(page.get_by_role("link", name="Halt")).to_have_count(0)
        playwright.expect(page.get_by_role("row").filter(has_text="store-009")).to_contain_text(
            "not-a-number"
        )
        assert seen.complaints == []


def test_halting_is_confirmed(console: Console) -> None:
    with console.visited() as seen:
        page = seen.page
        page.goto(f"{console.url}/console/deployments/detector-1.5.0")
        page.get_by_role("link", name="Halt").click()
        playwright.expect(page.get_by_role("heading", level=1)).to_have_text("Halt detector-1.5.0?")
        page.get_by_role("link", name="No").click()
        page.wait_for_url("**/detector-1.5.0")
        assert console.fleet.asked == []
        page.get_by_role("link", name="Halt").click()
        page.get_by_label("Reason").fill("cameras see ghosts")
        page.get_by_role("button", name="Yes, halt").click()
        page.wait_for_url("**/detector-1.5.0")
        playwright.expect(page.get_by_text("cameras see ghosts")).to_be_visible()
        playwright.expect(page.locator(".lead .badge")).to_have_text("halted")
        assert console.fleet.asked == [("halt", "operator", "detector-1.5.0", "cameras see ghosts")]


def test_a_rollout_is_begun(console: Console) -> None:
    with console.visited() as seen:
        page = seen.page
        page.goto(f"{console.url}/console/releases")
        page.get_by_role("link", name="Roll out detector 1.5.0").click()
        page.get_by_role("textbox", name="To selector").fill("region=west")
        page.get_by_role("textbox", name="To selector").press("Tab")
        playwright.expect(page.locator("#matching")).to_have_text("20 devices match now.")
        page.get_by_label("Soak between waves").fill("soon")
        page.get_by_role("button", name="Start rollout").click()
        playwright.expect(page.get_by_role("alert")).to_contain_text("soak: expected a duration")
        page.get_by_label("Soak between waves").fill("30m")
        page.get_by_label("A person approves").check()
        page.get_by_role("button", name="Start rollout").click()
        page.wait_for_url("**/deployments/made")
        new: Any = console.fleet.asked[0][2]
        assert new.selector == "region=west" and new.pace.soak_s == 1800 and new.waves[1].needs_approval


def test_a_device_says_why_it_rolled_back(console: Console) -> None:
    with console.visited() as seen:
        page = seen.page
        page.goto(f"{console.url}/console/devices")
        page.get_by_label("State").select_option("trouble")
        page.get_by_role("button", name="Search").click()
        assert page.locator("tbody th a").all_inner_texts() == ["store-009", "store-011"]
        page.get_by_role("link", name="store-009").click()
        row = page.get_by_role("row").filter(has_text="model detector")
        for text in ("1.4.0", "1.5.0", "rolled-back", "not-a-number", "12 of 4000 output values"):
            playwright.expect(row).to_contain_text(text)
        page.get_by_label("Camera").fill("entrance")
        page.get_by_role("button", name="Take snapshot").click()
        playwright.expect(page.get_by_role("status", name="Answer of the device")).to_contain_text("snapshot")
        assert console.fleet.asked == [("snapshot", "operator", "store-009", {"camera": "entrance"})]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_fits_and_can_be_read(console: Console, scheme: str, size: dict[str, int]) -> None:
    console.fleet.rollouts["halted"] = rollout(Phase.HALTED, reason="failure-rate: 4 of 10")
    with console.visited(color_scheme=scheme, viewport=size) as seen:
        for path in (*PAGES, "/deployments/halted", "/login"):
            seen.page.goto(f"{console.url}/console{path}")
            wide = seen.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], path
            found = seen.page.evaluate(CONTRAST)
            assert found["seen"] > 3 and found["poor"] == [], path
        refused = [each for each in seen.complaints if "404" not in each]
        assert refused == []  # nothing that the policy forbids was tried, by us or by the two libraries


def test_the_keyboard_alone_is_enough(console: Console) -> None:
    with console.visited() as seen:
        page = seen.page
        page.goto(f"{console.url}/console/deployments/detector-1.5.0")
        page.keyboard.press("Tab")
        playwright.expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        assert page.locator(".skip").bounding_box()["x"] >= 0
        page.keyboard.press("Enter")
        playwright.expect(page.locator("main")).to_be_focused()
        reached: list[str] = []
        for _ in range(8):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                "[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]"
            )
            assert outline == "solid", name
            reached.append(name)
        assert reached[:5] == ["Rollouts", "Pause", "Halt", "Revert", "Cancel"]
        # Where one is, one stays, though the page refreshes itself.
        page.locator("#move-halt").focus()
        with page.expect_response("**/detector-1.5.0"):
            pass
        playwright.expect(page.locator("#move-halt")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/halt")


def test_every_field_has_a_label(console: Console) -> None:
    with console.visited() as seen:
        for path in PAGES:
            seen.page.goto(f"{console.url}/console{path}")
            nameless = seen.page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
                ".filter((each) => !each.labels.length).map((each) => each.outerHTML)"
            )
            assert nameless == [], path
            assert seen.page.locator("h1").count() == 1, path


def test_what_devices_write_stays_text(console: Console) -> None:
    sick = device(1, name=XSS, labels={"a": XSS}, trouble=XSS)
    console.fleet.listed = {"store-001": sick}
    console.fleet.rollouts["detector-1.5.0"] = rollout(Phase.HALTED, reason=XSS, release=XSS)
    console.fleet.happened = [each.model_copy(update={"text": XSS}) for each in console.fleet.happened]
    with console.visited() as seen:
        for path in ("", "/devices", "/devices/store-001", "/deployments/detector-1.5.0", "/events"):
            seen.page.goto(f"{console.url}/console{path}")
            playwright.expect(seen.page.get_by_text("onerror").first).to_be_visible()
            assert seen.page.locator("main img, main script").count() == 0
            assert seen.page.title() != "owned"
        seen.page.goto(f"{console.url}/console")
        with seen.page.expect_response("**/console"):
            pass  # it refreshes itself: htmx puts the same in again
        assert seen.page.locator("main img, main script").count() == 0
        assert [each for each in seen.complaints if "404" not in each] == []


def test_nothing_moves_for_those_who_asked_for_that(console: Console) -> None:
    with console.visited(reduced_motion="reduce") as seen:
        seen.page.goto(f"{console.url}/console/deployments/detector-1.5.0")
        moving = "[...document.querySelectorAll('*')].filter((each) => parseFloat(getComputedStyle(each)"
        assert seen.page.evaluate(moving + ".transitionDuration) > 0).length") == 0
