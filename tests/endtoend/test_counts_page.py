"""The page of counts in a real Chromium: a day with everything in it, on a desk, in the dark, on a phone."""

import math
import shutil
from collections.abc import Generator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import Entrance, Layout
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder
from edge_runtime.web.access import LOOPBACK_HOSTS, Access
from edge_runtime.web.counts.pages import CountsPages
from edge_runtime.web.page.app import PageApp
from edge_runtime.web.page.session import Sessions
from edge_runtime.web.server import Server
from tests.endtoend.test_console import CONTRAST
from tests.simulators.shoppers import crossed, entered, left, scene

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CLOCK = StoreClock(ZoneInfo("Europe/Berlin"))
DAY = date(2026, 11, 25)
BEGIN_S = CLOCK.begin_s(DAY)
NOW_S = BEGIN_S + 14 * 3600
LAYOUT = Layout(
    {"front": Entrance(("door", "front"), "in"), "back": Entrance(("yard", "gate"), "in")},
    frozenset({("till", "line")}),
)
DESK, PHONE = {"width": 1200, "height": 800}, {"width": 375, "height": 720}


def served(pages: CountsPages) -> Server:
    """The local page with nothing but counts, for this machine alone."""
    application = PageApp("shop", [pages], Sessions(""), Access(hosts=LOOPBACK_HOSTS))
    return Server(application, host="127.0.0.1", port=0)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    folder = tmp_path_factory.mktemp("state")
    recorder = CountsRecorder(folder, CLOCK, LAYOUT, keep_days=400, now=lambda: NOW_S)
    recorder.start()
    for begin_s, people in ((BEGIN_S - 86400, 40), (BEGIN_S, 90)):
        for number in range(people):
            at_s = begin_s + 4 * 3600 + number * 300
            place = ("door", "front") if number % 3 else ("yard", "gate")
            where = {"camera": place[0], "line": place[1], "track": number}
            recorder.write([crossed(at_s, "in", **where), crossed(at_s + 900, "out", **where)])
            recorder.write([left(at_s + 600, 3 + 9 * (number % 17), track=number)])
            recorder.write([left(at_s + 300, 20, track=number, camera="aisle", zone="<b>shelf</b>")])
        recorder.write([crossed(begin_s + 3 * 3600 + minute, "out", track=minute) for minute in range(3)])
    recorder.write([entered(NOW_S - 200, track=901), entered(NOW_S - 100, track=902)])
    for second in range(200):
        walk = [(0.5 + 0.4 * math.sin(second / 9), 0.6), (0.2, 0.9)]
        recorder.show(scene("door", BEGIN_S + 4 * 3600 + second, walk, began_s=BEGIN_S))
    recorder.close()
    reader = CountsReader(folder, CLOCK, lambda: LAYOUT, now=lambda: NOW_S)
    with served(CountsPages(reader)) as server:
        yield server.url


class Seen:
    """A page, and what the browser complained about on it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{address}/counts")
        page.wait_for_selector("#counts-heat:not([hidden])")

    def tiles(self) -> dict[str, str]:
        names = self.page.locator("#counts-tiles dt").all_inner_texts()
        return dict(zip(names, self.page.locator("#counts-tiles dd").all_inner_texts(), strict=True))


@pytest.fixture(params=["light", "dark", "phone"])
def seen(request: pytest.FixtureRequest, address: str) -> Generator[Seen]:
    """The page in a browser whose clock is not the store's."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport=PHONE if request.param == "phone" else DESK,
            color_scheme="dark" if request.param == "dark" else "light",
            timezone_id="America/New_York",
        )
        yield Seen(context.new_page(), address)
        browser.close()


def test_a_day_is_shown_and_another_one(seen: Seen) -> None:
    page = seen.page
    tiles = seen.tiles()
    assert (tiles["In"], tiles["Out"]) == ("90", "93")
    assert tiles["Waiting · till · line"] == "2"
    assert tiles["Longest wait · till · line"] == "3 min"
    assert page.locator(".counts-chart canvas").count() == 4
    assert "3 people left a store that was counted empty" in page.inner_text("#counts-missed")
    assert "<b>shelf</b>" in page.inner_text("#counts-dwell .counts-tabs")
    assert page.locator("#counts-dwell .counts-tabs b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    painted = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((part) => part)"
    assert page.eval_on_selector("#counts-heat canvas", painted)
    page.get_by_role("button", name="The day before").click()
    expect(page.locator("#counts-tiles dd").first).to_have_text("40")
    assert page.url.endswith("?day=2026-11-24")
    assert page.locator("#counts-heat").is_hidden()
    assert page.get_by_role("button", name="The day before").is_disabled()
    page.reload()
    expect(page.locator("#counts-tiles dd").first).to_have_text("40")
    page.locator("#counts-day").fill("2026-11-25")
    expect(page.locator("#counts-tiles dd").first).to_have_text("90")
    assert not seen.complaints


def test_hours_are_those_of_the_store(seen: Seen) -> None:
    box = seen.page.locator("#counts-occupancy .u-over")
    box.scroll_into_view_if_needed()
    box.hover(position={"x": 1, "y": 20})
    legend = seen.page.locator("#counts-occupancy .u-legend .u-value").first
    assert legend.inner_text() == "04:00"
    assert not seen.complaints


def test_one_entrance_can_be_chosen_by_keyboard(seen: Seen) -> None:
    chart = seen.page.locator("#counts-entrances .counts-chart")
    assert chart.get_attribute("aria-label") == "All: 90 in, 93 out"
    seen.page.get_by_role("button", name="back").focus()
    seen.page.keyboard.press("Enter")
    expect(chart).to_have_attribute("aria-label", "back: 30 in, 30 out")
    assert not seen.complaints


def test_every_word_can_be_read(seen: Seen) -> None:
    found = seen.page.evaluate(CONTRAST)
    assert found["seen"] > 30
    assert not found["poor"]


def test_a_table_is_a_file(seen: Seen) -> None:
    with seen.page.expect_download() as started:
        seen.page.locator("#counts-entrances .counts-csv").click()
    assert started.value.suggested_filename == "entrances-2026-11-25.csv"
    lines = Path(started.value.path()).read_text().splitlines()
    assert lines[0] == "from,to,entrance,in,out,watched"
    assert sum(int(line.split(",")[3]) for line in lines[1:]) == 90


def test_a_store_without_counts_says_so(tmp_path: Path) -> None:
    reader = CountsReader(tmp_path, CLOCK, lambda: LAYOUT, now=lambda: NOW_S)
    with served(CountsPages(reader)) as server, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server.url}/counts?day={DAY - timedelta(days=3)}")
        page.wait_for_selector("#counts-empty:not([hidden])")
        assert page.locator("#counts-body").is_hidden()
        page.goto(f"{server.url}/counts?day=never")
        page.wait_for_selector("#counts-trouble:not([hidden])")
        assert "cannot be read" in page.inner_text("#counts-trouble")
        browser.close()
