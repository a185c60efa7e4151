"""Packed bundles: the same bytes twice, back again, and for every hostile archive a sentence of its own."""

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.bundle.archive import pack
from converters.bundle.sign import make_keys, sign
from converters.bundle.verify import verify
from edge_runtime import archive
from edge_runtime.archive import open_any_bundle, unpack
from edge_runtime.atomic import new_folder
from edge_runtime.bundle import MANIFEST
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, StorageError
from edge_runtime.local_model import find_bundle
from edge_runtime.signature import SIGNATURE
from tests.simulators.bundles import built, content, small_bundle

Change = Callable[[zipfile.ZipFile], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "shop", tmp_path / "steps").root


@pytest.mark.parametrize("compress", [False, True])
def test_there_and_back(root: Path, tmp_path: Path, compress: bool) -> None:
    keys = make_keys(tmp_path / "key.pem")
    sign(root, keys.private)
    size = pack(root, tmp_path / "shop.zip", compress=compress)
    assert size == (tmp_path / "shop.zip").stat().st_size
    bundle = unpack(tmp_path / "shop.zip", tmp_path / "back", trusted=[keys.public])
    assert (bundle.root, bundle.manifest.name) == (tmp_path / "back", "shop")
    assert content(tmp_path / "back") == content(root)
    with zipfile.ZipFile(tmp_path / "shop.zip") as file:
        assert file.namelist()[:3] == ["bundle.json", "bundle.sig", "golden/inputs.npz"]
        assert file.testzip() is None


