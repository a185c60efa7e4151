"""Checks a bundle of any form: its digests, that nothing else is in it, its signature.

Judges no receipt and runs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.bundle.archive import packed_names
from converters.bundle.form import Form, form_of, opened
from edge_runtime.signature import SIGNATURE, read_signature


@dataclass(frozen=True, slots=True)
class Verified:
    """A sound bundle.

    Args:
        name: Its name.
        version: Its version.
        form: What it is on disk.
        files: Checked.
        size_bytes: Of the files.
        key_id: Who signed it; None: nobody.
        trusted: Whether the signature was checked against a key that the caller trusts.
    """

    name: str
    version: str
    form: Form
    files: int
    size_bytes: int
    key_id: str | None
    trusted: bool


def verify(path: Path, trusted: Sequence[Path] | None = None) -> Verified:
    """Check a bundle.

    Args:
        path: A folder, a `.zip` or an OCI image layout.
        trusted: Public keys, one of which must have signed it; None: a signature is not checked.

    Raises:
        BundleError: Something about it is wrong; the message says what.
        ConfigError: A key cannot be read, or the extra for signatures is missing.
        StorageError: There is no room to unpack it.
    """
    with opened(path, trusted=trusted) as bundle:
        names = packed_names(bundle)
        signature = bundle.root / SIGNATURE
        return Verified(
            bundle.manifest.name,
            bundle.manifest.version,
            form_of(path),
            len(names),
            sum((bundle.root / name).stat().st_size for name in names),
            read_signature(signature).key_id if signature.exists() else None,
            trusted is not None,
        )
