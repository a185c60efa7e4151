"""`make demo-fleet`, whole: a real device and twenty simulated ones, a good rollout and one that halts."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cloud_fallback.fleet import demo
from cloud_fallback.fleet.simulation.headquarters import find_mosquitto
from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version, poison
from edge_runtime.bundle import open_bundle
from edge_runtime.contract.errors import BundleError, ConfigError, StorageError
from tests.simulators.broker import MOSQUITTO


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.timeout(300)
def test_the_demo_tells_what_it_promises(tmp_path: Path) -> None:
    told = io.StringIO()
    demo.run(tmp_path / "out", Console(file=told, width=200, highlight=False), keep=False)
    text = told.getvalue()
    assert "21 devices are online" in text
    assert "completed: 21 succeeded." in text
    assert f"{demo.REAL} runs {demo.GOOD}" in text
    assert "It halted itself: whole-wave" in text
    assert "2 of 21 devices were offered it." in text
    assert f"{demo.REAL}: 1 outputs with NaN or infinity" in text
    assert f"{demo.REAL} still runs {demo.GOOD}" in text
    assert "1 of 1 cameras" in text


def test_the_demo_removes_nobodys_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    with pytest.raises(StorageError, match="other files"):
        demo.run(tmp_path, Console(file=io.StringIO()), keep=False)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_without_a_broker_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt install mosquitto"):
        find_mosquitto(str(tmp_path))


def test_a_remade_version_is_a_whole_bundle(tmp_path: Path) -> None:
    bundle = open_bundle(make_version(tmp_path / "bundle", "7.0.0", poison))
    assert (bundle.manifest.name, bundle.manifest.version) == (DETECTOR, "7.0.0")


def test_only_the_shipped_detector_is_poisoned() -> None:
    with pytest.raises(BundleError):
        poison(b"another model")
