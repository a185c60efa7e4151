"""OCI image layouts: what the specification asks for, the same bytes twice, and what is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.bundle.form import Form, extract, form_of, opened
from converters.bundle.oci import read_layout, write_layout
from converters.bundle.sign import make_keys, sign
from edge_runtime.bundle import MANIFEST
from edge_runtime.contract.errors import BundleError, StorageError
from tests.simulators.bundles import content, small_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "shop", tmp_path / "steps", version="1.2.3+build.7").root


@pytest.fixture
def layout(root: Path, tmp_path: Path) -> Path:
    write_layout(root, tmp_path / "layout")
    return tmp_path / "layout"


def load(layout: Path, digest: str) -> dict[str, Any]:
    return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes())


def test_there_and_back(root: Path, tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "key.pem")
    sign(root, keys.private)
    write_layout(root, tmp_path / "layout")
    assert form_of(tmp_path / "layout") is Form.OCI
    bundle = extract(tmp_path / "layout", tmp_path / "back", trusted=[keys.public])
    assert bundle.manifest.version == "1.2.3+build.7"
    assert content(tmp_path / "back") == content(root)
    with opened(tmp_path / "layout") as found:
        place = found.root
        assert content(place) == content(root)
    assert not place.exists()


def test_the_layout_is_that_of_the_specification(root: Path, layout: Path) -> None:
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    assert index["schemaVersion"] == 2
    (entry,) = index["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "1.2.3_build.7"}
    image = load(layout, entry["digest"])
    assert image["mediaType"] == entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert image["artifactType"] == "application/vnd.edge-runtime.bundle.v1"
    assert load(layout, image["config"]["digest"])["name"] == "shop"
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in image["layers"]]
    assert titles == [MANIFEST, *sorted(set(content(root)) - {MANIFEST})]
    assert image["annotations"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    blobs = content(layout / "blobs" / "sha256")
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
    sizes = {layer["digest"]: layer["size"] for layer in (image["config"], *image["layers"], entry)}
    assert sizes == {f"sha256:{name}": len(data) for name, data in blobs.items()}


def test_the_same_bundle_gives_the_same_bytes(root: Path, layout: Path, tmp_path: Path) -> None:
    digest = write_layout(root, tmp_path / "again")
    assert content(layout) == content(tmp_path / "again")
    assert json.loads((layout / "index.json").read_text())["manifests"][0]["digest"] == digest


def test_a_layout_is_replaced_and_nothing_else(root: Path, layout: Path) -> None:
    write_layout(root, layout)
    with pytest.raises(StorageError, match="is no OCI layout"):
        write_layout(root, root)


def blob_of(layout: Path, title: str) -> Path:
    index = json.loads((layout / "index.json").read_text())
    image = load(layout, index["manifests"][0]["digest"])
    digest = next(
        layer["digest"]
        for layer in image["layers"]
        if layer["annotations"]["org.opencontainers.image.title"] == title
    )
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Damage with a right digest: a hostile image, not a broken one."""

    def damage(layout: Path) -> None:
        index = json.loads((layout / "index.json").read_text())
        image = load(layout, index["manifests"][0]["digest"])
        change(image)
        data = json.dumps(image).encode()
        name = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / name).write_bytes(data)
        index["manifests"][0]["digest"] = f"sha256:{name}"
        (layout / "index.json").write_text(json.dumps(index))

    return damage


def title_to(name: str) -> Callable[[Path], object]:
    return rewrite(
        lambda image: image["layers"][3]["annotations"].update({"org.opencontainers.image.title": name})
    )


def index_to(text: str) -> Callable[[Path], object]:
    return lambda layout: (layout / "index.json").write_text(text)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda layout: (layout / "index.json").unlink(), r"index\.json.*No such file"),
    "corrupt index": (index_to("{"), r"index\.json: the file"),
    "a list": (index_to("[]"), r"index\.json"),
    "nothing in it": (index_to('{"manifests": []}'), "expected one bundle, got 0"),
    "a digest that is a path": (
        index_to('{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}'),
        r"manifests\.0\.digest",
    ),
    "a blob gone": (lambda layout: blob_of(layout, "tokenizer.json").unlink(), "blob .*No such file"),
    "a blob changed": (
        lambda layout: blob_of(layout, "tokenizer.json").write_bytes(b"tokenizer.jsom" * 10),
        "blob .* is damaged or was changed: expected sha256",
    ),
    "a blob cut": (
        lambda layout: blob_of(layout, "tokenizer.json").write_bytes(b"tok"),
        "blob .* is damaged or was changed",
    ),
    "a bomb": (
        lambda layout: blob_of(layout, "tokenizer.json").write_bytes(bytes(30_000_000)),
        "'tokenizer.json' is longer than its manifest says",
    ),
    "the bundle's manifest changed": (
        lambda layout: blob_of(layout, MANIFEST).write_bytes(b"{}"),
        "blob .* is damaged",
    ),
    "out of the folder": (title_to("../evil"), "leaves the folder"),
    "absolute": (title_to("/etc/evil"), "is absolute"),
    "twice": (title_to("golden/inputs.npz"), "is there twice"),
    "not in the manifest": (title_to("plugin.so"), r"does not name: got plugin\.so"),
    "no title": (rewrite(lambda image: image["layers"][3].pop("annotations")), "a layer has no org"),
    "another image": (rewrite(lambda image: image.pop("artifactType")), "got another image"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named(layout: Path, tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(layout)
    with pytest.raises(BundleError, match=words):
        read_layout(layout, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "evil").exists()
