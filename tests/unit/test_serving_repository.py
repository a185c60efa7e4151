"""What a repository finds in folders, archives and behind URLs, and what it says of what is broken."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from cloud_fallback.serving.repository import Contents, Repository, servable, version_order
from converters.bundle.archive import pack
from converters.bundle.sign import make_keys, sign
from edge_runtime.bundle import open_bundle
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, StorageError
from tests.simulators.s3 import object_store
from tests.simulators.served_bundles import bundle, scaling

MODEL = scaling(2.0)


def names(contents: Contents) -> dict[str, list[str]]:
    return {model: list(versions) for model, versions in contents.models.items()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_one_bundle_is_a_repository(tmp_path: Path) -> None:
    assert names(Repository(bundle(tmp_path / "it", MODEL)).scan()) == {"scale": ["1.0.0"]}


def test_models_and_versions_in_folders_and_archives(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "all"
    bundle(root / "one", MODEL, name="one")
    bundle(root / "two" / "old", MODEL, name="two", version="1.9.0")
    bundle(root / "two" / "new", MODEL, name="two", version="1.10.0")
    pack(bundle(tmp_path / "aside", MODEL, name="packed"), root / "packed.zip")
    pack(bundle(tmp_path / "aside 2", MODEL, name="two", version="2.0.0"), root / "two" / "2.zip")
    (root / "README.md").write_text("not a bundle")
    (root / ".git").mkdir()
    contents = Repository(root, cache=cache).scan()
    assert names(contents) == {"one": ["1.0.0"], "packed": ["1.0.0"], "two": ["1.9.0", "1.10.0", "2.0.0"]}
    assert contents.broken == []
    for versions in contents.models.values():
        for found in versions.values():
            assert found.open().manifest.version == found.version


def test_a_new_version_is_found_by_looking_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    bundle(tmp_path / "one", MODEL)
    assert names(repository.scan()) == {"scale": ["1.0.0"]}
    bundle(tmp_path / "two", MODEL, version="2.0.0")
    assert names(repository.scan()) == {"scale": ["1.0.0", "2.0.0"]}


def test_what_is_broken_is_named_and_hides_nothing(tmp_path: Path) -> None:
    bundle(tmp_path / "good", MODEL)
    bundle(tmp_path / "twin", MODEL, cosine=0.5)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "bundle.json").write_text('{"name": "cut", ')
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and no more")
    contents = Repository(tmp_path).scan()
    assert names(contents) == {"scale": ["1.0.0"]}
    why = {each.name: each.why for each in contents.broken}
    assert set(why) == {"cut", "bad", "scale"}
    assert "bundle.json" in why["cut"]
    assert "cannot be read" in why["bad"]
    assert "the name and version of another bundle" in why["scale"]


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="--bundles DIR"):
        Repository(tmp_path / "nowhere").scan()
    assert Repository(tmp_path).scan() == Contents({}, [])


def test_only_what_is_signed_by_who_is_trusted_opens(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys" / "shop.pem")
    root = tmp_path / "all"
    sign(bundle(root / "signed", MODEL, name="signed"), keys.private)
    bundle(root / "bare", MODEL, name="bare")
    models = Repository(root, trusted=[keys.public]).scan().models
    models["signed"]["1.0.0"].open()
    with pytest.raises(BundleError, match="not signed"):
        models["bare"]["1.0.0"].open()


def test_only_formats_that_are_data_are_served(tmp_path: Path) -> None:
    root = bundle(tmp_path / "mixed", MODEL)
    manifest = json.loads((root / "bundle.json").read_text())
    apple = manifest["variants"][0] | {"id": "apple", "format": "coreml"}
    for variants, kept in (([apple, *manifest["variants"]], ["onnx-fp32"]), ([apple], None)):
        receipts = [receipt for receipt in manifest["receipts"] if kept]
        (root / "bundle.json").write_text(json.dumps(manifest | {"variants": variants, "receipts": receipts}))
        if kept is None:
            with pytest.raises(BundleError, match="got coreml"):
                servable(open_bundle(root))
        else:
            assert [variant.id for variant in servable(open_bundle(root)).manifest.variants] == kept
    assert Format.COREML == "coreml"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9.0", "1.10.0"),
        ("1.0.0-rc1", "1.0.0"),
        ("1.0.0-rc1", "1.0.0-rc2"),
        ("1.0", "1.0.1"),
        ("9", "10"),
        ("2025-11-01", "2025-12-01"),
        ("v1", "v2"),
    ],
)
def test_versions_are_ordered_as_people_count(older: str, newer: str) -> None:
    assert version_order(older) < version_order(newer)


def upload(folder: Path, url: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with fsspec.open(f"{url}/{file.relative_to(folder).as_posix()}", "wb") as out:  # pyright: ignore
                out.write(file.read_bytes())  # pyright: ignore


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/models"
        return
    with object_store(monkeypatch) as bucket:
        yield f"{bucket}/{uuid.uuid4().hex}"


def test_bundles_behind_a_url_are_copied_once(tmp_path: Path, cache: Path, url: str) -> None:
    root = tmp_path / "all"
    bundle(root / "one", MODEL, name="one")
    bundle(root / "two" / "1", MODEL, name="two")
    pack(bundle(tmp_path / "aside", MODEL, name="packed"), root / "packed.zip")
    upload(root, url)
    models = Repository(url, cache=cache).scan().models
    assert sorted(models) == ["one", "packed", "two"]
    opened = {name: versions["1.0.0"].open() for name, versions in models.items()}
    for folder in (each.root for each in opened.values()):
        assert cache in folder.parents
    before = opened["one"].root / "model.onnx"
    stamp = before.stat().st_mtime_ns
    assert Repository(url, cache=cache).scan().models["one"]["1.0.0"].open().root == opened["one"].root
    assert before.stat().st_mtime_ns == stamp


def test_a_bundle_that_comes_later_is_found(tmp_path: Path, cache: Path, url: str) -> None:
    upload(bundle(tmp_path / "one", MODEL, name="one"), f"{url}/one")
    repository = Repository(url, cache=cache)
    assert sorted(repository.scan().models) == ["one"]
    upload(bundle(tmp_path / "two", MODEL, name="two"), f"{url}/two")
    assert sorted(repository.scan().models) == ["one", "two"]


def test_a_file_cut_on_the_way_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, url: str) -> None:
    root = bundle(tmp_path / "one", MODEL)
    (root / "model.onnx").write_bytes((root / "model.onnx").read_bytes()[:-10])
    upload(root, f"{url}/one")
    found = Repository(url, cache=cache).scan().models["scale"]["1.0.0"]
    with pytest.raises(BundleError, match="damaged"):
        found.open()
    assert not list(cache.glob("*/bundle.json"))


def test_a_file_that_nobody_names_is_not_copied(tmp_path: Path, cache: Path, url: str) -> None:
    root = bundle(tmp_path / "one", MODEL)
    (root / "run_me.pkl").write_bytes(b"cos\nsystem\n")
    upload(root, f"{url}/one")
    with pytest.raises(BundleError, match=r"run_me\.pkl"):
        Repository(url, cache=cache).scan().models["scale"]["1.0.0"].open()
    assert not list(cache.rglob("*.pkl"))


def test_a_url_that_cannot_be_listed(cache: Path, url: str) -> None:
    with pytest.raises(StorageError, match="nothing is there"):
        Repository(f"{url}/nowhere", cache=cache).scan()
