"""Reading, signing and judging one piece of metadata. Keeps nothing and knows no repository."""

# pyright: reportPrivateImportUsage=false
# python-tuf and securesystemslib document these names where they are imported from, but mark none as public.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from cloud_fallback.fleet.trust.keys import short_id
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.update import Failure, UpdateFailedError

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
COMPACT = JSONSerializer(compact=True)
"""How files are written."""
MAX_BYTES = 5_000_000
"""Of a targets or snapshot file; a device takes no longer one."""
MAX_ROOT_BYTES = 512_000
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long metadata is valid from when it is signed.

    Args:
        root_s: Offline; devices refuse everything after it.
        targets_s: Offline.
        family_s: At the publisher; each release begins it anew.
        online_s: Snapshot and reverts, signed again by the manager at half of it.
        timestamp_s: The longest that newer releases can be kept from a device without its noticing.
    """

    root_s: float = 730 * DAY_S
    targets_s: float = 730 * DAY_S
    family_s: float = 365 * DAY_S
    online_s: float = 14 * DAY_S
    timestamp_s: float = 2 * DAY_S


def read(data: bytes, kind: type[S], title: str) -> Metadata[S]:
    """Read metadata; whether it is signed is another question.

    Raises:
        UpdateFailedError: It is malformed, too long, or of another kind.
    """
    limit = MAX_ROOT_BYTES if kind is Root else MAX_BYTES
    if len(data) > limit:
        raise refused(Failure.METADATA_MALFORMED, title, f"at most {limit:,} bytes", f"{len(data):,}")
    try:
        metadata = Metadata[S].from_bytes(data)
    except DeserializationError as error:
        raise refused(Failure.METADATA_MALFORMED, title, "TUF metadata", str(error)) from error
    if metadata.signed.type != kind.type:
        raise refused(Failure.METADATA_MALFORMED, title, kind.type, metadata.signed.type)
    return metadata


def check_signed(metadata: Metadata[S], delegator: Root | Targets, role: str) -> None:
    """Check that enough of the right keys signed.

    Raises:
        UpdateFailedError: They did not, or the delegator knows no such role.
    """
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError as error:
        known = delegator.get_delegated_role(role)
        raise refused(
            Failure.METADATA_SIGNATURE,
            f"metadata {role}",
            f"{known.threshold} of the keys {ids(known.keyids)}",
            ids(metadata.signatures) or "no signature",
        ) from error
    except ValueError as error:  # python-tuf: not delegated
        raise refused(
            Failure.TARGET_UNKNOWN,
            f"metadata {role}",
            "a delegated role",
            "one that nobody delegated",
            "Delegate it first: edge-runtime fleet keys delegate",
        ) from error


def check_fresh(metadata: Metadata[S], role: str, now_s: float) -> None:
    """Refuse what is not valid any more.

    Raises:
        UpdateFailedError: It is expired.
    """
    if metadata.signed.is_expired(at(now_s)):
        raise refused(
            Failure.METADATA_EXPIRED,
            f"metadata {role}",
            f"valid after {text(now_s)}",
            f"{metadata.signed.expires}",
        )


def seal(metadata: Metadata[S], signers: Sequence[Signer]) -> bytes:
    """Sign metadata, beside the signatures that it has.

    Args:
        metadata: Gets the signatures.
        signers: Of whom.

    Returns:
        Its file.
    """
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(COMPACT)


def chosen(signers: Iterable[Signer], delegator: Root | Targets, role: str) -> list[Signer]:
    """Choose the signers whom a delegator names for a role.

    Raises:
        ConfigError: There are too few.
    """
    known = delegator.get_delegated_role(role)
    found = [each for each in signers if each.public_key.keyid in known.keyids]
    if len(found) < known.threshold:
        raise ConfigError(
            f"role {role}: its keys are not here",
            expected=f"{known.threshold} of {ids(known.keyids)}",
            got=ids(each.public_key.keyid for each in found) or "none of them",
            do="Give the key that the metadata names, or rotate the metadata to the key that is here",
        )
    return found


def next_version(before: int, now_s: float) -> int:
    """Give the version after another one.

    A version is the second it was signed in. So a manager that was restored from a backup signs versions
    above all that devices have seen from it.
    """
    return max(before + 1, int(now_s))


def listed(data: bytes, version: int) -> MetaFile:
    """Say how a file is listed in the file above it: with its digest, so that no two of one version pass."""
    return MetaFile.from_data(version, data, ["sha256"])


def at(time_s: float) -> datetime:
    """Give a moment as TUF has it: UTC, in whole seconds."""
    return datetime.fromtimestamp(int(time_s), UTC)


def text(time_s: float) -> str:
    """Write a moment as RFC 3339."""
    return at(time_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def ids(key_ids: Iterable[str]) -> str:
    """List keys for a person."""
    return ", ".join(sorted(map(short_id, key_ids)))


def refused(code: Failure, what: str, expected: str, got: str, do: str | None = None) -> UpdateFailedError:
    """Make the error for metadata that is not taken."""
    return UpdateFailedError(code, what, expected=expected, got=got, do=do)
