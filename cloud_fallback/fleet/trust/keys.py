"""Keys that sign metadata: PEM files, made here or by openssl. Asks for no password: a disk guards them.

Signs nothing: `cloud_fallback.fleet.trust.roles` does.
"""

# pyright: reportPrivateImportUsage=false
# python-tuf and securesystemslib document these names where they are imported from, but mark none as public.

import os
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from edge_runtime.contract.errors import ConfigError, StorageError

KeyKind = Literal["ed25519", "ecdsa"]
_SHOWN = 16


def new_key(file: Path, kind: KeyKind = "ed25519") -> SSlibKey:
    """Make a key: the secret half in a file that only this user reads, the public half beside it (`.pub`).

    Args:
        file: For the secret half; it must not be there.
        kind: Ed25519, or ECDSA on P-256 for key stores that know no Ed25519.

    Raises:
        StorageError: Something is there, or the disk is full, read-only or broken.
    """
    signer = CryptoSigner.generate_ed25519() if kind == "ed25519" else CryptoSigner.generate_ecdsa()
    public = public_file(file)
    for path, content, mode in (
        (file, signer.private_bytes, 0o600),
        (public, _public_pem(signer.public_key), 0o644),
    ):
        _write_new(path, content, mode)
    return signer.public_key


def public_file(file: Path) -> Path:
    """Give the place of a key's public half."""
    return file.with_suffix(".pub")


def load_signer(file: Path) -> CryptoSigner:
    """Load the secret half of a key.

    Raises:
        ConfigError: It cannot be read, or is no such key.
    """
    wanted = "a PEM file with an Ed25519 or P-256 private key, without a password"
    try:
        return CryptoSigner(load_pem_private_key(file.read_bytes(), None))
    except OSError as error:
        raise ConfigError(f"key {file}", expected=wanted, got=error.strerror or str(error)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"key {file}", expected=wanted, got="something else") from error


def load_public(file: Path) -> SSlibKey:
    """Load the public half of a key.

    Args:
        file: The `.pub` file.

    Raises:
        ConfigError: It cannot be read, or is no such key.
    """
    wanted = "a PEM file with an Ed25519 or P-256 public key"
    try:
        return SSlibKey.from_crypto(load_pem_public_key(file.read_bytes()))
    except OSError as error:
        raise ConfigError(f"key {file}", expected=wanted, got=error.strerror or str(error)) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"key {file}", expected=wanted, got="something else", do="Give the .pub file beside the key"
        ) from error


def short_id(key_id: str) -> str:
    """Shorten a key's id for a person."""
    return key_id[:_SHOWN]


def _public_pem(key: SSlibKey) -> bytes:
    # What python-tuf calls `public` is a PEM for ECDSA and 32 bytes in hexadecimal for Ed25519.
    if key.keytype != "ed25519":
        return str(key.keyval["public"]).encode()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise StorageError(
            f"{path}: is there already", do="Choose another name; a key is never replaced"
        ) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be written", got=error.strerror or str(error)) from error
