"""The shipped profiles and their loader."""

from pathlib import Path

import pytest

from device_profiles.loader import load_profile, profile_names
from device_profiles.schema import FILE, schema_text
from edge_runtime.contract.errors import ConfigError
from edge_runtime.engines.registry import ENGINES, FORMATS

PROMISED = {
    "store-pc-cpu",
    "store-pc-nvidia",
    "store-pc-intel",
    "jetson-orin-nano",
    "raspberry-pi-5",
    "raspberry-pi-4",
    "iot-hub-arm64",
    "android-mid",
    "android-flagship",
    "iphone-recent",
    "mac-apple-silicon",
    "browser-wasm",
    "browser-webgpu",
}


def test_every_promised_profile_ships() -> None:
    assert set(profile_names()) == PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_shipped_profile_is_sound(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.memory_budget_bytes < profile.memory_bytes
    assert profile.cpu.cores <= profile.cpu.threads
    for support in profile.engines:
        assert set(support.formats) <= set(FORMATS.get(support.engine, support.formats))
        # Core AI is for apps: this runtime does not open its assets.
        assert support.engine in {*ENGINES, "coreai"} or name.startswith("browser")
    for fact in profile.facts:
        assert fact.source


def test_the_schema_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == schema_text(), "run python -m device_profiles.schema"


def test_a_path_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        Path(FILE.parent, "raspberry-pi-5.yaml").read_text("utf-8").replace("cores: 4", "cores: 2")
    )
    assert load_profile(file).cpu.cores == 2
    assert load_profile(str(file)) == load_profile(file)


@pytest.mark.parametrize("wrong", ["raspberrypi-5", "rasberry-pi-5"])
def test_an_unknown_name_gets_a_hint(wrong: str) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'raspberry-pi-5'") as caught:
        load_profile(wrong)
    assert "store-pc-nvidia" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file"),
        ("name: [", "no YAML"),
        ("schema_version: 1\nname: a\nturbo: true\n", "turbo"),
        ("schema_version: 1\nname: a\ncpu: {name: x, arch: z80, cores: 0, threads: 1}\n", "cpu.arch"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load_profile(file)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone"):
        load_profile(tmp_path / "gone.yaml")
    file = tmp_path / "picture.yaml"
    file.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match=r"picture\.yaml"):
        load_profile(file)
