"""Signatures: what they cover, and a sentence of its own for everything that can be wrong with one."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from converters.bundle import sign as signing
from converters.bundle.sign import make_keys, sign
from converters.bundle.verify import verify
from edge_runtime.bundle import MANIFEST, open_bundle
from edge_runtime.contract.errors import BundleError, ConfigError, StorageError
from edge_runtime.signature import SIGNATURE, load_public_key
from tests.simulators.bundles import small_bundle


class Signed(NamedTuple):
    root: Path
    private: Path
    public: Path


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    root = small_bundle(tmp_path / "shop", tmp_path / "steps").root
    keys = make_keys(tmp_path / "keys" / "shop.pem")
    sign(root, keys.private)
    return Signed(root, keys.private, keys.public)


def test_a_good_signature(signed: Signed) -> None:
    assert open_bundle(signed.root, trusted=[signed.public]).manifest.name == "shop"
    found = verify(signed.root, [signed.public])
    assert (found.files, found.trusted) == (11, True)
    assert found.key_id == load_public_key(signed.public).id
    assert verify(signed.root).trusted is False


def test_it_is_what_openssl_would_say(signed: Signed) -> None:
    key = serialization.load_pem_public_key(signed.public.read_bytes())
    document = json.loads((signed.root / SIGNATURE).read_text())
    assert document["algorithm"] == "ed25519"
    import base64

    key.verify(base64.b64decode(document["signature"]), (signed.root / MANIFEST).read_bytes())  # type: ignore[union-attr]


def test_one_of_several_keys_is_enough(signed: Signed, tmp_path: Path) -> None:
    other = make_keys(tmp_path / "other.pem")
    open_bundle(signed.root, trusted=[other.public, signed.public])


def test_signing_twice_gives_the_same_bytes(signed: Signed) -> None:
    before = (signed.root / SIGNATURE).read_bytes()
    sign(signed.root, signed.private)
    assert (signed.root / SIGNATURE).read_bytes() == before


def append(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes() + b" ")


def signature_with(**fields: object) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        document = json.loads((root / SIGNATURE).read_text()) | fields
        (root / SIGNATURE).write_text(json.dumps(document))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no signature": (
        lambda root: (root / SIGNATURE).unlink(),
        "is not signed: expected a readable bundle.sig",
    ),
    "not JSON": (lambda root: (root / SIGNATURE).write_text("x"), "is no signature"),
    "empty": (lambda root: (root / SIGNATURE).write_text(""), "is no signature"),
    "another algorithm": (signature_with(algorithm="none"), "is no signature"),
    "not base64": (signature_with(signature="?"), "is not what was signed"),
    "too short": (signature_with(signature="AAAA"), "is not what was signed"),
    "of other bytes": (signature_with(signature="A" * 86 + "=="), "is not what was signed"),
    "another key's name": (signature_with(key_id="0" * 64), "by a key that is not trusted"),
    "manifest changed by a space": (append(MANIFEST), "is not what was signed"),
    "manifest no JSON any more": (lambda root: (root / MANIFEST).write_text("{"), "is not what was signed"),
    "model changed": (append("variants/tflite-int8/model.tflite"), "'tflite-int8'.*damaged or was changed"),
    "external data changed": (append("variants/onnx-fp32/model.onnx.data"), "'onnx-fp32'.*damaged"),
    "tokenizer changed": (append("tokenizer.json"), "the tokenizer.*damaged"),
    "golden changed": (append("golden/outputs.npz"), "the golden outputs.*damaged"),
    "golden gone": (lambda root: (root / "golden/inputs.npz").unlink(), "the golden inputs.*No such file"),
    "a file more": (lambda root: (root / "plugin.so").write_text(""), "does not name: got plugin.so"),
    "a file more beside a model": (
        lambda root: (root / "variants/tflite-int8/x").write_text(""),
        "does not name: got variants/tflite-int8/x",
    ),
    "a file more in a model's folder": (
        lambda root: (root / "variants/openvino-fp32/x").write_text(""),
        "'openvino-fp32'.*damaged",
    ),
    "a link": (lambda root: (root / "golden/x").symlink_to("/etc/passwd"), "does not name: got golden/x"),
    "a file that became a link": (
        lambda root: (
            (root / "tokenizer.json").rename(root.parent / "t"),
            (root / "tokenizer.json").symlink_to(root.parent / "t"),
        ),
        "does not name: got tokenizer.json",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named(signed: Signed, damage: Callable[[Path], object], words: str) -> None:
    damage(signed.root)
    with pytest.raises(BundleError, match=words):
        open_bundle(signed.root, trusted=[signed.public])


def test_a_stranger_is_refused_before_any_model_is_read(signed: Signed, tmp_path: Path) -> None:
    stranger = make_keys(tmp_path / "stranger.pem")
    for model in (signed.root / "variants").rglob("model.*"):
        if model.is_file():
            model.unlink()  # reading one would fail otherwise
    with pytest.raises(BundleError, match=r"not trusted: expected key [0-9a-f]{16}, got key [0-9a-f]{16}"):
        open_bundle(signed.root, trusted=[stranger.public])


def test_trusting_nobody_is_an_error(signed: Signed) -> None:
    with pytest.raises(ConfigError, match="no key is trusted"):
        open_bundle(signed.root, trusted=[])


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys = make_keys(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE(keys.private.stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="is there already"):
        make_keys(tmp_path / "key.pem")


def test_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = small_bundle(tmp_path / "shop", tmp_path / "steps").root
    keys = make_keys(tmp_path / "key.pem", passphrase=b"open sesame")
    assert b"ENCRYPTED" in keys.private.read_bytes()
    with pytest.raises(ConfigError, match=r"expected a passphrase, got none.*EDGE_RUNTIME_KEY_PASSPHRASE"):
        sign(root, keys.private)
    with pytest.raises(ConfigError, match="wrong passphrase"):
        sign(root, keys.private, passphrase=b"open barley")
    monkeypatch.setenv(signing.PASSPHRASE_VARIABLE, "open sesame")
    sign(root, keys.private, passphrase=signing.passphrase_from_environment())
    open_bundle(root, trusted=[keys.public])
    plain = make_keys(tmp_path / "plain.pem")
    with pytest.raises(ConfigError, match="expected a key that has a passphrase"):
        sign(root, plain.private, passphrase=b"open sesame")


def test_keys_that_are_none(signed: Signed, tmp_path: Path) -> None:
    text, curve = tmp_path / "text", tmp_path / "curve.pem"
    text.write_text("hello")
    curve.write_bytes(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for key, words in (
        (tmp_path / "gone", "No such file"),
        (text, "something else"),
        (signed.private, "something else.*pub"),
        (curve, "got a EC"),
    ):
        with pytest.raises(ConfigError, match=words):
            open_bundle(signed.root, trusted=[key])
    for key in (tmp_path / "gone", text, signed.public):
        with pytest.raises(ConfigError, match="an Ed25519 private key"):
            sign(signed.root, key)


def test_only_a_whole_bundle_is_signed(signed: Signed) -> None:
    (signed.root / "notes.txt").write_text("")
    with pytest.raises(BundleError, match=r"does not name: got notes\.txt"):
        sign(signed.root, signed.private)


def test_without_the_library_the_extra_is_named(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ConfigError, match=r"pip install 'edge-runtime\[sign\]'"):
        open_bundle(signed.root, trusted=[signed.public])
    open_bundle(signed.root)
