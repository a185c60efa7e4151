"""What stands in for what settings name: versions, labels and settings of a fleet; and who signed it."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from converters.bundle.sign import make_keys, sign
from edge_runtime.bundle import shipped_bundle
from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.task import TensorsSpec
from edge_runtime.runtime.bundles import Bundles, bundles_of
from edge_runtime.runtime.runtime import Runtime
from edge_runtime.settings import ModelSettings, SettingsError, load_settings
from edge_runtime.settings.load import load_with
from edge_runtime.update.record import Version
from edge_runtime.update.slots import Slots
from tests.simulators.served_bundles import bundle, scaling

STORE = """\
version: 1
site: shop
models:
  scale: {bundle: installed}
door: {port: 0}
fleet: {folder: fleet}
"""
SENT = """\
version: 1
models:
  scale: {bundle: installed}
  other: {bundle: installed}
door: {port: 0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle(tmp_path / "installed", scaling(2), task=TensorsSpec(kind="tensors", labels=("a", "b", "c", "d")))
    (tmp_path / "fleet").mkdir()
    (tmp_path / "store.yaml").write_text(STORE)
    return tmp_path


def put(folder: Path, kind: Kind, name: str, files: Path) -> Path:
    """Commit something to its slot."""
    slots = Slots(folder / "fleet/updates/slots", kind, name)
    place = slots.vacate()
    shutil.copytree(files, place)
    sha256 = hashlib.sha256(str(files).encode()).hexdigest()
    slots.offer(Version(version="2.0.0", sha256=sha256, counter=1))
    slots.commit(sha256)
    return place


def written(folder: Path, name: str, text: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(text)
    return folder


def now(folder: Path) -> tuple[str, tuple[str, ...]]:
    settings = load_settings(folder / "store.yaml")
    found = bundles_of(settings).open(settings.models["scale"]).manifest
    assert isinstance(found.task, TensorsSpec)
    return found.version, found.task.labels


def test_a_version_and_labels_stand_in_and_damage_does_not(folder: Path) -> None:
    own = ("a", "b", "c", "d")
    assert now(folder) == ("1.0.0", own)
    second = bundle(
        folder / "second", scaling(3), version="2.0.0", task=TensorsSpec(kind="tensors", labels=own)
    )
    place = put(folder, "model", "scale", second)
    put(folder, "model", "another", second)
    assert now(folder) == ("2.0.0", own)
    put(folder, "labels", "scale", written(folder / "l", "labels.txt", "p\nq\nr\ns\n"))
    assert now(folder) == ("2.0.0", ("p", "q", "r", "s"))
    put(folder, "labels", "scale", written(folder / "m", "labels.txt", "too\nfew\n"))
    assert now(folder) == ("2.0.0", own), "they do not fit"
    (place / "model.onnx").write_bytes(b"the disk was here")
    assert now(folder) == ("1.0.0", own)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SENT + "site: mine\n", r"the fleet's settings:\d+: site: is the device's own"),
        (SENT + "nonsense: 1\n", r"the fleet's settings:\d+: nonsense: unknown key"),
        ("models: [\n", r"the fleet's settings:\d+: not YAML"),
        ("- one\n", r"the fleet's settings:1: expected a mapping"),
    ],
)
def test_settings_of_a_fleet_are_called_so_and_not_by_the_devices_path(
    folder: Path, text: str, said: str
) -> None:
    sent = written(folder / "s", "store.yaml", text) / "store.yaml"
    with pytest.raises(ConfigError, match=said) as caught:
        load_with(folder / "store.yaml", sent)
    assert str(sent) not in str(caught.value)


def test_settings_of_a_fleet_leave_the_device_its_own_blocks(folder: Path) -> None:
    put(folder, "settings", "agent", written(folder / "s", "store.yaml", SENT))
    found = load_settings(folder / "store.yaml")
    assert set(found.models) == {"scale", "other"}
    assert (found.site, found.fleet is not None) == ("shop", True)
    assert found.models["other"].bundle == folder / "installed", "relative to the store's own file"
    put(folder, "settings", "agent", written(folder / "t", "store.yaml", SENT + "site: mine\n"))
    assert set(load_settings(folder / "store.yaml").models) == {"scale"}, "the store's own are used alone"


