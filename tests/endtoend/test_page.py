"""The local page in a real Chromium: log in, watch, draw a zone, save it, and see what happens in it."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.settings import load_settings
from edge_runtime.sinks.timeline import Wanted
from tests.simulators.broker import wait_until
from tests.simulators.live_store import PASSWORD, LiveStore, live_store

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 375, "height": 720}
BRIGHT = """canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  return data.some((value, at) => at % 4 < 3 && value > 100);
}"""


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def store(tmp_path: Path) -> Generator[LiveStore]:
    with live_store(tmp_path) as store:
        yield store


@contextmanager
def visited(browser: Any, store: LiveStore, **options: Any) -> Generator[Any]:
    """Log in; afterwards the browser must not have complained about anything."""
    context = browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(20_000)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) =>"
        " console.error('violates', event.violatedDirective, event.blockedURI))"
    )
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if _bad(said) else None)
    try:
        page.goto(f"{store.url}/zones")
        assert page.url.endswith("/login")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/cameras")
        yield page
        assert complaints == []
    finally:
        context.close()


def _bad(said: Any) -> bool:
    """Chromium writes every refusal to its console; those are what a test is about."""
    return said.type in ("error", "warning") and "status of 4" not in said.text


def corner(page: Any, x: float, y: float) -> tuple[float, float]:
    box = page.locator("[data-drawing]").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def picture_is_there(page: Any) -> None:
    # Not `wait_for_function`, which the page's policy forbids as it forbids all evaluated code.
    wait_until(lambda: page.locator("[data-picture]").evaluate("image => image.naturalWidth") > 0, 20)


def draw_zone(page: Any, name: str, corners: list[tuple[float, float]]) -> None:
    page.get_by_role("button", name="Zone", exact=True).click()
    for x, y in [*corners, corners[0]]:
        page.mouse.click(*corner(page, x, y))
    page.get_by_role("textbox", name="Name").fill(name)


def test_a_zone_is_drawn_saved_and_entered(browser: Any, store: LiveStore) -> None:
    before = store.file.read_text()
    with visited(browser, store) as page:
        canvas = page.get_by_role("img", name="Live picture of yard")
        wait_until(lambda: canvas.evaluate(BRIGHT), 20)
        assert canvas.is_visible()
        page.get_by_text("pictures a second").first.wait_for()

        page.get_by_role("link", name="Zones", exact=True).first.click()
        picture_is_there(page)
        draw_zone(page, "everywhere", [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved; the camera goes on with it.").wait_for()

        after = store.file.read_text()
        lines = [line for line in after.splitlines() if line not in before.splitlines()]
        assert len(lines) == 1
        assert lines[0].startswith("      everywhere: {polygon: [[0.01")
        assert [line for line in before.splitlines() if line not in after.splitlines()] == []
        assert "everywhere" in store.agent.settings.cameras["yard"].zones

        entered = Wanted(camera="yard", kind="zone_entered")
        timeline = store.timeline
        wait_until(
            lambda: any(each.pictured and "everywhere" in str(each.event) for each in timeline.find(entered)),
            60,
        )
        page.goto(f"{store.url}/events?camera=yard&kind=zone_entered")
        shown = page.get_by_text("person entered everywhere").first
        shown.wait_for()
        image = page.locator("li", has_text="person entered everywhere").locator("img").last
        assert image.evaluate("image => image.decode().then(() => image.naturalHeight)") == 216


def test_a_corner_is_dragged_and_moved_with_keys_and_what_is_deleted_goes(
    browser: Any, store: LiveStore
) -> None:
    with visited(browser, store) as page:
        page.goto(f"{store.url}/zones/yard")
        picture_is_there(page)
        page.get_by_role("button", name="Zone crossing", exact=True).click()
        page.mouse.move(*corner(page, 0.66, 0.34))
        page.mouse.down()
        page.mouse.move(*corner(page, 0.7, 0.2), steps=5)
        page.mouse.up()
        page.get_by_role("button", name="Corner 1 of crossing").press("ArrowRight")
        page.get_by_role("button", name="Delete Line path").click()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved; the camera goes on with it.").wait_for()
    camera = load_settings(store.file).cameras["yard"]
    assert camera.zones["crossing"].polygon[0] == pytest.approx((0.41, 0.34))
    assert camera.zones["crossing"].polygon[1] == pytest.approx((0.7, 0.2), abs=0.005)
    assert camera.zones["crossing"].settle_s == 0
    assert camera.lines == {}
    assert "# asphalt" in store.file.read_text()


def test_a_finger_draws_a_region_on_a_phone(browser: Any, store: LiveStore) -> None:
    with visited(browser, store, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.goto(f"{store.url}/zones/yard")
        picture_is_there(page)
        page.get_by_role("button", name="Never look").tap()
        for x, y in ((0.1, 0.1), (0.4, 0.1), (0.4, 0.4), (0.1, 0.1)):
            page.touchscreen.tap(*corner(page, x, y))
        page.get_by_role("button", name="Save").tap()
        page.get_by_text("Saved; the camera goes on with it.").wait_for()
    assert len(store.agent.settings.cameras["yard"].never_look[0]) == 3


def test_what_is_wrong_is_said_at_its_field_and_the_file_stays(browser: Any, store: LiveStore) -> None:
    before = store.file.read_text()
    with visited(browser, store) as page:
        page.goto(f"{store.url}/zones/yard")
        picture_is_there(page)
        draw_zone(page, "Not A Name", [(0.1, 0.1), (0.4, 0.1), (0.4, 0.4)])
        with page.expect_response("**/drawing") as answer:
            page.get_by_role("button", name="Save").click()
        assert answer.value.status == 422
        page.locator("[data-error=name]", has_text="not a name").wait_for()
        assert store.file.read_text() == before
        page.get_by_role("textbox", name="Name").fill("a-name")
        store.file.write_text(before + "# somebody else was here\n")
        with page.expect_response("**/drawing") as answer:
            page.get_by_role("button", name="Save").click()
        assert answer.value.status == 409
        page.get_by_text("has changed meanwhile").wait_for()
        assert store.file.read_text() == before + "# somebody else was here\n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_fits_its_window(browser: Any, store: LiveStore, scheme: str, viewport: Any) -> None:
    with visited(browser, store, viewport=viewport, color_scheme=scheme) as page:
        for path in ("/cameras", "/events", "/zones/yard", "/privacy"):
            page.goto(f"{store.url}{path}")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
            assert page.locator("h1").count() == 1
            unnamed = page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select')]"
                ".filter((field) => !field.labels.length).length"
            )
            assert unnamed == 0, path
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Password").wait_for()
