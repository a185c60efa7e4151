"""Makes one file of what is to be published, and measures what it will take on a device. Sends nothing.

Bundles are packed without compression: a patch against compressed bytes saves nothing, and the same bundle
gives the same bytes everywhere.
"""

import hashlib
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.archive import ZIP, open_any_bundle
from edge_runtime.atomic import new_file
from edge_runtime.bundle import MANIFEST, ModelBundle, refuse_unlisted
from edge_runtime.contract.bundle import NAME_PATTERN, BundleManifest
from edge_runtime.contract.errors import ConfigError, InputError, StorageError
from edge_runtime.contract.fleet import Kind
from edge_runtime.settings.document import read_document
from edge_runtime.settings.fleet import DEVICES_OWN
from edge_runtime.signature import SIGNATURE

BESIDE_BYTES = 64 << 20
"""What an engine takes besides the weights, where nobody measured it."""
_DISK_BLOCK_BYTES = 4096
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
_TEXTS: dict[str, Kind] = {".yaml": "settings", ".yml": "settings", ".txt": "labels"}
_MAX_TEXT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """What is to be published.

    Args:
        kind: What it is.
        name: Of the model; `agent` for settings.
        version: As a person reads it.
        profiles: Device profiles it is for; empty: all.
        file: The one that devices fetch.
        sha256: Of the file.
        size_bytes: Of the file.
        unpacked_bytes: What it takes in a slot, in whole blocks of a disk.
        memory_bytes: What it takes beside the old version: measured where the bundle has receipts of its
            peak, else twice the largest variant and 64 MiB; 0 for settings and labels.
    """

    kind: Kind
    name: str
    version: str
    profiles: tuple[str, ...]
    file: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int
    memory_bytes: int


def pack(
    source: Path,
    folder: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    profiles: Sequence[str] | None = None,
) -> Packed:
    """Make the file.

    Args:
        source: A bundle's folder or `.zip`, a settings file (`.yaml`) or labels (`.txt`).
        folder: For what is made.
        name: None: the bundle's; `agent` for settings; labels need one: the model's.
        version: None: the bundle's; of settings and labels the beginning of their digest.
        profiles: None: those that a bundle's variants serve; all for settings and labels.

    Raises:
        BundleError: The bundle is damaged, or has files that its manifest does not name.
        InputError: It is none of these, or a name is missing.
        StorageError: The disk is full, read-only or broken.
    """
    kind = _TEXTS.get(source.suffix.lower())
    if kind is not None and source.is_file():
        return _text(source, kind, name, version, tuple(profiles or ()))
    if not source.is_dir() and source.suffix.lower() != ZIP:
        raise InputError(
            f"{source}",
            expected="a bundle's folder or .zip, settings (.yaml) or labels (.txt)",
            got="a file of another kind" if source.exists() else "nothing there",
        )
    bundle = open_any_bundle(source, cache=folder / "bundles")
    manifest = bundle.manifest
    target = folder / f"{manifest.name}-{manifest.version}{ZIP}"
    _zip(bundle, target)
    sha256, size_bytes = _digest(target)
    return Packed(
        kind="model",
        name=_checked_name(name or manifest.name),
        version=_checked_version(version or manifest.version),
        profiles=_served(manifest) if profiles is None else tuple(profiles),
        file=target,
        sha256=sha256,
        size_bytes=size_bytes,
        unpacked_bytes=sum(_blocks(path) for path in bundle.root.rglob("*") if path.is_file()),
        memory_bytes=memory_bytes(manifest),
    )


def memory_bytes(manifest: BundleManifest) -> int:
    """Say what a bundle takes in memory on the worst of its devices.

    A receipt has what opening and running a variant added to a fresh process. A variant without one is taken
    for twice its file, which is what engines that turn weights into a layout of their own need, and 64 MiB.
    """
    measured: dict[str, int] = {}
    for receipt in manifest.receipts:
        peak = receipt.peak_memory_bytes or 0
        measured[receipt.variant] = max(peak, measured.get(receipt.variant, 0))
    return max(measured.get(each.id) or 2 * each.size_bytes + BESIDE_BYTES for each in manifest.variants)


def _served(manifest: BundleManifest) -> tuple[str, ...]:
    """Give the profiles that any variant serves; a variant for all makes it a bundle for all."""
    if any(not each.profiles for each in manifest.variants):
        return ()
    return tuple(sorted({profile for each in manifest.variants for profile in each.profiles}))


def _text(
    source: Path, kind: Kind, name: str | None, version: str | None, profiles: tuple[str, ...]
) -> Packed:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise StorageError(f"{source}: cannot be read", got=error.strerror or str(error)) from error
    problem = _why_no_text(content, kind)
    if problem is not None:
        raise InputError(f"{source}", expected="settings or one label a line, in UTF-8", got=problem)
    if kind == "settings":
        _check_settings(source)
    if kind == "labels" and name is None:
        raise InputError(f"{source}: labels of which model?", do="Give its name: --name")
    sha256, size_bytes = _digest(source)
    return Packed(
        kind=kind,
        name=_checked_name(name or "agent"),
        version=_checked_version(version or sha256[:12]),
        profiles=profiles,
        file=source,
        sha256=sha256,
        size_bytes=size_bytes,
        unpacked_bytes=_blocks(source),
        memory_bytes=0,
    )


def _why_no_text(content: bytes, kind: Kind) -> str | None:
    if len(content) > _MAX_TEXT_BYTES:
        return f"{len(content):,} bytes"
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        return str(error)
    if not lines or (kind == "labels" and not all(line.strip() for line in lines)):
        return "an empty file or line"
    return None


def _check_settings(source: Path) -> None:
    """Refuse what no device could read as settings; whether they fit a device, it says itself."""
    try:
        document = read_document(source, {})
    except ConfigError as error:
        raise InputError(f"{source}", expected="settings: a mapping in YAML", got=str(error)) from error
    if not isinstance(document.data, dict):
        got = "nothing" if document.data is None else type(document.data).__name__
        raise InputError(f"{source}", expected="settings: a mapping in YAML", got=got)
    own = [key for key in DEVICES_OWN if document.has((key,))]
    if own:
        raise InputError(
            f"{document.place((own[0],))}: {', '.join(own)}",
            expected="blocks that a fleet may set",
            got="a device's own",
            do="Leave them out: each device has them in its own store.yaml",
        )


def _checked_name(name: str) -> str:
    if re.match(NAME_PATTERN, name) is None:
        raise InputError(f"name {name!r}", expected="small letters, digits, '.', '_' and '-', 64 at most")
    return name


def _checked_version(version: str) -> str:
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", version) is None:
        raise InputError(f"version {version!r}", expected="letters, digits, '.', '+' and '-', 64 at most")
    return version


def _zip(bundle: ModelBundle, target: Path) -> None:
    """Store a bundle's files: the manifest first, so that whoever unpacks knows what may follow."""
    refuse_unlisted(bundle)
    files = {path.relative_to(bundle.root).as_posix() for path in bundle.root.rglob("*") if path.is_file()}
    first = [name for name in (MANIFEST, SIGNATURE) if name in files]
    with new_file(target) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in [*first, *sorted(files - set(first))]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE
            entry.file_size = (bundle.root / name).stat().st_size
            with (bundle.root / name).open("rb") as content, archive.open(entry, "w") as out:
                shutil.copyfileobj(content, out, 1 << 20)


def _blocks(path: Path) -> int:
    return -(-path.stat().st_size // _DISK_BLOCK_BYTES) * _DISK_BLOCK_BYTES


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