def test_the_same_bundle_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    pack(root, tmp_path / "one.zip")
    for path in root.rglob("*"):
        os.utime(path, (10, 10))
        path.chmod(0o700 if path.is_dir() else 0o600)
    pack(root, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_only_a_whole_bundle_is_packed(root: Path, tmp_path: Path) -> None:
    (root / "notes.txt").write_text("")
    with pytest.raises(BundleError, match=r"does not name: got notes\.txt"):
        pack(root, tmp_path / "shop.zip")
    (root / "notes.txt").unlink()
    with pytest.raises(StorageError, match=r"cannot be written"):
        pack(root, root / MANIFEST / "shop.zip")
    assert not (tmp_path / "shop.zip").exists()


def added(name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Change:
    def change(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        # zipfile tidies names up on its way in, so the hostile one is put there afterwards.
        info.filename = name
        info.external_attr = mode << 16
        file.writestr(info, data)

    return change


HOSTILE: dict[str, tuple[Change, str]] = {
    "out of the folder": (added("../evil"), "'../evil' leaves the folder"),
    "out, from inside": (added("golden/../../evil"), "leaves the folder"),
    "absolute": (added("/etc/evil"), "'/etc/evil' is absolute"),
    "a drive": (added("C:evil"), "is absolute, or of another system"),
    "backslashes": (added("..\\evil"), "is absolute, or of another system"),
    "a stream of NTFS": (added("tokenizer.json:evil"), "of another system"),
    "not plain": (added("golden//x"), "is not in its plainest form"),
    "a dot": (added("./tokenizer.json"), "is not in its plainest form"),
    "control characters": (added("a\nb"), "control characters"),
    "twice": (added("tokenizer.json"), "'tokenizer.json' is there twice"),
    "twice on some disks": (added("Tokenizer.JSON"), "is there twice"),
    "a file and a folder": (added("tokenizer.json/x"), "is a file and a folder"),
    "a folder and a file": (added("golden"), "is a file and a folder"),
    "a link": (added("golden/x", b"/etc/passwd", stat.S_IFLNK | 0o777), "'golden/x' is a symbolic link"),
    "a device": (added("golden/x", b"", stat.S_IFCHR | 0o666), "or a device"),
    "not in the manifest": (added("plugin.so"), "does not name: got plugin.so"),
    "beside a model": (added("variants/tflite-int8/x"), "does not name: got variants/tflite-int8/x"),
    "more in a model's folder": (added("variants/openvino-fp32/x"), "is longer than its manifest says"),
    "nothing, in a model's folder": (added("variants/openvino-fp32/x", b""), "'openvino-fp32'.*damaged"),
    "a long signature": (added("bundle.sig", b"x" * 100_000), "'bundle.sig' is longer"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive(root: Path, tmp_path: Path, change: Change, words: str) -> None:
    pack(root, tmp_path / "shop.zip")
    with zipfile.ZipFile(tmp_path / "shop.zip", "a") as file:
        change(file)
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(BundleError, match=words):
        unpack(tmp_path / "shop.zip", place / "back")
    assert list(place.iterdir()) == []
    assert not (tmp_path / "evil").exists()


def repacked(root: Path, target: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    files = content(root)
    change(files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)


REPACKED: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "no manifest": (lambda f: f.pop(MANIFEST), "with bundle.json at its top, got golden/inputs.npz"),
    "corrupt manifest": (lambda f: f.update({MANIFEST: b"{"}), "bundle.json in archive .*: the file"),
    "manifest deep as the sea": (lambda f: f.update({MANIFEST: b"[" * 100_000}), "bundle.json in archive"),
    "a newer manifest": (
        lambda f: f.update({MANIFEST: f[MANIFEST].replace(b'"schema_version": 1', b'"schema_version": 2')}),
        "newer edge-runtime: expected schema_version 1, got 2. Update",
    ),
    "a file missing": (lambda f: f.pop("tokenizer.json"), "the tokenizer.*No such file"),
    "a file changed": (
        lambda f: f.update({"tokenizer.json": f["tokenizer.json"][::-1]}),
        "the tokenizer.*damaged or was changed: expected sha256",
    ),
    "a file too long: a bomb": (
        lambda f: f.update({"tokenizer.json": bytes(50_000_000)}),
        "'tokenizer.json' is longer than its manifest says.*zip bomb",
    ),
    "the folder around it": (
        lambda f: [f.update({f"shop/{name}": f.pop(name)}) for name in list(f)],
        "got shop/bundle.json.*Pack the folder itself",
    ),
    "nothing": (lambda f: f.clear(), "got an empty one"),
}


@pytest.mark.parametrize(("change", "words"), REPACKED.values(), ids=REPACKED)
def test_a_wrong_archive(
    root: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], words: str
) -> None:
    repacked(root, tmp_path / "shop.zip", change)
    with pytest.raises(BundleError, match=words):
        unpack(tmp_path / "shop.zip", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_bomb_that_its_manifest_tells_of(tmp_path: Path) -> None:
    size = archive._SMALL_BYTES + 1
    bomb = built(tmp_path / "steps", "onnx-fp32", Format.ONNX, model=bytes(size))
    root = small_bundle(tmp_path / "shop", tmp_path / "steps", variants=[bomb]).root
    pack(root, tmp_path / "shop.zip", compress=True)
    with pytest.raises(BundleError, match=r"says it holds 67,.* times its packed size.*zip bomb"):
        unpack(tmp_path / "shop.zip", tmp_path / "back")


def test_a_size_that_no_disk_has(root: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        golden = b'"size_bytes": 100'
        assert golden in files[MANIFEST]
        files[MANIFEST] = files[MANIFEST].replace(golden, b'"size_bytes": 1000000000000000', 1)

    repacked(root, tmp_path / "shop.zip", change)
    with pytest.raises(BundleError, match="at most 68,719,476,736"):
        unpack(tmp_path / "shop.zip", tmp_path / "back")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_archive(root: Path, tmp_path: Path, keep: float) -> None:
    pack(root, tmp_path / "shop.zip")
    whole = (tmp_path / "shop.zip").read_bytes()
    (tmp_path / "shop.zip").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BundleError, match=r"is damaged or no archive.*Copy or download it again"):
        unpack(tmp_path / "shop.zip", tmp_path / "back")


@pytest.mark.parametrize("flip", range(100, 4000, 300))
def test_a_flipped_bit_is_noticed(root: Path, tmp_path: Path, flip: int) -> None:
    pack(root, tmp_path / "shop.zip")
    whole = bytearray((tmp_path / "shop.zip").read_bytes())
    whole[flip] ^= 4
    (tmp_path / "shop.zip").write_bytes(whole)
    with pytest.raises(BundleError):
        unpack(tmp_path / "shop.zip", tmp_path / "back")


def test_encryption_and_other_methods_are_refused(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr(MANIFEST, (root / MANIFEST).read_bytes())
    with pytest.raises(BundleError, match="compressed in a way that is not deflate"):
        unpack(tmp_path / "lzma.zip", tmp_path / "back")
    pack(root, tmp_path / "shop.zip")
    data = bytearray((tmp_path / "shop.zip").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    (tmp_path / "shop.zip").write_bytes(data)
    with pytest.raises(BundleError, match="is encrypted"):
        unpack(tmp_path / "shop.zip", tmp_path / "back")


def test_messages_name_the_archive_and_no_folder_of_the_while(root: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "key.pem")
    packed = tmp_path / "shop.zip"
    for signature, words in (
        (None, "archive shop.zip: is not signed: expected a readable bundle.sig"),
        (b"nothing", "archive shop.zip: bundle.sig: is no signature"),
    ):
        if signature is not None:
            (root / SIGNATURE).write_bytes(signature)
        pack(root, packed)
        with pytest.raises(BundleError) as caught:
            verify(packed, [tmp_path / "key.pem.pub"])
        said = str(caught.value).replace(f"{tmp_path}/", "")
        assert said.startswith(words)
        assert ".part" not in said
        assert "edge-runtime-bundle-" not in said
    repacked(root, packed, lambda files: files.update({"tokenizer.json": files["tokenizer.json"][::-1]}))
    with pytest.raises(
        BundleError, match=r"shop\.zip: the tokenizer of bundle 'shop': tokenizer\.json is dam"
    ):
        unpack(packed, tmp_path / "out")


def test_no_archive_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        unpack(tmp_path / "gone.zip", tmp_path / "back")
    with pytest.raises(BundleError, match="Is a directory"):
        unpack(tmp_path, tmp_path / "back")


def test_a_place_that_is_taken(root: Path, tmp_path: Path) -> None:
    pack(root, tmp_path / "shop.zip")
    with pytest.raises(StorageError, match="is there already"):
        unpack(tmp_path / "shop.zip", root)
    (tmp_path / "empty").mkdir()
    unpack(tmp_path / "shop.zip", tmp_path / "empty")


def test_opening_a_zip_unpacks_it_once(root: Path, tmp_path: Path) -> None:
    pack(root, tmp_path / "shop.zip")
    cache = tmp_path / "cache"
    first = open_any_bundle(tmp_path / "shop.zip", cache=cache)
    marker = first.root.stat().st_ino
    again = open_any_bundle(tmp_path / "shop.zip", cache=cache)
    assert again.root.stat().st_ino == marker
    assert [path.name for path in cache.iterdir()] == [first.root.name]
    (first.root / "tokenizer.json").write_text("changed")
    with pytest.raises(BundleError, match=r"the tokenizer.*damaged"):
        open_any_bundle(tmp_path / "shop.zip", cache=cache)
    assert open_any_bundle(root).root == root
    with pytest.raises(BundleError, match="No such file"):
        open_any_bundle(tmp_path / "gone.zip", cache=cache)


def test_the_users_cache(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(root, tmp_path / "shop.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    bundle = open_any_bundle(tmp_path / "shop.zip")
    assert bundle.root.parent == tmp_path / "xdg" / "edge-runtime" / "bundles"
    assert find_bundle(str(tmp_path / "shop.zip")).root == bundle.root


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    dead = tmp_path / ".shop.4194999.part"
    alive = tmp_path / f".shop.{os.getppid()}.part"
    other = tmp_path / ".shop.old.4194999.part"
    for folder in (dead, alive, other):
        folder.mkdir()
    with new_folder(tmp_path / "shop", may_replace=lambda _: None) as part:
        (part / "x").write_text("x")
    assert (dead.exists(), alive.exists()) == (False, True)
    assert (tmp_path / "shop" / "x").read_text() == "x"


def test_a_disk_without_room(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(root, tmp_path / "shop.zip")

    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(StorageError, match=r"no room.*expected .* bytes free, got 100. Free the disk"):
        unpack(tmp_path / "shop.zip", tmp_path / "back")
    assert not (tmp_path / "back").exists()
