"""Signatures of bundles: Ed25519 over the bytes of `bundle.json`, which name every file by its digest.

Verifies alone; `converters.bundle.sign` signs and makes keys. Knows no file but the signature and the keys:
that the digests hold, and that nothing else lies in the folder, `bundle` checks.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from edge_runtime.contract.bundle import Sha256
from edge_runtime.contract.errors import BundleError, ConfigError
from edge_runtime.contract.task import Declared

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE = "bundle.sig"
"""Lies beside `bundle.json`."""
_SHOWN = 16
"""Digits of a key's id that a message shows."""


class BundleSignature(Declared):
    """`bundle.sig`: who signed, and the signature."""

    schema_version: Literal[1] = 1
    algorithm: Literal["ed25519"] = "ed25519"
    key_id: Sha256 = Field(description="SHA-256 of the signer's raw public key")
    signature: str = Field(description="64 bytes as base64, over the bytes of bundle.json")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who a bundle may be from.

    Args:
        raw: The 32 bytes of an Ed25519 public key.
    """

    raw: bytes

    @property
    def id(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(self.raw).hexdigest()


def check_signature(content: bytes, file: Path, trusted: Sequence[Path]) -> BundleSignature:
    """Check that one of the trusted keys signed a manifest.

    Args:
        content: The bytes of `bundle.json`.
        file: The signature, `bundle.sig`.
        trusted: Public keys, PEM files; at least one.

    Returns:
        The signature, which holds.

    Raises:
        BundleError: There is no signature, it is unreadable, of a key that is not trusted, or of other bytes.
        ConfigError: A key cannot be read, there is none, or the extra for signatures is missing.
    """
    if not trusted:
        raise ConfigError("no key is trusted", do="Name the public key of who signs your bundles")
    keys = {key.id: key for key in map(load_public_key, trusted)}
    signature = read_signature(file)
    key = keys.get(signature.key_id)
    if key is None:
        raise BundleError(
            f"bundle {file.parent}: is signed by a key that is not trusted",
            expected=f"key {' or '.join(map(short_id, keys))}",
            got=f"key {short_id(signature.key_id)}",
            do="Use the bundle of who you trust; a key changed on purpose must be given to the device first",
        )
    if not _holds(signature, key, content):
        raise BundleError(
            f"bundle {file.parent}: its bundle.json is not what was signed",
            expected=f"the manifest that key {short_id(key.id)} signed",
            got="another manifest, or a damaged signature",
            do="Do not use it: fetch it again, or let its author sign it again",
        )
    return signature


def read_signature(file: Path) -> BundleSignature:
    """Read a signature; whether it holds is another question.

    Raises:
        BundleError: It is missing or is no signature.
    """
    try:
        return BundleSignature.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BundleError(
            f"bundle {file.parent}: is not signed",
            expected=f"a readable {file.name}",
            got=error.strerror or str(error),
            do="Sign it: edge-runtime bundle sign",
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"{file}: is no signature",
            expected="JSON with algorithm ed25519, key_id and signature",
            got=str(error.errors(include_url=False)[0]["msg"]),
            do="Fetch the bundle again, or sign it again",
        ) from error


def load_public_key(file: Path) -> PublicKey:
    """Load a public key.

    Args:
        file: PEM, SubjectPublicKeyInfo, as `edge-runtime bundle keygen` and openssl write it.

    Raises:
        ConfigError: It cannot be read or is another kind of key, or the extra for signatures is missing.
    """
    kind = _ed25519()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    wanted = "a PEM file with an Ed25519 public key"
    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"key {file}", expected=wanted, got=error.strerror or str(error)) from error
    except ValueError as error:
        raise ConfigError(
            f"key {file}", expected=wanted, got="something else", do="Give the .pub file that keygen wrote"
        ) from error
    if not isinstance(key, kind):
        raise ConfigError(f"key {file}", expected=wanted, got=f"a {type(key).__name__}")
    return PublicKey(key.public_bytes_raw())


def short_id(key_id: str) -> str:
    """Shorten a key's id for a person."""
    return key_id[:_SHOWN]


def _holds(signature: BundleSignature, key: PublicKey, content: bytes) -> bool:
    kind = _ed25519()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    try:
        said = base64.b64decode(signature.signature, validate=True)
        kind.from_public_bytes(key.raw).verify(said, content)
    except (InvalidSignature, binascii.Error):
        return False
    return True


def _ed25519() -> "type[Ed25519PublicKey]":
    """Import the library when a signature is asked for: a device that trusts its disk does not need it."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"signatures cannot be checked here ({error})",
            do="Install the library: pip install 'edge-runtime[sign]'",
        ) from error
    return Ed25519PublicKey