def test_a_bundle_must_be_signed_where_keys_are_trusted(folder: Path) -> None:
    author, stranger = (make_keys(folder / name) for name in ("author", "stranger"))
    asks = Bundles([author.public])
    model = ModelSettings(bundle=folder / "installed")
    with pytest.raises(BundleError, match="is not signed"):
        asks.open(model)
    sign(folder / "installed", stranger.private)
    with pytest.raises(BundleError, match="a key that is not trusted"):
        asks.open(model)
    (folder / "installed/bundle.sig").unlink()
    sign(folder / "installed", author.private)
    assert asks.open(model).manifest.name == "scale"
    shipped = shipped_bundle("efficientdet-lite0")
    assert asks.open(ModelSettings(bundle=shipped)).manifest.name == "efficientdet-lite0"
    bare = ModelSettings(file=folder / "installed/model.onnx", task=TensorsSpec(kind="tensors"))
    with pytest.raises(BundleError, match=r"a signed bundle, .*got a bare file"):
        asks.open(bare)
    assert Bundles().open(bare).manifest.version


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fleet: {folder: nowhere}", "folder: there is no .*Enrol the device first: edge-runtime enrol"),
        ("fleet: {folder: fleet, report_every_s: 1}", "report_every_s: expected greater than or equal to 10"),
        ("fleet: {folder: fleet, snapshots: sometimes}", "snapshots: expected 'allowed' or 'forbidden'"),
        ("fleet: {folder: fleet, bytes: 1}", "fleet.bytes: unknown key. Did you mean 'bytes_per_s'"),
        ("bundles: {trusted: [none.pub]}", r"trusted\[0\]: there is no .*Give the path of a public key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_blocks_is_said(line: str, said: str, folder: Path) -> None:
    text = STORE.replace("fleet: {folder: fleet}", line)
    (folder / "store.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_settings(folder / "store.yaml")


def test_requests_go_on_by_other_routes_and_other_versions(folder: Path) -> None:
    settings = load_settings(folder / "store.yaml")
    left: Counter[str] = Counter()
    with Runtime(settings) as runtime:
        assert runtime.predict("scale", {"x": _ones()}).version == "1.0.0"
        put(folder, "model", "scale", bundle(folder / "second", scaling(3), version="2.0.0"))
        runtime.adopt("scale", None, lambda: left.update(["scale"]))
        answer = runtime.predict("scale", {"x": _ones()})
        assert (answer.version, float(answer.value.tensors["y"][0, 0])) == ("2.0.0", 3.0)
        assert left == {"scale": 1}
        put(folder, "model", "scale", written(folder / "bad", "bundle.json", "{}"))
        (folder / "installed/model.onnx").write_bytes(b"")
        with pytest.raises(BundleError):
            bundles_of(settings).open(settings.models["scale"])
        with pytest.raises(EngineError, match="a version that opens"):
            runtime.adopt("scale", None, lambda: left.update(["scale"]))
        assert runtime.predict("scale", {"x": _ones()}).version == "2.0.0", "what answered goes on"
        wanted = settings.models["scale"].route.model_copy(
            update={"timeout_s": 1.5, "never_leave": ("text",)}
        )
        model = settings.models["scale"].model_copy(update={"route": wanted})
        before = runtime.router
        runtime.reroute(settings.model_copy(update={"models": {"scale": model}}))
        assert runtime.router.model("scale").timeout_s == 1.5
        assert before.model("scale").timeout_s != 1.5
        runtime.predict("scale", {"x": _ones()})
        assert sum(runtime.status().routes.values()) == 4, "what was counted stays counted"


def _ones() -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.ones((1, 4), np.float32)
