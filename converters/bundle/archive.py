"""Packs a bundle's folder into a `.zip`; `edge_runtime.archive` unpacks it, on any device.

Checks no signature and signs nothing: a signature lies in the folder and travels with it.
"""

import zipfile
from pathlib import Path

from edge_runtime.atomic import new_file
from edge_runtime.bundle import MANIFEST, ModelBundle, open_bundle, refuse_unlisted
from edge_runtime.signature import SIGNATURE

_WHEN = (1980, 1, 1, 0, 0, 0)
"""The first moment that zip knows: the same for every file, so that the same bundle gives the same bytes."""
_MODE = 0o100644 << 16
_UNIX = 3
_BLOCK = 1 << 20


def pack(folder: Path, target: Path, *, compress: bool = False) -> int:
    """Pack a bundle, after checking that it is whole.

    The file appears at once, or not at all; an older one is replaced.

    Args:
        folder: The bundle's folder.
        target: The `.zip`.
        compress: Deflate the files. Smaller by a few per cent for float weights, more for others. Off: the
            bytes depend on the bundle alone; on: also on the version of zlib.

    Returns:
        Size of the archive, in bytes.

    Raises:
        BundleError: The bundle is damaged, or has files that its manifest does not name.
        StorageError: The disk is full, read-only or broken.
    """
    names = packed_names(open_bundle(folder))
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with new_file(target) as stream, zipfile.ZipFile(stream, "w", method) as file:
        for name in names:
            _add(file, folder / name, name, method)
    return target.stat().st_size


def packed_names(bundle: ModelBundle) -> list[str]:
    """Give the files of a bundle in the order of packing: manifest, signature, the others by name.

    Raises:
        BundleError: The folder has files that the manifest does not name.
    """
    refuse_unlisted(bundle)
    files = {path.relative_to(bundle.root).as_posix() for path in bundle.root.rglob("*") if path.is_file()}
    first = [name for name in (MANIFEST, SIGNATURE) if name in files]
    return first + sorted(files - set(first))


def _add(file: zipfile.ZipFile, source: Path, name: str, method: int) -> None:
    info = zipfile.ZipInfo(name, _WHEN)
    info.create_system, info.external_attr, info.compress_type = _UNIX, _MODE, method
    info.file_size = source.stat().st_size  # so that zipfile knows whether the entry needs zip64
    with source.open("rb") as stream, file.open(info, "w") as out:
        while block := stream.read(_BLOCK):
            out.write(block)
