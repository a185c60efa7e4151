"""Signing bundles, and making the keys for it; `edge_runtime.signature` verifies on the device.

Keeps no key: a private key is a file of its owner, or comes from whatever puts it there for a build.
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.bundle import MANIFEST, open_bundle, refuse_unlisted
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.signature import SIGNATURE, BundleSignature, PublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSPHRASE_VARIABLE = "EDGE_RUNTIME_KEY_PASSPHRASE"  # noqa: S105  the variable's name
"""Environment variable with the passphrase of a private key; unset: the key has none."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two files that `make_keys` wrote.

    Args:
        private: PEM, mode 0600, PKCS #8; encrypted where a passphrase was given.
        public: PEM; goes to the devices.
        id: As signatures name the key.
    """

    private: Path
    public: Path
    id: str


def make_keys(private: Path, *, passphrase: bytes | None = None) -> KeyPair:
    """Make a key pair: `private`, and `<private>.pub` beside it.

    Args:
        private: File of the private key; nothing may be there.
        passphrase: Encrypts the private key; None: it is not encrypted.

    Raises:
        ConfigError: The extra for signatures is missing.
        StorageError: A file is there already or cannot be written.
    """
    crypto = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    encryption = crypto.BestAvailableEncryption(passphrase) if passphrase else crypto.NoEncryption()
    secret = key.private_bytes(crypto.Encoding.PEM, crypto.PrivateFormat.PKCS8, encryption)
    public = key.public_key()
    shared = public.public_bytes(crypto.Encoding.PEM, crypto.PublicFormat.SubjectPublicKeyInfo)
    public_file = private.with_name(f"{private.name}.pub")
    for file, content, mode in ((private, secret, 0o600), (public_file, shared, 0o644)):
        _write_new(file, content, mode)
    return KeyPair(private, public_file, PublicKey(public.public_bytes_raw()).id)


def sign(folder: Path, key: Path, *, passphrase: bytes | None = None) -> BundleSignature:
    """Sign a bundle, after checking that it is whole; replaces an older signature.

    Args:
        folder: The bundle's folder.
        key: The private key, a PEM file.
        passphrase: Of the key, where it has one.

    Returns:
        What was written to `bundle.sig`. The same key and bundle always give the same bytes.

    Raises:
        BundleError: The bundle is damaged, or has files that its manifest does not name.
        ConfigError: The key cannot be read, or the extra for signatures is missing.
        StorageError: The signature cannot be written.
    """
    secret = _load_private_key(key, passphrase)
    refuse_unlisted(open_bundle(folder))
    content = (folder / MANIFEST).read_bytes()
    signature = BundleSignature(
        key_id=PublicKey(secret.public_key().public_bytes_raw()).id,
        signature=base64.b64encode(secret.sign(content)).decode(),
    )
    with new_file(folder / SIGNATURE) as stream:
        stream.write(f"{signature.model_dump_json(indent=2)}\n".encode())
    return signature


def check_key(key: Path, *, passphrase: bytes | None = None) -> None:
    """Refuse a private key that could not sign, before there is anything to sign.

    Args:
        key: The PEM file.
        passphrase: Of the key, where it has one.

    Raises:
        ConfigError: As `sign`.
    """
    _load_private_key(key, passphrase)


def passphrase_from_environment() -> bytes | None:
    """Read the passphrase of a private key; None where the variable is unset or empty."""
    return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None


def _load_private_key(file: Path, passphrase: bytes | None) -> "Ed25519PrivateKey":
    crypto = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    wanted = "a PEM file with an Ed25519 private key"
    try:
        key = crypto.load_pem_private_key(file.read_bytes(), passphrase)
    except OSError as error:
        raise ConfigError(f"key {file}", expected=wanted, got=error.strerror or str(error)) from error
    except TypeError as error:  # encrypted without a passphrase, or the other way round
        raise ConfigError(
            f"key {file}",
            expected="a passphrase" if passphrase is None else "a key that has a passphrase",
            got="none" if passphrase is None else "one that has none",
            do=f"Set the environment variable {PASSPHRASE_VARIABLE}, or unset it for a key without",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"key {file}",
            expected=wanted,
            got="something else" if passphrase is None else "something else, or the wrong passphrase",
            do="Make one: edge-runtime bundle keygen",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key {file}", expected=wanted, got=f"a {type(key).__name__}")
    return key


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ConfigError(
            f"bundles cannot be signed here ({error})",
            do="Install the library: pip install 'edge-runtime[sign]'",
        ) from error
    return serialization


def _write_new(file: Path, content: bytes, mode: int) -> None:
    """Write a file with its mode from the first byte on; never over another key."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    except FileExistsError as error:
        raise StorageError(
            f"{file}: is there already", do="Choose another name: an overwritten key is lost for good"
        ) from error
    except OSError as error:
        raise cannot_write(file, error) from error
