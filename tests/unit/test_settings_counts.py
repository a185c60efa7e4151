"""`counts:` in store.yaml: entrances that are named, found or wrong, the store's clock, waiting lines."""

from datetime import date
from pathlib import Path

import pytest

from edge_runtime.agent.counting import clock_of, layout_of, reader_of
from edge_runtime.analytics.storesummary import Entrance
from edge_runtime.contract.errors import ConfigError
from edge_runtime.counts.timezone import is_zone, local_timezone
from edge_runtime.settings import AgentSettings, CountsSettings, SettingsError, load_settings

STORE = """\
version: 1
site: shop
models:
  people: {bundle: efficientdet-lite0}
cameras:
  door:
    source: door.mp4
    model: people
    lines:
      front: {from: [0, 0.5], to: [1, 0.5], a_to_b: in, b_to_a: out}
      aisle: {from: [0, 0.8], to: [1, 0.8], a_to_b: up, b_to_a: down}
  back:
    source: back.mp4
    model: people
    lines:
      gate: {from: [0, 0.5], to: [1, 0.5], a_to_b: out, b_to_a: in}
    zones:
      line: {polygon: [[0, 0], [1, 0], [1, 1]], queue: true}
      shelf: {polygon: [[0, 0], [1, 0], [1, 1]]}
"""


def loaded(folder: Path, counts: str) -> AgentSettings:
    (folder / "store.yaml").write_text(f"{STORE}counts: {counts}\n", "utf-8")
    return load_settings(folder / "store.yaml", {})


def test_lines_that_people_go_in_and_out_over_are_entrances(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "{}")
    assert settings.counts is not None
    assert settings.counts.keep_days == 400
    layout = layout_of(settings.counts, settings.cameras)
    assert layout.entrances == {
        "door-front": Entrance(("door", "front"), "in"),
        "back-gate": Entrance(("back", "gate"), "in"),
    }
    assert layout.queues == {("back", "line")}


def test_named_entrances_take_the_place_of_those_found(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "{entrances: {main: {camera: door, line: aisle, in: up}}}")
    assert settings.counts is not None
    assert layout_of(settings.counts, settings.cameras).entrances == {
        "main": Entrance(("door", "aisle"), "up")
    }


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ("{entrances: {a: {camera: dor, line: front}}}", "no camera is called 'dor'. Did you mean 'door'?"),
        ("{entrances: {a: {camera: door, line: frnt}}}", "camera 'door' has no line 'frnt'"),
        ("{entrances: {a: {camera: door, line: aisle}}}", "has no word 'in': expected one of up and down"),
        (
            "{entrances: {a: {camera: door, line: front}, b: {camera: door, line: front, in: out}}}",
            "it is entrance 'a' already",
        ),
        ("{timezone: Europe/Berlim}", "no time zone is called 'Europe/Berlim'"),
        ("{day_starts_at: '24:00'}", "day_starts_at"),
        ("{keep_days: 0}", "keep_days"),
        ("{keep: 3}", "unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, counts: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, counts)
    assert said in str(caught.value)
    assert "counts" in str(caught.value)


def test_the_clock_is_that_of_the_settings_or_the_system() -> None:
    clock = clock_of(CountsSettings(timezone="Asia/Tokyo", day_starts_at="06:30"))
    assert clock.local(clock.begin_s(date(2026, 11, 25))).isoformat() == "2026-11-25T06:30:00+09:00"
    assert clock_of(CountsSettings()).zone.key == local_timezone()


def test_the_systems_time_zone_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":America/New_York")
    assert local_timezone() == "America/New_York"
    monkeypatch.setenv("TZ", "Nowhere/Land")
    assert is_zone(local_timezone())
    assert not is_zone("../etc/passwd")


def test_without_the_block_nothing_is_read(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "null")
    with pytest.raises(ConfigError, match=r"counts: \{\}"):
        reader_of(lambda: settings)
