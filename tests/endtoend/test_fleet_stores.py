"""Two stores of two cameras, a real broker and manager: a good version arrives, a poisoned one does not."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback.fleet.demo import real_device
from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version, poison
from tests.simulators.broker import MOSQUITTO

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STORES = ("store-east", "store-west")
PATIENCE_S = 120
CAMERA = """
    source: pedestrians.mp4
    loop: true
    model: people
    fps: 5
    lines:
      path: {from: [0.7, 0.2], to: [0.7, 0.8], a_to_b: leftwards, b_to_a: rightwards}"""
SETTINGS = f"""
version: 1
site: store
models:
  people: {{bundle: {DETECTOR}, min_score: 0.35, labels: [person]}}
cameras:
  door:{CAMERA}
  yard:{CAMERA}
sinks:
  - {{type: jsonl, path: events.jsonl}}
fleet: {{folder: fleet, report_every_s: 30}}
"""


def until(done: Callable[[], bool], problem: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > end_s:
            pytest.fail(problem)
        time.sleep(0.3)


def deploy(hq: Headquarters, client: httpx.Client, version: str) -> str:
    id_ = f"{DETECTOR}-{version.replace('.', '-')}"
    body = {
        "id": id_, "kind": "model", "name": DETECTOR, "version": version, "selector": "region=west",
        "waves": [{"share": 0.5}, {"share": 1.0}], "pace": {"soak_s": 1, "timeout_s": 100},
        "trial": {"shadow_s": 2, "max_latency_ratio": 50},
    }  # fmt: skip
    hq.ask(client, "POST", "/v1/deployments", body)
    return id_


def seen_by(store: Path, version: str) -> set[str]:
    """Cameras with an event that a version of the model made."""
    lines = (store / "events.jsonl").read_text().splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]
    return {each["camera"] for each in events if each.get("model_version") == version}


def look(hq: Headquarters, store: str, picture: Path) -> str:
    """Log into the console and read a device's page."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(ignore_https_errors=True, viewport={"width": 1100, "height": 800})
        page.goto(f"{hq.url}/console/login")
        page.get_by_label("API token").fill(hq.token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/console")
        page.goto(f"{hq.url}/console/devices/{store}")
        text = page.locator("main").inner_text()
        page.screenshot(path=picture, full_page=True)
        browser.close()
    return text


@pytest.mark.broker
@pytest.mark.browser
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.timeout(400)
def test_a_good_version_arrives_and_a_poisoned_one_does_not(tmp_path: Path) -> None:
    east, west = STORES
    with (
        Headquarters(tmp_path / "headquarters") as hq,
        hq.client() as client,
        real_device(hq, client, tmp_path, east, SETTINGS) as first,
        real_device(hq, client, tmp_path, west, SETTINGS) as second,
    ):
        key = hq.delegate("model", DETECTOR)
        until(lambda: hq.ask(client, "GET", "/v1/overview")["online"] == 2, "the stores are not online")
        hq.publish(make_version(tmp_path / "1.1.0", "1.1.0"), key)
        good = deploy(hq, client, "1.1.0")
        until(lambda: hq.deployment(client, good).phase == "completed", "the good version is not everywhere")
        for store in (first, second):
            until(
                lambda s=store: seen_by(s, "1.1.0") == {"door", "yard"}, f"{store.name} counts with the old"
            )

        hq.publish(make_version(tmp_path / "1.2.0", "1.2.0", poison), key)
        bad = deploy(hq, client, "1.2.0")
        until(
            lambda: hq.deployment(client, bad).phase in {"halted", "reverting", "reverted"},
            "the poisoned version did not halt",
        )
        assert hq.deployment(client, bad).reached == 1
        (victim,) = hq.ask(client, "GET", f"/v1/deployments/{bad}/devices?standing=failed")["devices"]
        assert victim["device"] in STORES
        text = look(hq, victim["device"], tmp_path / "console.png")
        assert "rolled-back" in text
        assert "not-a-number" in text
        assert "NaN or infinity" in text
        for name in STORES:
            (have,) = hq.ask(client, "GET", f"/v1/devices/{name}")["have"]
            assert have["version"] == "1.1.0"
